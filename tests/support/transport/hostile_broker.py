"""A broker that plays an honest session up to a drawn point, and then breaks one packet."""

import socket
import threading
from collections import Counter
from contextlib import suppress
from random import Random
from typing import Final, Self

from .hostile_packets import (
    CONNACK,
    CONNECT,
    DISCONNECT,
    PINGREQ,
    PINGRESP,
    PUBACK,
    PUBCOMP,
    PUBLISH,
    PUBREC,
    PUBREL,
    SUBACK,
    SUBSCRIBE,
    UNSUBACK,
    UNSUBSCRIBE,
    Draw,
)

ANSWERS: Final = {
    CONNECT: CONNACK,
    SUBSCRIBE: SUBACK,
    UNSUBSCRIBE: UNSUBACK,
    PUBREC: PUBREL,
    PUBREL: PUBCOMP,
    PINGREQ: PINGRESP,
}
SILENCE_SECONDS: Final = 0.01
"""The time without a packet of the client after which the session goes on or ends."""
SESSION_PACKETS: Final = 200
"""Packets of the client after which a session ends in any case."""


class HostileBroker:
    """Plays one session for each connection, one after the other. Each has its own seed."""

    def __init__(self, seed: int, topics: tuple[str, ...]) -> None:
        """`topics` are those to which the client subscribes."""
        self._seed = seed
        self._topics = tuple(topic.encode() for topic in topics)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: Final[int] = self._listener.getsockname()[1]
        self.sessions = 0
        """Sessions that have ended."""
        self.kinds: Counter[int] = Counter()
        """How many packets of each type were broken."""
        self.closed_by_client = 0
        """Sessions after whose broken packet the client closed the connection."""
        self.failure: BaseException | None = None
        """What ended the thread, which is a fault of this program."""
        threading.Thread(target=self._accept, daemon=True, name="hostile broker").start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            try:
                with connection:
                    _Session(self, connection, f"{self._seed} {self.sessions}").play()
            except OSError:  # the client has closed the connection
                self.closed_by_client += 1
            except BaseException as error:
                self.failure = error
                raise
            self.sessions += 1


class _Session:
    def __init__(self, broker: HostileBroker, connection: socket.socket, seed: str) -> None:
        self._broker = broker
        self._connection = connection
        self._connection.settimeout(SILENCE_SECONDS)
        self._file = connection.makefile("rb")
        self._dice = Random(seed)
        self._draw = Draw(self._dice, False, broker._topics)

    def play(self) -> None:
        kind = self._dice.randrange(16)
        honest = 0 if kind == CONNACK else self._dice.randrange(1, 7)
        waits_for_cause = self._dice.random() < 0.5
        broken = False
        for number in range(SESSION_PACKETS):
            found = self._read()
            if found is None:
                if broken or number == 0:
                    return
                self._break(kind, self._dice.randrange(1, 20))
                broken = True
                continue
            cause, packet_id, count = found
            answer = self._answer_to(cause, count[0])
            due = number >= honest and not (waits_for_cause and answer != kind)
            if due and not broken:
                self._break(kind, packet_id, count[1])
                broken = True
            elif answer:
                packet = self._draw.packet(answer, packet_id, count[1])
                self._connection.sendall(packet.encode())
            if cause == CONNECT or self._dice.random() < 0.3:
                self._publish()

    def _publish(self) -> None:
        topic = self._dice.choice(self._broker._topics)
        self._connection.sendall(self._draw.publish(topic, self._dice.randrange(3)).encode())

    def _break(self, kind: int, packet_id: int, count: int = 1) -> None:
        self._broker.kinds[kind] += 1
        data = self._draw.broken(self._draw.packet(kind, packet_id, count))
        end = self._dice.choice(["goes on", "goes on", "closes", "in pieces"])
        if end == "in pieces":
            place = self._dice.randrange(len(data) + 1)
            self._connection.sendall(data[:place])
            self._read()
            data = data[place:]
        self._connection.sendall(data)
        if end == "closes":
            self._connection.shutdown(socket.SHUT_WR)

    @staticmethod
    def _answer_to(cause: int, qos: int) -> int:
        if cause == PUBLISH:
            return (0, PUBACK, PUBREC)[qos]
        return ANSWERS.get(cause, 0)

    def _read(self) -> tuple[int, int, tuple[int, int]] | None:
        """Return the next packet's type and id, and its QoS and number of filters.

        Return None if none comes. Raises ConnectionError at the end of the connection.
        """
        try:
            header = self._file.read(1)
        except TimeoutError:
            self._file = self._connection.makefile("rb")
            return None
        self._connection.settimeout(10)
        if not header:
            raise ConnectionError
        length, shift = 0, 0
        while True:
            byte = self._file.read(1)[0]
            length |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                break
        body = self._file.read(length)
        self._connection.settimeout(SILENCE_SECONDS)
        kind, qos = header[0] >> 4, header[0] >> 1 & 3
        if kind == DISCONNECT or len(body) != length:
            raise ConnectionError
        at = 2 + int.from_bytes(body[:2]) if kind == PUBLISH else 0
        if kind == CONNECT:
            self._draw.five = body[6] == 5
        return kind, int.from_bytes(body[at : at + 2]), (qos, self._filters(kind, body))

    def _filters(self, kind: int, body: bytes) -> int:
        if kind not in (SUBSCRIBE, UNSUBSCRIBE):
            return 1
        at, count = 3 if self._draw.five else 2, 0
        while at < len(body):
            at += 2 + int.from_bytes(body[at : at + 2]) + (kind == SUBSCRIBE)
            count += 1
        return count
