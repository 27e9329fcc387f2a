"""Compute the size of packets in bytes before they are made. No I/O."""

from collections.abc import Iterable

from fastlib.argument_checks import check_int

from .errors import OptionsError


def check_largest_packet(size: int | None) -> int | None:
    """Return the largest packet in bytes; None without a limit. Raises OptionsError, TypeError."""
    check_int("largest_packet", size, optional=True)
    if size is not None and size < 1:
        raise OptionsError(
            f"`largest_packet` must be a number of bytes from 1, or None, not {size}"
        )
    return size


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


def connect_size(
    client_id: str, credentials: Iterable[str], will: tuple[str, int] | None, five: bool
) -> int:
    """Return the size of a CONNECT, with MQTT 5 up to some bytes of properties.

    `will` is the topic of the last will and the size of its payload.
    """
    size = 12 + len(client_id.encode()) + (20 if five else 0)
    size += sum(2 + len(text.encode()) for text in credentials)
    if will is not None:
        size += 4 + len(will[0].encode()) + will[1] + five
    return packet_size(size)
