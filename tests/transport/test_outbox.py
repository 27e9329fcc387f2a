"""The outbox of a session: messages that wait, and those in flight."""

import pytest

from fastlib.transport import QueueFullError, RefusedError, UndeliveredError
from fastlib.transport.delivery import Delivery
from fastlib.transport.mqtt.outbox import NOT_FOUND, Outbox
from tests.support.transport.session import delivery


class Sender:
    """Publishes with increasing packet ids, unless it is not ready."""

    def __init__(self) -> None:
        self.sent: list[Delivery] = []
        self.ready = True

    def __call__(self, message: Delivery) -> int | None:
        if not self.ready:
            return None
        self.sent.append(message)
        return len(self.sent)


def test_outbox_limits_messages_in_flight() -> None:
    outbox, sender = Outbox(10, 2), Sender()
    for _ in range(3):
        outbox.accept(delivery(), True, None)
    outbox.send_queued(sender)
    assert len(sender.sent) == 2
    assert not outbox.can_send
    outbox.confirm(1, 0)
    outbox.send_queued(sender)
    assert len(sender.sent) == 3
    assert sender.sent[0].done
    assert not sender.sent[1].done


def test_outbox_keeps_message_that_cannot_be_sent() -> None:
    outbox, sender = Outbox(10, 2), Sender()
    outbox.accept(delivery(), True, None)
    sender.ready = False
    outbox.send_queued(sender)
    assert outbox.can_send


@pytest.mark.parametrize(("connected", "text"), [(True, "already$"), (False, "already: no route")])
def test_full_outbox_refuses_messages(connected: bool, text: str) -> None:
    outbox = Outbox(1, 1)
    outbox.accept(delivery(), connected, None)
    with pytest.raises(QueueFullError, match=text):
        outbox.accept(delivery(), connected, "no route")


def test_room_is_reported_after_a_confirmation() -> None:
    outbox, sender = Outbox(2, 2), Sender()
    assert outbox.room().done()
    for _ in range(2):
        outbox.accept(delivery(), True, None)
    waiting, cancelled = outbox.room(), outbox.room()
    cancelled.cancel()
    outbox.send_queued(sender)
    assert not waiting.done()
    outbox.confirm(1, 0)
    assert waiting.done()


def test_unknown_confirmation_is_ignored() -> None:
    outbox = Outbox(1, 1)
    outbox.confirm(7, 0)
    assert len(outbox) == 0


def test_refused_message_fails() -> None:
    outbox, sender = Outbox(2, 2), Sender()
    refused, repeated = delivery(), delivery()
    for message in (refused, repeated):
        outbox.accept(message, True, None)
    outbox.send_queued(sender)
    outbox.confirm(1, 0x87)
    outbox.confirm(2, NOT_FOUND)
    with pytest.raises(RefusedError, match="not authorized"):
        refused.wait(0)
    repeated.wait(0)


def test_lost_connection_fails_only_qos_0() -> None:
    outbox, sender = Outbox(2, 2), Sender()
    once, again = delivery(qos=0), delivery(qos=1)
    for message in (once, again):
        outbox.accept(message, True, None)
    waiting = outbox.room()
    outbox.send_queued(sender)
    outbox.connection_lost()
    with pytest.raises(UndeliveredError, match="connection broke"):
        once.wait(0)
    assert not again.done
    assert waiting.done()
