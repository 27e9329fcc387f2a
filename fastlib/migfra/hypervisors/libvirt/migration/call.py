"""Call libvirt to migrate a domain, and wait for the end of the call.

The call may hang for minutes, for example when the link is cut. So the monitor limits the wait.
When the monitor has given up a call, `reconcile` must find out where the domain is.
"""

import asyncio
from concurrent.futures import Future
from contextlib import AsyncExitStack
from typing import Any

from fastlib.migfra.errors import HypervisorError
from fastlib.migfra.hypervisors.libvirt.domain.state import look_up
from fastlib.migfra.hypervisors.libvirt.errors import LostError
from fastlib.migfra.hypervisors.libvirt.runtime import POLL_SECONDS, LibvirtRuntime
from fastlib.migfra.plugin_api.cancel_scope import CancelScope
from fastlib.migfra.plugin_api.context import Context
from fastlib.migfra.virt.migration_spec import MigrationSpec

from .arguments import MigrateArguments
from .monitor import MigrationMonitor


def _perform(connection: Any, destination: Any, name: str, arguments: MigrateArguments) -> None:
    """Call libvirt. Blocks until the domain has moved or the call has failed."""
    domain = connection.lookupByName(name)
    if arguments.destination_uri is not None:
        domain.migrateToURI3(arguments.destination_uri, arguments.parameters, arguments.flags)
    else:
        domain.migrate3(destination, arguments.parameters, arguments.flags)


async def run_migration(
    runtime: LibvirtRuntime,
    spec: MigrationSpec,
    arguments: MigrateArguments,
    scope: CancelScope,
    context: Context,
    *,
    in_post_copy: bool = False,
) -> None:
    """Move a domain and monitor the migration. `in_post_copy`: the call resumes a post-copy.

    Raises HypervisorError if the call failed or was given up, and TaskCancelledError. The caller
    must then `reconcile` both hosts.
    """
    own = runtime.connections.own
    async with own(spec.source, spec.driver, spec.transport) as source, AsyncExitStack() as stack:
        destination = None
        if arguments.destination_uri is None:
            between = own(spec.destination, spec.driver, spec.transport)
            destination = await stack.enter_async_context(between)
        call = source.submit_with(destination, _perform, spec.name, arguments)
        try:
            monitor = MigrationMonitor(runtime, spec, scope, context, in_post_copy=in_post_copy)
            await await_call(monitor, call)
        except LostError as error:
            if not source.alive:
                raise
            raise HypervisorError(
                f"the connection to libvirt on {spec.destination} is lost ({error.said}); check "
                "that host, its network and its libvirtd"
            ) from error


async def await_call(monitor: MigrationMonitor, call: "Future[None]") -> None:
    """Wait for a call that moves or saves a domain.

    Raises HypervisorError if it failed or was given up, and TaskCancelledError.
    """
    future = asyncio.wrap_future(call)
    try:
        problem = await monitor.wait(future)
        if not future.done():
            raise problem or HypervisorError("libvirt's call has not returned")
        error = future.exception()
        if error is None:
            return  # it succeeded before the abort
        if problem is not None:
            raise problem
        raise error
    finally:
        future.cancel()


async def follow(
    runtime: LibvirtRuntime, spec: MigrationSpec, monitor: MigrationMonitor
) -> HypervisorError | None:
    """Monitor a migration whose call is gone. Returns the reason if it was aborted, else None."""
    end = asyncio.ensure_future(wait_for_job_end(runtime, spec))
    try:
        return await monitor.wait(end)
    finally:
        end.cancel()


async def wait_for_job_end(runtime: LibvirtRuntime, spec: MigrationSpec) -> None:
    """Wait until the source has no job with the domain.

    Returns also if the source is unreachable for the `unreachable-timeout`.
    """
    loop = asyncio.get_running_loop()
    last_answer = loop.time()
    while loop.time() < last_answer + runtime.options.unreachable_timeout:
        try:
            source = await runtime.connections.get(spec.source, spec.driver, spec.transport)
            if not (await source.call(look_up, spec.name)).migrating:
                return
            last_answer = loop.time()
        except HypervisorError as error:
            runtime.node.log.debug("%s", error)
        await asyncio.sleep(POLL_SECONDS)
