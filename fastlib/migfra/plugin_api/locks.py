"""Locks by name: one task at a time for each domain, in coroutines and in threads.

Waiting for a lock ends when the task is cancelled.
"""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from .cancel_scope import CancelScope
from .context import Context


class NamedLocks:
    """Locks by name for coroutines."""

    def __init__(self) -> None:
        self._locks: dict[str, asyncio.Lock] = {}
        self._wanted: dict[str, int] = {}

    @asynccontextmanager
    async def hold(self, name: str, scope: CancelScope) -> AsyncIterator[None]:
        """Hold a lock.

        Raises TaskCancelledError or TaskExpiredError if the scope must end before it is free.
        """
        await self._acquire(name, scope)
        try:
            yield
        finally:
            self._locks[name].release()
            self._forget(name)

    async def _acquire(self, name: str, scope: CancelScope) -> None:
        scope.check()
        lock = self._locks.setdefault(name, asyncio.Lock())
        self._wanted[name] = self._wanted.get(name, 0) + 1
        if lock.locked():
            scope.log_wait(f"waits for another task of {name}")
        acquiring = asyncio.ensure_future(lock.acquire())
        try:
            while not acquiring.done():
                await scope.wait_any(3600.0, acquiring)
                if not acquiring.done():
                    scope.check()
        except BaseException:
            acquiring.cancel()
            if await _was_acquired(acquiring):
                lock.release()
            self._forget(name)
            raise

    def _forget(self, name: str) -> None:
        self._wanted[name] -= 1
        if not self._wanted[name]:
            del self._wanted[name], self._locks[name]


async def _was_acquired(acquiring: "asyncio.Future[Any]") -> bool:
    """Return whether the lock was acquired just before the acquiring was cancelled."""
    await asyncio.wait({acquiring})
    return not acquiring.cancelled()


class NamedThreadLocks:
    """Locks by name for threads."""

    def __init__(self) -> None:
        self._held: set[str] = set()
        self._changed = threading.Condition()

    @contextmanager
    def hold(self, name: str, context: Context) -> Iterator[None]:
        """Hold a lock.

        Raises TaskCancelledError if the task is cancelled before it is free, and TaskExpiredError
        if its order expires before it has begun.
        """
        forget = context.on_cancel(self._wake)
        try:
            with self._changed:
                if name in self._held:
                    context.log.info("waits for another task of %s", name)
                while name in self._held:
                    context.check_cancelled()
                    context.expiry.check()
                    self._changed.wait(context.expiry.timer_seconds())
                context.check_cancelled()
                context.expiry.check()
                self._held.add(name)
        finally:
            forget()
        try:
            yield
        finally:
            with self._changed:
                self._held.remove(name)
                self._changed.notify_all()

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify_all()
