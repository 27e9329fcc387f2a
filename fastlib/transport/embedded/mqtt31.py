"""Accept clients with MQTT 3.1, such as the C++ library. amqtt itself only knows 3.1.1.

For the packets of these clients, only the protocol's name and level in CONNECT differ: 3.1 has
`MQIsdp` and 3, 3.1.1 has `MQTT` and 4. So this module changes the CONNECT while it is read.
"""

from typing import Final

from amqtt.adapters import StreamReaderAdapter

CONNECT: Final = 0x10
OLD: Final = b"\x00\x06MQIsdp\x03"
NEW: Final = b"\x00\x04MQTT\x04"


class ConnectReader(StreamReaderAdapter):  # type: ignore[misc]  # amqtt does not export its types
    """Reads from a client. A CONNECT with MQTT 3.1 is read as one with 3.1.1."""

    _start: bytes | None = None
    """The first bytes of the connection that were read and not returned yet; None at first."""

    async def read(self, n: int = -1) -> bytes:
        """Return `n` bytes. Raises IncompleteReadError at the end of the connection."""
        if self._start is None:
            self._start = b""
            self._start = await self._read_start()
        if not self._start or n < 0:
            rest, self._start = self._start, b""
            return rest + bytes(await super().read(n))
        taken, self._start = self._start[:n], self._start[n:]
        if len(taken) < n:
            taken += bytes(await super().read(n - len(taken)))
        return taken

    async def _read_start(self) -> bytes:
        head = bytes(await super().read(1))
        if head[0] != CONNECT:
            return head
        for _ in range(4):
            head += bytes(await super().read(1))
            if head[-1] < 128:
                break
        size = _decode(head[1:])
        if size < len(OLD):
            return head
        return newer_connect(head, bytes(await super().read(len(OLD))))


def newer_connect(head: bytes, body: bytes) -> bytes:
    """Return the beginning of a CONNECT as 3.1.1. `head` is its fixed header."""
    if body != OLD:
        return head + body
    return bytes([CONNECT]) + _encode(_decode(head[1:]) - len(OLD) + len(NEW)) + NEW


def _decode(encoded: bytes) -> int:
    return sum((byte & 127) << 7 * place for place, byte in enumerate(encoded))


def _encode(size: int) -> bytes:
    encoded = bytearray()
    while True:
        size, byte = divmod(size, 128)
        encoded.append(byte | (128 if size else 0))
        if not size:
            return bytes(encoded)
