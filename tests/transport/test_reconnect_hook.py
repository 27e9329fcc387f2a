"""`on_reconnect`: called after each connect but the first, in both faces."""

import threading
from pathlib import Path

import pytest

from fastlib.transport import MemoryBroker, MemoryOptions, MqttOptions
from tests.support.mosquitto import Mosquitto
from tests.support.transport.connector import PATIENCE, BlockingCommunicator, Connector


@pytest.fixture(params=["sync", "async"])
def in_loop(request, loop):
    return loop if request.param == "async" else None


def listen(communicator) -> threading.Semaphore:
    called = threading.Semaphore(0)
    if isinstance(communicator, BlockingCommunicator):

        async def back() -> None:
            called.release()

        async def register() -> None:
            communicator.inner.on_reconnect(back)

        communicator._run(register())
    else:
        communicator.on_reconnect(called.release)
    return called


def test_memory_reconnect_calls_callback(in_loop):
    broker = MemoryBroker()
    connector = Connector(lambda **named: MemoryOptions(broker=broker, client_id="me"), in_loop)
    called = listen(connector.connect())
    for _ in range(2):
        broker.cut("me")
        assert not called.acquire(blocking=False)
        broker.mend("me")
        assert called.acquire(timeout=PATIENCE)
    assert not called.acquire(blocking=False)
    connector.close()


def test_mqtt_reconnect_calls_callback(in_loop, tmp_path: Path):
    with Mosquitto(tmp_path / "broker") as broker:
        connector = Connector(
            lambda **named: MqttOptions(host="127.0.0.1", port=broker.port, retry_min=0.05), in_loop
        )
        called = listen(connector.connect())
        broker.kill()
        broker.start()
        assert called.acquire(timeout=PATIENCE)
        connector.close()
        assert not called.acquire(blocking=False)
