"""The size of packets in bytes, before they are made. Pure."""

from collections.abc import Iterable


def packet_size(remaining: int) -> int:
    """Return the size of a packet with its header; `remaining` is its Remaining Length."""
    length = (
        1 if remaining < 1 << 7 else 2 if remaining < 1 << 14 else 3 if remaining < 1 << 21 else 4
    )
    return 1 + length + remaining


def publish_size(topic: str, payload: int, qos: int, properties: int = 0) -> int:
    """Return the size of a PUBLISH.

    `payload` and `properties` are sizes, the latter with their length. It is 0 with MQTT 3.1.1.
    """
    return packet_size(2 + len(topic.encode()) + (2 if qos else 0) + properties + payload)


def subscribe_size(filters: Iterable[str], five: bool) -> int:
    """Return the size of a SUBSCRIBE. It has no properties."""
    return packet_size(2 + five + sum(3 + len(one.encode()) for one in filters))
