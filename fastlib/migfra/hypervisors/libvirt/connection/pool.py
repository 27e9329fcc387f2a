"""The connections to all hosts.

The pool keeps one connection for each host, driver and transport, and reopens a lost one. libvirt
serves five calls of a connection at the same time. So a long call, such as a migration, has its own
connection. Calls that may hang have one, too: see `pool_reports.py`.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from logging import Logger, LoggerAdapter

from fastlib.migfra.hypervisors.libvirt.options import LibvirtOptions

from .connection import Connection
from .uris import (
    check_driver,
    check_known_host,
    check_transport,
    is_own_name,
    local_uri,
    remote_uri,
)


class ConnectionPool:
    """The open connections to the hosts."""

    def __init__(
        self, host: str, options: LibvirtOptions, log: Logger | LoggerAdapter[Logger]
    ) -> None:
        self._host = host
        self._options = options
        self._log = log
        self._connections: dict[tuple[str, str, str], Connection] = {}
        self._opening: dict[tuple[str, str, str], asyncio.Lock] = {}

    def uri(self, host: str, driver: str | None, transport: str | None) -> str:
        """Return the URI by which this host reaches a host's libvirt. Raises HypervisorError."""
        checked = check_driver(self._options, driver)
        if self.is_own(host):
            return local_uri(self._options, checked)
        return self.outer_uri(host, driver, transport)

    def is_own(self, host: str, own: str | None = None) -> bool:
        """Return whether a name is surely this host's; False if unsure. Queries no host.

        `own` is a further name of this host.
        """
        names = (self._host,) if own is None else (self._host, own)
        return any(is_own_name(self._options, name, host) for name in names)

    def outer_uri(self, host: str, driver: str | None, transport: str | None) -> str:
        """Return the URI by which another host reaches a host's libvirt. Raises HypervisorError.

        The host is this one, one of `nodes` or a destination that the configuration allows.
        """
        if not self.is_own(host):
            check_known_host(self._options, host)
        return remote_uri(
            self._options,
            host,
            check_driver(self._options, driver),
            check_transport(self._options, transport),
        )

    async def get(
        self,
        host: str,
        driver: str | None = None,
        transport: str | None = None,
        *,
        use: str = "",
    ) -> Connection:
        """Return a working connection to a host; open one if needed. Raises HypervisorError.

        Each `use` has a connection of its own.
        """
        uri = self.uri(host, driver, transport)
        key = (host, uri, use)
        async with self._opening.setdefault(key, asyncio.Lock()):
            connection = self._connections.get(key)
            if connection is not None:
                if connection.alive:
                    return connection
                del self._connections[key]
                self._log.info("the connection to libvirt on %s is lost, opening it again", host)
                await connection.close()
            connection = Connection(host, uri, self._options)
            await connection.open()
            self._connections[key] = connection
            return connection

    @asynccontextmanager
    async def own(
        self, host: str, driver: str | None = None, transport: str | None = None
    ) -> AsyncIterator[Connection]:
        """Open a further connection for a long call, and close it at the end."""
        connection = Connection(host, self.uri(host, driver, transport), self._options)
        await connection.open()
        try:
            yield connection
        finally:
            await connection.close()

    async def close(self) -> None:
        """Close all."""
        connections, self._connections = list(self._connections.values()), {}
        await asyncio.gather(*(connection.close() for connection in connections))
