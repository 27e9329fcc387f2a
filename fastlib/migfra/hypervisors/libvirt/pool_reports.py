"""Report the storage pools of this host within a bounded time.

libvirt locks a pool while it refreshes it. If the file server of a pool is dead, the refresh and
each call about this pool hang, and libvirt's list of all pools, too. Therefore:

- The calls have a connection of their own. libvirt serves five calls of a connection at the same
  time, so hung calls would block all others.
- A call that does not answer in time continues in its thread. A pool is not read again while an
  earlier call for it hangs.
- The names of the last list are kept, to read the other pools while the list hangs.
"""

import asyncio
from collections.abc import Callable
from typing import Any, Final, TypeVar

import msgspec

from fastlib.message.hardware import StoragePoolReport
from fastlib.migfra.errors import HypervisorError
from fastlib.migfra.hypervisors.libvirt.connection.connection import Connection
from fastlib.migfra.hypervisors.libvirt.domain.storage_pools import read_names, read_pool

from .known_problems import KnownProblems
from .runtime import LibvirtRuntime

T = TypeVar("T")
ANSWER_SECONDS: Final = 2.0
"""Seconds after which a call counts as hung."""
MOST_CALLS: Final = 4
"""Calls at the same time, hung ones included: one less than libvirt serves for a connection."""


class SilentPoolError(HypervisorError):
    """libvirt does not answer about a pool."""


class _Call(msgspec.Struct, frozen=True):
    future: "asyncio.Future[Any]"
    deadline: float


class PoolReports:
    """Reads the storage pools of this host, and remembers their names and the hung calls."""

    def __init__(self, runtime: LibvirtRuntime, problems: KnownProblems) -> None:
        self._runtime = runtime
        self._problems = problems
        self._names: dict[str | None, list[str]] = {}
        self._calls: dict[tuple[str | None, str | None], _Call] = {}
        """The calls in flight, by the driver and the pool. None is the list of all pools."""

    async def read(self, driver: str | None) -> list[StoragePoolReport] | None:
        """Return the pools, sorted by name. None if they are not known; the reason is logged once.

        It takes at most about twice ANSWER_SECONDS. A pool that libvirt does not answer about has
        only its name and the reason.
        """
        what = "the storage pools"
        try:
            connection = await self._runtime.connections.get(
                self._runtime.host, driver, use="storage pools"
            )
            names = await self._list(driver, connection)
        except HypervisorError as error:
            self._problems.note(what, f"{what} of this host are not known: {error}")
            return None
        self._problems.note(what, None)
        if names is None:
            return None
        deadline = asyncio.get_running_loop().time() + ANSWER_SECONDS
        found = await asyncio.gather(
            *(self._pool(driver, connection, name, deadline) for name in names)
        )
        return [pool for pool in found if pool is not None]

    async def _list(self, driver: str | None, connection: Connection) -> list[str] | None:
        deadline = asyncio.get_running_loop().time() + ANSWER_SECONDS
        try:
            names = await self._ask((driver, None), deadline, connection, read_names)
        except SilentPoolError:
            if driver not in self._names:
                raise
            return self._names[driver]
        if names is not None:
            self._names[driver] = names
        return names

    async def _pool(
        self, driver: str | None, connection: Connection, name: str, deadline: float
    ) -> StoragePoolReport | None:
        what = f"the storage pool {name}"
        try:
            pool = await self._ask((driver, name), deadline, connection, read_pool, name)
        except HypervisorError as error:
            self._problems.note(what, f"{what} is not known: {error}")
            return StoragePoolReport(name=name, details=str(error))
        self._problems.note(what, None)
        return pool

    async def _ask(
        self,
        key: tuple[str | None, str | None],
        deadline: float,
        connection: Connection,
        function: Callable[..., T],
        *arguments: Any,
    ) -> T:
        """Return the answer of libvirt, also to an earlier call that is still in flight.

        Raises SilentPoolError after the deadline, and HypervisorError for an error of libvirt.
        """
        loop = asyncio.get_running_loop()
        while key not in self._calls and len(self._calls) >= MOST_CALLS:
            flying = [call.future for call in self._calls.values()]
            until = min(deadline, max(call.deadline for call in self._calls.values()))
            done, _ = await asyncio.wait(
                flying, timeout=max(0.0, until - loop.time()), return_when=asyncio.FIRST_COMPLETED
            )
            if not done:
                raise SilentPoolError(
                    f"{MOST_CALLS} calls to libvirt's storage driver hang; repair the storage of "
                    "the pools that do not answer"
                )
        call = self._calls.get(key)
        if call is None:
            submitted = connection.submit(function, *arguments)
            call = _Call(
                asyncio.wrap_future(submitted), min(deadline, loop.time() + ANSWER_SECONDS)
            )
            self._calls[key] = call
            call.future.add_done_callback(lambda future: self._end(key, future))
        await asyncio.wait({call.future}, timeout=max(0.0, call.deadline - loop.time()))
        if not call.future.done():
            raise SilentPoolError(
                f"libvirt does not answer within {ANSWER_SECONDS:g} s; the storage of a pool may "
                "hang"
            )
        answer: T = call.future.result()
        return answer

    def _end(self, key: tuple[str | None, str | None], future: "asyncio.Future[Any]") -> None:
        del self._calls[key]
        if not future.cancelled():
            future.exception()  # nobody may wait for a call that has hung

    def close(self) -> None:
        """Forget the calls in flight. Their threads end when libvirt answers."""
        for call in list(self._calls.values()):
            call.future.cancel()
