"""The task `migrate vm`: one domain, or two that change places."""

from contextlib import AbstractAsyncContextManager

from fastlib.message import Migrate
from fastlib.message.tasks import MigrateParameter
from fastlib.migfra.plugin_api.context import Context
from fastlib.migfra.virt.names import check_name

from .cancel_scope import Stopping
from .migration import Migration
from .migration_spec import Trip
from .site import Site
from .swap import swap, trips_of


def trip_of(site: Site, task: Migrate) -> Trip:
    """The way of the task's own domain. Raises HypervisorError for an unsound name."""
    parameter = task.parameter or MigrateParameter()
    return Trip(
        name=check_name(task.vm_name),
        source=site.host,
        destination=task.destination,
        parameter=parameter,
        driver=task.driver,
        vcpu_map=parameter.vcpu_map,
        pscom_hook_procs=parameter.pscom_hook_procs,
    )


async def migrate(site: Site, task: Migrate, context: Context) -> str | None:
    """Move a domain to another host. Raises HypervisorError, which says where it is then."""
    trip = trip_of(site, task)
    with Stopping(context) as stopping:
        if task.parameter is not None and task.parameter.swap_with is not None:
            there, back = trips_of(trip, task)
            first, second = sorted((there, back), key=lambda each: each.name)
            async with _alone(site, first, stopping), _alone(site, second, stopping):
                return await swap(site, there, back, context)
        async with _alone(site, trip, stopping):
            return await Migration(site, trip, stopping, context, context.measurement).run()


def _alone(site: Site, trip: Trip, stopping: Stopping) -> AbstractAsyncContextManager[None]:
    return site.alone(trip.name, trip.driver, stopping, host=trip.source, transport=trip.transport)
