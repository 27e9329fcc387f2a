"""MQTT 5: messages say that they are text, and of which media type."""

import threading
from typing import Any

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from fastlib.client import MigfraClient
from fastlib.migfra import read_configuration
from fastlib.transport import MqttOptions, OptionsError
from fastlib.transport.delivery import Delivery
from fastlib.transport.mqtt.paho_client import PahoClient
from fastlib.transport.mqtt.publish_packets import PublishPackets
from tests.support.mosquitto import PATIENCE, Mosquitto
from tests.support.transport.session import OfflineSession


def test_receiver_sees_the_media_type_of_an_order(plain_broker: Mosquitto):
    came, subscribed = threading.Event(), threading.Event()
    seen: list[Any] = []

    def on_message(_client: Any, _data: Any, message: Any) -> None:
        seen.append(message.properties)
        came.set()

    receiver = paho.Client(CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
    receiver.on_message = on_message
    receiver.on_connect = lambda client, *_: client.subscribe("fast/migfra/typed/task", 2)
    receiver.on_subscribe = lambda *_: subscribed.set()
    receiver.connect("127.0.0.1", plain_broker.port)
    receiver.loop_start()
    try:
        assert subscribed.wait(PATIENCE)
        options = MqttOptions(host="127.0.0.1", port=plain_broker.port, protocol="5")
        with MigfraClient.connect(options) as client:
            client.suspend("typed", "vm1", timeout=600)
            assert came.wait(PATIENCE)
        assert seen[0].ContentType == "application/yaml"
        assert seen[0].PayloadFormatIndicator == 1
        assert 0 < seen[0].MessageExpiryInterval <= 600
    finally:
        receiver.disconnect()
        receiver.loop_stop()


def properties_of(
    client: PahoClient,
    payload: bytes,
    expiry: float | None = None,
    content_type: str | None = "application/yaml",
) -> Any:
    packets = PublishPackets(client, content_type)
    return packets.properties(Delivery("a", payload, 1, False, expiry))


def test_only_text_is_marked_as_text():
    client = OfflineSession(protocol="5").client
    marked = properties_of(client, "task: quït".encode())
    assert (marked.PayloadFormatIndicator, marked.ContentType) == (1, "application/yaml")
    assert properties_of(client, b"\xff\xfe") is None
    assert properties_of(client, b"a\0b") is None
    assert not hasattr(properties_of(client, b"\xff", 60), "ContentType")
    assert properties_of(client, b"task: quit", content_type=None) is None


def test_message_that_is_sent_again_keeps_its_media_type():
    client = OfflineSession(protocol="5").client
    info = client.publish("a", b"x", 1, False, properties_of(client, b"x", 60))
    client.set_expiry(info.mid, 30)
    kept = client._out_messages[info.mid].properties
    assert (kept.ContentType, kept.MessageExpiryInterval) == ("application/yaml", 30)


def test_mqtt_3_1_1_carries_no_media_type():
    client = OfflineSession(protocol="3.1.1").client
    assert properties_of(client, b"x", 60) is None


def test_daemon_sets_the_media_type():
    configuration = read_configuration("hypervisor: {type: dummy}\n")
    assert configuration.mqtt_options().content_type == "application/yaml"


@pytest.mark.parametrize("wrong", ["", "a\0b", "a" * 70_000])
def test_invalid_media_type_is_refused(wrong: str):
    with pytest.raises(OptionsError, match="`content_type` must"):
        MqttOptions(content_type=wrong)
    assert MqttOptions(content_type="application/x+yaml").content_type == "application/x+yaml"
