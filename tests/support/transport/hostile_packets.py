"""Packets of a broker, honest ones and broken ones, drawn from a generator of random numbers."""

from collections.abc import Callable
from random import Random
from typing import Final, NamedTuple

CONNECT, CONNACK, PUBLISH, PUBACK, PUBREC, PUBREL, PUBCOMP = range(1, 8)
SUBSCRIBE, SUBACK, UNSUBSCRIBE, UNSUBACK, PINGREQ, PINGRESP, DISCONNECT, AUTH = range(8, 16)

FIXED_FLAGS: Final = {PUBREL: 2, SUBSCRIBE: 2, UNSUBSCRIBE: 2}
MAX_VARIABLE: Final = 268_435_455
"""The largest number of a variable byte integer."""
MANY: Final = 2000
"""Packets that are sent at once."""


class Packet(NamedTuple):
    """The type and flags of a packet, and the bytes after its length."""

    kind: int
    flags: int
    body: bytes

    def encode(self, length: int | None = None) -> bytes:
        """Return the bytes; `length` is another one than the true one."""
        size = len(self.body) if length is None else length
        return bytes([self.kind << 4 | self.flags]) + variable(size) + self.body


def variable(number: int) -> bytes:
    """Return a variable byte integer."""
    found = b""
    while True:
        number, byte = divmod(number, 128)
        found += bytes([byte | (128 if number else 0)])
        if not number:
            return found


def text(content: bytes) -> bytes:
    """Return a text or binary data with its length."""
    return len(content).to_bytes(2) + content


def properties(*entries: bytes) -> bytes:
    """Return properties with their length."""
    return variable(len(b"".join(entries))) + b"".join(entries)


REASON_STRING: Final = b"\x1f" + text(b"because")
USER_PROPERTY: Final = b"\x26" + text(b"name") + text("\ufeffvalue".encode())
EXPIRY: Final = b"\x02\x00\x00\x00\x10"
WRONG_PROPERTIES: Final = (
    properties(REASON_STRING, REASON_STRING),
    properties(EXPIRY, EXPIRY),
    properties(b"\x7f\x00"),
    properties(b"\xff\xff\xff\xff\xff\x01"),
    properties(b"\x23\x00\x00"),
    properties(b"\x23\xff\xff"),
    properties(b"\x0b\x00"),
    properties(b"\x1f\xff\xffab"),
    properties(b"\x1f" + text(b"\xff\xfe")),
    properties(b"\x1f" + text(b"a\x00b")),
    properties(b"\x21\x00\x00"),
    properties(b"\x13\x00\x00"),
    properties(b"\x27\x00\x00\x00\x00"),
    properties(b"\x01\x07"),
    properties(b"\x02\x00"),
    properties(USER_PROPERTY),
    properties(b"\x12" + text(b"another id"), b"\x13\x00\x05"),
    b"\x05\x1f",
    b"\xff\xff\xff\x7f",
    b"\xff\xff\xff\xff\xff\xff",
    b"\x80\x00",
    b"",
)
WRONG_TOPICS: Final = (
    b"",
    b"#",
    b"fast/migfra/+/result",
    b"fast/migfra/\xff\xfe/result",
    b"fast/migfra/\xed\xa0\x80/task",
    b"fast/\x00/task",
    b"x" * 65535,
    "fast/migfra/\ufeffnode01/result".encode(),
)


class Draw:
    """Draws packets for one version of MQTT, and ways to break them."""

    def __init__(self, dice: Random, five: bool, topics: tuple[bytes, ...]) -> None:
        """`topics` are those to which the client subscribes."""
        self.dice = dice
        self.five = five
        self.topics = topics
        self._last_id = 0
        self.breaks: tuple[Callable[[Packet], bytes], ...] = (
            self._wrong_flags,
            self._too_short,
            self._too_long,
            self._length_too_small,
            self._length_too_large,
            self._length_without_end,
            self._huge_length,
            self._wrong_id,
            self._wrong_codes,
            self._wrong_properties,
            self._wrong_topic,
            self._wrong_qos,
            self._repeated,
            self._many,
            self._changed_bytes,
            self._garbage,
            self._cut,
            self._honest,
        )

    def packet_id(self) -> int:
        """Return the packet id of the next message to the client."""
        self._last_id = self._last_id % 65535 + 1
        return self._last_id

    def packet(self, kind: int, packet_id: int, count: int = 1) -> Packet:
        """Return an honest packet; `count` is the number of filters that a SUBACK answers."""
        no_properties = b"\x00" if self.five else b""
        number = packet_id.to_bytes(2)
        bodies = {
            CONNECT: text(b"MQTT") + bytes([5 if self.five else 4, 2, 0, 60]) + no_properties,
            CONNACK: b"\x00\x00" + no_properties,
            SUBSCRIBE: number + no_properties + text(b"a") + b"\x01",
            SUBACK: number + no_properties + b"\x01" * count,
            UNSUBSCRIBE: number + no_properties + text(b"a"),
            UNSUBACK: number + no_properties + b"\x00" * (count if self.five else 0),
            AUTH: b"\x18" + properties(b"\x15" + text(b"method")),
            DISCONNECT: self.dice.choice([b"", b"\x00", b"\x8e", b"\x8b\x00"])
            if self.five
            else b"",
        }
        if kind == PUBLISH:
            return self.publish(self.dice.choice(self.topics), self.dice.randrange(3))
        if PUBACK <= kind <= PUBCOMP:
            return Packet(kind, FIXED_FLAGS.get(kind, 0), number)
        return Packet(kind, FIXED_FLAGS.get(kind, 0), bodies.get(kind, b""))

    def publish(self, topic: bytes, qos: int, inner: bytes | None = None) -> Packet:
        """Return a message; `inner` are its properties."""
        number = self.packet_id().to_bytes(2) if qos else b""
        inner = (b"\x00" if self.five else b"") if inner is None else inner
        payload = self.dice.choice(
            [b"", b"task: query node\nid: hostile", b"status: online", b"[", b"x" * 3000]
        )
        return Packet(PUBLISH, qos << 1, text(topic[:65535]) + number + inner + payload)

    def broken(self, packet: Packet) -> bytes:
        """Return a packet that is broken in one way."""
        return self.dice.choice(self.breaks)(packet)

    def _wrong_flags(self, packet: Packet) -> bytes:
        return packet._replace(flags=packet.flags ^ self.dice.randrange(1, 16)).encode()

    def _too_short(self, packet: Packet) -> bytes:
        return packet._replace(body=packet.body[: self._place(packet.body)]).encode()

    def _too_long(self, packet: Packet) -> bytes:
        more = self.dice.choice([b"\x00", b"\x00\x00", b"\xff", b"\x80\xff", self._random(50)])
        return packet._replace(body=packet.body + more).encode()

    def _length_too_small(self, packet: Packet) -> bytes:
        return packet.encode(self._place(packet.body))

    def _length_too_large(self, packet: Packet) -> bytes:
        return packet.encode(len(packet.body) + self.dice.randrange(1, 300))

    def _length_without_end(self, packet: Packet) -> bytes:
        return packet.encode()[:1] + b"\xff" * self.dice.randrange(4, 20)

    def _huge_length(self, packet: Packet) -> bytes:
        return packet.encode(MAX_VARIABLE) + self._random(5000)

    def _wrong_id(self, packet: Packet) -> bytes:
        at = 2 + int.from_bytes(packet.body[:2]) if packet.kind == PUBLISH else 0
        number = self.dice.choice([0, 1, 65535, self.dice.randrange(65536)]).to_bytes(2)
        return packet._replace(body=packet.body[:at] + number + packet.body[at + 2 :]).encode()

    def _wrong_codes(self, packet: Packet) -> bytes:
        codes = bytes([self.dice.choice([1, 3, 5, 0x7F, 0x80, 0x84, 0x92, 0x97, 0xFF])])
        if packet.kind in (CONNACK, DISCONNECT, AUTH):
            start = b"\x00" if packet.kind == CONNACK else b""
            return packet._replace(body=start + codes + packet.body[len(start) + 1 :]).encode()
        if PUBACK <= packet.kind <= PUBCOMP:
            return packet._replace(body=packet.body + codes).encode()
        return packet._replace(body=packet.body[:-1] + codes * self.dice.randrange(9)).encode()

    def _wrong_properties(self, packet: Packet) -> bytes:
        wrong = self.dice.choice(WRONG_PROPERTIES)
        if packet.kind == PUBLISH:
            return self.publish(self._topic(), packet.flags >> 1 & 3, wrong).encode()
        if packet.kind == CONNACK:
            return packet._replace(body=b"\x00\x00" + wrong).encode()
        if PUBACK <= packet.kind <= PUBCOMP:
            return packet._replace(body=packet.body + b"\x00" + wrong).encode()
        if packet.kind in (DISCONNECT, AUTH):
            return packet._replace(body=b"\x00" + wrong).encode()
        return packet._replace(body=packet.body[:2] + wrong + packet.body[3:]).encode()

    def _wrong_topic(self, _: Packet) -> bytes:
        return self.publish(self.dice.choice(WRONG_TOPICS), self.dice.randrange(3)).encode()

    def _wrong_qos(self, _: Packet) -> bytes:
        return self.publish(self._topic(), self.dice.choice([3, 4, 7])).encode()

    def _repeated(self, packet: Packet) -> bytes:
        return packet.encode() * self.dice.randrange(2, 50)

    def _many(self, packet: Packet) -> bytes:
        if packet.kind == PUBLISH:
            qos = packet.flags >> 1
            return b"".join(self.publish(self._topic(), qos).encode() for _ in range(MANY))
        return b"".join(self.packet(packet.kind, number).encode() for number in range(1, MANY + 1))

    def _changed_bytes(self, packet: Packet) -> bytes:
        found = bytearray(packet.encode())
        for _ in range(self.dice.randrange(1, 5)):
            found[self.dice.randrange(len(found))] = self.dice.randrange(256)
        return bytes(found)

    def _garbage(self, _: Packet) -> bytes:
        return self._random(300)

    def _cut(self, packet: Packet) -> bytes:
        return packet.encode()[: self._place(packet.encode())]

    def _honest(self, packet: Packet) -> bytes:
        return packet.encode()

    def _topic(self) -> bytes:
        return self.dice.choice(self.topics)

    def _random(self, most: int) -> bytes:
        return self.dice.randbytes(self.dice.randrange(1, most))

    def _place(self, content: bytes) -> int:
        return self.dice.randrange(max(1, len(content)))
