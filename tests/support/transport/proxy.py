"""A TCP proxy that cuts connections on request, also within a packet."""

import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Self

from tests.support.mosquitto import PATIENCE


class Proxy:
    """Forwards 127.0.0.1:`port` to `target`, until a connection is cut."""

    def __init__(self, target: int, *, buffer: int | None = None) -> None:
        """`buffer` is how many bytes the system may take from a client ahead of the proxy."""
        self.target = target
        """The port of the next connections."""
        self._listener = socket.socket()
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if buffer is not None:  # the sockets of connections inherit it
            self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen()
        self.port = self._listener.getsockname()[1]
        self._lock = threading.Lock()
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._reading: dict[tuple[socket.socket, socket.socket], int] = {}
        """How many threads use each pair, also after its end."""
        self._budget: dict[str, int | None] = {"up": None, "down": None}
        self.connections = 0
        self.cuts = 0
        self.refusing = False
        self.lifetime: Callable[[], float] | None = None
        """Returns after how many seconds the next connection is cut."""
        self.rate: int | None = None
        """Bytes a second to the broker."""
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            if self.refusing:
                client.close()
                continue
            try:
                server = socket.create_connection(("127.0.0.1", self.target))
            except OSError:
                client.close()
                continue
            pair = (client, server)
            with self._lock:
                self._pairs.append(pair)
                self._reading[pair] = 2
            if self.lifetime is not None:
                timer = threading.Timer(self.lifetime(), self._end, (pair,))
                timer.daemon = True
                timer.start()
            for direction, one, other in (("up", client, server), ("down", server, client)):
                work = (direction, one, other, pair)
                threading.Thread(target=self._forward, args=work, daemon=True).start()

    def _forward(
        self,
        direction: str,
        one: socket.socket,
        other: socket.socket,
        pair: tuple[socket.socket, socket.socket],
    ) -> None:
        try:
            while data := one.recv(self._part(direction)):
                is_cut = False
                with self._lock:
                    budget = self._budget[direction]
                    if budget is not None:
                        # Decided here: another cut may be ordered before the data is sent, and a
                        # connection that continued without the rest would bring broken packets.
                        is_cut = budget <= len(data)
                        data = data[:budget]
                        self._budget[direction] = None if is_cut else budget - len(data)
                if direction == "up" and self.rate is not None:
                    time.sleep(len(data) / self.rate)
                other.sendall(data)
                if is_cut:
                    break
        except OSError:
            pass
        self._end(pair)
        self._leave(pair)

    def _part(self, direction: str) -> int:
        if direction == "up" and self.rate is not None:
            return max(1, self.rate // 50)
        return 65536

    def _end(self, pair: tuple[socket.socket, socket.socket]) -> None:
        """Cut a connection. Its threads close the sockets.

        Another thread must not: a new connection would get the same file descriptors, and a thread
        that is about to use one of the old would take the new one's data.
        """
        with self._lock:
            if pair not in self._pairs:
                return
            self._pairs.remove(pair)
            self.cuts += 1
        for end in pair:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def _leave(self, pair: tuple[socket.socket, socket.socket]) -> None:
        """Close the sockets if no other thread uses them."""
        with self._lock:
            self._reading[pair] -= 1
            if self._reading[pair]:
                return
            del self._reading[pair]
        for end in pair:
            end.close()

    @property
    def connected(self) -> bool:
        """True while anything is connected through it."""
        return bool(self._pairs)

    def cut(self) -> None:
        """Cut every connection now."""
        with self._lock:
            pairs = list(self._pairs)
        for pair in pairs:
            self._end(pair)

    def cut_after(self, amount: int, direction: str) -> None:
        """Cut when `amount` more bytes went `up` to the broker or `down` from it."""
        with self._lock:
            self._budget[direction] = amount

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # ends the wait of its thread
        self._accepting.join(PATIENCE)
        self._listener.close()
        self.cut()
