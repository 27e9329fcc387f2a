"""Wait for the turn of a migration, and hold its slots and the locks of its domains.

The order is always slots, then locks. So no two migrations wait for each other. A waiting migration
holds neither, and other tasks of its domain continue. So after the wait the domain may have been
stopped or moved, and the checks are repeated.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, nullcontext

from fastlib.migfra.errors import HypervisorError, TaskCancelledError, TaskExpiredError
from fastlib.migfra.hypervisors.libvirt.domain.state import look_up
from fastlib.migfra.hypervisors.libvirt.runtime import LibvirtRuntime
from fastlib.migfra.hypervisors.libvirt.slots.keeper import MigrationSlots
from fastlib.migfra.plugin_api.cancel_scope import CancelScope
from fastlib.migfra.plugin_api.context import Context
from fastlib.migfra.virt.migration_limits import QUEUED
from fastlib.migfra.virt.migration_queue import Slot, slots_between
from fastlib.migfra.virt.migration_spec import MigrationSpec

Check = Callable[[], Awaitable[bool | None]]


@asynccontextmanager
async def in_turn(
    runtime: LibvirtRuntime,
    specs: Sequence[MigrationSpec],
    scope: CancelScope,
    context: Context,
    check: Check,
    *,
    is_whole_task: bool = True,
) -> AsyncIterator[None]:
    """Hold the slots of a migration, or of the two of a swap, and the locks of the domains.

    `check` is awaited first, to refuse at once a migration that cannot succeed. It returns False
    if there is nothing left to migrate; then there is no wait. Raises the errors of `check`,
    TaskCancelledError, TaskExpiredError if the order expires before all is held, and
    HypervisorError if a host cannot be queried.
    """
    async with AsyncExitStack() as stack:
        locks = await stack.enter_async_context(AsyncExitStack())
        await _lock(locks, runtime, specs, scope)
        if specs[0].kind == "offline":  # sends no memory, so it needs no slot
            await scope.begin()
            yield
            return
        slots = needed_slots(specs)
        keeper = migration_slots(runtime, specs)
        memory = await _memory(runtime, specs)
        name = specs[0].name
        turn = await stack.enter_async_context(runtime.limits.enqueued(name, slots, memory, keeper))
        if not await _begins(turn.try_to_begin(scope), check) and await check() is not False:
            await locks.aclose()
            # Both hosts have just answered. If one restarts now, the migration must not fail.
            keeper.is_patient = True
            context.save_state(**{QUEUED: True})
            # An evacuation has other domains to migrate while one waits.
            with context.waiting() if is_whole_task else nullcontext():
                await _begins(turn.wait(scope, context), check)
            await _lock(stack, runtime, specs, scope)
        await scope.begin()
        yield


async def _begins(step: Awaitable[bool], check: Check) -> bool:
    """Return whether the migration begins. Prefer the error of the check: it says more."""
    try:
        return await step
    except (TaskCancelledError, TaskExpiredError):
        raise
    except HypervisorError:
        if await check() is False:
            return True
        raise


@asynccontextmanager
async def already_begun(runtime: LibvirtRuntime, spec: MigrationSpec) -> AsyncIterator[None]:
    """Count a migration that an earlier run of the daemon began and that still runs."""
    if spec.kind == "offline":
        yield
        return
    keeper = migration_slots(runtime, [spec])
    slots = needed_slots([spec])
    async with runtime.limits.enqueued(spec.name, slots, 0, keeper, runs_already=True):
        await keeper.adopt()
        yield


def needed_slots(specs: Sequence[MigrationSpec]) -> frozenset[Slot]:
    """Return the slots of a migration, or of the two of a swap."""
    return slots_between(specs[0].source, specs[0].destination, swap=len(specs) > 1)


def migration_slots(runtime: LibvirtRuntime, specs: Sequence[MigrationSpec]) -> MigrationSlots:
    """Return the keeper of the slots of a migration, or of the two of a swap."""
    first = specs[0]
    names = [spec.name for spec in specs]
    return MigrationSlots(
        runtime.notices, needed_slots(specs), names, first.driver, first.transport
    )


async def _lock(
    stack: AsyncExitStack,
    runtime: LibvirtRuntime,
    specs: Sequence[MigrationSpec],
    scope: CancelScope,
) -> None:
    for spec in sorted(specs, key=lambda spec: spec.name):
        await stack.enter_async_context(
            runtime.exclusive(
                spec.name, spec.driver, scope, host=spec.source, transport=spec.transport
            )
        )


async def _memory(runtime: LibvirtRuntime, specs: Sequence[MigrationSpec]) -> int:
    """Return the memory (KiB) of the largest domain."""
    largest = 0
    for spec in specs:
        source = await runtime.connections.get(spec.source, spec.driver, spec.transport)
        largest = max(largest, (await source.call(look_up, spec.name)).memory)
    return largest
