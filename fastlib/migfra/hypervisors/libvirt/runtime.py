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
from .migration.copy_claims import CopyClaims
from .migration.record import MigrationState
from .migration.unsettled import UnsettledMigrations
from .options import LibvirtOptions
from .slots.keeper import SlotNotices

T = TypeVar("T")
P = ParamSpec("P")
POLL_SECONDS: Final = 0.2
"""Seconds between two polls of a state for which libvirt has no events."""


class LibvirtRuntime:
    """A host, with its connections to itself and to others."""

    def __init__(self, options: LibvirtOptions, node: NodeContext) -> None:
        self.host: Final = node.host
        self.node: Final = node
        self.options: Final = options
        self.connections: Final = ConnectionPool(node.host, options, node.log)
        self.locks: Final = NamedLocks()
        self.storage: Final = asyncio.Lock()
        """Held for each call that uses a storage pool: libvirt has one for a folder."""
        self.new_images: Final[dict[str, int]] = {}
        """The bytes that each image may take which starts are about to create, by its path."""
        self.claims: Final = asyncio.Lock()
        """Held while a start claims paths and room for new images."""
        self.copies: Final = CopyClaims()
        """The room at destinations that copies of disks may still take."""
        self.moved_to: Final[dict[str, str]] = {}
        """The hosts to which this daemon has moved domains, by name. They are queried first."""
        self.divided: Final[dict[str, MigrationState]] = {}
        """Migrations that were given up in post-copy, by the UUIDs of their domains."""
        self.unsettled: Final = UnsettledMigrations(node)
        """The migrations that a silent host has left to be decided."""
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
        """Return the connection to this host. Raises HypervisorError."""
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

        `host` is the domain's host if it is not this one. Raises HypervisorError if the job is a
        broken post-copy: that ends only after an operator repairs it.
        """
        async with self.locks.hold(name, scope):
            while True:
                where = await self.connections.get(host or self.host, driver, transport)
                observed = await where.call(look_up, name)
                if not observed.migrating:
                    break
                if observed.divided:
                    raise HypervisorError(
                        f"the memory of {name} is divided between two hosts because its post-copy "
                        "broke; repair the link between them, and order the migration again with "
                        "on-timeout: post-copy, which resumes it; if it has ended on the other "
                        "host, stop it here with force: true"
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
        """Call a function like `Connection.call`. Retries while libvirt is unreachable.

        Use it for calls that must be made, such as resuming a domain. Raises HypervisorError, also
        if libvirt stays unreachable for the `unreachable-timeout`.
        """
        deadline = asyncio.get_running_loop().time() + self.options.unreachable_timeout
        while True:
            try:
                connection = await self.connections.get(host, driver, transport)
                return await connection.call(function, *arguments, **named)
            except LostError:
                if asyncio.get_running_loop().time() >= deadline:
                    raise
                await asyncio.sleep(POLL_SECONDS)
