"""The task `migrate vm`: move one domain, or swap two."""

from contextlib import AbstractAsyncContextManager

from fastlib.message import Migrate
from fastlib.migfra.hypervisors.libvirt.migration.migration import Migration
from fastlib.migfra.hypervisors.libvirt.migration.swap import swap
from fastlib.migfra.hypervisors.libvirt.runtime import LibvirtRuntime
from fastlib.migfra.plugin_api.cancel_scope import CancelScope
from fastlib.migfra.plugin_api.context import Context
from fastlib.migfra.virt.combinations import check_order
from fastlib.migfra.virt.migration_spec import MigrationSpec


async def migrate(runtime: LibvirtRuntime, task: Migrate, context: Context) -> str | None:
    """Move a domain, or swap two. Raises HypervisorError, which says where they are."""
    spec = MigrationSpec.from_task(task, runtime.host)
    check_order(spec)
    with CancelScope(context) as scope:
        if task.parameter is not None and task.parameter.swap_with is not None:
            there, back = spec.swap_specs(task)
            first, second = sorted((there, back), key=lambda each: each.name)
            async with _exclusive(runtime, first, scope), _exclusive(runtime, second, scope):
                return await swap(runtime, there, back, context)
        async with _exclusive(runtime, spec, scope):
            return await Migration(runtime, spec, scope, context, context.measurement).run()


def _exclusive(
    runtime: LibvirtRuntime, spec: MigrationSpec, scope: CancelScope
) -> AbstractAsyncContextManager[None]:
    return runtime.exclusive(
        spec.name, spec.driver, scope, host=spec.source, transport=spec.transport
    )
