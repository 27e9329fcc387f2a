"""Tests of the communicators' inner parts: inbox, routes, shared acknowledgement, callbacks."""

import threading
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest

from fastlib.transport import (
    ClosedError,
    Communicator,
    InboundMessage,
    ReceivedMessage,
    routes,
)
from fastlib.transport.callbacks import CallbackThread
from fastlib.transport.inbox import WARNING_LENGTH, Inbox
from fastlib.transport.routes import CACHED_TOPICS, LONGEST_CACHED, Route, Routes
from tests.support.mosquitto import Mosquitto

PATIENCE = 60
WINDOW = 25
"""More messages than mosquitto sends without an acknowledgement, by default 20."""


class Acks:
    """Counts acknowledgements to the broker."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self) -> None:
        self.count += 1


@pytest.fixture
def acks() -> Acks:
    return Acks()


def inbound(acks: Acks, topic: str = "a") -> InboundMessage:
    return InboundMessage(topic, b"", 1, False, False, acks)


def received(acks: Acks) -> ReceivedMessage:
    return ReceivedMessage(inbound(acks), 1, None)


def test_cancelled_reader_gets_no_message(acks: Acks) -> None:
    inbox = Inbox("a")
    cancelled, waiting = inbox.take(), inbox.take()
    cancelled.cancel()
    message = received(acks)
    inbox.put(message)
    assert waiting.result(0) is message


def test_cancel_removes_waiting_reader(acks: Acks) -> None:
    inbox = Inbox("a")
    inbox.cancel(inbox.take())
    inbox.put(received(acks))
    assert len(inbox) == 1


def test_cancel_returns_message_to_the_front(acks: Acks) -> None:
    inbox = Inbox("a")
    late = inbox.take()
    first, second = received(acks), received(acks)
    inbox.put(first)
    inbox.put(second)
    inbox.cancel(late)
    assert inbox.poll() is first
    assert inbox.poll() is second
    assert inbox.poll() is None


def test_cancel_gives_message_to_the_next_reader(acks: Acks) -> None:
    inbox = Inbox("a")
    late, waiting = inbox.take(), inbox.take()
    message = received(acks)
    inbox.put(message)
    inbox.cancel(late)
    assert waiting.result(0) is message


def test_cancel_after_close_has_no_effect() -> None:
    inbox = Inbox("a")
    waiting, cancelled = inbox.take(), inbox.take()
    cancelled.cancel()
    inbox.close(ClosedError("closed"))
    inbox.cancel(waiting)
    with pytest.raises(ClosedError):
        waiting.result(0)
    with pytest.raises(ClosedError):
        inbox.take().result(0)


def test_long_queue_is_logged_at_each_doubling(
    acks: Acks, caplog: pytest.LogCaptureFixture
) -> None:
    inbox, message = Inbox("a"), received(acks)
    for _ in range(WARNING_LENGTH * 2):
        inbox.put(message)
    assert [record.args[0] for record in caplog.records if isinstance(record.args, tuple)] == [
        WARNING_LENGTH,
        WARNING_LENGTH * 2,
    ]


def subscribe(own: Routes, pattern: str, *, manual_ack: bool) -> list[ReceivedMessage]:
    messages: list[ReceivedMessage] = []
    own.add(Route(pattern, 1, messages.append, manual_ack))
    return messages


def test_message_is_acknowledged_on_arrival_by_default(acks: Acks) -> None:
    own = Routes(resumes=False)
    subscribe(own, "a", manual_ack=False)
    own.deliver(inbound(acks))
    assert acks.count == 1


def test_last_subscription_acknowledges_shared_message(acks: Acks) -> None:
    own = Routes(resumes=False)
    one, other = (subscribe(own, pattern, manual_ack=True) for pattern in ("a", "+"))
    subscribe(own, "#", manual_ack=False)
    own.deliver(inbound(acks))
    one[0].ack()
    one[0].ack()
    assert acks.count == 0
    other[0].ack()
    assert acks.count == 1


def test_unmatched_message_is_acknowledged(acks: Acks) -> None:
    Routes(resumes=False).deliver(inbound(acks))
    assert acks.count == 1


def test_message_of_resumed_session_waits_for_its_subscription(acks: Acks) -> None:
    own = Routes(resumes=True)
    own.deliver(inbound(acks))
    assert subscribe(own, "b", manual_ack=True) == []
    (message,) = subscribe(own, "a", manual_ack=True)
    assert acks.count == 0
    message.ack()
    assert acks.count == 1


def test_message_of_removed_subscription_does_not_wait(acks: Acks) -> None:
    own = Routes(resumes=True)
    subscribe(own, "a", manual_ack=False)
    own.remove("a")
    own.deliver(inbound(acks))
    assert acks.count == 1


def test_unclaimed_message_is_dropped_after_a_minute(
    acks: Acks, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    own = Routes(resumes=True)
    own.deliver(inbound(acks))
    monkeypatch.setattr(routes, "UNCLAIMED_SECONDS", -1)
    own.deliver(inbound(acks, "b"))
    assert acks.count == 2
    assert "a message to a was dropped" in caplog.text


@pytest.mark.parametrize("protocol", ["3.1.1", "5"])
def test_unclaimed_messages_that_fill_the_window_are_dropped_without_further_messages(
    join: Callable[..., Communicator],
    plain_broker: Mosquitto,
    monkeypatch: pytest.MonkeyPatch,
    protocol: str,
) -> None:
    """The broker sends nothing else until some of them are acknowledged."""
    root = f"window/{uuid4().hex}"
    own: dict[str, Any] = {"client_id": uuid4().hex, "persistent": True, "protocol": protocol}
    with join(plain_broker.port, **own) as earlier:
        for topic in ("left", "wanted"):
            earlier.subscribe(f"{root}/{topic}", qos=1)
    sender = join(plain_broker.port)
    for topic, count in (("left", WINDOW), ("wanted", 1)):
        for _ in range(count):
            sender.send(b"x", f"{root}/{topic}", 1).wait(PATIENCE)
    later = join(plain_broker.port, **own)
    later.subscribe(f"{root}/wanted", qos=1)
    with pytest.raises(TimeoutError):
        later.receive(timeout=0.1)
    monkeypatch.setattr(routes, "UNCLAIMED_SECONDS", 0)
    assert later.receive(timeout=PATIENCE).payload == b"x"


def test_unclaimed_message_that_is_not_wanted_is_left_at_once(acks: Acks) -> None:
    left: list[str] = []
    own = Routes(resumes=True, forget=left.append)
    for topic in ("a/1", "b/1"):
        own.deliver(inbound(acks, topic))
    own.leave("a/+")
    assert (left, acks.count) == (["a/1"], 1)
    own.deliver(inbound(acks, "a/2"))
    assert (left, acks.count) == (["a/1", "a/2"], 2)
    assert len(subscribe(own, "b/1", manual_ack=True)) == 1


def test_subscription_gets_messages_left_by_an_earlier_program(acks: Acks) -> None:
    left: list[str] = []
    own = Routes(resumes=True, forget=left.append)
    got = subscribe(own, "a/1", manual_ack=True)
    own.leave("a/+")
    own.deliver(inbound(acks, "a/1"))
    assert (len(got), left, acks.count) == (1, [], 0)


def test_unclaimed_messages_with_qos_0_are_bounded(
    acks: Acks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(routes, "UNCLAIMED_BYTES", 10)
    own = Routes(resumes=True)
    for number, qos in enumerate((0, 0, 0, 1, 0)):
        own.deliver(InboundMessage("a", b"%d...." % number, qos, False, False, acks))
    got = subscribe(own, "a", manual_ack=True)
    assert [message.payload[:1] for message in got] == [b"0", b"1", b"3"]
    other = subscribe(own, "b", manual_ack=True)
    own.remove("a")
    own.deliver(InboundMessage("b", b"5", 0, False, False, acks))
    assert len(other) == 1


def test_expected_message_waits_for_its_subscription_without_limit(
    acks: Acks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(routes, "UNCLAIMED_SECONDS", -1)
    own = Routes(resumes=True)
    own.expect("a")
    own.deliver(inbound(acks))
    own.deliver(inbound(acks, "b"))
    own.deliver(InboundMessage("a", b"", 0, False, False, acks))
    assert acks.count == 2  # b, and the one of QoS 0
    (message,) = subscribe(own, "a", manual_ack=True)
    message.ack()
    assert acks.count == 3


def test_many_topics_do_not_fill_the_cache(acks: Acks) -> None:
    own = Routes(resumes=False)
    messages = subscribe(own, "#", manual_ack=False)
    for number in range(CACHED_TOPICS + 1):
        own.deliver(inbound(acks, f"a/{number}"))
    assert len(messages) == CACHED_TOPICS + 1
    assert len(own._matching) == 1
    own.deliver(inbound(acks, "a/" + "x" * LONGEST_CACHED))
    assert len(messages) == CACHED_TOPICS + 2
    assert len(own._matching) == 1


def test_unfinished_callbacks_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    callbacks, started, go = CallbackThread("me"), threading.Event(), threading.Event()

    def wait() -> None:
        started.set()
        go.wait(PATIENCE)

    call = callbacks.sink(wait)
    call()
    call()
    assert started.wait(PATIENCE)
    callbacks.finish(0.01)
    go.set()
    assert "closed before callbacks have seen 2 messages" in caplog.text


def test_callback_may_finish_the_callbacks(caplog: pytest.LogCaptureFixture) -> None:
    callbacks, done = CallbackThread("me"), threading.Event()

    def finish() -> None:
        callbacks.finish(PATIENCE)
        done.set()

    call = callbacks.sink(finish)
    call()
    assert done.wait(PATIENCE)
    assert caplog.text == ""
