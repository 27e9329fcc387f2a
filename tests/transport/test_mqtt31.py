"""Clients with MQTT 3.1 (`MQIsdp`), which the C++ library speaks, beside fastlib's with 3.1.1."""

import threading
from collections.abc import Iterator
from typing import Any

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from fastlib.transport import EmbeddedBroker, MqttOptions, connect
from fastlib.transport.embedded.mqtt31 import newer_connect
from tests.support.mosquitto import PATIENCE, Mosquitto


@pytest.fixture(params=["mosquitto", "embedded"])
def port(request: pytest.FixtureRequest, plain_broker: Mosquitto) -> Iterator[int]:
    if request.param == "mosquitto":
        yield plain_broker.port
        return
    with EmbeddedBroker(port=0) as broker:
        yield broker.port


@pytest.mark.parametrize("client_id", ["cpp", "c" * 120])
def test_client_with_mqtt_3_1_exchanges_messages(port: int, client_id: str):
    """The longer id has a CONNECT with two bytes of length."""
    came, subscribed = threading.Event(), threading.Event()
    payloads: list[bytes] = []

    def on_message(_client: Any, _data: Any, message: Any) -> None:
        payloads.append(message.payload)
        came.set()

    old = paho.Client(CallbackAPIVersion.VERSION2, client_id=client_id, protocol=paho.MQTTv31)
    old.on_message = on_message
    old.on_connect = lambda client, *_: client.subscribe(f"cpp/{client_id}/task", 2)
    old.on_subscribe = lambda *_: subscribed.set()
    old.connect("127.0.0.1", port)
    old.loop_start()
    try:
        with connect(MqttOptions(host="127.0.0.1", port=port)) as one:
            one.subscribe(f"cpp/{client_id}/result")
            assert subscribed.wait(PATIENCE)
            one.send(b"task: quit", f"cpp/{client_id}/task", qos=2).wait(PATIENCE)
            assert came.wait(PATIENCE)
            assert payloads == [b"task: quit"]
            old.publish(f"cpp/{client_id}/result", b"result: quit", qos=1)
            message = one.receive(f"cpp/{client_id}/result", timeout=PATIENCE)
            assert message.payload == b"result: quit"
    finally:
        old.disconnect()
        old.loop_stop()


def test_connect_of_another_version_stays_as_it_is():
    for head, body in (
        (b"\x10\x20", b"\x00\x04MQTT\x04\x02\x00"),
        (b"\x10\x20", b"\x00\x04MQTT\x05\x02\x00"),
        (b"\x10\x20", b"\x00\x06MQIsdp\x04"),
    ):
        assert newer_connect(head, body) == head + body


def test_length_of_a_changed_connect_shrinks_by_two():
    assert newer_connect(b"\x10\x20", b"\x00\x06MQIsdp\x03") == b"\x10\x1e\x00\x04MQTT\x04"
    assert newer_connect(b"\x10\x81\x01", b"\x00\x06MQIsdp\x03") == b"\x10\x7f\x00\x04MQTT\x04"
