"""The task `migrate vm`: move one domain, or swap two."""

from functools import partial

from fastlib.message import Migrate, MigrationResult
from fastlib.migfra.hypervisors.libvirt.migration.divided import resume_if_divided
from fastlib.migfra.hypervisors.libvirt.migration.migration import Migration
from fastlib.migfra.hypervisors.libvirt.migration.settling import settle_first
from fastlib.migfra.hypervisors.libvirt.migration.swap import check_swap, swap
from fastlib.migfra.hypervisors.libvirt.migration.turn import in_turn
from fastlib.migfra.hypervisors.libvirt.runtime import LibvirtRuntime
from fastlib.migfra.plugin_api.cancel_scope import CancelScope
from fastlib.migfra.plugin_api.context import Context
from fastlib.migfra.plugin_api.domain_results import migration_result
from fastlib.migfra.virt.combination_checks import check_order
from fastlib.migfra.virt.migration_spec import MigrationSpec


async def migrate(runtime: LibvirtRuntime, task: Migrate, context: Context) -> MigrationResult:
    """Move a domain, or swap two. Raises HypervisorError with the hosts of the domains."""
    spec = MigrationSpec.from_task(task, runtime.host)
    check_order(spec)
    runtime.check_destinations([spec.destination])
    with CancelScope(context) as scope:
        if task.parameter is not None and task.parameter.swap_with is not None:
            there, back = spec.swap_specs(task)
            check = partial(check_swap, runtime, there, back, scope, context)
            async with in_turn(runtime, (there, back), scope, context, check):
                await settle_first(runtime, there.name, back.name)
                details, encrypted = await swap(runtime, there, back, context)
                return migration_result(spec.name, details, encrypted=encrypted)
        if (resumed := await resume_if_divided(runtime, spec, scope, context)) is not None:
            return resumed
        new = partial(Migration, runtime, spec, scope, context, context.measurement)
        async with in_turn(runtime, (spec,), scope, context, lambda: new().check()):
            await settle_first(runtime, spec.name)
            migration = new()
            details = await migration.run()
            return migration_result(spec.name, details, encrypted=migration.encrypted)
