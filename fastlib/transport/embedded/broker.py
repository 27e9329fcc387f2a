"""The embedded broker: amqtt in a thread of this process, for experiments."""

import ipaddress
import threading
from concurrent.futures import Future
from contextlib import AbstractContextManager
from logging import getLogger
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from fastlib.extras import needs_extra
from fastlib.transport.broker_url import address_text
from fastlib.transport.errors import ListenError, OptionsError
from fastlib.transport.futures import wait
from fastlib.transport.packet_size import check_largest_packet

from .listening import check_port, listen

if TYPE_CHECKING:
    from .server import AmqttServer

log = getLogger("fastlib.transport")

START_SECONDS: Final = 30.0
STOP_SECONDS: Final = 30.0
"""Upper bounds. Normally both take some milliseconds."""


class EmbeddedBroker(AbstractContextManager["EmbeddedBroker"]):
    """An MQTT 3.1.1 broker in this process, for experiments, not for production.

    It requires no password, so it listens on loopback only. It loses all messages and
    sessions when it ends. docs/how-to/brokers.md lists its other limits.
    `with EmbeddedBroker(port=0) as broker` runs it on a free port, `broker.port`. It can be
    started again after `stop`.
    """

    def __init__(
        self, host: str = "127.0.0.1", port: int = 1883, *, largest_packet: int | None = None
    ) -> None:
        """`host` is a loopback address or `localhost`; port 0 is any free port.

        With `largest_packet`, it ends a connection at a packet of more bytes, like mosquitto with
        `max_packet_size`. Raises OptionsError, and MissingExtraError if amqtt is not installed.
        """
        self.host: Final = _loopback(host)
        self._asked_port = check_port(port)
        self._largest_packet = check_largest_packet(largest_packet)
        self._server: AmqttServer | None = None
        self._thread: threading.Thread | None = None
        self._ended: Future[None] = Future()
        self._make = _server_class()

    @property
    def port(self) -> int:
        """The port. For port 0 it is the chosen port after `start`."""
        return self._server.port if self._server is not None else self._asked_port

    @property
    def address(self) -> str:
        """Host and port, an IPv6 address in brackets."""
        return address_text(self.host, self.port)

    @property
    def is_running(self) -> bool:
        """True from `start` to `stop`, unless it has failed."""
        return self._thread is not None and not self._ended.done()

    def start(self) -> Self:
        """Listen, and return when clients can connect. Raises ListenError."""
        if self._thread is not None:
            raise ListenError(f"the broker listens on {self.address} already")
        server = self._make(listen(self.host, self._asked_port), self._largest_packet)
        ended: Future[None] = Future()
        thread = threading.Thread(
            target=_run, args=(server, ended), name=f"fastlib broker {server.port}", daemon=True
        )
        self._server, self._ended, self._thread = server, ended, thread
        thread.start()
        try:
            wait(server.started, START_SECONDS, "the start of the broker")
        except BaseException:
            self.stop()
            raise
        return self

    def wait(self, timeout: float | None = None) -> None:
        """Wait until another thread calls `stop`. Signals interrupt it.

        Raises WaitTimeoutError after `timeout` seconds, and ListenError if the broker has failed.
        """
        wait(self._ended, timeout, "the end of the broker")

    def stop(self) -> None:
        """End all connections and free the port. May be called again."""
        server, thread = self._server, self._thread
        if server is None or thread is None:
            return
        server.stop()
        thread.join(STOP_SECONDS)
        if thread.is_alive():
            raise ListenError(f"the broker on port {server.port} did not end in {STOP_SECONDS:g} s")
        self._thread = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def __repr__(self) -> str:
        state = "" if self.is_running else ", not running"
        return f"<EmbeddedBroker {self.address}{state}>"


def _run(server: "AmqttServer", ended: "Future[None]") -> None:
    try:
        server.run()
    except Exception as error:
        log.exception("the embedded broker failed")
        broken = ListenError(f"the embedded broker failed: {error!r}")
        ended.set_exception(broken)
        if not server.started.done():
            server.started.set_exception(broken)
    else:
        ended.set_result(None)


def _server_class() -> "type[AmqttServer]":
    with needs_extra("the embedded broker", "amqtt"):
        from .server import AmqttServer
    return AmqttServer


def _loopback(host: str) -> str:
    """Return the address. Raises OptionsError if other machines could reach it."""
    if host == "localhost":
        return "127.0.0.1"
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        raise OptionsError(f"the host to listen on must be an IP address, not {host!r}") from None
    if not address.is_loopback:
        raise OptionsError(
            f"the embedded broker requires no password, so it listens on loopback only, not on "
            f"{host}; for other machines run a broker such as mosquitto"
        )
    return host
