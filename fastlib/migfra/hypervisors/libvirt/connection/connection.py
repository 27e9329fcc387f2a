"""One connection to a host's libvirt. Each call runs in a thread."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Concatenate, Final, Literal, ParamSpec, TypeVar

from fastlib.migfra.hypervisors.libvirt.errors import closed, not_opened, silent, translated
from fastlib.migfra.hypervisors.libvirt.options import LibvirtOptions
from fastlib.migfra.plugin_api.thread_pool import ThreadPool

from .api import api

T = TypeVar("T")
P = ParamSpec("P")
_MOST_CALLS: Final = 64
_CLOSE_SECONDS: Final = 5.0


End = Literal["stopped", "migrated"]
"""How a domain ended on its host: it was stopped, or it migrated to another host."""


class DomainChanges(asyncio.Event):
    """An event that is set whenever a domain starts, stops, pauses or resumes."""

    def __init__(self) -> None:
        super().__init__()
        self.end: End | None = None
        """How the domain ended on this host since the events are followed. None if it did not."""
        self.last: float | None = None
        """The loop's time of the last change. None if there was none."""


class Connection:
    """A connection to one host's libvirt. A call that hangs blocks its thread only."""

    def __init__(self, host: str, uri: str, options: LibvirtOptions) -> None:
        self.host: Final = host
        """Name of the host."""
        self.uri: Final = uri
        self._options = options
        self._threads = ThreadPool(_MOST_CALLS, f"libvirt-{host}")
        self._raw: Any = None
        self._lock = threading.Lock()
        self._users = 1
        """The calls that use the `virConnect`, and this object until `close`."""
        self._given_up = False
        self._subscribed = asyncio.Lock()
        self._listens = False
        self._follow: dict[str, set[DomainChanges]] = {}

    async def open(self) -> None:
        """Open the connection. Raises LostError with the reason for a failure."""
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
                self._threads.close()  # `close` is not called for a connection that never opened

    def _open(self) -> Any:
        libvirt = api()
        try:
            raw = libvirt.open(self.uri)
        except libvirt.libvirtError as error:
            raise not_opened(error, self.host, self.uri) from None
        try:
            raw.setKeepAlive(self._options.keep_alive, self._options.keep_alive_count)
        except libvirt.libvirtError as error:
            # A driver within the process needs no keep-alive.
            if error.get_error_code() != libvirt.VIR_ERR_NO_SUPPORT:
                _close(raw)
                raise translated(error, self.host) from None
        return raw

    def _lend(self) -> tuple[Any, Callable[[], None]]:
        """Return the `virConnect` for a call, and the function to call at the end of that.

        Raises LostError if the connection is closed.
        """
        raw = self._raw
        if raw is None:
            raise closed(self.host)
        with self._lock:
            self._users += 1
        return raw, partial(self._release, raw)

    @property
    def alive(self) -> bool:
        """Whether calls can be made. A loss may not have been noticed yet."""
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
        """Call a function in a thread, with the `virConnect` and the arguments.

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
        """Call a function like `call`, but with another timeout."""
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
        """Return a future for the result of a function. There is no timeout.

        Raises LostError if the connection is closed. A task that finds it lost closes it for all.
        """
        raw, release = self._lend()
        return self._threads.run(lambda: self._guarded(raw, release, function, *arguments, **named))

    def submit_with(
        self,
        other: "Connection | None",
        function: Callable[Concatenate[Any, Any, P], T],
        *arguments: P.args,
        **named: P.kwargs,
    ) -> "Future[T]":
        """Like `submit`, for a function that also gets the `virConnect` of another connection."""
        raw, release = (None, _use_nothing) if other is None else other._lend()

        def call(own: Any, /, *arguments: P.args, **named: P.kwargs) -> T:
            try:
                return function(own, raw, *arguments, **named)
            finally:
                release()

        try:
            return self.submit(call, *arguments, **named)
        except BaseException:
            release()
            raise

    def _guarded(
        self,
        raw: Any,
        release: Callable[[], None],
        function: Callable[Concatenate[Any, P], T],
        *arguments: P.args,
        **named: P.kwargs,
    ) -> T:
        try:
            return function(raw, *arguments, **named)
        except api().libvirtError as error:
            name = arguments[0] if arguments and isinstance(arguments[0], str) else None
            raise translated(error, self.host, name) from error
        finally:
            release()

    def _release(self, raw: Any) -> None:
        """End a use of the `virConnect`. The last one closes it.

        libvirt frees a connection that is closed, and a call that uses it then ends the process.
        """
        with self._lock:
            self._users -= 1
            is_last = self._users == 0
        if is_last:
            _close(raw)

    @asynccontextmanager
    async def changes(self, name: str) -> AsyncIterator[DomainChanges]:
        """Yield an event that is set whenever a domain starts, stops, pauses or resumes."""
        async with self._subscribed:
            # libvirt takes only one callback for all domains of a connection.
            if not self._listens:
                loop = asyncio.get_running_loop()
                await self.call(_listen, partial(self._tell, loop))
                self._listens = True
        event = DomainChanges()
        self._follow.setdefault(name, set()).add(event)
        try:
            yield event
        finally:
            self._follow[name].discard(event)
            if not self._follow[name]:
                del self._follow[name]

    def _tell(self, loop: asyncio.AbstractEventLoop, name: str, end: End | None) -> None:
        """Set the event of a domain. libvirt's event thread calls this."""

        def tell() -> None:
            for event in self._follow.get(name, ()):
                event.end = end
                event.last = loop.time()
                event.set()

        if not loop.is_closed():
            loop.call_soon_threadsafe(tell)

    async def close(self) -> None:
        """Close the connection. Do not wait for calls that hang: the last of them closes it."""
        raw, self._raw = self._raw, None
        if raw is not None:
            closing = self._threads.run(self._release, raw)
            await asyncio.wait({asyncio.wrap_future(closing)}, timeout=_CLOSE_SECONDS)
        self._threads.close()


def _use_nothing() -> None:
    """End the use of no connection."""


def _listen(raw: Any, changed: Callable[[str, End | None], None]) -> None:
    libvirt = api()

    def tell(_: object, domain: Any, event: int, detail: int, __: object) -> None:
        end: End | None = None
        if event == libvirt.VIR_DOMAIN_EVENT_STOPPED:
            left = detail == libvirt.VIR_DOMAIN_EVENT_STOPPED_MIGRATED
            end = "migrated" if left else "stopped"
        changed(domain.name(), end)

    raw.domainEventRegisterAny(None, libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, tell, None)


def _close_late(opening: "Future[Any]") -> None:
    """Close a connection that opened after its caller had given up waiting."""
    if opening.exception() is None:
        _close(opening.result())


def _close(raw: Any) -> None:
    try:
        raw.close()
    except api().libvirtError:
        return  # it was lost, so there is nothing to close
