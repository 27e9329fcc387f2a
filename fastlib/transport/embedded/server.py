"""amqtt's broker on a socket of ours, in an event loop of its own.

This is the only file that touches amqtt. Connections are accepted here and handed over as those of
an external listener: so the port is known, an address in use is told by its own error, and every
connection is ended in order, also where amqtt forgets it.
"""

import asyncio
import socket
from concurrent.futures import Future
from contextlib import suppress
from logging import getLogger
from typing import Any, Final

from amqtt.adapters import StreamReaderAdapter, StreamWriterAdapter
from amqtt.broker import Broker
from amqtt.contexts import BrokerConfig, ListenerConfig, ListenerType
from amqtt.plugins.base import BaseAuthPlugin

log = getLogger("fastlib.transport")

LISTENER: Final = "default"

FAREWELL_SECONDS: Final = 2.0
"""How long clients may take to read what is on its way to them when the broker ends."""

SHUTDOWN_SECONDS: Final = 10.0
"""How long all of the end may take."""


class AdmitEveryone(BaseAuthPlugin):  # type: ignore[misc]  # amqtt is not typed for others
    """Whoever connects may. Unlike amqtt's own, it leaves persistent sessions to everyone."""

    async def authenticate(self, *, session: Any) -> bool:
        """Asked for each connection."""
        return True


class Connection(StreamWriterAdapter):  # type: ignore[misc]
    """The way to a client."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        super().__init__(writer)
        self._stream = writer

    def hang_up(self) -> None:
        """Close it when what was written is out; amqtt writes nothing more."""
        self.is_closed = True
        self._stream.close()

    def abort(self) -> None:
        """Close it now."""
        self._stream.transport.abort()


class AmqttServer:
    """One run of the broker, from `run` in a thread of its own to `stop` from any other."""

    def __init__(self, listener: socket.socket) -> None:
        """The broker closes the listening socket when it ends."""
        self.port: Final[int] = listener.getsockname()[1]
        self.started: Final[Future[None]] = Future()
        """Done when clients can connect."""
        self._listener = listener
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._connections: dict[asyncio.Task[Any], Connection] = {}

    def run(self) -> None:
        """Serve until `stop`."""
        with self._listener, asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve())

    def stop(self) -> None:
        """End `run`, whether it began already or not; more than once does no harm."""
        with suppress(RuntimeError):  # the loop is closed: it ended by itself
            self._loop.call_soon_threadsafe(self._stop.set)

    async def _serve(self) -> None:
        broker = Broker(_configuration())
        await broker.start()
        self._broker = broker
        server = await asyncio.start_server(self._connected, sock=self._listener)
        self.started.set_result(None)
        try:
            await self._stop.wait()
        finally:
            await self._end(server, broker)

    async def _end(self, server: asyncio.Server, broker: Broker) -> None:
        # Connections that were just accepted shall become ours before the server forgets them.
        self._loop.remove_reader(self._listener)
        await asyncio.sleep(0)
        server.close()
        try:
            async with asyncio.timeout(SHUTDOWN_SECONDS):
                # They go before the broker, whose own way waits for as long as clients send.
                await self._end_connections()
                await broker.shutdown()
        except TimeoutError:  # what is left is cancelled when the loop ends
            log.warning("the embedded broker did not end in order in %g s", SHUTDOWN_SECONDS)

    async def _end_connections(self) -> None:
        for connection in self._connections.values():
            connection.hang_up()
        if self._connections:
            await asyncio.wait(list(self._connections), timeout=FAREWELL_SECONDS)
        for connection in self._connections.values():
            connection.abort()
        if self._connections:
            await asyncio.wait(list(self._connections))

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        connection = self._connections[task] = Connection(writer)
        try:
            await self._broker.external_connected(StreamReaderAdapter(reader), connection, LISTENER)
        except Exception as error:
            log.warning("the embedded broker failed on a connection and ends it: %r", error)
        finally:
            # amqtt leaves a connection open whose messages it no longer handles.
            connection.hang_up()
            del self._connections[task]


def _configuration() -> BrokerConfig:
    return BrokerConfig(
        listeners={LISTENER: ListenerConfig(type=ListenerType.EXTERNAL, bind="")},
        plugins={f"{AdmitEveryone.__module__}.{AdmitEveryone.__qualname__}": {}},
    )
