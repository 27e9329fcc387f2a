"""Call libvirt on both hosts of a migration."""

from collections.abc import Callable
from typing import Any

from fastlib.migfra.errors import HypervisorError
from fastlib.migfra.hypervisors.libvirt.domain.state import look_up
from fastlib.migfra.hypervisors.libvirt.runtime import LibvirtRuntime
from fastlib.migfra.virt.migration_spec import MigrationSpec


class MigrationHosts:
    """The source and the destination of one migration.

    Each function is called in a thread with libvirt's connection, the domain's name and the
    arguments, again while the host's libvirt is unreachable. The calls raise HypervisorError, after
    `unreachable-timeout` LostError.
    """

    def __init__(self, runtime: LibvirtRuntime, spec: MigrationSpec) -> None:
        self._runtime = runtime
        self._spec = spec

    async def on(self, host: str, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call a function on one of the hosts."""
        spec = self._spec
        return await self._runtime.call_until_reachable(
            host, spec.driver, spec.transport, function, spec.name, *arguments
        )

    async def on_source(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call a function on the source."""
        return await self.on(self._spec.source, function, *arguments)

    async def on_destination(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call a function on the destination."""
        return await self.on(self._spec.destination, function, *arguments)

    async def describe(self, host: str) -> str:
        """Return a sentence about the state of the domain on one of the hosts."""
        name = self._spec.name
        try:
            observed = await self.on(host, look_up)
        except HypervisorError as error:
            return f"the state of {name} on {host} is not known: {error}"
        return f"{name} {observed.phrase} on {host}"
