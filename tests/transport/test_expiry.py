"""Tests of messages that expire: in the queue, in flight, at the broker, within this process."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from fastlib.transport import (
    Communicator,
    Delivery,
    ExpiredError,
    MemoryBroker,
    MemoryOptions,
    OptionsError,
    QueueFullError,
    UndeliveredError,
    connect,
)
from fastlib.transport.mqtt.outbox import Outbox
from tests.support.mosquitto import Mosquitto
from tests.support.transport.broker_clock import is_retained, wait_until_expired
from tests.support.transport.connector import PATIENCE, Connector
from tests.support.transport.session import OfflineSession
from tests.support.waiting import wait_until


@pytest.fixture
def root() -> str:
    return f"expiry/{uuid4().hex}"


def message(expiry: float | None, topic: str = "a") -> Delivery:
    return Delivery(topic, b"x", 1, False, expiry)


# Every communicator.


def test_message_arrives_before_its_expiry(connector: Connector, root: str) -> None:
    receiver, sender = connector.connect(), connector.connect()
    receiver.subscribe(root)
    sender.send(b"in time", root, expiry=60).wait(PATIENCE)
    for forever in (0xFFFF_FFFF, 2.0**40, math.inf):
        sender.send(b"always", root, expiry=forever).wait(PATIENCE)
    expected = [b"in time", *[b"always"] * 3]
    assert [receiver.receive(timeout=PATIENCE).payload for _ in expected] == expected


@pytest.mark.parametrize("expiry", [0, -1.5])
def test_expired_message_is_not_sent(connector: Connector, root: str, expiry: float) -> None:
    receiver, sender = connector.connect(), connector.connect()
    receiver.subscribe(root)
    late = sender.send(b"late", root, expiry=expiry)
    sender.send(b"next", root).wait(PATIENCE)
    with pytest.raises(ExpiredError, match=f"{root} expired after {expiry:g} s; it was not"):
        late.wait(PATIENCE)
    assert receiver.receive(timeout=PATIENCE).payload == b"next"


def test_expiry_that_is_not_a_number_is_refused(connector: Connector, root: str) -> None:
    with pytest.raises(OptionsError, match="`expiry` must be a number of seconds or None, not nan"):
        connector.connect().send(b"", root, expiry=math.nan)


# At a real broker.


@pytest.mark.parametrize("receivers_protocol", ["3.1.1", "5"])
def test_offline_subscriber_does_not_get_expired_messages(
    join: Callable[..., Communicator],
    plain_broker: Mosquitto,
    root: str,
    receivers_protocol: str,
) -> None:
    """The sender needs MQTT 5 for that, the receiver does not."""
    name = f"offline-{uuid4().hex[:8]}"
    persistent = {"client_id": name, "persistent": True, "protocol": receivers_protocol}
    away = join(plain_broker.port, **persistent)
    away.subscribe(f"{root}/task")
    away.close()
    five, three = join(plain_broker.port, protocol="5"), join(plain_broker.port)
    for qos in (1, 2):
        five.send(b"expires", f"{root}/task", qos, expiry=0.2).wait(PATIENCE)
        three.send(b"3.1.1", f"{root}/task", qos, expiry=0.2).wait(PATIENCE)
        five.send(b"in time", f"{root}/task", qos, expiry=600).wait(PATIENCE)
        five.send(b"always", f"{root}/task", qos).wait(PATIENCE)
    wait_until_expired(five)
    back = join(plain_broker.port, **persistent)
    back.subscribe(f"{root}/task")
    expected = [b"3.1.1", b"in time", b"always"] * 2
    assert [back.receive(timeout=PATIENCE).payload for _ in expected] == expected
    five.send(b"last", f"{root}/task")
    assert back.receive(timeout=PATIENCE).payload == b"last"


@pytest.mark.parametrize("protocol", ["3.1.1", "5"])
def test_message_expires_while_broker_is_away(
    join: Callable[..., Communicator], tmp_path: Path, root: str, protocol: str
) -> None:
    """Its delivery fails at that time, not only with the next connection."""
    broker = Mosquitto(tmp_path / "broker", persistence=True).start()
    try:
        sender = join(broker.port, protocol=protocol)
        receiver = join(broker.port, client_id="receiver", persistent=True)
        receiver.subscribe(root)
        broker.stop()
        wait_until(lambda: sender.last_error is not None, "the end of the connection")
        first = sender.send(b"first", root)
        expires = sender.send(b"expires", root, expiry=0.05)
        last = sender.send(b"last", root, expiry=600)
        with pytest.raises(ExpiredError, match=r"0.05 s; it was not sent: .*fastlib\w{16} at 127"):
            expires.wait(PATIENCE)
        assert not first.done
        broker.start()
        for delivery in (first, last):
            delivery.wait(PATIENCE)
        assert [receiver.receive(timeout=PATIENCE).payload for _ in range(2)] == [b"first", b"last"]
    finally:
        broker.kill()


@pytest.mark.parametrize("protocol", ["3.1.1", "5"])
def test_message_in_flight_is_not_sent_again_after_its_expiry(
    join: Callable[..., Communicator],
    tmp_path: Path,
    root: str,
    monkeypatch: pytest.MonkeyPatch,
    protocol: str,
) -> None:
    broker = Mosquitto(tmp_path / "broker").start()
    try:
        sender = join(broker.port, protocol=protocol, max_inflight=1)
        receiver = join(broker.port)
        receiver.subscribe(root)
        broker.freeze()
        in_flight = sender.send(b"in flight", root, expiry=600)
        queued = sender.send(b"queued", root, expiry=0.05)
        with pytest.raises(ExpiredError, match="was not sent"):
            queued.wait(PATIENCE)
        assert not in_flight.done, "the broker may still confirm it"
        broker.kill()
        left = Delivery.seconds_left
        monkeypatch.setattr(
            Delivery, "seconds_left", lambda self: -1.0 if self is in_flight else left(self)
        )
        broker.start()
        with pytest.raises(ExpiredError, match="and may have arrived") as caught:
            in_flight.wait(PATIENCE)
        assert caught.value.messages[0].sent
        wait_until(lambda: receiver.is_connected, "the receiver")
        receiver.unsubscribe(root)
        receiver.subscribe(root)  # which the broker confirms
        sender.send(b"next", root).wait(PATIENCE)
        assert receiver.receive(timeout=PATIENCE).payload == b"next"
    finally:
        broker.kill()


# The queue.


def test_outbox_drops_only_expired_messages() -> None:
    outbox = Outbox(10, 10)
    expired, other, never = message(-1), message(60), message(None)
    for delivery in (other, expired, never):
        outbox.accept(delivery, False, None)
    assert outbox.seconds_to_expiry(30) == 0
    outbox.drop_expired("no route")
    assert [delivery.done for delivery in (other, expired, never)] == [False, True, False]
    with pytest.raises(ExpiredError, match="expired after -1 s; it was not sent: no route"):
        expired.wait(0)
    assert outbox.seconds_to_expiry(30) == 30
    assert 30 < outbox.seconds_to_expiry(600) <= 60
    assert [left.topic for left in outbox.fail_all("closed")] == ["a", "a"]


def test_dropped_message_makes_room() -> None:
    outbox = Outbox(1, 1)
    outbox.accept(message(-1), False, None)
    with pytest.raises(QueueFullError):
        outbox.accept(message(-1), False, None)
    waiting = outbox.room()
    outbox.drop_expired(None)
    assert waiting.done()
    outbox.accept(message(None), False, None)


def test_outbox_without_expiry_has_nothing_to_drop() -> None:
    outbox = Outbox(2, 1)
    outbox.accept(message(None), False, None)
    outbox.drop_expired(None)
    assert outbox.seconds_to_expiry(1) == 1
    assert len(outbox) == 1


def test_full_queue_is_not_waited_for_beyond_the_expiry(
    join: Callable[..., Communicator], tmp_path: Path, root: str
) -> None:
    with Mosquitto(tmp_path / "broker") as broker:
        sender = join(broker.port, max_pending=1, max_inflight=1)
        broker.freeze()
        try:
            first = sender.send(b"first", root)
            with pytest.raises(QueueFullError):
                sender.send(b"second", root, expiry=0.05, timeout=600)
        finally:
            broker.thaw()
        first.wait(PATIENCE)


# The session of MQTT.


@pytest.mark.parametrize(("left", "seconds"), [(600, 600), (599.2, 600), (0.01, 1), (-5, 1)])
def test_broker_gets_full_seconds_and_never_zero(left: float, seconds: int) -> None:
    properties = OfflineSession(protocol="5").client.expiry_properties(left)
    assert properties is not None
    assert properties.MessageExpiryInterval == seconds


def test_mqtt_3_has_no_expiry() -> None:
    assert OfflineSession(protocol="3.1.1").client.expiry_properties(60) is None


@pytest.mark.parametrize("qos", [1, 2])
def test_expiry_is_shortened_when_a_message_is_sent_again(
    monkeypatch: pytest.MonkeyPatch, qos: int
) -> None:
    own = OfflineSession(protocol="5")
    delivery = Delivery("a", b"x", qos, False, 600)
    own.session.outbox.accept(delivery, True, None)
    own.session.send_queued()
    ((packet_id, _),) = own.session.outbox.expiring_in_flight()
    for left, expected in ((100.0, 100), (-1.0, 1)):
        monkeypatch.setattr(Delivery, "seconds_left", lambda _, left=left: left)
        own.connack(session_present=True)
        properties: Any = own.client._out_messages[packet_id].properties
        assert properties.MessageExpiryInterval == expected
    assert not delivery.done, "the rules of MQTT require that it is sent again"


# Within this process.


@pytest.fixture
def memory() -> MemoryBroker:
    return MemoryBroker()


def test_memory_broker_drops_expired_messages_of_offline_subscriber(memory: MemoryBroker) -> None:
    options = MemoryOptions(broker=memory, client_id="a", persistent=True)
    with connect(options) as one:
        one.subscribe("x", manual_ack=True)
        with connect(MemoryOptions(broker=memory)) as sender:
            sender.send(b"taken", "x", expiry=0.05)
            assert one.receive(timeout=PATIENCE).payload == b"taken"
            one.close()
            sender.send(b"expires", "x", expiry=0.05)
            sender.send(b"retained", "mark", retain=True, expiry=0.05)
            sender.send(b"always", "x")
            sender.send(b"in time", "x", expiry=60)
            wait_until(lambda: not is_retained(sender, "mark"), "the expiry")
    with connect(options) as one:
        one.subscribe("x")
        received = [one.receive(timeout=PATIENCE).payload for _ in range(3)]
    assert received == [b"taken", b"always", b"in time"], "what was sent before is repeated"


def test_message_expires_while_cut_off(memory: MemoryBroker) -> None:
    with (
        connect(MemoryOptions(broker=memory)) as receiver,
        connect(MemoryOptions(broker=memory, client_id="a")) as sender,
    ):
        receiver.subscribe("x")
        memory.cut("a")
        expires = sender.send(b"expires", "x", expiry=0.01)
        kept = sender.send(b"kept", "x", expiry=60)
        with pytest.raises(ExpiredError, match=r"after 0.01 s; it was not sent: a is cut off"):
            expires.wait(PATIENCE)
        assert not kept.done
        memory.mend("a")
        kept.wait(0)
        assert receiver.receive(timeout=PATIENCE).payload == b"kept"


def test_close_waits_for_all_queued_messages_to_expire(memory: MemoryBroker) -> None:
    sender = connect(MemoryOptions(broker=memory, client_id="a"))
    memory.cut("a")
    waiting = sender.send(b"", "x")
    expires = sender.send(b"", "x", expiry=0.01)
    with pytest.raises(UndeliveredError, match="1 messages not confirmed"):
        sender.close(0.05)
    assert expires.done
    with pytest.raises(UndeliveredError, match="closed"):
        waiting.wait(0)
    memory.mend("a")


def test_close_ends_when_the_last_message_has_expired(memory: MemoryBroker) -> None:
    sender = connect(MemoryOptions(broker=memory, client_id="a"))
    memory.cut("a")
    sender.send(b"", "x", expiry=0.01)
    sender.close(600)
    memory.mend("a")
