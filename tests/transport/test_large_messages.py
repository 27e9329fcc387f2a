"""Tests of messages that a broker does not take: mosquitto with limits of size, QoS and retain."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from typing import Any
from uuid import uuid4

import pytest

from fastlib.transport import (
    Communicator,
    MemoryBroker,
    MemoryOptions,
    MessageTooLargeError,
    MqttOptions,
    OptionsError,
    RefusedError,
    connect,
)
from fastlib.transport.packet_size import packet_size, publish_size, subscribe_size
from tests.support.mosquitto import PATIENCE, Mosquitto
from tests.support.transport.proxy import Proxy
from tests.support.transport.short_control import short_control  # noqa: F401  # a fixture
from tests.support.waiting import wait_until

LIMIT = 20_000
PROTOCOLS = ["3.1.1", "5"]


@pytest.fixture(scope="module")
def small_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mosquitto]:
    """A broker that takes only small packets."""
    settings = (f"max_packet_size {LIMIT}",)
    with Mosquitto(tmp_path_factory.mktemp("small"), settings=settings) as broker:
        yield broker


@pytest.fixture(scope="module")
def weak_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mosquitto]:
    """A broker without QoS 2 and without retained messages."""
    settings = ("max_qos 1", "retain_available false")
    with Mosquitto(tmp_path_factory.mktemp("weak"), settings=settings) as broker:
        yield broker


@pytest.fixture
def root() -> str:
    return f"large/{uuid4().hex}"


def heard(receiver: Communicator, root: str, count: int) -> list[bytes]:
    return sorted(receiver.receive(root, timeout=PATIENCE).payload for _ in range(count))


@pytest.mark.parametrize("remaining", [0, 127, 128, 16_383, 16_384, 2_097_151, 2_097_152])
def test_size_of_a_packet(remaining: int) -> None:
    length = 0
    rest = remaining
    while True:
        length += 1
        rest >>= 7
        if not rest:
            break
    assert packet_size(remaining) == 1 + length + remaining


def test_size_of_a_message_counts_topic_and_header() -> None:
    assert publish_size("ä", 10, 0) == 2 + 2 + 2 + 10
    assert publish_size("a/b", 10, 1) == 2 + 2 + 3 + 2 + 10
    assert publish_size("a/b", 10, 2, properties=6) == 2 + 2 + 3 + 2 + 6 + 10
    assert subscribe_size(["a", "bc"], five=False) == 2 + 2 + 3 + 1 + 3 + 2
    assert subscribe_size(["a"], five=True) == 2 + 2 + 1 + 3 + 1


def test_stated_limit_refuses_a_larger_message_in_send(
    join: Callable[..., Communicator], small_broker: Mosquitto, root: str
) -> None:
    """To the byte, with the topic and the header."""
    sender = join(small_broker.port, protocol="5")
    overhead = publish_size(root, LIMIT, 2, properties=1) - LIMIT
    sender.send(b"x" * (LIMIT - overhead), root, 2).wait(PATIENCE)
    with pytest.raises(MessageTooLargeError) as caught:
        sender.send(b"x" * (LIMIT - overhead + 1), root, 2)
    error = caught.value
    assert (error.packet, error.limit, error.source) == (LIMIT + 1, LIMIT, "broker")
    assert not error.messages[0].sent
    assert root in str(error)
    assert f"the broker takes at most {LIMIT} bytes" in str(error)
    # The expiry adds five bytes, which count.
    with pytest.raises(MessageTooLargeError):
        sender.send(b"x" * (LIMIT - overhead), root, 2, expiry=1000)
    sender.send(b"small", root, 2).wait(PATIENCE)
    assert sender.is_connected


@pytest.mark.usefixtures("short_control")
@pytest.mark.parametrize("qos", [1, 2])
def test_unknown_limit_sets_one_message_aside_and_sends_all_others(
    join: Callable[..., Communicator],
    small_broker: Mosquitto,
    root: str,
    qos: int,
    caplog: pytest.LogCaptureFixture,
) -> None:
    receiver = join(small_broker.port)
    receiver.subscribe(root)
    sender = join(small_broker.port, client_id=uuid4().hex, persistent=True)
    large = sender.send(b"x" * 30_000, root, qos)
    others = [sender.send(b"%03d" % number, root, qos) for number in range(30)]
    for other in others:
        other.wait(PATIENCE)
    with pytest.raises(MessageTooLargeError) as caught:
        large.wait(PATIENCE)
    assert caught.value.source == "inferred"
    assert "30000 bytes" in str(caught.value)
    assert "max_packet_size" in str(caught.value)
    assert heard(receiver, root, 30) == [b"%03d" % number for number in range(30)]
    assert "another client" not in caplog.text
    assert f"while it sent a message to {root} (30000 bytes)" in caplog.text
    sender.close()


def test_network_that_breaks_all_connections_is_not_taken_for_a_limit(
    join: Callable[..., Communicator], plain_broker: Mosquitto, root: str
) -> None:
    """The message is sent for most of each connection, so it alone is being sent at their ends."""
    receiver = join(plain_broker.port)
    receiver.subscribe(root)
    with Proxy(plain_broker.port) as proxy:
        sender = join(proxy.port, client_id=uuid4().hex, persistent=True)
        sender.send(b"small", root, 1).wait(PATIENCE)
        proxy.rate, proxy.lifetime = 60_000, lambda: 0.3
        proxy.cut()
        large = sender.send(b"x" * 40_000, root, 1)
        wait_until(lambda: large.done or proxy.connections > 12, "some connections")
        assert not large.done
        other = sender.send(b"other", root, 1)
        other.wait(PATIENCE)
        proxy.lifetime = None
        large.wait(PATIENCE)
    assert {len(payload) for payload in heard(receiver, root, 3)} == {5, 40_000}


def test_large_messages_with_qos_0_are_refused_after_a_few_connections(
    join: Callable[..., Communicator], small_broker: Mosquitto, root: str
) -> None:
    """They are not sent again, but each further one would end the connection."""
    sender = join(small_broker.port)

    def is_refused() -> bool:
        wait_until(lambda: sender.is_connected, "the connection")
        try:
            sender.send(b"x" * 30_000, root, 0)
        except MessageTooLargeError as error:
            return error.source == "inferred"
        wait_until(lambda: not sender.is_connected, "the end of the connection")
        return False

    wait_until(is_refused, "the refusal")
    wait_until(lambda: sender.is_connected, "the connection")
    sender.send(b"x" * 1000, root, 1).wait(PATIENCE)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_message_slower_than_the_keep_alive_is_not_resent_for_ever(
    request: pytest.FixtureRequest,
    join: Callable[..., Communicator],
    plain_broker: Mosquitto,
    root: str,
    protocol: str,
) -> None:
    """mosquitto ends a connection on which no whole packet has come for 1.5 keep-alives."""
    if not request.config.getoption("--long"):
        pytest.skip("takes ten keep-alives; with --long")
    with Proxy(plain_broker.port) as proxy:
        sender = join(proxy.port, protocol=protocol, keep_alive=5)
        proxy.rate = 1_000
        large = sender.send(b"x" * 40_000, root, 1)
        with pytest.raises(MessageTooLargeError, match="a longer `keep_alive`"):
            large.wait(300)
        sender.send(b"x", root, 1).wait(PATIENCE)


def test_network_that_breaks_connections_lets_large_messages_with_qos_0_pass(
    join: Callable[..., Communicator], plain_broker: Mosquitto, root: str
) -> None:
    """The broker has accepted them, and sends no packets."""
    receiver = join(plain_broker.port)
    receiver.subscribe(root)
    with Proxy(plain_broker.port) as proxy:
        sender = join(proxy.port)
        client: Any = sender._core.link._session.client  # type: ignore[attr-defined]
        for _ in range(5):
            wait_until(lambda: sender.is_connected, "the connection")
            sender.send(b"x" * 30_000, root, 0).wait(PATIENCE)
            assert receiver.receive(root, timeout=PATIENCE).size == 30_000
            wait_until(lambda: client.sent_since_read == 0, "the answer of the broker")
            proxy.cut()
            wait_until(lambda: not sender.is_connected, "the end of the connection")


def test_size_that_ended_connections_is_refused_at_once_later(
    join: Callable[..., Communicator], small_broker: Mosquitto, root: str
) -> None:
    sender = join(small_broker.port)
    with pytest.raises(MessageTooLargeError):
        sender.send(b"x" * 30_000, root).wait(PATIENCE)
    wait_until(lambda: sender.is_connected, "the next connection")
    with pytest.raises(MessageTooLargeError, match="seems to take at most"):
        sender.send(b"x" * 30_000, root)
    sender.send(b"x" * 1000, root).wait(PATIENCE)


def test_refusal_of_a_size_in_the_acknowledgement_ends_no_connection(
    join: Callable[..., Communicator], tmp_path: Any, root: str, caplog: pytest.LogCaptureFixture
) -> None:
    """mosquitto answers so for its `message_size_limit`, though MQTT does not allow it there."""
    with Mosquitto(tmp_path / "broker", settings=("message_size_limit 2000",)) as broker:
        sender = join(broker.port, protocol="5")
        for qos in (1, 2):
            with pytest.raises(MessageTooLargeError, match=r"packet too large \(0x95\)"):
                sender.send(b"x" * 3000, root, qos).wait(PATIENCE)
        sender.send(b"x" * 1000, root, 2).wait(PATIENCE)
    assert "the connection was ended" not in caplog.text


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_option_is_a_limit_before_the_first_connection(
    join: Callable[..., Communicator], small_broker: Mosquitto, root: str, protocol: str
) -> None:
    sender = join(small_broker.port, protocol=protocol, largest_packet=5000)
    with pytest.raises(MessageTooLargeError, match="option `largest-packet` allows at most 5000"):
        sender.send(b"x" * 5000, root)
    sender.send(b"x" * 4000, root).wait(PATIENCE)


def test_limit_belongs_to_the_connection(
    join: Callable[..., Communicator], small_broker: Mosquitto, plain_broker: Mosquitto, root: str
) -> None:
    """A message that was queued for one broker fails at the next one that is too small for it."""
    with Proxy(plain_broker.port) as proxy:
        sender = join(proxy.port, protocol="5")
        sender.send(b"x" * 30_000, root).wait(PATIENCE)
        proxy.refusing = True
        proxy.cut()
        wait_until(lambda: not sender.is_connected, "the loss")
        queued = sender.send(b"x" * 30_000, root)
        small = sender.send(b"x", root)
        proxy.target = small_broker.port
        proxy.refusing = False
        with pytest.raises(MessageTooLargeError, match="the broker takes at most"):
            queued.wait(PATIENCE)
        small.wait(PATIENCE)
        proxy.target = plain_broker.port
        proxy.cut()
        wait_until(lambda: not sender.is_connected, "the loss")
        sender.send(b"x" * 30_000, root).wait(PATIENCE)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_many_filters_go_in_packets_that_the_broker_takes(
    join: Callable[..., Communicator], small_broker: Mosquitto, root: str, protocol: str
) -> None:
    """100 filters of 400 bytes are two packets with MQTT 5; with 3.1.1 the size is found."""
    with Proxy(small_broker.port) as proxy:
        one = join(proxy.port, protocol=protocol)
        filters = [f"{root}/{number}/{'x' * 400}" for number in range(100)]
        for pattern in filters:
            one.subscribe(pattern)
        proxy.cut()
        sender = join(small_broker.port)

        def arrives(topic: str) -> bool:
            sender.send(b"x", topic, 2).wait(PATIENCE)
            with suppress(TimeoutError):
                return one.receive(topic, timeout=0.2).payload == b"x"
            return False

        for topic in (filters[-1], filters[0]):
            wait_until(partial(arrives, topic), "a message to each filter")


def test_filter_above_the_limit_is_refused_and_stops_nothing(
    join: Callable[..., Communicator], small_broker: Mosquitto, root: str
) -> None:
    one = join(small_broker.port, protocol="5")
    with pytest.raises(RefusedError, match=f"at most {LIMIT} bytes"):
        one.subscribe(f"{root}/{'x' * LIMIT}")
    one.subscribe(root)
    one.send(b"x", root, 2).wait(PATIENCE)
    assert heard(one, root, 1) == [b"x"]


@pytest.mark.usefixtures("short_control")
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_broker_without_qos_2_gets_qos_1(
    join: Callable[..., Communicator],
    weak_broker: Mosquitto,
    root: str,
    protocol: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    receiver = join(weak_broker.port)
    receiver.subscribe(root, qos=2)
    sender = join(weak_broker.port, protocol=protocol)
    sent = [sender.send(b"%d" % number, root, 2) for number in range(5)]
    for delivery in sent:
        delivery.wait(PATIENCE)
    assert {delivery.sent_qos for delivery in sent} == {1}
    assert heard(receiver, root, 5) == [b"0", b"1", b"2", b"3", b"4"]
    assert caplog.text.count("no QoS 2: messages are sent with QoS 1 and may arrive twice") == 1


@pytest.mark.usefixtures("short_control")
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_broker_without_retained_messages_gets_others(
    join: Callable[..., Communicator],
    weak_broker: Mosquitto,
    root: str,
    protocol: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    receiver = join(weak_broker.port)
    receiver.subscribe(root)
    sender = join(weak_broker.port, protocol=protocol)
    sender.send(b"kept?", root, 1, retain=True).wait(PATIENCE)
    assert heard(receiver, root, 1) == [b"kept?"]
    assert caplog.text.count("no retained messages") == 1


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_qos_option_lowers_qos_of_messages(
    join: Callable[..., Communicator], tmp_path: Any, root: str, protocol: str
) -> None:
    """With it, a broker that only has QoS 0 is of use with MQTT 3.1.1, too."""
    with Mosquitto(tmp_path / "broker", settings=("max_qos 0",)) as broker:
        receiver = join(broker.port)
        receiver.subscribe(root)
        sender = join(broker.port, protocol=protocol, qos=0)
        delivery = sender.send(b"x", root, 2)
        delivery.wait(PATIENCE)
        assert delivery.sent_qos == 0
        assert heard(receiver, root, 1) == [b"x"]


@pytest.mark.usefixtures("short_control")
def test_message_that_is_not_refused_for_its_size_is_set_aside_with_another_error(
    join: Callable[..., Communicator], tmp_path: Any, root: str
) -> None:
    with Mosquitto(tmp_path / "broker", settings=("max_qos 0",)) as broker:
        sender = join(broker.port)
        with pytest.raises(RefusedError, match="option `qos`"):
            sender.send(b"x", root, 1).wait(PATIENCE)


@pytest.mark.parametrize("where", ["options", "broker"])
def test_broker_in_memory_has_the_same_limit(where: str) -> None:
    limit = {"largest_packet": 1000}
    broker = MemoryBroker(**(limit if where == "broker" else {}))
    options = MemoryOptions(broker=broker, qos=1, **(limit if where == "options" else {}))
    with connect(options) as one:
        one.subscribe("a")
        with pytest.raises(MessageTooLargeError, match="at most 1000 bytes") as caught:
            one.send(b"x" * 1000, "a")
        assert caught.value.source == ("option" if where == "options" else "broker")
        one.send(b"x" * 900, "a", 2)
        assert one.receive("a", timeout=PATIENCE).qos == 1


@pytest.mark.parametrize("named", [{"largest_packet": 0}, {"qos": 3}])
def test_options_out_of_range(named: dict[str, Any]) -> None:
    with pytest.raises(OptionsError):
        MqttOptions(**named)
