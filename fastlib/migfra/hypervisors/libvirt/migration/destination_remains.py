"""Remove the remains of a migration from its destination, after the domain has stayed elsewhere."""

from fastlib.migfra.errors import HypervisorError
from fastlib.migfra.hypervisors.libvirt.errors import LostError
from fastlib.migfra.plugin_api.context import Context
from fastlib.migfra.virt.migration_spec import MigrationSpec

from . import cleanup
from .disks_copy import DiskCopies
from .hosts import MigrationHosts
from .record import MigrationRecord


class DestinationRemains:
    """The definition and the images that one migration has made on its destination."""

    def __init__(
        self,
        hosts: MigrationHosts,
        spec: MigrationSpec,
        record: MigrationRecord,
        disks: DiskCopies,
        context: Context,
    ) -> None:
        self._hosts = hosts
        self._spec = spec
        self._record = record
        self._disks = disks
        self._context = context
        self._may_be_there = False
        """Whether the destination may have a copy of the domain, or its definition."""

    @property
    def are_cleared(self) -> bool:
        """Whether there are no remains that a later try may remove."""
        return not (self._may_be_there or self._record.state.disks)

    async def clear(
        self, problems: list[str], *, is_silent: bool = False, late: bool = False
    ) -> None:
        """Remove the remains. Adds to `problems`.

        With `is_silent` the destination did not answer before. It is `late` if the order was
        answered before.
        """
        if self._record.state.phase != "prepare":
            self._may_be_there = is_silent or not await self._forget_definition(problems)
        await self._disks.remove(problems, late=late)

    async def _forget_definition(self, problems: list[str]) -> bool:
        """Remove the definition. Returns false if the destination is silent."""
        spec, state = self._spec, self._record.state
        if not state.uuid or state.known_on_destination:
            return True
        try:
            await self._hosts.on_destination(cleanup.forget_inactive, state.uuid)
        except LostError as error:
            self._context.log.warning("%s", error)
            return False
        except HypervisorError as error:
            problems.append(
                f"its definition may have stayed on {spec.destination} ({error}); remove it there "
                f"by virsh undefine --keep-nvram {spec.name}"
            )
        return True
