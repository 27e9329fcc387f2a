"""Tests of subscriptions that the broker refuses, with mosquitto's plug-in for access rules."""

from collections.abc import Callable, Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastlib.message.topics import RESULT, TASK
from fastlib.transport import Communicator, MqttOptions, RefusedError
from fastlib.transport.filters import matches, overlap
from fastlib.transport.mqtt.disjoint_filters import DisjointFilters
from tests.support.client.factory import ClientFactory
from tests.support.mosquitto import PATIENCE
from tests.support.transport.subscription_rules import ChoosyMosquitto
from tests.support.waiting import wait_until


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[ChoosyMosquitto]:
    with ChoosyMosquitto(tmp_path / "broker", "a/+") as broker:
        yield broker


def restart(broker: ChoosyMosquitto, *refused: str) -> None:
    broker.kill()
    broker.refuse(*refused)
    broker.start()


def arrives(one: Communicator, topic: str, heard: list[bytes]) -> None:
    """Wait until a message to a topic arrives."""

    def came() -> bool:
        one.send(topic.encode(), topic, 1).wait(PATIENCE)
        return topic.encode() in heard

    wait_until(came, f"a message to {topic}")


@pytest.mark.parametrize("protocol", ["3.1.1", "5"])
@pytest.mark.parametrize("retained", [True, False])
@pytest.mark.parametrize("wide_first", [True, False])
def test_refused_wide_subscription_covers_no_narrow_one(
    join: Callable[..., Communicator],
    broker: ChoosyMosquitto,
    protocol: str,
    retained: bool,
    wide_first: bool,
) -> None:
    one = join(broker.port, protocol=protocol)
    heard: list[bytes] = []
    confirmed: dict[str, Any] = {}
    for topic in ("a/+", "a/b") if wide_first else ("a/b", "a/+"):
        confirmed[topic] = one.subscribe_now(
            topic, lambda message: heard.append(message.payload), retained=retained
        )
    with pytest.raises(RefusedError, match=r"subscription to 'a/\+'"):
        confirmed["a/+"].result(PATIENCE)
    confirmed["a/b"].result(PATIENCE)
    arrives(one, "a/b", heard)
    one.send(b"c", "a/c", 1).wait(PATIENCE)
    heard.clear()
    arrives(one, "a/b", heard)
    assert set(heard) == {b"a/b"}
    one.subscribe("a/d", lambda message: heard.append(message.payload))
    arrives(one, "a/d", heard)


def test_narrow_subscription_survives_a_refused_wide_one(
    join: Callable[..., Communicator], broker: ChoosyMosquitto
) -> None:
    one = join(broker.port)
    heard: list[bytes] = []
    one.subscribe("a/b", lambda message: heard.append(message.payload))
    with pytest.raises(RefusedError):
        one.subscribe("a/+", heard.append)  # type: ignore[arg-type]
    arrives(one, "a/b", heard)


def test_subscription_that_is_refused_after_a_reconnect_is_reported(
    join: Callable[..., Communicator], broker: ChoosyMosquitto, caplog: pytest.LogCaptureFixture
) -> None:
    restart(broker)
    one = join(broker.port)
    heard: list[bytes] = []
    refused: list[tuple[str, str]] = []
    remove = one.on_refused(lambda topic, error: refused.append((topic, str(error))))
    for topic in ("a/b", "a/+"):
        one.subscribe(topic, lambda message: heard.append(message.payload))
    restart(broker, "a/+")
    wait_until(lambda: refused, "the refusal")
    ((topic, why),) = refused
    assert topic == "a/+"
    assert "not authorized" in why or "no reason given" in why
    heard.clear()
    arrives(one, "a/b", heard)
    restart(broker, "a/+", "a/b")
    wait_until(lambda: len(refused) == 2, "the second refusal")
    assert refused[1][0] == "a/b"
    # Each reconnect tries them again.
    restart(broker)
    arrives(one, "a/c", heard)
    remove()
    before = caplog.text.count("refuses the subscription to 'a/+'")
    restart(broker, "a/+", "a/b")
    wait_until(lambda: caplog.text.count("refuses the subscription to 'a/+'") > before, "the log")
    assert len(refused) == 2


@pytest.mark.parametrize("kind", ["threads", "coroutines"])
@pytest.mark.parametrize("watching", [False, True])
def test_order_fails_if_the_results_of_its_host_are_refused_after_a_reconnect(
    broker: ChoosyMosquitto, loop: Any, kind: str, watching: bool
) -> None:
    restart(broker)

    def options(**named: Any) -> MqttOptions:
        return MqttOptions(host="127.0.0.1", port=broker.port, retry_min=0.05, **named)

    clients = ClientFactory(options, loop if kind == "coroutines" else None)
    client = clients.client()
    if watching:  # then all hosts are one subscription
        client.watch()
    handle = client.suspend("hostA", "vm1", timeout=None)
    wait_until(lambda: client.communicator.is_connected, "the connection")
    restart(broker, RESULT("hostA"), RESULT.pattern())
    with pytest.raises(RefusedError, match="this client cannot receive the results"):
        handle.result(PATIENCE)
    clients.close()


@pytest.mark.parametrize("kind", ["threads", "coroutines"])
def test_order_is_not_sent_if_its_results_are_refused_before(
    join: Callable[..., Communicator], broker: ChoosyMosquitto, loop: Any, kind: str
) -> None:
    """The client waits for the presence of the host first, and gets the refusal then."""
    restart(broker, RESULT("hostA"))
    observer = join(broker.port)
    observer.subscribe(TASK("hostA"))

    def options(**named: Any) -> MqttOptions:
        return MqttOptions(host="127.0.0.1", port=broker.port, **named)

    clients = ClientFactory(options, loop if kind == "coroutines" else None)
    client = clients.client()
    with pytest.raises(RefusedError, match="hostA/result"):
        client.suspend("hostA", "vm1", timeout=None, only_if_online=True)
    clients.close()
    observer.send(b"the first one", TASK("hostA"), 1).wait(PATIENCE)
    assert observer.receive(timeout=PATIENCE).payload == b"the first one"


@pytest.mark.parametrize("kind", ["threads", "coroutines"])
def test_new_order_fails_if_only_a_watch_has_the_refused_results_of_its_host(
    broker: ChoosyMosquitto, loop: Any, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    restart(broker)

    def options(**named: Any) -> MqttOptions:
        return MqttOptions(host="127.0.0.1", port=broker.port, retry_min=0.05, **named)

    clients = ClientFactory(options, loop if kind == "coroutines" else None)
    client = clients.client()
    client.watch(hosts=["hostA"])
    restart(broker, RESULT("hostA"))
    wait_until(lambda: "refuses the subscription" in caplog.text, "the refusal")
    for _ in range(2):
        with pytest.raises(RefusedError, match="refuses the subscription"):
            client.suspend("hostA", "vm1", timeout=None).result(PATIENCE)
    clients.close()


FILTERS = st.sampled_from(["a", "b", "+", "#"]).map(str) | st.lists(
    st.sampled_from(["a", "b", "+"]), min_size=1, max_size=3
).map("/".join)
TOPICS = [*"ab", *(f"{x}/{y}" for x in "ab" for y in "ab"), "a/b/a", "b/b/b"]


@given(st.lists(st.tuples(st.sampled_from("+-!?"), FILTERS), max_size=14))
def test_filters_cover_all_accepted_subscriptions(steps: list[tuple[str, str]]) -> None:
    """`+` subscribes, `-` unsubscribes, `!` begins and `?` ends the refusal of a filter."""
    cover, wanted, refusing = DisjointFilters(), set[str](), set[str]()
    broker: set[str] = set()

    def request(filters: list[str]) -> None:
        for one in filters:
            if one not in cover:
                continue
            if one in refusing:
                broker.discard(one)
                request(cover.refuse(one))
                continue
            broker.add(one)
            if cover.is_apart(one):
                asked, unneeded = cover.accept(one)
                broker.difference_update(unneeded)
                request(asked)

    for step, pattern in steps:
        if step == "+" and pattern not in wanted:
            wanted.add(pattern)
            wide, replaced = cover.add(pattern, 1)
            broker.difference_update(replaced)
            request([wide])
        elif step == "-" and pattern in wanted:
            wanted.remove(pattern)
            asked, unneeded = cover.remove(pattern)
            broker.difference_update(unneeded)
            request(asked)
        elif step in "!?":
            (refusing.add if step == "!" else refusing.discard)(pattern)
            broker.clear()  # it is restarted, and all filters are requested again
            request(list(cover.filters()))
        for topic in TOPICS:
            heard = any(matches(one, topic) for one in broker)
            granted = [o for o in wanted if matches(o, topic) and o in broker]
            if granted:
                assert heard
            if any(matches(o, topic) and o not in refusing for o in wanted):
                assert heard
        if all(step != "!" for step, _ in steps):
            for one, other in combinations(broker, 2):
                assert not overlap(one, other)
