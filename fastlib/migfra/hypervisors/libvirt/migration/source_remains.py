"""Remove the remains of a domain from the source of its migration, after it has arrived."""

from collections.abc import Awaitable, Callable

from fastlib.migfra.errors import HypervisorError
from fastlib.migfra.hypervisors.libvirt.domain.state import look_up
from fastlib.migfra.plugin_api.context import Context
from fastlib.migfra.virt.migration_spec import MigrationSpec

from . import cleanup
from .hosts import MigrationHosts
from .reconcile import Location
from .record import MigrationState


async def clear_source(
    hosts: MigrationHosts,
    spec: MigrationSpec,
    state: MigrationState,
    reconcile: Callable[[], Awaitable[Location]],
    context: Context,
) -> str | None:
    """Remove the remains of the domain from the source. Returns a sentence about those that stay.

    libvirt reports success once the domain runs on the destination. If the source's libvirt was
    killed before that report, the definition or a paused copy stays there.
    """
    uuid = state.uuid
    try:
        there = await hosts.on_destination(look_up)
        if not (there.active and there.uuid == uuid):
            return None  # it has ended there in the meantime, so the source stays unchanged
        if (await hosts.on_source(look_up)).left_behind:
            location = await reconcile()
            if location.place != "destination" or location.note is not None:
                return location.whole
        if state.is_persistent and not there.persistent:
            return (
                f"{spec.destination} runs it without a definition; take the definition of "
                f"{spec.source}, if it is still there"
            )
        if await hosts.on_source(cleanup.forget_inactive, uuid):
            context.log.warning(
                "%s: its definition had stayed on %s, and was removed there",
                spec.name,
                spec.source,
            )
    except HypervisorError as error:
        return (
            f"its definition may have stayed on {spec.source} ({error}); remove it there by "
            f"virsh undefine --keep-nvram {spec.name}"
        )
    return None
