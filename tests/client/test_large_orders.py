"""Tests of orders that are larger than the broker takes: they fail at once, and others go on."""

from collections.abc import Iterator

import msgspec
import pytest

from fastlib import TaskContainer
from fastlib.client import MigfraClient
from fastlib.transport import (
    EmbeddedBroker,
    MemoryBroker,
    MemoryOptions,
    MessageTooLargeError,
    MqttOptions,
    connect,
)
from tests.support.client.factory import PATIENCE, Daemon, success
from tests.support.mosquitto import Mosquitto
from tests.support.waiting import wait_until

XML = "<domain><name>vm1</name><description>" + "x" * 30_000 + "</description></domain>"
LIMIT = 20_000


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mosquitto]:
    settings = (f"max_packet_size {LIMIT}",)
    with Mosquitto(tmp_path_factory.mktemp("small"), settings=settings) as broker:
        yield broker


@pytest.mark.parametrize("protocol", ["3.1.1", "5"])
def test_large_order_fails_and_the_next_one_is_executed(
    broker: Mosquitto, protocol: str, caplog: pytest.LogCaptureFixture
) -> None:
    options = MqttOptions(
        host="127.0.0.1",
        port=broker.port,
        retry_min=0.02,
        retry_max=0.2,
        protocol=protocol,  # type: ignore[arg-type]
    )
    with connect(options) as peer, MigfraClient.connect(options) as client:
        Daemon("hostA", peer).answers(success)
        with pytest.raises(MessageTooLargeError, match="fast/migfra/hostA/task is too large: 30"):
            client.start("hostA", xml=XML, timeout=PATIENCE).result()
        assert client.suspend("hostA", "vm2", timeout=PATIENCE).result().status == "success"
    assert "another client" not in caplog.text


def test_waiting_orders_continue_while_a_large_one_is_held(broker: Mosquitto) -> None:
    options = MqttOptions(host="127.0.0.1", port=broker.port, retry_min=0.02, retry_max=0.2)
    kept = msgspec.structs.replace(options, client_id="scheduler", persistent=True)
    with connect(options) as peer, MigfraClient.connect(kept) as client:
        Daemon("hostA", peer).answers(success)
        large = client.start("hostA", xml=XML, timeout=PATIENCE)
        others = [client.suspend("hostA", f"vm{n}", timeout=PATIENCE) for n in range(2, 10)]
        assert {other.result().status for other in others} == {"success"}
        with pytest.raises(MessageTooLargeError):
            large.result()


def test_embedded_broker_can_have_the_same_limit() -> None:
    with EmbeddedBroker(port=0, largest_packet=LIMIT) as broker:
        options = MqttOptions(host="127.0.0.1", port=broker.port, retry_min=0.02, retry_max=0.2)
        with connect(options) as one:
            with pytest.raises(MessageTooLargeError):
                one.send(b"x" * 30_000, "a").wait(PATIENCE)
            wait_until(lambda: one.is_connected, "the next connection")
            one.send(b"x" * 15_000, "a").wait(PATIENCE)


def test_order_that_cannot_be_repeated_still_waits_for_its_result(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The broker of the next connection takes less. The order was delivered before."""
    broker = MemoryBroker()
    with (
        MigfraClient.connect(MemoryOptions(broker=broker, client_id="scheduler")) as client,
        connect(MemoryOptions(broker=broker)) as peer,
    ):
        daemon = Daemon("hostA", peer)
        watch = client.watch(presence=True)
        daemon.presence("online")
        next(watch)
        large = client.start("hostA", xml=XML, timeout=PATIENCE)
        small = client.suspend("hostA", "vm2", timeout=PATIENCE)
        containers: list[TaskContainer] = daemon.wait(2)
        broker.cut("scheduler")
        broker.largest_packet = LIMIT
        broker.mend("scheduler")
        wait_until(lambda: len(daemon.received) == 3, "the repetition of the small one")
        assert "the request could not be sent again: a message to" in caplog.text
        for container in containers:
            daemon.send(success(container))
        assert large.result().status == "success"
        assert small.result().status == "success"
