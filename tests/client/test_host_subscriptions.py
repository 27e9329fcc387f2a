"""Tests of the subscriptions of a client: the hosts that it uses, and its watches."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import pytest

from fastlib import ResultContainer, TaskContainer
from fastlib.client import HostOfflineError, MigfraClient
from fastlib.client.core import ClientCore
from fastlib.client.hosts_in_use import IDLE_SECONDS, MAX_LEFT_AT_ONCE, HostsInUse
from fastlib.clock import Clock
from fastlib.message.node import Presence
from fastlib.message.topics import PRESENCE, PROGRESS, RESULT, TASK, Topic
from fastlib.transport import (
    Communicator,
    MemoryBroker,
    MemoryOptions,
    MqttOptions,
    ReceivedMessage,
    RefusedError,
    connect,
)
from fastlib.transport.core import CommunicatorCore
from tests.support.client.factory import IN_MEMORY, PATIENCE, ClientFactory, Daemon, success
from tests.support.mosquitto import Mosquitto
from tests.support.waiting import wait_until

REFUSED = RefusedError("the broker refuses it", 0x87)
ONLINE = Presence(status="online", started=1.0, version="1", instance="one")


class ChosenClock(Clock):
    """A clock whose monotonic time is set by a test."""

    seconds = 1000.0

    def now(self) -> float:
        return datetime.now(UTC).timestamp()

    def monotonic(self) -> float:
        return self.seconds


@contextmanager
def received_topics(communicator: Communicator) -> Iterator[list[str]]:
    """Record the topic of each message that the broker sends to a communicator."""
    topics: list[str] = []
    core: CommunicatorCore = communicator._core
    link: Any = core.link
    inner = link._on_message

    def record(message: Any) -> None:
        topics.append(message.topic)
        inner(message)

    link._on_message = record
    yield topics


def say_everything(communicator: Communicator, host: str) -> None:
    """Publish one message of each kind that a daemon publishes."""
    communicator.send(b"result: vm stopped\nlist: []\n", RESULT(host)).wait(PATIENCE)
    communicator.send(b"phase: queued\n", PROGRESS(host)).wait(PATIENCE)
    communicator.send(ONLINE.to_yaml().encode(), PRESENCE(host), retain=True).wait(PATIENCE)


# --- hosts that are used --------------------------------------------------------------------------


def test_client_hears_only_the_hosts_that_it_uses():
    broker = MemoryBroker()
    with (
        connect(MemoryOptions(broker=broker)) as peer,
        connect(MemoryOptions(broker=broker)) as communicator,
        received_topics(communicator) as topics,
        MigfraClient(communicator) as client,
    ):
        daemon = Daemon("hostA", peer)
        daemon.answers()
        for host in ("hostA", "hostB"):
            say_everything(peer, host)
        assert topics == []
        assert client.suspend("hostA", "vm1").result(PATIENCE).status == "success"
        for host in ("hostA", "hostB"):
            say_everything(peer, host)
        assert {topic.split("/")[2] for topic in topics} == {"hostA"}
        assert client.presence("hostA") == ONLINE
        assert client.presence("hostB") is None


@pytest.mark.parametrize("protocol", ["3.1.1", "5"])
def test_first_order_to_each_host_gets_its_answer(mosquitto: Mosquitto, protocol: Any):
    """The order is sent right after the subscription, and the answer comes at once."""
    options = MqttOptions(host="127.0.0.1", port=mosquitto.port, protocol=protocol)
    hosts = [f"first-{protocol}-{number}" for number in range(100)]
    with connect(options) as daemon, MigfraClient.connect(options) as client:

        def answer(message: ReceivedMessage) -> None:
            results = success(TaskContainer.from_yaml(message.payload))
            topic = message.topic.replace("/task", "/result")
            daemon.send(results.to_yaml().encode(), topic)

        daemon.subscribe(TASK.pattern(), answer)
        for handle in [client.suspend(host, "vm1") for host in hosts]:
            assert handle.result(PATIENCE).status == "success"


@IN_MEMORY
def test_first_order_to_an_offline_daemon_is_refused(clients: ClientFactory):
    daemon, client = clients.daemon(), clients.client()
    daemon.presence("offline")
    with pytest.raises(HostOfflineError):
        client.suspend("hostA", "vm1", only_if_online=True)


def test_all_used_hosts_are_heard_after_a_lost_connection():
    broker = MemoryBroker()
    with (
        MigfraClient.connect(MemoryOptions(broker=broker, client_id="scheduler")) as client,
        connect(MemoryOptions(broker=broker)) as peer,
    ):
        daemons = [Daemon(f"host{number}", peer) for number in range(3)]
        handles = [client.suspend(daemon.host, "vm1") for daemon in daemons]
        broker.cut("scheduler")
        broker.mend("scheduler")
        for daemon, handle in zip(daemons, handles, strict=True):
            daemon.send(success(daemon.wait()[0]))
            assert handle.result(PATIENCE).status == "success"


def test_order_to_a_host_that_is_new_after_a_reconnect_is_sent_once():
    """Its retained presence does not look like one that this client has missed."""
    broker = MemoryBroker()
    with (
        MigfraClient.connect(MemoryOptions(broker=broker, client_id="scheduler")) as client,
        connect(MemoryOptions(broker=broker)) as peer,
    ):
        daemon = Daemon("hostA", peer)
        daemon.presence("online", instance="one")
        client.suspend("hostB", "vm1")
        broker.cut("scheduler")
        broker.mend("scheduler")
        wait_until(lambda: client._core.presences._connection == 1, "the client knows that")
        client.suspend("hostA", "vm1")
        wait_until(lambda: client.presence("hostA") is not None, "the presence")
        client.suspend("hostA", "vm2")
        assert [container.tasks[0].vm_name for container in daemon.wait(2)] == ["vm1", "vm2"]


def test_host_without_orders_for_long_is_left():
    broker, clock = MemoryBroker(), ChosenClock()
    with (
        connect(MemoryOptions(broker=broker)) as peer,
        connect(MemoryOptions(broker=broker)) as communicator,
        received_topics(communicator) as topics,
        MigfraClient(communicator, clock=clock) as client,
    ):
        idle, pending, used = (Daemon(host, peer) for host in ("idle", "pending", "used"))
        idle.answers()
        used.answers()
        idle.presence("online")
        client.suspend("idle", "vm1").result(PATIENCE)
        wait_until(lambda: client.presence("idle") is not None, "the presence")
        waiting = client.suspend("pending", "vm1", timeout=None)
        clock.seconds += IDLE_SECONDS
        client.suspend("used", "vm1").result(PATIENCE)
        assert client.presence("idle") is None
        topics.clear()
        say_everything(peer, "idle")
        assert topics == []
        pending.send(success(pending.wait()[0]))
        assert waiting.result(PATIENCE).status == "success"
        assert client.suspend("idle", "vm2").result(PATIENCE).status == "success"


def test_hosts_in_use_are_bounded_and_needed_ones_stay():
    hosts = HostsInUse(max_hosts=3, idle_seconds=10)
    assert hosts.use("a", 0)
    assert not hosts.use("a", 1)
    for number in range(5):
        hosts.use(f"b{number}", 2 + number)
    assert hosts.leave_unused(6, lambda host: host == "a") == ["b0", "b1", "b2"]
    assert hosts.leave_unused(6, lambda host: False) == []
    assert len(hosts) == 3
    assert hosts.leave_unused(15.5, lambda host: False) == ["b3"]
    assert hosts.leave_unused(16, lambda host: False) == ["b4", "a"]
    assert not hosts.leave("a")


def test_one_order_leaves_only_some_hosts():
    hosts = HostsInUse(idle_seconds=10)
    for number in range(2 * MAX_LEFT_AT_ONCE):
        hosts.use(str(number), 0)
    assert len(hosts.leave_unused(20, lambda host: True)) == 0
    assert len(hosts.leave_unused(20, lambda host: False)) == MAX_LEFT_AT_ONCE


# --- refusals -------------------------------------------------------------------------------------


def refuse(
    monkeypatch: pytest.MonkeyPatch, link: Any, *refused: str, later: bool = False
) -> "list[Future[None]]":
    """Let the broker of a link refuse subscriptions; `later`, the first one by the test."""
    inner = link.subscribe
    waiting: list[Future[None]] = []

    def subscribe(pattern: str, qos: int, retained: bool = True) -> "Future[None]":
        if pattern not in refused:
            answer: Future[None] = inner(pattern, qos, retained)
            return answer
        refusal: Future[None] = Future()
        if later and not waiting:
            waiting.append(refusal)
        else:
            refusal.set_exception(REFUSED)
        return refusal

    monkeypatch.setattr(link, "subscribe", subscribe)
    return waiting


@IN_MEMORY
def test_order_fails_if_the_broker_refuses_the_results_of_its_host(
    clients: ClientFactory, monkeypatch: pytest.MonkeyPatch
):
    daemon, other, client = clients.daemon(), clients.daemon("hostB"), clients.client()
    other.answers()
    link = getattr(client, "inner", client).communicator._core.link
    waiting = refuse(monkeypatch, link, RESULT("hostA"), later=True)
    handle = client.suspend("hostA", "vm1")
    daemon.wait()
    waiting[0].set_exception(REFUSED)  # the answer to what was sent together with the order
    with pytest.raises(RefusedError, match="this client cannot receive the results"):
        handle.result(PATIENCE)
    with pytest.raises(RefusedError):  # nothing is sent while that is so
        client.suspend("hostA", "vm2")
    assert client.suspend("hostB", "vm1").result(PATIENCE).status == "success"
    monkeypatch.undo()
    daemon.answers()
    assert client.suspend("hostA", "vm3").result(PATIENCE).status == "success"
    names = [getattr(container.tasks[0], "vm_name", None) for container in daemon.received]
    assert names == ["vm1", "vm3"]


@IN_MEMORY
def test_refused_progress_and_presence_leave_the_client_usable(
    clients: ClientFactory, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    client = clients.client()
    hosts = ("hostA", "hostB")
    refused = [topic(host) for topic in (PROGRESS, PRESENCE) for host in hosts]
    refuse(monkeypatch, getattr(client, "inner", client).communicator._core.link, *refused)
    for host in hosts:
        clients.daemon(host).answers()
        assert client.suspend(host, "vm1").result(PATIENCE).status == "success"
    assert caplog.text.count("the reports of progress cannot be received") == 1
    assert caplog.text.count("the presence of hosts cannot be received") == 1


@IN_MEMORY
def test_refused_watch_leaves_no_subscription(
    clients: ClientFactory, monkeypatch: pytest.MonkeyPatch
):
    client = clients.client()
    link = getattr(client, "inner", client).communicator._core.link
    refuse(monkeypatch, link, TASK.pattern())
    with pytest.raises(RefusedError):
        client.watch(tasks=True)
    assert link._subscriptions == {}


@IN_MEMORY
@pytest.mark.parametrize("hosts", [None, ["hostA"]])
@pytest.mark.parametrize(
    ("topic", "words"),
    [
        (RESULT, "results of watched hosts"),
        (TASK, "tasks of watched hosts"),
        (PROGRESS, "reports of progress"),
        (PRESENCE, "presence of hosts"),
    ],
)
def test_refusal_to_renew_a_watch_is_logged(
    clients: ClientFactory,
    caplog: pytest.LogCaptureFixture,
    hosts: list[str] | None,
    topic: Topic,
    words: str,
):
    """The broker may refuse a subscription after a reconnect that it has confirmed before."""
    client = clients.client()
    core = getattr(client, "inner", client).communicator._core
    watch = client.watch(hosts=hosts, results=True, tasks=True, progress=True, presence=True)
    pattern = topic.pattern() if hosts is None else topic("hostA")
    for _ in range(2):
        core._on_refused(pattern, REFUSED)
    wait_until(lambda: f"the {words} cannot be received: the broker refuses" in caplog.text, "it")
    assert caplog.text.count("cannot be received") == 1
    watch.close()


# --- watches --------------------------------------------------------------------------------------


@IN_MEMORY
def test_watch_of_some_hosts_hears_only_those(clients: ClientFactory):
    peer, client = clients.daemon("hostA").communicator, clients.client()
    link = getattr(client, "inner", client).communicator._core.link
    watch = client.watch(hosts=["hostA"], results=False, tasks=True, progress=True, presence=True)
    assert set(link._subscriptions) == {t("hostA") for t in (TASK, PROGRESS, PRESENCE)}
    for host in ("hostB", "hostA"):
        say_everything(peer, host)
    assert [next(watch).topic for _ in range(2)] == [PROGRESS("hostA"), PRESENCE("hostA")]
    assert client.presence("hostA") == ONLINE
    later = client.watch(hosts=["hostA", "hostB"], results=False, presence=True)
    assert {next(later).host for _ in range(2)} == {"hostA", "hostB"}
    peer.send(b"", PRESENCE("hostB"), retain=True).wait(PATIENCE)


@IN_MEMORY
def test_closed_watch_ends_its_subscriptions_and_no_others(clients: ClientFactory):
    daemon, client = clients.daemon(), clients.client()
    link = getattr(client, "inner", client).communicator._core.link
    handle = client.suspend("hostA", "vm1")
    used = set(link._subscriptions)
    assert used == {topic("hostA") for topic in (RESULT, PROGRESS, PRESENCE)}
    one, other = client.watch(), client.watch(progress=True)
    assert set(link._subscriptions) - used == {RESULT.pattern(), PROGRESS.pattern()}
    one.close()
    one.close()
    assert set(link._subscriptions) - used == {RESULT.pattern(), PROGRESS.pattern()}
    other.close()
    assert set(link._subscriptions) == used
    daemon.send(success(daemon.wait()[0]))
    assert handle.result(PATIENCE).status == "success"


def test_message_of_two_subscriptions_is_seen_once(clients: ClientFactory):
    daemon, client = clients.daemon("hostT"), clients.client()
    watch = client.watch(progress=True, presence=True)
    reports: list[Any] = []
    handle = client.suspend("hostT", "vm1", on_progress=reports.append)
    daemon.wait()
    for percent in (10, 10, 20):  # equal reports are two
        daemon.progress(f"id: {handle.id}\nphase: memory\npercent: {percent}\n")
    daemon.presence("online")
    daemon.send(success(daemon.received[0]))
    handle.result(PATIENCE)
    seen = []
    while not seen or not isinstance(seen[-1].message, ResultContainer):
        observed = next(watch)
        if observed.host == "hostT":
            seen.append(observed)
    assert [type(each.message).__name__ for each in seen] == [
        *["Progress"] * 3, "Presence", "ResultContainer",
    ]  # fmt: skip
    assert [report.percent for report in reports] == [10, 10, 20]


@IN_MEMORY
def test_presences_are_those_of_all_hosts(clients: ClientFactory):
    peer, client = clients.daemon().communicator, clients.client()
    for host in ("hostA", "hostB"):
        peer.send(ONLINE.to_yaml().encode(), PRESENCE(host), retain=True).wait(PATIENCE)
    wait_until(lambda: client.presences.keys() == {"hostA", "hostB"}, "the presences")
    client.close()
    assert client.presences.keys() == {"hostA", "hostB"}


@pytest.mark.parametrize("host", [None, "hostA"])
def test_presence_that_comes_while_the_client_still_subscribes_is_known(
    monkeypatch: pytest.MonkeyPatch, host: str | None
):
    handled = threading.Event()
    on_presence, subscribe_now = ClientCore.on_presence, Communicator.subscribe_now

    def handle(core: ClientCore, received: ReceivedMessage) -> list[Any]:
        due = on_presence(core, received)
        handled.set()
        return due

    def subscribe_slowly(self: Communicator, topic: str, *more: Any, **named: Any) -> Any:
        confirmed = subscribe_now(self, topic, *more, **named)
        if topic.endswith("/status"):
            assert handled.wait(PATIENCE)
        return confirmed

    monkeypatch.setattr(ClientCore, "on_presence", handle)
    monkeypatch.setattr(Communicator, "subscribe_now", subscribe_slowly)
    broker = MemoryBroker()
    with connect(MemoryOptions(broker=broker)) as peer:
        peer.send(ONLINE.to_yaml().encode(), PRESENCE("hostA"), retain=True).wait(PATIENCE)
        with MigfraClient.connect(MemoryOptions(broker=broker)) as client:
            if host is None:
                assert client.presences.keys() == {"hostA"}
            else:
                client.suspend(host, "vm1")
                assert client.presence(host) == ONLINE


# --- persistent sessions --------------------------------------------------------------------------


def test_new_program_withdraws_subscriptions_of_an_earlier_one(mosquitto: Mosquitto):
    """Earlier programs heard all hosts, or hosts that this one does not use."""
    options = MqttOptions(
        host="127.0.0.1", port=mosquitto.port, client_id="long-lived", persistent=True
    )
    with connect(options) as earlier:
        for pattern in (RESULT.pattern(), PRESENCE("hostL")):
            earlier.subscribe(pattern)
    peer_options = MqttOptions(host="127.0.0.1", port=mosquitto.port)
    with (
        connect(peer_options) as peer,
        connect(options) as communicator,
        received_messages(communicator) as topics,
        MigfraClient(communicator) as client,
    ):
        daemon = Daemon("hostL", peer)
        daemon.answers()
        for number in range(3):  # each confirms what was sent to the broker before
            peer.send(b"", PRESENCE("hostL")).wait(PATIENCE)
            communicator.subscribe(f"probe/{number}")
        assert 0 < topics.count(PRESENCE("hostL")) < 3
        topics.clear()
        peer.send(b"result: quit\nlist: []\n", RESULT("hostM")).wait(PATIENCE)
        assert client.suspend("hostL", "vm1").result(PATIENCE).status == "success"
        assert RESULT("hostM") not in topics


def test_result_does_not_wait_behind_those_for_an_earlier_program(mosquitto: Mosquitto):
    """By default mosquitto sends at most 20 messages without an acknowledgement."""
    options = MqttOptions(
        host="127.0.0.1", port=mosquitto.port, client_id="restarted", persistent=True
    )
    with connect(options) as earlier:
        for host in ("hostP", "hostQ"):
            earlier.subscribe(RESULT(host))
    peer_options = MqttOptions(host="127.0.0.1", port=mosquitto.port)
    with connect(peer_options) as peer:
        for _ in range(25):
            peer.send(b"result: quit\nlist: []\n", RESULT("hostP")).wait(PATIENCE)
        daemon = Daemon("hostQ", peer)
        daemon.answers()
        with connect(options) as communicator, MigfraClient(communicator) as client:
            assert client.suspend("hostQ", "vm1").result(PATIENCE).status == "success"


@contextmanager
def received_messages(communicator: Communicator) -> Iterator[list[str]]:
    """Record the topic of each message that mosquitto sends to a communicator."""
    topics: list[str] = []
    session: Any = communicator._core.link._session  # type: ignore[attr-defined]
    inner: Callable[[Any], None] = session.on_message

    def record(message: Any) -> None:
        topics.append(message.topic)
        inner(message)

    session.on_message = record
    yield topics
