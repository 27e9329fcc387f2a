"""The socket of a paho client: connecting, reading and writing.

It is needed because paho has these defects:

- paho reads each byte of a packet header with its own system call.
- paho leaves the socket of a failed TLS handshake open.
- paho tries all addresses of the broker's name with a full timeout each, always in the same order.
- paho ends the connection while it sends a message that takes longer than the keep-alive.
- paho's WebSocket has no `setsockopt`, and other methods of a socket.
"""

import fcntl
import socket
import ssl
import struct
import termios
import time
from contextlib import suppress
from typing import Any, Final, Literal

import paho.mqtt.client as paho
from paho.mqtt.enums import MQTTErrorCode

READ_SIZE: Final = 65536
PAGE_BYTES: Final = 4096
SEGMENT_BYTES: Final = 1400
"""Bytes up to which packets are written together. They fit into one segment of TCP."""
BEGIN_SIZE: Final = 8
"""Bytes that are enough to tell another protocol from MQTT."""
TLS_ALERT: Final = b"\x15\x03"
"""Some servers answer so to what is not TLS. MQTT has no such packet."""
LOOK_SECONDS: Final = 0.1
"""Seconds between two looks at whether the keep-alive needs a ping, each of which is a system call.
A keep-alive is whole seconds."""
QUICK_ACK: Final = getattr(socket, "TCP_QUICKACK", None)
"""An option of Linux that must be set again after each read."""


class WebSocket(paho._WebsocketWrapper):
    """A connection by WebSockets, with the methods of its socket that paho's class leaves out."""

    def __getattr__(self, name: str) -> Any:
        if name == "_socket":  # the constructor has failed
            raise AttributeError(name)
        return getattr(self._socket, name)


class PahoSockets(paho.Client):
    """Used by one thread only, which also reads and writes the socket when it is ready."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        """The arguments are those of paho's client."""
        self._read = b""
        self._read_at = 0
        self._begin = b""
        """The first bytes that came by the connection."""
        self._turn = 0
        """Which of the addresses of the broker's name is tried first."""
        self._moved = 0
        self._sent_ahead = 0
        """Bytes of the next queued packets that the socket has already taken."""
        self._last_traffic = (0, 0)
        self._moved_at = 0.0
        self._look_at = 0.0
        self.broker: tuple[str, int, str] = ("", 0, "")
        """Host and port of the broker, and its address if its name has several."""
        self.quick_ack = True
        """False for the system's late acknowledgement of what was read: see `loop_read`."""
        super().__init__(*arguments, **named)
        self.on_socket_open = _set_no_delay
        # With this callback, paho does not write during other calls.
        self.on_socket_register_write = lambda _client, _data, _socket: None

    def use_broker(self, host: str, port: int, seconds: float, *, next_address: bool) -> None:
        """Set the broker of the next `reconnect`, and the maximum seconds for one TCP connection.

        `next_address` is True if the last address of the broker's name did not lead to an accepted
        connection: another one of them is tried first.
        """
        self._host, self._port, self._connect_timeout = host, port, seconds
        if next_address:
            self._turn += 1

    def traffic(self) -> tuple[int, int]:
        """Return two numbers. One of them changes while bytes reach the broker or arrive from it.

        They are the bytes that the socket has read and written so far, and the number of pages that
        the other system has not acknowledged yet. A few bytes prove nothing: the system
        acknowledges them even if its broker is frozen. If this system does not report them, the
        second number is 0.
        """
        own = self.socket()
        waiting = bytes(4)
        if own is not None:
            with suppress(OSError, ValueError):
                waiting = fcntl.ioctl(own.fileno(), termios.TIOCOUTQ, waiting)
        return self._moved, struct.unpack("i", waiting)[0] // PAGE_BYTES

    def _check_keepalive(self) -> None:
        # A PINGREQ waits behind a large message, for longer than the keep-alive on a slow network.
        now = time.monotonic()
        if now < self._look_at:
            return
        self._look_at = now + LOOK_SECONDS
        traffic = self.traffic()
        if traffic != self._last_traffic:
            self._last_traffic, self._moved_at = traffic, now
        writes = self.want_write() or traffic[1] > 0
        if not (writes and now - self._moved_at < self._keepalive):
            super()._check_keepalive()

    def has_read(self) -> bool:
        """Return True if there are buffered bytes, which a poll of the socket does not show."""
        if self._read_at < len(self._read):
            return True
        own = self.socket()
        return isinstance(own, ssl.SSLSocket | WebSocket) and own.pending() > 0

    def loop_read(self, max_packets: int = 1) -> MQTTErrorCode:
        """Read one packet. After the last one, let TCP acknowledge them at once.

        A written packet also does that. Without either, the kernel waits for about 40 ms. A broker
        without TCP_NODELAY, such as mosquitto by default, sends its next small packet only then, so
        a result would wait behind the PUBCOMP of its order.
        """
        result = super().loop_read(max_packets)
        own: Any = self.socket()
        is_last = own is not None and not (self.has_read() or self.want_write())
        if is_last and self.quick_ack and QUICK_ACK is not None:
            with suppress(OSError):  # the connection has just ended, which the next read reports
                own.setsockopt(socket.IPPROTO_TCP, QUICK_ACK, 1)
        return result

    def reconnect(self) -> MQTTErrorCode:
        """Connect again, without data of the last connection."""
        self._read, self._read_at = b"", 0
        self._sent_ahead = 0
        return super().reconnect()

    def _sock_send(self, buf: Any) -> int:
        """Write a packet, together with the small ones that are queued behind it."""
        if not self._sent_ahead:
            size = len(buf)
            sent = super()._sock_send(self._with_next(buf))
            self._moved += sent
            if sent <= size:
                return sent
            self._sent_ahead = sent - size
            return size
        taken = min(self._sent_ahead, len(buf))
        self._sent_ahead -= taken
        return taken

    def _with_next(self, buf: Any) -> Any:
        """Return the bytes of a packet and of small packets behind it, for one system call.

        Nothing may follow DISCONNECT. A frame of a WebSocket has one packet, because paho cannot
        continue one that was sent in part.
        """
        size = len(buf)
        if not self._out_packet or size > SEGMENT_BYTES or self._transport == "websockets":
            return buf
        parts = [buf]
        for packet in self._out_packet:
            size += len(packet["packet"])
            if size > SEGMENT_BYTES or parts[-1][0] == paho.DISCONNECT:
                break
            parts.append(packet["packet"])
        return b"".join(parts)

    def _receive(self, bufsize: int) -> bytes:
        if self._read_at == len(self._read):
            data = super()._sock_recv(max(bufsize, READ_SIZE))
            self._moved += len(data)
            if len(self._begin) < BEGIN_SIZE:
                self._begin += data[:BEGIN_SIZE]
            if bufsize >= READ_SIZE:
                return data
            self._read, self._read_at = data, 0
        start = self._read_at
        self._read_at = min(start + bufsize, len(self._read))
        return self._read[start : self._read_at]

    @property
    def other_protocol(self) -> Literal["HTTP", "SSH", "TLS"] | None:
        """The protocol that the other side uses instead of MQTT, as far as its first bytes show
        that.
        """
        if self._begin.startswith(b"HTTP/"):
            return "HTTP"
        if self._begin.startswith(b"SSH-"):
            return "SSH"
        return "TLS" if self._begin.startswith(TLS_ALERT) else None

    def _create_socket(self) -> Any:
        self._begin = b""
        if self._transport != "websockets":
            return super()._create_socket()
        own = self._create_socket_connection()
        if self._ssl:
            own = self._ssl_wrap_socket(own)
        try:
            return WebSocket(
                socket=own,
                host=self._host,
                port=self._port,
                is_ssl=self._ssl,
                path=self._websocket_path,
                extra_headers=self._websocket_extra_headers,
            )
        except (OSError, ValueError) as error:
            own.close()
            tls = "" if self._ssl else ", or may expect TLS (wss://, option `tls`)"
            raise ConnectionError(
                f"{error}; its port may not speak MQTT over WebSockets at the path "
                f"{self._websocket_path}{tls}"
            ) from error

    def _create_socket_connection(self) -> socket.socket:
        """Connect to one of the addresses of the broker's name.

        They may belong to several brokers, and one may accept connections without answering.
        """
        found = socket.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
        addresses = list(dict.fromkeys(str(place[0]) for *_, place in found))
        families = [family for family, *_ in found]
        several = any(families.count(family) > 1 for family in families)
        first = self._turn % len(addresses)
        latest = time.monotonic() + self._connect_timeout
        while True:
            address = addresses[first]
            seconds = (latest - time.monotonic()) / len(addresses)
            try:
                own = socket.create_connection((address, self._port), max(0.1, seconds))
            except OSError:
                del addresses[first]
                if not addresses:
                    raise
                first %= len(addresses)
                continue
            own.settimeout(self._connect_timeout)
            self.broker = (self._host, self._port, address if several else "")
            return own

    def _ssl_wrap_socket(self, tcp_sock: socket.socket) -> ssl.SSLSocket:
        assert self._ssl_context is not None
        name = self.host.partition("%")[0]  # a certificate has addresses without a zone
        try:
            return self._ssl_context.wrap_socket(tcp_sock, server_hostname=name)
        except (ConnectionError, TimeoutError, ssl.SSLError) as error:
            tcp_sock.close()
            if isinstance(error, ssl.SSLCertVerificationError) or _is_alert(error):
                raise
            scheme = (
                "ws:// instead of wss"
                if self._transport == "websockets"
                else "mqtt:// instead of mqtts"
            )
            raise ConnectionError(
                f"the TLS handshake failed: {error}; its port may be without TLS: use {scheme}://, "
                "or leave out the option `tls`"
            ) from error


def _is_alert(error: Exception) -> bool:
    """Return True if the other side speaks TLS and gives a reason for ending the handshake."""
    return isinstance(error, ssl.SSLError) and "ALERT" in (error.reason or "")


def _set_no_delay(_client: paho.Client, _data: object, opened: Any) -> None:
    # Otherwise the last of several small packets waits about 40 ms for a TCP acknowledgement.
    opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
