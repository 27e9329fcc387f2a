"""Connections to the hosts' libvirt, each call in a thread.

One a host, driver and transport is kept, and opened anew when it is lost. libvirt serves five calls
of a connection at the same time, so that what takes long, a migration, has one of its own.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future
from contextlib import asynccontextmanager
from logging import Logger, LoggerAdapter
from typing import Any, Concatenate, Final, ParamSpec, TypeVar

from fastlib.migfra.plugin_api.thread_pool import ThreadPool

from .api import api
from .errors import closed, not_opened, silent, translated
from .options import LibvirtOptions
from .uris import check_driver, check_transport, local_uri, remote_uri

T = TypeVar("T")
P = ParamSpec("P")
_MOST_CALLS: Final = 64
_CLOSE_SECONDS: Final = 5.0


class Connection:
    """A connection to one host's libvirt. A call that hangs keeps a thread, and nothing else."""

    def __init__(self, host: str, uri: str, options: LibvirtOptions) -> None:
        self.host: Final = host
        """Name of the host."""
        self.uri: Final = uri
        self._options = options
        self._threads = ThreadPool(_MOST_CALLS, f"libvirt-{host}")
        self._raw: Any = None
        self._given_up = False
        self._listening = asyncio.Lock()
        self._listens = False
        self._watched: dict[str, set[asyncio.Event]] = {}

    async def open(self) -> None:
        """Raises LostError, which says why it did not come about."""
        opening = self._threads.run(self._open)
        try:
            async with asyncio.timeout(self._options.connect_timeout):
                self._raw = await asyncio.wrap_future(opening)
        except TimeoutError:
            opening.add_done_callback(_close_late)
            raise silent(self.host, self._options.connect_timeout) from None
        except asyncio.CancelledError:
            opening.add_done_callback(_close_late)
            raise
        finally:
            if self._raw is None:
                self._threads.close()  # nobody closes what was never open

    def _open(self) -> Any:
        libvirt = api()
        try:
            raw = libvirt.open(self.uri)
        except libvirt.libvirtError as error:
            raise not_opened(error, self.host, self.uri) from None
        try:
            raw.setKeepAlive(self._options.keep_alive, self._options.keep_alive_count)
        except libvirt.libvirtError as error:
            # A driver within the process has nothing to be kept alive.
            if error.get_error_code() != libvirt.VIR_ERR_NO_SUPPORT:
                _close(raw)
                raise translated(error, self.host) from None
        return raw

    @property
    def raw(self) -> Any:
        """The `virConnect`, for a call of another connection that needs both."""
        return self._raw

    @property
    def alive(self) -> bool:
        """Whether calls can be made, as far as it is known."""
        if self._raw is None or self._given_up:
            return False
        try:
            return bool(self._raw.isAlive())
        except api().libvirtError:
            return False

    async def call(
        self,
        function: Callable[Concatenate[Any, P], T],
        *arguments: P.args,
        **named: P.kwargs,
    ) -> T:
        """What a function returns for the `virConnect` and the arguments.

        Raises LibvirtError for what libvirt raises, and LostError if it does not answer.
        """
        return await self.within(self._options.call_timeout, function, *arguments, **named)

    async def within(
        self,
        seconds: float,
        function: Callable[Concatenate[Any, P], T],
        *arguments: P.args,
        **named: P.kwargs,
    ) -> T:
        """As `call`, with another patience."""
        called = self.submit(function, *arguments, **named)
        try:
            async with asyncio.timeout(seconds):
                return await asyncio.wrap_future(called)
        except TimeoutError:
            self._given_up = True
            raise silent(self.host, seconds) from None

    def submit(
        self,
        function: Callable[Concatenate[Any, P], T],
        *arguments: P.args,
        **named: P.kwargs,
    ) -> "Future[T]":
        """A future for what a function returns, however long it takes.

        Raises LostError if the connection is closed, as it is when another task has found it lost.
        """
        raw = self._raw
        if raw is None:
            raise closed(self.host)
        return self._threads.run(lambda: self._guarded(raw, function, *arguments, **named))

    def _guarded(
        self,
        raw: Any,
        function: Callable[Concatenate[Any, P], T],
        *arguments: P.args,
        **named: P.kwargs,
    ) -> T:
        try:
            return function(raw, *arguments, **named)
        except api().libvirtError as error:
            name = arguments[0] if arguments and isinstance(arguments[0], str) else None
            raise translated(error, self.host, name) from error

    @asynccontextmanager
    async def changes(self, name: str) -> AsyncIterator[asyncio.Event]:
        """An event that is set whenever a domain starts, stops, pauses or goes on."""
        async with self._listening:
            # libvirt takes one callback of a connection for all domains, and no second one.
            if not self._listens:
                loop = asyncio.get_running_loop()
                await self.call(_listen, lambda changed: self._tell(loop, changed))
                self._listens = True
        event = asyncio.Event()
        self._watched.setdefault(name, set()).add(event)
        try:
            yield event
        finally:
            self._watched[name].discard(event)
            if not self._watched[name]:
                del self._watched[name]

    def _tell(self, loop: asyncio.AbstractEventLoop, name: str) -> None:
        """Called in the thread of libvirt's events."""

        def tell() -> None:
            for event in self._watched.get(name, ()):
                event.set()

        if not loop.is_closed():
            loop.call_soon_threadsafe(tell)

    async def close(self) -> None:
        """Close it; what hangs is left behind."""
        raw, self._raw = self._raw, None
        if raw is not None:
            closing = self._threads.run(_close, raw)
            await asyncio.wait({asyncio.wrap_future(closing)}, timeout=_CLOSE_SECONDS)
        self._threads.close()


def _listen(raw: Any, changed: Callable[[str], None]) -> None:
    kind = api().VIR_DOMAIN_EVENT_ID_LIFECYCLE
    raw.domainEventRegisterAny(None, kind, lambda _, domain, *__: changed(domain.name()), None)


def _close_late(opening: "Future[Any]") -> None:
    """Close what came about when nobody waited for it any more."""
    if opening.exception() is None:
        _close(opening.result())


def _close(raw: Any) -> None:
    try:
        raw.close()
    except api().libvirtError:
        return  # it was lost, which is as good as closed


class Connections:
    """What is open to the hosts."""

    def __init__(
        self, host: str, options: LibvirtOptions, log: Logger | LoggerAdapter[Logger]
    ) -> None:
        self._host = host
        self._options = options
        self._log = log
        self._kept: dict[tuple[str, str], Connection] = {}
        self._opening: dict[tuple[str, str], asyncio.Lock] = {}

    def uri(self, host: str, driver: str | None, transport: str | None) -> str:
        """Where a host's libvirt is, as seen from here. Raises HypervisorError."""
        checked = check_driver(self._options, driver)
        if host == self._host:
            return local_uri(self._options, checked)
        return self.outer_uri(host, driver, transport)

    def outer_uri(self, host: str, driver: str | None, transport: str | None) -> str:
        """Where a host's libvirt is, as seen from another host."""
        return remote_uri(
            self._options,
            host,
            check_driver(self._options, driver),
            check_transport(self._options, transport),
        )

    async def get(
        self, host: str, driver: str | None = None, transport: str | None = None
    ) -> Connection:
        """The connection to a host, opened if there is none that works. Raises HypervisorError."""
        key = (host, self.uri(host, driver, transport))
        async with self._opening.setdefault(key, asyncio.Lock()):
            connection = self._kept.get(key)
            if connection is not None:
                if connection.alive:
                    return connection
                del self._kept[key]
                self._log.info("the connection to libvirt on %s is lost, opening it anew", host)
                await connection.close()
            connection = Connection(*key, self._options)
            await connection.open()
            self._kept[key] = connection
            return connection

    @asynccontextmanager
    async def own(
        self, host: str, driver: str | None = None, transport: str | None = None
    ) -> AsyncIterator[Connection]:
        """A further connection, for what takes long; it is closed at the end."""
        connection = Connection(host, self.uri(host, driver, transport), self._options)
        await connection.open()
        try:
            yield connection
        finally:
            await connection.close()

    async def close(self) -> None:
        """Close all."""
        kept, self._kept = list(self._kept.values()), {}
        await asyncio.gather(*(connection.close() for connection in kept))
