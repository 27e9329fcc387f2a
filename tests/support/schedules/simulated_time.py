"""Patches of the code under test for schedules: virtual clocks, one thread, disks that fill up."""

import asyncio
import logging
import sqlite3
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import _base as futures
from contextlib import ExitStack, contextmanager, nullcontext
from types import ModuleType
from typing import Any
from unittest import mock

from fastlib.migfra import runtime
from fastlib.migfra.journal import group_commit, transaction
from fastlib.migfra.journal.transaction import Operation
from fastlib.migfra.telemetry.other_daemons import OtherDaemons

from .process import CLOCK, PROCESS


class NoLock:
    """Replaces the condition of a future, because all futures are in one thread."""

    def __enter__(self) -> None:
        """Lock nothing."""

    def __exit__(self, *_: object) -> None:
        """Unlock nothing."""

    def notify_all(self) -> None:
        """Wake no thread."""

    def wait(self, timeout: float | None = None) -> None:
        """Refuse to wait."""
        raise AssertionError("a future is waited for in the only thread")


@contextmanager
def simulated_time() -> Iterator[None]:
    """Let the code under test read the clock of the process, and no log be written.

    Other threads, such as those of a client that other tests share, keep the real time and locks.
    """
    clock = _OfThisThread(time, time=CLOCK.now, monotonic=CLOCK.monotonic)
    unlocked = _OfThisThread(threading, Condition=NoLock)
    logging.disable(logging.CRITICAL)
    with ExitStack() as patches:
        patches.callback(logging.disable, logging.NOTSET)
        for name, module in sorted(sys.modules.items()):
            if name.startswith("fastlib.") and getattr(module, "time", None) is time:
                patches.enter_context(mock.patch.object(module, "time", clock))
        patches.enter_context(
            mock.patch.object(runtime, "lock_journal", return_value=nullcontext())
        )
        patches.enter_context(mock.patch.object(futures, "threading", unlocked))
        # No process stands still here, and looking twice a second whether it does costs most time.
        patches.enter_context(mock.patch.object(OtherDaemons, "_watch_beat", _never))
        patches.enter_context(mock.patch.object(OtherDaemons, "_look_at_beat", _never_stood_still))
        patches.enter_context(mock.patch.object(group_commit, "execute_all", _execute_all))
        yield


class _OfThisThread:
    """Stands for a module: some of its functions for this thread, the real ones for all others."""

    def __init__(self, real: ModuleType, **replaced: Any) -> None:
        self._thread = threading.get_ident()
        self._real = real
        self._replaced = replaced

    def __getattr__(self, name: str) -> Any:
        if threading.get_ident() != self._thread:
            return getattr(self._real, name)
        if name not in self._replaced:
            raise AttributeError(f"{self._real.__name__}.{name} is not simulated")
        return self._replaced[name]


async def _never(*_: object) -> None:
    await asyncio.Event().wait()


def _never_stood_still(*_: object, **__: object) -> None:
    """Do nothing."""


def _execute_all(connection: sqlite3.Connection, operations: list[Operation]) -> list[Any]:
    """Execute operations on a disk that may be full: the last write of a transaction fails."""
    if not PROCESS.get().disk_is_full:
        return transaction.execute_all(connection, operations)
    return transaction.execute_all(connection, [*operations, _fail_for_room])


def _fail_for_room(connection: sqlite3.Connection) -> None:
    raise sqlite3.OperationalError("database or disk is full")
