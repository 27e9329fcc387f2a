"""Tests of the broker in this process: simulated faults, wills, takeovers, subscriptions."""

import threading

import pytest

from fastlib.transport import (
    ClientIdTakenError,
    Communicator,
    ConnectError,
    MemoryBroker,
    MemoryOptions,
    OptionsError,
    QueueFullError,
    TlsOptions,
    UndeliveredError,
    Will,
    connect,
)
from tests.support.waiting import wait_until


@pytest.fixture
def broker() -> MemoryBroker:
    return MemoryBroker()


def test_messages_wait_while_cut_off(broker: MemoryBroker) -> None:
    with (
        connect(MemoryOptions(broker=broker, client_id="a", persistent=True)) as one,
        connect(MemoryOptions(broker=broker, client_id="b", max_pending=2)) as other,
    ):
        one.subscribe("x")
        broker.cut("a")
        broker.cut("b")
        assert not one.is_connected
        assert isinstance(one.last_error, ConnectError)
        kept = other.send(b"1", "x"), other.send(b"2", "x")
        with pytest.raises(QueueFullError, match="cut off"):
            other.send(b"3", "x")
        assert not kept[0].done
        broker.mend("b")
        assert kept[1].done
        with pytest.raises(TimeoutError):
            one.receive("x", timeout=0.01)
        broker.mend("a")
        assert [one.receive(timeout=60).payload for _ in kept] == [b"1", b"2"]
        assert one.last_error is None


def test_qos_0_is_lost_while_client_is_away(broker: MemoryBroker) -> None:
    with connect(MemoryOptions(broker=broker)) as sender:
        options = MemoryOptions(broker=broker, client_id="a", persistent=True)
        with connect(options) as one:
            one.subscribe("x")
        for qos in range(3):
            sender.send(b"%d" % qos, "x", qos)
        with connect(options) as one:
            one.subscribe("x")
            assert [one.receive(timeout=60).payload for _ in range(2)] == [b"1", b"2"]
            sender.send(b"0", "x", 0)
            assert one.receive(timeout=60).packet_id is None


def test_will_is_published_after_cut(broker: MemoryBroker) -> None:
    with (
        connect(MemoryOptions(broker=broker)) as watcher,
        connect(MemoryOptions(broker=broker, client_id="a", will=Will(topic="w", retain=True))),
    ):
        watcher.subscribe("w")
        broker.cut("a")
        assert watcher.receive(timeout=60).topic == "w"
        broker.mend("a")


def test_newer_client_takes_over_client_id(broker: MemoryBroker) -> None:
    options = MemoryOptions(broker=broker, client_id="a")
    with connect(options) as old, connect(options) as new:
        assert isinstance(old.last_error, ClientIdTakenError)
        assert not old.is_connected
        assert new.is_connected


def test_close_lists_undelivered_messages(broker: MemoryBroker) -> None:
    one = connect(MemoryOptions(broker=broker, client_id="a"))
    broker.cut("a")
    delivery = one.send(b"123", "x", qos=2)
    with pytest.raises(UndeliveredError) as caught:
        one.close(timeout=0.05)
    (message,) = caught.value.messages
    assert (message.topic, message.size, message.qos, message.sent) == ("x", 3, 2, False)
    with pytest.raises(UndeliveredError):
        delivery.wait(1)


def test_connect_times_out_while_cut_off(broker: MemoryBroker) -> None:
    broker.cut("a")
    with pytest.raises(ConnectError, match=r"within 0.05 s"):
        connect(MemoryOptions(broker=broker, client_id="a"), timeout=0.05)


def test_persistent_session_needs_client_id(broker: MemoryBroker) -> None:
    with pytest.raises(OptionsError, match="client_id"):
        MemoryOptions(broker=broker, persistent=True)


def test_subscription_while_cut_off_waits_for_mend(broker: MemoryBroker) -> None:
    with connect(MemoryOptions(broker=broker, client_id="a")) as one:
        broker.cut("a")
        with pytest.raises(TimeoutError):
            one.subscribe("x", timeout=0.01)
        subscribing = threading.Thread(target=one.subscribe, args=("y",))
        subscribing.start()
        wait_until(lambda: one._core.link._confirmations[1:], "the second subscription")
        broker.mend("a")
        subscribing.join(60)
        one.send(b"1", "y")
        assert one.receive(timeout=60).payload == b"1"


def test_connect_waits_for_mend(broker: MemoryBroker) -> None:
    broker.cut("a")
    made: list[Communicator] = []
    options = MemoryOptions(broker=broker, client_id="a")
    connecting = threading.Thread(target=lambda: made.append(connect(options, timeout=60)))
    connecting.start()
    wait_until(lambda: broker._cut["a"], "the try to connect")
    broker.mend("a")
    connecting.join(60)
    assert made[0].is_connected
    made[0].close()


def test_close_waits_for_mend_with_queued_messages(broker: MemoryBroker) -> None:
    one = connect(MemoryOptions(broker=broker, client_id="a"))
    broker.cut("a")
    delivery = one.send(b"", "x")
    closing = threading.Thread(target=one.close)
    closing.start()
    wait_until(lambda: one._core._closing, "the beginning of close")
    broker.mend("a")
    closing.join(60)
    delivery.wait(0)
    assert not one.is_connected


def test_failed_connect_is_not_made_by_mend(broker: MemoryBroker) -> None:
    broker.cut("a")
    with pytest.raises(ConnectError):
        connect(MemoryOptions(broker=broker, client_id="a"), timeout=0.01)
    broker.mend("a")
    with connect(MemoryOptions(broker=broker, client_id="a")) as one:
        assert one.is_connected


def test_will_qos_is_checked() -> None:
    with pytest.raises(OptionsError, match="0, 1 or 2, not 3"):
        Will(topic="a", qos=3)


def test_tls_key_needs_certificate() -> None:
    with pytest.raises(OptionsError, match="certificate"):
        TlsOptions(key="key.pem")
