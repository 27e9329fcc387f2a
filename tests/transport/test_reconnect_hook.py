"""`on_reconnect`: called after each connect but the first, in both faces."""

import threading
from pathlib import Path

import pytest

from fastlib.transport import MemoryBroker, MemoryOptions, MqttOptions
from tests.support.mosquitto import Mosquitto
from tests.support.transport.places import PATIENCE, InThread, Place


@pytest.fixture(params=["sync", "async"])
def in_loop(request, loop):
    return loop if request.param == "async" else None


def listen(communicator) -> threading.Semaphore:
    called = threading.Semaphore(0)
    if isinstance(communicator, InThread):

        async def back() -> None:
            called.release()

        async def register() -> None:
            communicator.inner.on_reconnect(back)

        communicator._run(register())
    else:
        communicator.on_reconnect(called.release)
    return called


def test_in_memory(in_loop):
    broker = MemoryBroker()
    place = Place(lambda **named: MemoryOptions(broker=broker, client_id="me"), in_loop)
    called = listen(place.connect())
    for _ in range(2):
        broker.cut("me")
        assert not called.acquire(blocking=False)
        broker.mend("me")
        assert called.acquire(timeout=PATIENCE)
    assert not called.acquire(blocking=False)
    place.close()


def test_over_mqtt(in_loop, tmp_path: Path):
    with Mosquitto(tmp_path / "broker") as broker:
        place = Place(
            lambda **named: MqttOptions(host="127.0.0.1", port=broker.port, retry_min=0.05), in_loop
        )
        called = listen(place.connect())
        broker.kill()
        broker.start()
        assert called.acquire(timeout=PATIENCE)
        place.close()
        assert not called.acquire(blocking=False)
