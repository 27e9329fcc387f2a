"""Packets of a broker: allowed packets reach paho, others end the connection."""

import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.reasoncodes import ReasonCode

from fastlib.transport.mqtt import packet_check
from fastlib.transport.mqtt.packet_check import PacketError, check_packet
from tests.support.transport.hostile_packets import (
    EXPIRY,
    REASON_STRING,
    USER_PROPERTY,
    properties,
    text,
)


def checked(command: int, body: bytes, five: bool) -> bytes:
    return bytes(check_packet(command, bytearray(body), five))


@pytest.mark.parametrize(
    ("five", "command", "body", "expected"),
    [
        (False, 0x20, b"\x01\x00", b"\x01\x00"),
        (False, 0x20, b"\x00\x05", b"\x00\x05"),
        (True, 0x20, b"\x00\x01", b"\x00\x01"),  # a broker that knows only MQTT 3.1.1
        (True, 0x20, b"\x00\x00\x00", b"\x00\x00\x00"),
        (
            True,
            0x20,
            b"\x00\x00" + properties(b"\x12" + text(b"id"), b"\x21\x00\x09", b"\x13\x00\x05"),
            b"\x00\x00" + properties(b"\x13\x00\x05", b"\x21\x00\x09"),
        ),
        (False, 0x30, text(b"a") + b"x", text(b"a") + b"x"),
        (False, 0x3B, text(b"a") + b"\x00\x01", text(b"a") + b"\x00\x01"),
        (True, 0x30, text(b"a") + b"\x00x", text(b"a") + b"\x00x"),
        (
            True,
            0x3C,
            text(b"a") + b"\x00\x01" + properties(EXPIRY, USER_PROPERTY, USER_PROPERTY) + b"x",
            text(b"a") + b"\x00\x01\x00x",
        ),
        (True, 0x30, text(b"a") + properties(b"\x0b\x80\x01", b"\x01\x01"), text(b"a") + b"\x00"),
        (False, 0x40, b"\x00\x01", b"\x00\x01"),
        (True, 0x40, b"\x00\x01\x10", b"\x00\x01\x10"),
        (True, 0x50, b"\x00\x01\x97" + properties(REASON_STRING), b"\x00\x01\x97"),
        (True, 0x62, b"\x00\x01\x92\x00", b"\x00\x01\x92"),
        (False, 0x70, b"\xff\xff", b"\xff\xff"),
        (False, 0x90, b"\x00\x01\x02\x80", b"\x00\x01\x02\x80"),
        (
            True,
            0x90,
            b"\x00\x01" + properties(USER_PROPERTY) + b"\x02\x87",
            b"\x00\x01\x00\x02\x87",
        ),
        (False, 0xB0, b"\x00\x01", b"\x00\x01"),
        (True, 0xB0, b"\x00\x01\x00\x11", b"\x00\x01\x00\x11"),
        (False, 0xD0, b"", b""),
        (True, 0xE0, b"", b""),
        (True, 0xE0, b"\x8e" + properties(REASON_STRING), b"\x8e"),
    ],
)
def test_packet_is_passed_on_without_the_properties_that_are_not_used(
    five: bool, command: int, body: bytes, expected: bytes
) -> None:
    assert checked(command, body, five) == expected


@pytest.mark.parametrize(
    ("five", "command", "body", "problem"),
    [
        (False, 0x00, b"", "type 0, which a broker must not send"),
        (False, 0x10, b"", "type 1,"),
        (True, 0x82, b"", "type 8,"),
        (True, 0xA2, b"", "type 10,"),
        (True, 0xC0, b"", "type 12,"),
        (False, 0xE0, b"", "type 14,"),
        (True, 0xF0, b"\x18\x00", "type 15,"),
        (False, 0x20, b"\x00", "a malformed CONNACK: it has 1 bytes"),
        (False, 0x20, b"\x00\x00\x00", "it has 3 bytes"),
        (False, 0x20, b"\x02\x00", "its acknowledge flags are 2"),
        (False, 0x20, b"\x00\x06", "its reason code is 0x06"),
        (False, 0x21, b"\x00\x00", "its flags are 1"),
        (True, 0x20, b"\x00\x8b\x00", "its reason code is 0x8b"),
        (True, 0x20, b"\x00\x00", "it ends within a number"),
        (True, 0x20, b"\x00\x00" + properties(b"\x21\x00\x00"), "its Receive Maximum is 0"),
        (True, 0x20, b"\x00\x00" + properties(b"\x24\x02"), "its Maximum QoS is 2"),
        (True, 0x20, b"\x00\x00" + properties(b"\x25\x02"), "its Retain Available is 2"),
        (True, 0x20, b"\x00\x00" + properties(b"\x27" + bytes(4)), "its Maximum Packet Size is 0"),
        (True, 0x20, b"\x00\x00\x00\x00", "it has 1 bytes too many"),
        (False, 0x36, text(b"a"), "its quality of service is 3"),
        (False, 0x38, text(b"a"), "it repeats a message of quality of service 0"),
        (False, 0x30, b"", "it ends within a text"),
        (False, 0x30, b"\x00\x05ab", "it ends within a text"),
        (False, 0x30, text(b""), "its topic is empty"),
        (True, 0x30, text(b"") + properties(b"\x23\x00\x01"), "its topic is empty"),
        (True, 0x30, text(b"a") + properties(b"\x23\x00\x01"), "it has a topic alias"),
        (False, 0x32, text(b"a") + b"\x00", "it ends within its packet id"),
        (False, 0x34, text(b"a") + b"\x00\x00", "its packet id is 0"),
        (True, 0x30, text(b"a") + b"\x05\x1f", "it ends within its 5 bytes of properties"),
        (True, 0x30, text(b"a") + b"\x80\x80\x80\x80\x01", "a number has more than four bytes"),
        (True, 0x30, text(b"a") + properties(b"\x7f\x00"), "the unknown property 0x7f"),
        (True, 0x30, text(b"a") + properties(EXPIRY, EXPIRY), "the property 0x2 twice"),
        (True, 0x30, text(b"a") + properties(b"\x02\x00"), "it ends within the property 0x2"),
        (True, 0x30, text(b"a") + properties(b"\x1f\xff\xffa") + b"x" * 70000, "within a text"),
        (False, 0x40, b"\x00", "it ends within its packet id"),
        (False, 0x40, b"\x00\x01\x00", "it has 1 bytes too many"),
        (True, 0x40, b"\x00\x01\x92", "its reason code is 0x92"),
        (True, 0x50, b"\x00\x01\xff", "its reason code is 0xff"),
        (False, 0x60, b"\x00\x01", "a malformed PUBREL: its flags are 0"),
        (False, 0x62, b"\x00", "it ends within its packet id"),
        (False, 0x62, b"", "it ends within its packet id"),
        (True, 0x70, b"\x00\x01\x00\x00\x00", "it has 1 bytes too many"),
        (False, 0x90, b"\x00\x01", "it has no reason code"),
        (False, 0x90, b"\x00\x01\x03", "its reason code is 0x03"),
        (False, 0xB0, b"\x00\x01\x00", "it has 1 bytes too many"),
        (True, 0xB0, b"\x00\x01\x00", "it has no reason code"),
        (False, 0xD0, b"\x00", "a malformed PINGRESP: it has 1 bytes, but must have none"),
        (True, 0xE0, b"\x04", "its reason code is 0x04"),
        (True, 0xE0, b"\x00\x00\x00", "it has 1 bytes too many"),
    ],
)
def test_packet_that_mqtt_does_not_allow_is_refused(
    five: bool, command: int, body: bytes, problem: str
) -> None:
    with pytest.raises(PacketError, match=problem):
        checked(command, body, five)


@pytest.mark.parametrize(
    ("packet", "codes"),
    [
        (PacketTypes.CONNACK, packet_check.CONNACK_CODES),
        (PacketTypes.PUBACK, packet_check.PUBLISH_CODES),
        (PacketTypes.PUBREC, packet_check.PUBLISH_CODES),
        (PacketTypes.PUBREL, packet_check.RELEASE_CODES),
        (PacketTypes.PUBCOMP, packet_check.RELEASE_CODES),
        (PacketTypes.SUBACK, packet_check.SUBACK_CODES),
        (PacketTypes.UNSUBACK, packet_check.UNSUBACK_CODES),
        (PacketTypes.DISCONNECT, packet_check.DISCONNECT_CODES),
    ],
)
def test_paho_knows_the_reason_codes_that_are_passed_on(packet: int, codes: frozenset[int]) -> None:
    assert {ReasonCode(packet, identifier=code).value for code in codes} == codes
