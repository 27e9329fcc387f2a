"""Check the packets of a broker before paho reads them. No I/O.

Paho does not check packets: it raises errors of many types for a malformed packet, or accepts it.
This module refuses packets that MQTT does not allow. It passes on only the MQTT 5 properties that
the client uses. Paho refuses some that are allowed, such as a user property with U+FEFF, which any
other client can put into a message.
"""

from typing import Final

CONNACK, PUBLISH, PUBACK, PUBREC, PUBREL, PUBCOMP = 2, 3, 4, 5, 6, 7
SUBACK, UNSUBACK, PINGRESP, DISCONNECT = 9, 11, 13, 14

NAMES: Final = {
    CONNACK: "CONNACK",
    PUBLISH: "PUBLISH",
    PUBACK: "PUBACK",
    PUBREC: "PUBREC",
    PUBREL: "PUBREL",
    PUBCOMP: "PUBCOMP",
    SUBACK: "SUBACK",
    UNSUBACK: "UNSUBACK",
    PINGRESP: "PINGRESP",
    DISCONNECT: "DISCONNECT",
}
"""The packets that a client may get. AUTH needs a method that the client has asked for."""

CONNACK_CODES: Final = frozenset({0, *range(0x80, 0x8B), 0x8C, 0x90, 0x95, 0x97}) | {
    *range(0x9A, 0x9E),
    0x9F,
}
OLD_CONNACK_CODES: Final = frozenset(range(6))
"""MQTT 3.1.1."""
OLD_VERSION: Final = b"\x00\x01"
"""The CONNACK of a broker that knows MQTT 3.1.1 only."""
PUBLISH_CODES: Final = frozenset({0, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99})
TOLERATED_CODES: Final = frozenset({0x95, 0x9A, 0x9B})
"""Codes in PUBACK and PUBREC that MQTT does not allow there, but brokers send: packet too large,
retain not supported, QoS not supported."""
RELEASE_CODES: Final = frozenset({0, 0x92})
SUBACK_CODES: Final = frozenset({0, 1, 2, 0x80, 0x83, 0x87, 0x8F, 0x91, 0x97, 0x9E, 0xA1, 0xA2})
OLD_SUBACK_CODES: Final = frozenset({0, 1, 2, 0x80})
"""MQTT 3.1.1."""
UNSUBACK_CODES: Final = frozenset({0, 0x11, 0x80, 0x83, 0x87, 0x8F, 0x91})
DISCONNECT_CODES: Final = frozenset({0, *range(0x80, 0x84), 0x87, 0x89, 0x8B}) | {
    *range(0x8D, 0x91),
    *range(0x93, 0xA3),
}
ACKNOWLEDGEMENTS: Final = {
    PUBACK: PUBLISH_CODES | TOLERATED_CODES,
    PUBREC: PUBLISH_CODES | TOLERATED_CODES,
    PUBREL: RELEASE_CODES,
    PUBCOMP: RELEASE_CODES,
}

PROPERTIES_AT: Final = {CONNACK: 2, PUBACK: 3, PUBREC: 3, PUBCOMP: 3, SUBACK: 2, DISCONNECT: 1}
"""The offset of the properties that may have a reason string."""
REASON_STRING: Final = 0x1F

BYTE, TWO, FOUR, VARIABLE, TEXT, PAIR = range(6)
PROPERTY_TYPES: Final = {
    **dict.fromkeys((0x01, 0x17, 0x19, 0x24, 0x25, 0x28, 0x29, 0x2A), BYTE),
    **dict.fromkeys((0x13, 0x21, 0x22, 0x23), TWO),
    **dict.fromkeys((0x02, 0x11, 0x18, 0x27), FOUR),
    **dict.fromkeys((0x03, 0x08, 0x09, 0x12, 0x15, 0x16, 0x1A, 0x1C, 0x1F), TEXT),
    0x0B: VARIABLE,
    0x26: PAIR,
}
SIZES: Final = {BYTE: 1, TWO: 2, FOUR: 4}
SERVER_KEEP_ALIVE, RECEIVE_MAXIMUM, TOPIC_ALIAS = 0x13, 0x21, 0x23
MAXIMUM_QOS, RETAIN_AVAILABLE, MAXIMUM_PACKET_SIZE = 0x24, 0x25, 0x27
WILDCARDS_AVAILABLE, SHARED_AVAILABLE = 0x28, 0x2A
CONNACK_PROPERTIES: Final = (
    SERVER_KEEP_ALIVE,
    RECEIVE_MAXIMUM,
    MAXIMUM_QOS,
    RETAIN_AVAILABLE,
    MAXIMUM_PACKET_SIZE,
    WILDCARDS_AVAILABLE,
    SHARED_AVAILABLE,
)
"""The properties of a CONNACK that the client uses."""
BOOLEANS: Final = {
    MAXIMUM_QOS: "Maximum QoS",
    RETAIN_AVAILABLE: "Retain Available",
    WILDCARDS_AVAILABLE: "Wildcard Subscription Available",
    SHARED_AVAILABLE: "Shared Subscription Available",
}
"""Properties that must be 0 or 1."""
REPEATABLE: Final = frozenset({0x0B, 0x26})


class PacketError(ValueError):
    """The broker sent a packet that MQTT does not allow. The text says what is wrong."""


def check_packet(command: int, body: bytearray, five: bool) -> bytearray:
    """Return the part of a packet after the length that the client needs.

    `command` is the first byte of the packet. `five` is True with MQTT 5. Raises PacketError.
    """
    kind, flags = command >> 4, command & 15
    name = NAMES.get(kind)
    if name is None or (kind == DISCONNECT and not five):
        raise PacketError(f"a packet of type {kind}, which a broker must not send")
    try:
        if kind == PUBLISH:
            return _publish(flags, body, five)
        if flags != (2 if kind == PUBREL else 0):
            raise PacketError(f"its flags are {flags}")
        return _other(kind, body, five)
    except PacketError as error:
        raise PacketError(f"a malformed {name}: {error}") from None


def reason_string(command: int, body: bytearray) -> str:
    """Return the reason string of an MQTT 5 broker in a checked packet, or ""."""
    start = PROPERTIES_AT.get(command >> 4)
    if start is None or len(body) <= start:
        return ""
    found, _ = _properties(body, start)
    return found.get(REASON_STRING, b"")[2:].decode("utf-8", "replace")


def payload_start(command: int, body: bytearray, five: bool) -> int:
    """Return where the payload of a PUBLISH begins. Raises PacketError if `body` ends before it."""
    at = _after_text(body, 0) + (2 if command & 6 else 0)
    return _properties(body, at)[1] if five else at


def _other(kind: int, body: bytearray, five: bool) -> bytearray:
    if kind in ACKNOWLEDGEMENTS:
        return _acknowledgement(body, five, ACKNOWLEDGEMENTS[kind])
    if kind == CONNACK:
        return _connack(body, five)
    if kind == SUBACK:
        return _codes(body, five, SUBACK_CODES if five else OLD_SUBACK_CODES)
    if kind == UNSUBACK:
        if five:
            return _codes(body, five, UNSUBACK_CODES)
        return _acknowledgement(body, five, frozenset())
    if kind == DISCONNECT:
        return _disconnect(body)
    if body:
        raise PacketError(f"it has {len(body)} bytes, but must have none")
    return body


def _publish(flags: int, body: bytearray, five: bool) -> bytearray:
    """Check only the form: a topic that is not allowed may come from another client."""
    qos, is_repeated = flags >> 1 & 3, bool(flags & 8)
    if qos == 3:
        raise PacketError("its quality of service is 3")
    if is_repeated and qos == 0:
        raise PacketError("it repeats a message of quality of service 0")
    at = _after_text(body, 0)
    if at == 2:
        raise PacketError("its topic is empty")
    if qos:
        _packet_id(body, at)
        at += 2
    if not five:
        return body
    found, end = _properties(body, at)
    if TOPIC_ALIAS in found:
        raise PacketError("it has a topic alias, which the client has not allowed")
    return body if end == at + 1 else body[:at] + b"\x00" + body[end:]


def _connack(body: bytearray, five: bool) -> bytearray:
    if len(body) < 2 or (not five and len(body) > 2):
        raise PacketError(f"it has {len(body)} bytes")
    if body[0] > 1:
        raise PacketError(f"its acknowledge flags are {body[0]}")
    if not five or body == OLD_VERSION:
        _check_code(body[1], OLD_CONNACK_CODES)
        return body
    _check_code(body[1], CONNACK_CODES)
    found, end = _properties(body, 2)
    _check_end(body, end)
    if found.get(RECEIVE_MAXIMUM) == b"\x00\x00":
        raise PacketError("its Receive Maximum is 0")
    if found.get(MAXIMUM_PACKET_SIZE) == bytes(4):
        raise PacketError("its Maximum Packet Size is 0")
    for identifier, name in BOOLEANS.items():
        if found.get(identifier, b"\x00") > b"\x01":
            raise PacketError(f"its {name} is {found[identifier][0]}")
    used = b"".join(
        bytes([identifier]) + found[identifier]
        for identifier in CONNACK_PROPERTIES
        if identifier in found
    )
    return body[:2] + bytes([len(used)]) + used


def _acknowledgement(body: bytearray, five: bool, codes: frozenset[int]) -> bytearray:
    _packet_id(body, 0)
    if not five:
        _check_end(body, 2)
    if len(body) > 2:
        _check_code(body[2], codes)
    if len(body) > 3:
        _check_end(body, _properties(body, 3)[1])
    return body[:3]


def _codes(body: bytearray, five: bool, codes: frozenset[int]) -> bytearray:
    _packet_id(body, 0)
    end = _properties(body, 2)[1] if five else 2
    if end == len(body):
        raise PacketError("it has no reason code")
    for code in body[end:]:
        _check_code(code, codes)
    return body[:2] + (b"\x00" if five else b"") + body[end:]


def _disconnect(body: bytearray) -> bytearray:
    if body:
        _check_code(body[0], DISCONNECT_CODES)
    if len(body) > 1:
        _check_end(body, _properties(body, 1)[1])
    return body[:1]


def _properties(body: bytearray, start: int) -> tuple[dict[int, bytes], int]:
    """Return the properties by identifier, and the offset after them.

    Only the form of the values is checked, and that no property occurs twice.
    """
    size, at = _variable(body, start)
    end = at + size
    if end > len(body):
        raise PacketError(f"it ends within its {size} bytes of properties")
    found: dict[int, bytes] = {}
    part = memoryview(body)[:end]
    while at < end:
        identifier, at = _variable(part, at)
        kind = PROPERTY_TYPES.get(identifier)
        if kind is None:
            raise PacketError(f"it has the unknown property {identifier:#x}")
        if identifier in found and identifier not in REPEATABLE:
            raise PacketError(f"it has the property {identifier:#x} twice")
        behind = _after_value(part, at, kind)
        if behind > end:
            raise PacketError(f"it ends within the property {identifier:#x}")
        found[identifier] = bytes(part[at:behind])
        at = behind
    return found, end


def _after_value(body: bytearray | memoryview, at: int, kind: int) -> int:
    if kind == VARIABLE:
        return _variable(body, at)[1]
    if kind == TEXT:
        return _after_text(body, at)
    if kind == PAIR:
        return _after_text(body, _after_text(body, at))
    return at + SIZES[kind]


def _variable(body: bytearray | memoryview, at: int) -> tuple[int, int]:
    """Return a variable byte integer and the offset after it."""
    number = 0
    for index in range(4):
        if at + index >= len(body):
            raise PacketError("it ends within a number")
        byte = body[at + index]
        number |= (byte & 127) << 7 * index
        if byte < 128:
            return number, at + index + 1
    raise PacketError("a number has more than four bytes")


def _after_text(body: bytearray | memoryview, at: int) -> int:
    if at + 2 > len(body):
        raise PacketError("it ends within a text")
    end = at + 2 + int.from_bytes(body[at : at + 2])
    if end > len(body):
        raise PacketError("it ends within a text")
    return end


def _packet_id(body: bytearray, at: int) -> None:
    if at + 2 > len(body):
        raise PacketError("it ends within its packet id")
    if not int.from_bytes(body[at : at + 2]):
        raise PacketError("its packet id is 0")


def _check_code(code: int, codes: frozenset[int]) -> None:
    if code not in codes:
        raise PacketError(f"its reason code is {code:#04x}")


def _check_end(body: bytearray, end: int) -> None:
    if len(body) > end:
        raise PacketError(f"it has {len(body) - end} bytes too many")
