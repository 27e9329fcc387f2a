"""Waiting that ends when the work is to end: the task was cancelled, or its partner failed."""

import asyncio
from collections.abc import Awaitable
from types import TracebackType
from typing import Any, Self

from fastlib.migfra.errors import TaskCancelledError
from fastlib.migfra.plugin_api.context import Context


class Stopping:
    """Whether one piece of work is to end, a context manager."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._stopped = asyncio.Event()
        self.reason = "cancelled"
        """Why it is to end."""

    def __enter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._forget = self._context.on_cancel(lambda: loop.call_soon_threadsafe(self._stopped.set))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._forget()

    def stop(self, reason: str) -> None:
        """Let it end, for another reason than the task's cancellation."""
        if not self.stopped:
            self.reason = reason
            self._stopped.set()

    @property
    def stopped(self) -> bool:
        """Whether it is to end."""
        return self._stopped.is_set() or self._context.cancelled

    def check(self) -> None:
        """Raises TaskCancelledError if it is to end."""
        if self.stopped:
            raise TaskCancelledError(self.reason)

    async def sleep(self, seconds: float) -> None:
        """Raises TaskCancelledError as soon as it is to end."""
        await self.any_of(seconds)
        self.check()

    async def any_of(self, seconds: float, *others: Awaitable[Any]) -> None:
        """Wait until it is to end, the time is up, or one of the others is done; raises nothing.

        Those of the others that are no futures are given up in the end.
        """
        own = [asyncio.ensure_future(self._stopped.wait())]
        futures = [asyncio.ensure_future(other) for other in others]
        own += [new for new, old in zip(futures, others, strict=True) if new is not old]
        try:
            await asyncio.wait({*own, *futures}, timeout=seconds, return_when="FIRST_COMPLETED")
        finally:
            for future in own:
                future.cancel()
            await asyncio.gather(*own, return_exceptions=True)


class Locks:
    """One task at a time for each domain."""

    def __init__(self) -> None:
        self._locks: dict[str, asyncio.Lock] = {}
        self._wanted: dict[str, int] = {}

    def hold(self, name: str, stopping: Stopping) -> "_Held":
        """A context manager that has the domain alone. Entering raises TaskCancelledError."""
        return _Held(self, name, stopping)

    async def acquire(self, name: str, stopping: Stopping) -> None:
        """Raises TaskCancelledError if the task is to end before the domain is free."""
        stopping.check()
        lock = self._locks.setdefault(name, asyncio.Lock())
        self._wanted[name] = self._wanted.get(name, 0) + 1
        acquiring = asyncio.ensure_future(lock.acquire())
        try:
            while not acquiring.done():
                await stopping.any_of(3600.0, acquiring)
                if not acquiring.done():
                    stopping.check()
        except BaseException:
            acquiring.cancel()
            if await _got(acquiring):
                lock.release()
            self._forget(name)
            raise

    def release(self, name: str) -> None:
        """Let the next one have it."""
        self._locks[name].release()
        self._forget(name)

    def _forget(self, name: str) -> None:
        self._wanted[name] -= 1
        if not self._wanted[name]:
            del self._wanted[name], self._locks[name]


async def _got(acquiring: "asyncio.Future[Any]") -> bool:
    """Whether the lock was had in the last moment."""
    await asyncio.wait({acquiring})
    return not acquiring.cancelled()


class _Held:
    def __init__(self, locks: Locks, name: str, stopping: Stopping) -> None:
        self._locks = locks
        self._name = name
        self._stopping = stopping

    async def __aenter__(self) -> None:
        await self._locks.acquire(self._name, self._stopping)

    async def __aexit__(self, *_: object) -> None:
        self._locks.release(self._name)
