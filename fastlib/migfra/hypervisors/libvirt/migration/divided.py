"""Resume a post-copy that an earlier order has given up, when the order is sent again.

The daemon that gave it up knows all that the migration had still to do: devices, snapshots, disks.
A later run of the daemon knows only the answers of both hosts.
"""

import asyncio
from contextlib import AsyncExitStack

import msgspec

from fastlib.message import MigrationResult
from fastlib.migfra.errors import HypervisorError
from fastlib.migfra.hypervisors.libvirt.domain.host_identity import read_identity
from fastlib.migfra.hypervisors.libvirt.domain.state import RUNS_IN_POST_COPY, look_up
from fastlib.migfra.hypervisors.libvirt.runtime import LibvirtRuntime
from fastlib.migfra.plugin_api.cancel_scope import CancelScope
from fastlib.migfra.plugin_api.context import Context
from fastlib.migfra.plugin_api.domain_results import migration_result
from fastlib.migfra.virt.migration_spec import MigrationSpec

from .encryption import decide_encryption
from .migration import Migration
from .post_copy import with_recovery
from .record import MigrationState
from .turn import already_begun


async def resume_if_divided(
    runtime: LibvirtRuntime, spec: MigrationSpec, scope: CancelScope, context: Context
) -> MigrationResult | None:
    """Bring the broken post-copy of a domain to its end, if an order repeats its migration.

    Returns None if the domain is not divided between the two hosts of the order. Raises
    HypervisorError if it did not arrive.
    """
    is_repeated = spec.parameter.on_timeout == "post-copy"
    if not is_repeated or await _find(runtime, spec, context) is None:
        return None
    async with runtime.locks.hold(spec.name, scope), AsyncExitStack() as stack:
        # The order that was before it may have brought it to its end meanwhile.
        state = await _find(runtime, spec, context)
        if state is None:
            return None
        await stack.enter_async_context(already_begun(runtime, spec))
        await scope.begin()
        migration = Migration(runtime, spec, scope, context, context.measurement)
        migration.record.state = state
        await asyncio.wrap_future(migration.record.save(phase="move"))
        recovered = await migration.recover_post_copy()
        found = await migration.reconcile(recovered)
        if found.place == "destination":
            details = "its post-copy had ended" if recovered is None else recovered.end
            details = await migration.finish(details) or details
            if spec.parameter.copy_storage is not None and not state.disks:
                details += f"; images of copied disks, if there are any, stay on {spec.source}"
            return migration_result(spec.name, details, encrypted=migration.encrypted)
        error = HypervisorError("its post-copy, which was interrupted before, has not ended")
        raise await migration.undo_after(with_recovery(error, recovered))


async def _find(
    runtime: LibvirtRuntime, spec: MigrationSpec, context: Context
) -> MigrationState | None:
    """Return the record of a domain that is divided between both hosts, else None."""
    source = await runtime.connections.get(spec.source, spec.driver, spec.transport)
    here = await source.call(look_up, spec.name)
    if not (here.active and here.paused and here.divided):
        return None
    destination = await runtime.connections.get(spec.destination, spec.driver, spec.transport)
    there = await destination.call(look_up, spec.name)
    has_rest = there.running and there.reason in RUNS_IN_POST_COPY
    if there.uuid != here.uuid or not has_rest:
        return None
    kept = runtime.divided.get(here.uuid)
    if kept is not None and kept.destination == spec.destination:
        return kept
    # The source is paused now. That does not go with the options of the begin of a post-copy.
    parameter = msgspec.structs.replace(spec.parameter, on_timeout=None, timeout=None)
    plain = msgspec.structs.replace(spec, parameter=parameter)
    encryption = await decide_encryption(runtime, plain, context)
    return MigrationState(
        source=spec.source,
        destination=spec.destination,
        uuid=here.uuid,
        autostart=here.autostart,
        destination_identity=await destination.call(read_identity, spec.destination),
        encrypted=None if encryption is None else encryption.encrypted,
        server_name=None if encryption is None else encryption.server_name,
        is_persistent=here.persistent,
    )
