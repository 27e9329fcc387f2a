"""Shared subscriptions: each message goes to one client of a group."""

from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import pytest

from fastlib.transport import (
    Communicator,
    MemoryBroker,
    MemoryOptions,
    MqttOptions,
    SubscriptionError,
    TopicError,
    connect,
)
from fastlib.transport.filters import check_filter, own_filter
from tests.support.mosquitto import PATIENCE, Mosquitto
from tests.support.waiting import wait_until


@pytest.fixture
def root() -> str:
    return f"shared/{uuid4().hex}"


@pytest.fixture(params=["memory", "3.1.1", "5"])
def joined(request: pytest.FixtureRequest) -> Iterator[Callable[..., Communicator]]:
    made: list[Communicator] = []
    options: Callable[..., Any]
    if request.param == "memory":
        broker = MemoryBroker()

        def options(**named: Any) -> Any:
            return MemoryOptions(broker=broker, **named)
    else:
        plain: Mosquitto = request.getfixturevalue("plain_broker")

        def options(**named: Any) -> Any:
            return MqttOptions(host="127.0.0.1", port=plain.port, protocol=request.param, **named)

    def join(**named: Any) -> Communicator:
        made.append(connect(options(**named)))
        return made[-1]

    yield join
    for communicator in made:
        communicator.close()


def test_each_message_goes_to_one_client_of_the_group(
    joined: Callable[..., Communicator], root: str
):
    group = f"$share/schedulers/{root}/+/status"
    one, two, beside, sender = joined(), joined(), joined(), joined()
    got: dict[str, list[bytes]] = {"one": [], "two": []}
    one.subscribe(group, lambda message: got["one"].append(message.payload))
    two.subscribe(group, lambda message: got["two"].append(message.payload))
    beside.subscribe(f"{root}/#")
    for number in range(20):
        sender.send(b"%d" % number, f"{root}/a{number}/status", qos=2)
    every = [beside.receive(timeout=PATIENCE).payload for _ in range(20)]
    wait_until(lambda: len(got["one"]) + len(got["two"]) >= 20, "all messages")
    assert sorted(got["one"] + got["two"]) == sorted(every)
    assert got["one"]
    assert got["two"]


def test_messages_of_the_group_can_be_received(joined: Callable[..., Communicator], root: str):
    group = f"$share/schedulers/{root}"
    one, sender = joined(), joined()
    one.subscribe(group)
    sender.send(b"x", root, qos=2)
    assert one.receive(group, timeout=PATIENCE).topic == root
    one.unsubscribe(group)
    one.subscribe(root)
    sender.send(b"y", root, qos=2)
    assert one.receive(root, timeout=PATIENCE).payload == b"y"


def test_group_needs_no_retained_messages(joined: Callable[..., Communicator], root: str):
    """MQTT 5 forbids it (section 4.8.2); mosquitto 2.0.11 sends it, with its mark."""
    one, sender = joined(), joined()
    sender.send(b"retained", root, qos=1, retain=True).wait(PATIENCE)
    one.subscribe(f"$share/schedulers/{root}")
    sender.send(b"new", root, qos=2).wait(PATIENCE)
    while (message := one.receive(timeout=PATIENCE)).payload != b"new":
        assert message.retain
    sender.send(b"", root, qos=1, retain=True).wait(PATIENCE)


@pytest.mark.parametrize(
    ("first", "second"),
    [("$share/g/a/+", "a/b"), ("a/#", "$share/g/a/b"), ("$share/g/a", "$share/h/a")],
)
def test_overlap_with_a_shared_subscription_is_refused(first: str, second: str):
    """A message does not say for which of the two it came."""
    with connect(MemoryOptions(broker=MemoryBroker())) as one:
        one.subscribe(first)
        with pytest.raises(SubscriptionError, match=r"overlaps with .* shared: use another"):
            one.subscribe(second)
        one.subscribe("$share/g/other")
        one.unsubscribe(first)
        one.subscribe(second)


@pytest.mark.parametrize(
    "pattern", ["$share/", "$share/g", "$share/g/", "$share//a", "$share/+/a", "$share/g/a/#/b"]
)
def test_malformed_shared_subscription_is_refused(pattern: str):
    with pytest.raises(TopicError, match=r"\$share|wildcard|before the last level"):
        check_filter(pattern)
    with pytest.raises(TopicError, match="to a shared"):
        check_filter("$share/g/$share/h/a")


def test_own_filter_is_behind_the_group():
    assert own_filter("$share/g/a/+/b") == "a/+/b"
    assert own_filter("$share/g//a") == "/a"
    assert own_filter("a/+") == "a/+"
