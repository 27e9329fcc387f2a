"""amqtt's broker on our own socket, in its own event loop.

Only this file and `mqtt31.py` use amqtt. It accepts the connections itself and gives them to
amqtt's external listener. So the port is known, an address in use has its own error, and all
connections are closed cleanly, also those that amqtt forgets.
"""

import asyncio
import socket
from concurrent.futures import Future
from contextlib import suppress
from logging import getLogger
from typing import Any, Final

from amqtt.adapters import StreamWriterAdapter
from amqtt.broker import Broker
from amqtt.contexts import BrokerConfig, ListenerConfig, ListenerType
from amqtt.plugins.base import BaseAuthPlugin
from amqtt.session import Session

from .mqtt31 import ConnectReader

log = getLogger("fastlib.transport")

LISTENER: Final = "default"

DRAIN_SECONDS: Final = 2.0
"""The maximum time for clients to read the last data when the broker ends."""

SHUTDOWN_SECONDS: Final = 10.0
"""The maximum time for the whole shutdown."""


class AllowAll(BaseAuthPlugin):  # type: ignore[misc]  # amqtt does not export its types
    """Accepts all clients. Unlike amqtt's own plug-in, it allows persistent sessions to all."""

    async def authenticate(self, *, session: Any) -> bool:
        """Accept a connection."""
        return True


class Connection(StreamWriterAdapter):  # type: ignore[misc]
    """The connection to a client."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        super().__init__(writer)
        self._stream = writer

    def close_after_flush(self) -> None:
        """Close it after all written data is sent; amqtt writes no more data."""
        self.is_closed = True
        self._stream.close()

    def abort(self) -> None:
        """Close it now."""
        self._stream.transport.abort()


class LimitedReader(ConnectReader):
    """Reads the data of a client. A packet that is too large reads as the end of the data."""

    def __init__(self, reader: asyncio.StreamReader, largest_packet: int) -> None:
        """`largest_packet` is in bytes, with the header."""
        super().__init__(reader)
        self._largest = largest_packet
        self._left = 0
        """Remaining bytes of the current packet, after its length."""
        self._header = bytearray()
        """The beginning of a packet until its length is known."""

    async def read(self, n: int = -1) -> bytes:
        """Read `n` bytes; amqtt reads a header byte by byte."""
        data = await super().read(n)
        if self._left:
            self._left = max(0, self._left - len(data))
            return data
        self._header += data
        if len(self._header) > 1 and self._header[-1] < 128:
            digits = enumerate(self._header[1:])
            self._left = sum((byte & 127) << 7 * place for place, byte in digits)
            size = len(self._header) + self._left
            self._header.clear()
            if size > self._largest:
                log.warning("the embedded broker ends a connection: a packet of %d bytes", size)
                return b""
        return data


class KeepingBroker(Broker):  # type: ignore[misc]
    """amqtt's broker. It delivers a message that it has kept for a client as a new message.

    amqtt marks these messages as retained. A daemon drops retained orders, because they may be
    older than its session.
    """

    def __init__(self, config: BrokerConfig) -> None:
        super().__init__(config)
        self._deliveries: set[asyncio.Task[Any]] = set()

    async def _publish_session_retained_messages(self, session: Session) -> None:
        handler = self._get_handler(session)
        while handler and not session.retained_messages.empty():
            kept = await session.retained_messages.get()
            delivery = asyncio.ensure_future(
                handler.mqtt_publish(kept.topic, kept.data, kept.qos, retain=False)
            )
            # Not awaited, as amqtt does: it handles no subscription before that, and a client may
            # subscribe before it acknowledges.
            self._deliveries.add(delivery)
            delivery.add_done_callback(self._delivered)

    def _delivered(self, delivery: "asyncio.Task[Any]") -> None:
        self._deliveries.discard(delivery)
        if not delivery.cancelled() and (error := delivery.exception()) is not None:
            log.warning("the embedded broker lost a message that it had kept: %r", error)


class AmqttServer:
    """One run of the broker, from `run` in a thread of its own to `stop` from any other."""

    def __init__(self, listener: socket.socket, largest_packet: int | None = None) -> None:
        """The broker closes the listening socket when it ends.

        It ends a connection with a packet of more than `largest_packet` bytes.
        """
        self._largest_packet = largest_packet
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
        """End `run`, also before it begins. May be called again."""
        with suppress(RuntimeError):  # the loop is closed: `run` has already ended
            self._loop.call_soon_threadsafe(self._stop.set)

    async def _serve(self) -> None:
        broker = KeepingBroker(_configuration())
        await broker.start()
        self._broker = broker
        server = await asyncio.start_server(self._connected, sock=self._listener)
        self.started.set_result(None)
        try:
            await self._stop.wait()
        finally:
            await self._end(server, broker)

    async def _end(self, server: asyncio.Server, broker: Broker) -> None:
        # A connection that was just accepted must be registered before the server forgets it.
        self._loop.remove_reader(self._listener)
        await asyncio.sleep(0)
        server.close()
        try:
            async with asyncio.timeout(SHUTDOWN_SECONDS):
                # Before the broker: its own shutdown waits while clients send.
                await self._end_connections()
                await broker.shutdown()
        except TimeoutError:  # the end of the loop cancels the remaining tasks
            log.warning("the embedded broker did not end cleanly in %g s", SHUTDOWN_SECONDS)

    async def _end_connections(self) -> None:
        for connection in self._connections.values():
            connection.close_after_flush()
        if self._connections:
            await asyncio.wait(list(self._connections), timeout=DRAIN_SECONDS)
        for connection in self._connections.values():
            connection.abort()
        if self._connections:
            await asyncio.wait(list(self._connections))

    def _reader_of(self, reader: asyncio.StreamReader) -> ConnectReader:
        if self._largest_packet is None:
            return ConnectReader(reader)
        return LimitedReader(reader, self._largest_packet)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        connection = self._connections[task] = Connection(writer)
        try:
            await self._broker.external_connected(self._reader_of(reader), connection, LISTENER)
        except Exception as error:
            log.warning("the embedded broker failed on a connection and ends it: %r", error)
        finally:
            # amqtt leaves a connection open after it has stopped to handle its messages.
            connection.close_after_flush()
            del self._connections[task]


def _configuration() -> BrokerConfig:
    return BrokerConfig(
        listeners={LISTENER: ListenerConfig(type=ListenerType.EXTERNAL, bind="")},
        plugins={f"{AllowAll.__module__}.{AllowAll.__qualname__}": {}},
    )
