"""The properties and the sizes of the messages that are sent."""

from paho.mqtt.properties import Properties

from fastlib.transport.delivery import Delivery
from fastlib.transport.packet_size import publish_size

from .paho_client import PahoClient


class PublishPackets:
    """Makes the properties of each message to send, and knows the size of its packet."""

    def __init__(self, client: PahoClient, content_type: str | None) -> None:
        """`content_type` is the media type of all messages that are text, with MQTT 5."""
        self._client = client
        self._content_type = content_type

    def properties(self, delivery: Delivery) -> Properties | None:
        """Return the properties that a message has now; None if it has none."""
        seconds = delivery.seconds_left()
        properties = None if seconds is None else self._client.expiry_properties(seconds)
        if self._content_type is None or not self._client.is_five or not _is_text(delivery.payload):
            return properties
        return self._client.text_properties(properties, self._content_type)

    def size(self, delivery: Delivery) -> int:
        """Return the size of a message's packet in bytes."""
        packed = self._client.properties_size(self.properties(delivery))
        return publish_size(delivery.topic, len(delivery.payload), delivery.qos, packed)


def _is_text(payload: bytes) -> bool:
    """Return True for UTF-8 without NUL, which is text in MQTT 5 (section 1.5.4)."""
    try:
        payload.decode()
    except UnicodeDecodeError:
        return False
    return b"\0" not in payload
