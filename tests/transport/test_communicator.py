"""Tests of both communicators over all implementations."""

import queue
import threading
import time
from concurrent.futures import Future
from typing import Any
from uuid import uuid4

import pytest

from fastlib.transport import (
    ClosedError,
    Delivery,
    Link,
    MemoryBroker,
    MemoryOptions,
    MessageTooLargeError,
    OptionsError,
    QueueFullError,
    ReceivedMessage,
    SubscriptionError,
    TopicError,
    UndeliveredError,
    WaitTimeoutError,
    Will,
    connect,
)
from tests.support.transport.connector import PATIENCE, Connector
from tests.support.waiting import wait_until


@pytest.fixture
def root() -> str:
    """A topic of the test's own: the brokers are shared."""
    return f"test/{uuid4().hex}"


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_messages_arrive_in_order_with_their_qos(connector: Connector, root: str, qos: int) -> None:
    one, other = connector.connect(), connector.connect()
    one.subscribe(f"{root}/a")
    for number in range(100):
        other.send(b"%d" % number, f"{root}/a", qos)
    for number in range(100):
        message = one.receive(f"{root}/a", timeout=PATIENCE)
        assert message.payload == b"%d" % number
        assert message.topic == f"{root}/a"
        assert message.qos == qos
        assert not message.retain
        assert not message.duplicate


def test_payload_may_be_any_bytes(connector: Connector, root: str) -> None:
    one = connector.connect()
    one.subscribe(root)
    for payload in (b"", bytes(range(256)), b"\0" * 100_000):
        one.send(payload, root).wait(PATIENCE)
        assert one.receive(timeout=PATIENCE).payload == payload


def test_wildcards_match_topics(connector: Connector, root: str) -> None:
    one = connector.connect()
    one.subscribe(f"{root}/+/result")
    one.subscribe(f"{root}/deep/#")
    for topic in ("a/result", "b/task", "b/result", "deep", "deep/er/still"):
        one.send(topic.encode(), f"{root}/{topic}")
    for topic in ("a/result", "b/result"):
        message = one.receive(f"{root}/+/result", timeout=PATIENCE)
        assert message.topic == f"{root}/{topic}"
        assert message.payload == topic.encode()
    for topic in ("deep", "deep/er/still"):
        assert one.receive(f"{root}/deep/#", timeout=PATIENCE).topic == f"{root}/{topic}"


def test_wildcards_do_not_match_system_topics(connector: Connector, root: str) -> None:
    one = connector.connect()
    one.subscribe("#")
    one.subscribe("+/tick")
    one.send(b"1", f"$fastlib/{root}")
    one.send(b"2", root)
    while (message := one.receive("#", timeout=PATIENCE)).topic != root:
        assert not message.topic.startswith("$")


def test_overlapping_subscriptions_each_get_a_message_once(connector: Connector, root: str) -> None:
    one = connector.connect()
    filters = [f"{root}/a/b", f"{root}/+/b", f"{root}/a/+", f"{root}/#", f"{root}/+/+"]
    for pattern in filters:
        one.subscribe(pattern)
    one.unsubscribe(f"{root}/+/b")
    filters.remove(f"{root}/+/b")
    for number in range(10):
        one.send(b"%d" % number, f"{root}/a/b", 2)
    for pattern in filters:
        for number in range(10):
            assert one.receive(pattern, timeout=PATIENCE).payload == b"%d" % number
    one.unsubscribe(f"{root}/#")
    one.unsubscribe(f"{root}/+/+")
    one.send(b"last", f"{root}/a/b", 2)
    assert one.receive(f"{root}/a/b", timeout=PATIENCE).payload == b"last"
    assert one.receive(f"{root}/a/+", timeout=PATIENCE).payload == b"last"


def test_lower_qos_applies(connector: Connector, root: str) -> None:
    one = connector.connect()
    one.subscribe(root, qos=1)
    one.subscribe(f"{root}/#", qos=0)
    one.send(b"", root, qos=2)
    assert one.receive(root, timeout=PATIENCE).qos == 1
    assert one.receive(f"{root}/#", timeout=PATIENCE).qos == 0


def test_callback_gets_messages_outside_the_network_thread(connector: Connector, root: str) -> None:
    one = connector.connect()
    seen: queue.Queue[tuple[bytes, str]] = queue.Queue()
    one.subscribe(f"{root}/+", lambda m: seen.put((m.payload, threading.current_thread().name)))
    for number in range(50):
        one.send(b"%d" % number, f"{root}/x")
    for number in range(50):
        payload, thread = seen.get(timeout=PATIENCE)
        assert payload == b"%d" % number
        assert "network" not in thread
    with pytest.raises(SubscriptionError, match="go to its callback"):
        one.receive(f"{root}/+", timeout=1)


def test_failing_callback_is_logged_and_called_again(
    connector: Connector, root: str, caplog: pytest.LogCaptureFixture
) -> None:
    one = connector.connect()
    seen: queue.Queue[bytes] = queue.Queue()

    def callback(message):
        seen.put(message.payload)
        if message.payload == b"bad":
            raise ValueError("no good")

    one.subscribe(root, callback)
    one.send(b"bad", root)
    one.send(b"good", root)
    assert [seen.get(timeout=PATIENCE), seen.get(timeout=PATIENCE)] == [b"bad", b"good"]
    assert "no good" in caplog.text


def test_unsubscribe_ends_subscription(connector: Connector, root: str) -> None:
    one = connector.connect()
    one.subscribe(f"{root}/a")
    one.subscribe(f"{root}/b")
    one.unsubscribe(f"{root}/a")
    one.send(b"", f"{root}/a").wait(PATIENCE)
    one.send(b"", f"{root}/b")
    assert one.receive(timeout=PATIENCE).topic == f"{root}/b"
    with pytest.raises(SubscriptionError, match="not subscribed"):
        one.receive(f"{root}/a", timeout=1)
    with pytest.raises(SubscriptionError, match="not subscribed"):
        one.unsubscribe(f"{root}/a")


def test_invalid_arguments_are_refused(connector: Connector, root: str) -> None:
    one = connector.connect()
    with pytest.raises(SubscriptionError, match="0 subscriptions"):
        one.receive(timeout=1)
    one.subscribe(root)
    with pytest.raises(SubscriptionError, match="already"):
        one.subscribe(root)
    with pytest.raises(TopicError, match="wildcard"):
        one.send(b"", "a/+")
    with pytest.raises(TopicError, match="publish_topic"):
        one.send(b"")
    with pytest.raises(TopicError, match="before the last"):
        one.subscribe("a/#/b")
    with pytest.raises(OptionsError, match="quality"):
        one.send(b"", root, qos=3)
    with pytest.raises(OptionsError, match="quality"):
        one.subscribe(f"{root}/x", qos=-1)
    with pytest.raises(TypeError, match="bytes"):
        one.send("text", root)


def test_receive_times_out(connector: Connector, root: str) -> None:
    one = connector.connect()
    one.subscribe(root)
    start = time.monotonic()
    with pytest.raises(WaitTimeoutError, match=root):
        one.receive(root, timeout=0.05)
    assert time.monotonic() - start < PATIENCE
    one.send(b"later", root)
    assert one.receive(root, timeout=PATIENCE).payload == b"later"


def test_default_topics_come_from_options(connector: Connector, root: str) -> None:
    one = connector.connect(publish_topic=f"{root}/task", subscribe_topic=f"{root}/+")
    one.send(b"x").wait(PATIENCE)
    assert one.receive(timeout=PATIENCE).topic == f"{root}/task"


def test_retained_message_is_delivered_to_new_subscription(connector: Connector, root: str) -> None:
    one = connector.connect()
    one.send(b"old", root, retain=True).wait(PATIENCE)
    one.send(b"new", root, retain=True).wait(PATIENCE)
    one.subscribe(root)
    message = one.receive(root, timeout=PATIENCE)
    assert (message.payload, message.retain) == (b"new", True)
    one.send(b"newest", root, retain=True)
    message = one.receive(root, timeout=PATIENCE)
    assert (message.payload, message.retain) == (b"newest", False)
    one.send(b"", root, retain=True).wait(PATIENCE)
    other = connector.connect()
    other.subscribe(f"{root}/#")
    other.send(b"after", f"{root}/x")
    assert other.receive(timeout=PATIENCE).payload == b"after"


def test_persistent_session_keeps_messages(connector: Connector, root: str) -> None:
    name = f"session-{uuid4().hex[:8]}"
    away = connector.connect(client_id=name, persistent=True)
    away.subscribe(root)
    away.close()
    sender = connector.connect()
    for number in range(50):
        sender.send(b"%d" % number, root, 1 + number % 2).wait(PATIENCE)
    back = connector.connect(client_id=name, persistent=True)
    back.subscribe(root)  # what came before this must wait for it
    sender.send(b"50", root)
    numbers = [int(back.receive(timeout=PATIENCE).payload) for _ in range(51)]
    assert numbers == list(range(51))


@pytest.mark.parametrize("qos", [1, 2])
def test_unacknowledged_messages_are_repeated(connector: Connector, root: str, qos: int) -> None:
    name = f"manual-{uuid4().hex[:8]}"
    first = connector.connect(client_id=name, persistent=True)
    first.subscribe(root, manual_ack=True)
    sender = connector.connect()
    for number in range(5):
        sender.send(b"%d" % number, root, qos).wait(PATIENCE)
    for _ in range(3):
        first.receive(timeout=PATIENCE).ack()
    taken = first.receive(timeout=PATIENCE)  # and then the program ends
    first.close()
    second = connector.connect(client_id=name, persistent=True)
    second.subscribe(root, manual_ack=True)
    again = second.receive(timeout=PATIENCE)
    assert again.payload == b"3"
    assert again.duplicate
    assert again.packet_id == taken.packet_id is not None
    again.ack()
    again.ack()  # does nothing
    last = second.receive(timeout=PATIENCE)
    assert last.payload == b"4"
    assert last.packet_id != again.packet_id
    last.ack()
    second.close()
    third = connector.connect(client_id=name, persistent=True)
    third.subscribe(root, manual_ack=True)
    sender.send(b"5", root, qos)
    assert third.receive(timeout=PATIENCE).payload == b"5"


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_close_delivers_accepted_messages(connector: Connector, root: str, qos: int) -> None:
    receiver = connector.connect()
    receiver.subscribe(root)
    sender = connector.connect()
    deliveries = [sender.send(b"%d" % number, root, qos) for number in range(300)]
    sender.close()
    assert all(delivery.done for delivery in deliveries)
    numbers = [int(receiver.receive(timeout=PATIENCE).payload) for _ in range(300)]
    assert numbers == list(range(300))


def test_close_ends_waiting_receive(connector: Connector, root: str) -> None:
    one = connector.connect()
    one.subscribe(root)
    errors: queue.Queue[Exception] = queue.Queue()

    def wait() -> None:
        try:
            one.receive(root)
        except Exception as error:
            errors.put(error)

    thread = threading.Thread(target=wait)
    thread.start()
    one.close()
    assert isinstance(errors.get(timeout=PATIENCE), ClosedError)
    thread.join(PATIENCE)
    one.close()  # once is enough
    assert not one.is_connected
    with pytest.raises(ClosedError):
        one.send(b"", root)
    with pytest.raises(ClosedError):
        one.subscribe(f"{root}/x")
    with pytest.raises(ClosedError):
        one.receive(root, timeout=1)


def test_close_waits_for_callbacks(connector: Connector, root: str) -> None:
    """Also if these send."""
    receiver, one, sender = connector.connect(), connector.connect(), connector.connect()
    receiver.subscribe(f"{root}/answer")
    started, go = threading.Event(), threading.Event()

    def callback(message):
        started.set()
        assert go.wait(PATIENCE)
        if connector.loop is None:
            one.send(message.payload, f"{root}/answer")

    if connector.loop is not None:
        go.set()
    one.subscribe(root, callback)
    sender.send(b"x", root)
    assert started.wait(PATIENCE)
    threading.Timer(0.05, go.set).start()
    one.close()
    if connector.loop is None:
        assert receiver.receive(timeout=PATIENCE).payload == b"x"


def test_close_sends_no_will(connector: Connector, root: str) -> None:
    watcher = connector.connect()
    watcher.subscribe(f"{root}/#")
    one = connector.connect(will=Will(topic=f"{root}/will", payload=b"gone"))
    one.close()
    watcher.send(b"", f"{root}/after")
    assert watcher.receive(timeout=PATIENCE).topic == f"{root}/after"


def test_close_sends_the_will_on_request(connector: Connector, root: str) -> None:
    watcher = connector.connect()
    watcher.subscribe(f"{root}/#")
    one = connector.connect(will=Will(topic=f"{root}/will", payload=b"gone"))
    one.send(b"", f"{root}/before")
    one.close(publish_will=True)
    assert watcher.receive(timeout=PATIENCE).topic == f"{root}/before"
    message = watcher.receive(timeout=PATIENCE)
    assert (message.topic, message.payload) == (f"{root}/will", b"gone")


def test_many_clients_exchange_messages(connector: Connector, root: str) -> None:
    clients = [connector.connect() for _ in range(20)]
    for number, client in enumerate(clients):
        client.subscribe(f"{root}/{number}")
        client.subscribe(f"{root}/all")
    for number in range(20):
        clients[(number + 7) % 20].send(b"%d" % number, f"{root}/{number}")
    clients[0].send(b"all", f"{root}/all")
    for number, client in enumerate(clients):
        assert client.receive(f"{root}/{number}", timeout=PATIENCE).payload == b"%d" % number
        assert client.receive(f"{root}/all", timeout=PATIENCE).payload == b"all"


def test_many_threads_share_a_communicator(connector: Connector, root: str) -> None:
    one = connector.connect()
    one.subscribe(f"{root}/+")

    def work(name: int) -> None:
        for number in range(100):
            one.send(b"%d" % number, f"{root}/{name}")

    threads = [threading.Thread(target=work, args=(name,)) for name in range(5)]
    for thread in threads:
        thread.start()
    got: dict[str, list[int]] = {}
    for _ in range(500):
        message = one.receive(timeout=PATIENCE)
        got.setdefault(message.topic, []).append(int(message.payload))
    assert got == {f"{root}/{name}": list(range(100)) for name in range(5)}
    for thread in threads:
        thread.join(PATIENCE)


def test_on_close_calls_callbacks_once(connector: Connector, root: str) -> None:
    one = connector.connect()
    called: list[str] = []

    def fails(error: ClosedError) -> None:
        called.append("fails")
        raise RuntimeError("on purpose")

    taken_back = one.on_close(lambda error: called.append("taken back"))
    one.on_close(fails)
    one.on_close(lambda error: called.append(f"after it: {error}"))
    taken_back()
    one.send(b"", root).wait(PATIENCE)
    assert called == []
    one.close()
    ends: queue.Queue[ClosedError] = queue.Queue()
    one.on_close(ends.put)  # at once, as it is over already
    end = ends.get(timeout=PATIENCE)
    assert end.failure is None
    assert str(end).endswith(" is closed: the program has closed it")
    assert called == ["fails", f"after it: {end}"]
    taken_back()


def test_wait_for_callbacks_ends_after_all_that_has_arrived(
    connector: Connector, root: str
) -> None:
    one, other = connector.connect(), connector.connect()
    one.wait_for_callbacks()  # there are none
    for number in range(100):
        other.send(str(number).encode(), f"{root}/{number}", retain=True).wait(PATIENCE)
    seen: list[bytes] = []
    one.subscribe(f"{root}/+", lambda message: seen.append(message.payload), qos=0)
    # The broker has sent all that it retains before it answers the second request.
    one.resend_retained(f"{root}/+").result(PATIENCE)
    one.wait_for_callbacks()
    assert {*seen} == {str(number).encode() for number in range(100)}
    one.close()
    one.wait_for_callbacks()  # all have returned


def test_wait_for_callbacks_has_a_timeout() -> None:
    with connect(MemoryOptions(broker=MemoryBroker())) as one:
        may_return, returned = threading.Event(), threading.Event()

        def callback(message: ReceivedMessage) -> None:
            may_return.wait(PATIENCE)
            one.wait_for_callbacks()  # a callback does not wait for itself
            returned.set()

        one.subscribe("a", callback)
        one.send(b"", "a").wait(PATIENCE)
        with pytest.raises(WaitTimeoutError, match="callbacks have not returned within 0 s"):
            one.wait_for_callbacks(0)
        may_return.set()
        one.wait_for_callbacks(PATIENCE)
        assert returned.is_set()


def test_infinite_timeout_is_accepted(connector: Connector, root: str) -> None:
    one = connector.connect()
    one.subscribe(root)
    one.send(b"a", root).wait(float("inf"))
    assert one.receive(timeout=float("inf")).payload == b"a"
    with pytest.raises(WaitTimeoutError):
        one.receive(timeout=-1)


class FullLink:
    """A link over another one, whose queue is full until `empty`."""

    def __init__(self, inner: Link) -> None:
        self._inner = inner
        self._full = True
        self.tries = 0
        self._room: list[Future[None]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def send(self, delivery: Delivery) -> None:
        self.tries += 1
        if self._full:
            raise QueueFullError("full")
        self._inner.send(delivery)

    def room(self) -> "Future[None]":
        self._room.append(Future())
        return self._room[-1]

    def empty(self) -> None:
        self._full = False
        for future in self._room:
            future.set_result(None)


def full_link(connector: Connector) -> tuple[Any, FullLink]:
    one = connector.connect()
    core = getattr(one, "inner", one)._core
    core.link = link = FullLink(core.link)
    return one, link


@pytest.mark.parametrize("options", ["memory"], indirect=True)
def test_send_waits_for_room(connector: Connector, root: str) -> None:
    one, link = full_link(connector)
    one.subscribe(root)
    sending = threading.Thread(target=one.send, args=(b"x", root))
    sending.start()
    wait_until(lambda: link._room, "the wait for room")
    link.empty()
    assert one.receive(timeout=PATIENCE).payload == b"x"
    sending.join(PATIENCE)


@pytest.mark.parametrize("options", ["memory"], indirect=True)
def test_send_fails_without_room(connector: Connector, root: str) -> None:
    one, link = full_link(connector)
    with pytest.raises(QueueFullError):
        one.send(b"", root, timeout=0.01)
    assert link.tries == 2, "one try before the wait and one after it"


@pytest.mark.parametrize("options", ["memory"], indirect=True)
def test_close_error_does_not_hide_error_of_the_block(
    connector: Connector, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    one = connector.connect()
    inner = getattr(one, "inner", one)

    def fail(*_: object) -> Any:
        raise UndeliveredError([], "on purpose")

    async def fail_async(*_: object) -> None:
        fail()

    async def async_block() -> None:
        async with inner:
            raise KeyError

    def block() -> None:
        if connector.loop is not None:
            one._run(async_block())
        with inner:
            raise KeyError

    with monkeypatch.context() as patch:
        patch.setattr(inner, "close", fail if connector.loop is None else fail_async)
        with pytest.raises(KeyError):
            block()
    assert "on purpose" in caplog.text


@pytest.mark.parametrize("options", ["memory"], indirect=True)
def test_too_large_payload_is_refused(
    connector: Connector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fastlib.transport.core.MAX_PAYLOAD", 3)
    with pytest.raises(MessageTooLargeError, match="4 bytes; MQTT allows at most 3 bytes"):
        connector.connect().send(b"1234", "a")
