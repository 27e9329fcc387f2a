"""The runtime of libvirt that all tasks on a host share: options, connections, locks."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any, Concatenate, Final, ParamSpec, TypeVar

from fastlib.migfra.errors import HypervisorError
from fastlib.migfra.hypervisors.libvirt.connection.connection import Connection
from fastlib.migfra.hypervisors.libvirt.connection.pool import ConnectionPool
from fastlib.migfra.hypervisors.libvirt.domain.state import look_up
from fastlib.migfra.plugin_api.cancel_scope import CancelScope
from fastlib.migfra.plugin_api.hypervisor import NodeContext
from fastlib.migfra.plugin_api.locks import NamedLocks
from fastlib.migfra.virt.host_names import check_destination
from fastlib.migfra.virt.migration_limits import MigrationLimits
from fastlib.migfra.virt.migration_queue import Slot

from .errors import LostError
from .options import LibvirtOptions
from .slots.keeper import SlotNotices

T = TypeVar("T")
P = ParamSpec("P")
POLL_SECONDS: Final = 0.2
"""Seconds between two looks at what libvirt tells no events of."""
_REACHABLE_SECONDS: Final = 30.0
"""Seconds that what must not be left undone waits for a libvirt that is away."""


class LibvirtRuntime:
    """A host, with its connections to itself and to others."""

    def __init__(self, options: LibvirtOptions, node: NodeContext) -> None:
        self.host: Final = node.host
        self.node: Final = node
        self.options: Final = options
        self.connections: Final = ConnectionPool(node.host, options, node.log)
        self.locks: Final = NamedLocks()
        self.moved_to: Final[dict[str, str]] = {}
        """Where this daemon has moved domains, by name: where to look for them first."""
        self.notices: Final = SlotNotices(
            node, options, lambda *where: self.connections.get(*where)
        )
        self.limits: Final = MigrationLimits(
            {Slot(node.host, direction): limit for direction, limit in self.notices.limits.items()}
        )

    def check_destinations(self, hosts: Iterable[str]) -> None:
        """Raise HypervisorError for a host that a task must not choose as a destination."""
        for host in hosts:
            if not self.connections.is_own(host):
                check_destination(
                    host, destinations=self.options.destinations, nodes=self.options.nodes
                )

    async def local(self, driver: str | None = None) -> Connection:
        """The connection to this host. Raises HypervisorError."""
        return await self.connections.get(self.host, driver)

    @asynccontextmanager
    async def exclusive(
        self,
        name: str,
        driver: str | None,
        scope: CancelScope,
        *,
        host: str | None = None,
        transport: str | None = None,
    ) -> AsyncIterator[None]:
        """Hold the lock of a domain, after the end of its job in libvirt.

        `host` is where it is, if that is another one. Raises HypervisorError if the job is a
        broken post-copy, which ends only when somebody mends it.
        """
        async with self.locks.hold(name, scope):
            while True:
                where = await self.connections.get(host or self.host, driver, transport)
                observed = await where.call(look_up, name)
                if not observed.migrating:
                    break
                if observed.divided:
                    raise HypervisorError(
                        f"the memory of {name} is divided between two hosts, as its post-copy "
                        "broke; repair the link between them, and continue with virsh migrate "
                        "--postcopy-resume on its source; if it has ended on the other host, stop "
                        "it here with force: true"
                    )
                await scope.sleep(POLL_SECONDS)
            yield

    async def call_until_reachable(
        self,
        host: str,
        driver: str | None,
        transport: str | None,
        function: Callable[Concatenate[Any, P], T],
        *arguments: P.args,
        **named: P.kwargs,
    ) -> T:
        """Call a function as `Connection.call` does. Retries while libvirt is unreachable.

        For what must not be left undone, such as letting a domain run on. Raises HypervisorError.
        """
        deadline = asyncio.get_running_loop().time() + _REACHABLE_SECONDS
        while True:
            try:
                connection = await self.connections.get(host, driver, transport)
                return await connection.call(function, *arguments, **named)
            except LostError:
                if asyncio.get_running_loop().time() >= deadline:
                    raise
                await asyncio.sleep(POLL_SECONDS)
