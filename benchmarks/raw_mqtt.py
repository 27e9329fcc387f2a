"""Bare MQTT 3.1.1 packets over a socket: clients that cost next to nothing beside the broker."""

import socket
import struct
import time
from collections.abc import Sequence
from typing import Final, Self

PATIENCE: Final = 60.0
"""Seconds until a read fails."""


def _text(value: str) -> bytes:
    data = value.encode()
    return struct.pack(">H", len(data)) + data


def _packet(first: int, body: bytes) -> bytes:
    size, length = len(body), b""
    while True:
        size, low = divmod(size, 128)
        length += bytes([low | (128 if size else 0)])
        if not size:
            return bytes([first]) + length + body


def publish_packet(topic: str, payload: bytes, *, retain: bool = False) -> bytes:
    """Return a PUBLISH with QoS 0."""
    return _packet(0x30 | retain, _text(topic) + payload)


def _subscribe_packet(patterns: Sequence[str]) -> bytes:
    return _packet(0x82, b"\0\1" + b"".join(_text(pattern) + b"\0" for pattern in patterns))


def _message(body: bytes) -> tuple[str, bytes]:
    length = struct.unpack(">H", body[:2])[0]
    return body[2 : 2 + length].decode(), body[2 + length :]


class RawClient:
    """A connection. It reads only when it is told to."""

    def __init__(self, port: int, client_id: str, keep_alive: int = 0) -> None:
        self.socket: Final = socket.create_connection(("127.0.0.1", port), PATIENCE)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        header = _text("MQTT") + bytes([4, 2]) + struct.pack(">H", keep_alive)
        self._ask(_packet(0x10, header + _text(client_id)), 4)

    def _ask(self, packet: bytes, answer_bytes: int) -> None:
        self.socket.sendall(packet)
        self.read(answer_bytes)

    def subscribe(self, *patterns: str) -> None:
        """Subscribe with QoS 0. No message may arrive meanwhile."""
        self._ask(_subscribe_packet(patterns), 4 + len(patterns))

    def retained(self, *topics: str) -> dict[str, bytes]:
        """Subscribe to topics, and return what the broker has retained, which all must have."""
        self.socket.sendall(_subscribe_packet(topics))
        found: dict[str, bytes] = {}
        while len(found) < len(topics):
            kind, body = self._read_packet()
            if kind & 0xF0 == 0x30:
                found.update([_message(body)])
        return found

    def ping(self) -> None:
        """Send a PINGREQ, and read its answer."""
        self._ask(b"\xc0\0", 2)

    def read(self, count: int) -> bytes:
        """Return exactly so many bytes."""
        parts = []
        latest = time.monotonic() + PATIENCE
        while count:
            part = self.socket.recv(min(count, 1 << 20))
            if not part or time.monotonic() > latest:
                raise ConnectionError("the broker has closed the connection, or is too slow")
            parts.append(part)
            count -= len(part)
        return b"".join(parts)

    def _read_packet(self) -> tuple[int, bytes]:
        (kind,) = self.read(1)
        size = shift = 0
        while True:
            (byte,) = self.read(1)
            size |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return kind, self.read(size)

    def read_message(self) -> tuple[str, bytes]:
        """Return topic and payload of the next packet, which must be a PUBLISH with QoS 0."""
        return _message(self._read_packet()[1])

    def close(self) -> None:
        self.socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
