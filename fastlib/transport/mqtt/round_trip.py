"""Measure how long a broker takes to answer, and whether it holds back small packets."""

import selectors
import socket
import ssl
import statistics
import time
from typing import Any, Final

import msgspec

from fastlib.transport.errors import ConnectError, RefusedError, user_hint
from fastlib.transport.options import MqttOptions
from fastlib.transport.tls_files import refused_certificate

from .client_factory import make_client
from .paho_client import PahoClient
from .paho_sockets import QUICK_ACK

SAMPLES: Final = 7
"""The number of measured answers; the result is their median."""

ANSWER_SECONDS: Final = 5.0
"""The maximum time until an answer."""

HELD_BACK: Final = 0.02
"""Seconds. TCP holds a small packet back for 40 ms or more; otherwise two come within 1 ms."""

PINGREQ: Final = b"\xc0\x00"
PINGRESP: Final = 0xD0


class RoundTrip(msgspec.Struct, frozen=True, kw_only=True):
    """The speed of a broker's answers."""

    answer: float
    """Seconds from a request to its answer."""
    gap: float
    """Seconds between the answers to two requests that were sent at once."""

    @property
    def remedy(self) -> str | None:
        """Return advice for the broker's operator, or None."""
        if self.gap < HELD_BACK:
            return None
        return (
            f"the broker holds back small packets for {self.gap * 1000:.0f} ms (Nagle's "
            "algorithm), which delays programs other than fastlib's by that much for each order; "
            "set `set_tcp_nodelay true` in mosquitto.conf, or TCP_NODELAY at another broker"
        )


def measure_round_trip(options: MqttOptions) -> RoundTrip:
    """Connect with the options, and measure. It subscribes to nothing and sends no message.

    A persistent session stays as it is: messages that arrive are not acknowledged. If the broker
    had no session of this client, it has none afterwards. Raises ConnectError, RefusedError and
    OptionsError.
    """
    client = make_client(options, _ignore, _ignore)
    host, port = options.brokers[0]
    client.quick_ack = False
    had_session = True
    try:
        had_session = _connect(client, options)
        own: Any = client.socket()
        own.settimeout(ANSWER_SECONDS)
        answers = _Answers(own)
        single = [_seconds(own, answers, 1)[0] for _ in range(SAMPLES)]
        pairs = [_seconds(own, answers, 2) for _ in range(SAMPLES)]
    except (OSError, EOFError) as error:
        raise ConnectError(f"{host}:{port}: the broker did not answer: {error}", error) from error
    finally:
        _disconnect(client)
        if options.persistent and not had_session:
            _remove_session(options)
    gaps = [second - first for first, second in pairs]
    return RoundTrip(answer=statistics.median(single), gap=statistics.median(gaps))


def _connect(client: PahoClient, options: MqttOptions) -> bool:
    """Connect. Return whether the broker had a session of this client."""
    accepted: list[bool] = []

    def on_connect(_client: Any, _data: Any, flags: Any, reason: Any, _properties: Any) -> None:
        if reason.is_failure:
            hint = user_hint(reason.value, options.username is not None)
            raise RefusedError(f"the broker refuses the connection: {reason}{hint}", reason.value)
        accepted.append(bool(flags.session_present))

    client.on_connect = on_connect
    try:
        client.reconnect()
    except ssl.SSLCertVerificationError as error:
        raise RefusedError(refused_certificate(error), last=error) from error
    until = time.monotonic() + ANSWER_SECONDS
    with selectors.DefaultSelector() as selector:
        while not accepted:
            own = client.socket()
            rest = until - time.monotonic()
            if own is None or rest <= 0:
                raise EOFError(client.violation or "no CONNACK")
            if client.want_write():
                client.loop_write()
            selector.register(own, selectors.EVENT_READ)
            if client.has_read() or selector.select(rest):
                client.loop_read()
            selector.unregister(own)
    return accepted[0]


def _remove_session(options: MqttOptions) -> None:
    """Remove the session that the measurement has made.

    Else the daemon's first start would warn about an earlier run, whose journal is lost.
    """
    client = make_client(msgspec.structs.replace(options, persistent=False), _ignore, _ignore)
    try:
        _connect(client, options)
    except (OSError, EOFError) as error:
        host, port = options.brokers[0]
        raise ConnectError(
            f"{host}:{port}: the broker did not answer, and keeps the session that the check has "
            f"made: {error}",
            error,
        ) from error
    finally:
        _disconnect(client)


def _seconds(own: Any, answers: "_Answers", count: int) -> list[float]:
    """Send some requests at once. Return the seconds until the answer to each one."""
    start = time.monotonic()
    own.sendall(PINGREQ * count)
    found = []
    for _ in range(count):
        answers.wait()
        found.append(time.monotonic() - start)
    return found


class _Answers:
    """Reads packets until PINGRESP; others, such as waiting messages, are skipped."""

    def __init__(self, own: Any) -> None:
        self._own = own
        self._data = bytearray()

    def wait(self) -> None:
        while True:
            kind, size = self._take(1)[0], 0
            for shift in range(0, 28, 7):
                byte = self._take(1)[0]
                size |= (byte & 127) << shift
                if byte < 128:
                    break
            self._take(size)
            if kind == PINGRESP:
                return

    def _take(self, size: int) -> bytes:
        while len(self._data) < size:
            if QUICK_ACK is not None:  # acknowledge late, as the broker's other clients do
                self._own.setsockopt(socket.IPPROTO_TCP, QUICK_ACK, 0)
            data = self._own.recv(65536)
            if not data:
                raise EOFError("it has ended the connection")
            self._data += data
        taken = bytes(self._data[:size])
        del self._data[:size]
        return taken


def _disconnect(client: PahoClient) -> None:
    client.disconnect()
    if client.socket() is not None and client.want_write():
        client.loop_write()
    own: Any = client.socket()
    if own is not None:
        own.close()


def _ignore(*_: object) -> None:
    """Acknowledge nothing, so the broker sends the message to the daemon again."""
