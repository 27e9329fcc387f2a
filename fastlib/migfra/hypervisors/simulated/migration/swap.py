"""Swap two domains: in parallel, one after the other, or with one of them on storage.

Either both arrive, or a domain that has not arrived stays on its host. The error says where both
are. A domain that is on storage when the daemon dies is then shut off on its source.
"""

import asyncio
from typing import Final

from fastlib.migfra.errors import FinalError, HypervisorError, TaskCancelledError
from fastlib.migfra.hypervisors.simulated.cluster.location import describe_location
from fastlib.migfra.hypervisors.simulated.runtime import SimulatedRuntime
from fastlib.migfra.hypervisors.simulated.scope import ClockScope
from fastlib.migfra.plugin_api.context import Context
from fastlib.migfra.virt.encryption import effective_mode
from fastlib.migfra.virt.migration_spec import MigrationSpec
from fastlib.migfra.virt.precopy import KIB, MIB

from .migration import Migration

_KEPT: Final[tuple[type[HypervisorError], ...]] = (FinalError, TaskCancelledError)
"""Errors whose kind stays in that of the swap."""
_STORAGE_BYTES_PER_SECOND: Final = 1024.0 * MIB
"""Rate of saving and restoring, in bytes a second."""


async def swap(
    runtime: SimulatedRuntime, first: MigrationSpec, second: MigrationSpec, context: Context
) -> None:
    """Swap two domains. Raises HypervisorError with the hosts of both."""
    cluster = runtime.cluster
    begun = cluster.begin_swap(
        runtime.session, first.name, first.source, second.name, second.source
    )
    context.log.info("swap of %s and %s: %s", first.name, second.name, begun.order)
    pair = [(first, begun.first), (second, begun.second)]
    try:
        if begun.order == "parallel":
            await _swap_in_parallel(runtime, pair, context)
        elif begun.order in ("first", "second"):
            await _swap_in_turn(runtime, pair if begun.order == "first" else pair[::-1], context)
        elif effective_mode(runtime.options.encryption, first.parameter.encrypted) == "required":
            raise FinalError(
                "neither host has memory for both domains, and the memory in a file is not "
                "encrypted; free memory on one of them"
            )
        elif first.parameter.copy_storage is not None:
            raise HypervisorError(
                "neither host has memory for both domains, and a domain that is saved cannot copy "
                "its disks; migrate one of them to a third host first"
            )
        else:
            saved_first = begun.order == "save-first"
            await _swap_via_storage(runtime, pair if saved_first else pair[::-1], context)
    except HypervisorError as error:
        where = "; ".join(describe_location(cluster, spec.name) for spec in (first, second))
        kind = next((kind for kind in _KEPT if isinstance(error, kind)), HypervisorError)
        raise kind(f"the swap failed: {error}; {where}") from error
    finally:
        for _, migration in pair:
            cluster.abandon(migration)


def check_swap(runtime: SimulatedRuntime, first: MigrationSpec, second: MigrationSpec) -> None:
    """Raise HypervisorError unless both domains run where the swap expects them."""
    runtime.cluster.check_swap(first.name, first.source, second.name, second.source)


Pair = list[tuple[MigrationSpec, int]]
_GIVEN_UP: Final = "given up with its partner"


async def _migrate(
    runtime: SimulatedRuntime,
    spec: MigrationSpec,
    migration: int,
    scope: ClockScope,
    context: Context,
    next_migration: int | None = None,
) -> None:
    """Migrate one of the two. Raises HypervisorError with its name."""
    try:
        await Migration(runtime, spec, scope, context, context.measure).run(
            migration, next_migration
        )
    except TaskCancelledError:
        raise
    except HypervisorError as error:
        raise HypervisorError(f"{spec.name}: {error}") from error


async def _swap_in_parallel(runtime: SimulatedRuntime, pair: Pair, context: Context) -> None:
    scopes = [ClockScope(runtime.clock, context) for _ in pair]

    async def one(index: int) -> HypervisorError | None:
        spec, migration = pair[index]
        with scopes[index]:
            try:
                await _migrate(runtime, spec, migration, scopes[index], context)
            except HypervisorError as error:
                scopes[1 - index].cancel(_GIVEN_UP)
                return error
        return None

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one(index)) for index in range(2)]
    errors = [error for task in tasks if (error := task.result()) is not None]
    if errors:
        # The error of the one that was given up with its partner has no information.
        raise min(errors, key=lambda error: _GIVEN_UP in str(error))


async def _swap_in_turn(runtime: SimulatedRuntime, pair: Pair, context: Context) -> None:
    (first, first_migration), (second, second_migration) = pair
    with ClockScope(runtime.clock, context) as scope:
        await _migrate(runtime, first, first_migration, scope, context, second_migration)
        scope.check()
        runtime.cluster.advance(second_migration)
        await _migrate(runtime, second, second_migration, scope, context)


async def _swap_via_storage(runtime: SimulatedRuntime, pair: Pair, context: Context) -> None:
    """Save the first of the pair to storage, move the second, then restore the first."""
    (saved, saved_migration), (moved, moved_migration) = pair
    cluster = runtime.cluster
    domain = cluster.domain(saved.name)
    seconds = domain.memory * KIB / _STORAGE_BYTES_PER_SECOND
    with ClockScope(runtime.clock, context) as scope, context.measure(f"downtime-{saved.name}"):
        with context.measure(f"suspend-{saved.name}"):
            context.progress("save", vm_name=saved.name)
            await scope.sleep(seconds)
            cluster.save(saved_migration)
        try:
            cluster.advance(moved_migration)
            await _migrate(runtime, moved, moved_migration, scope, context, saved_migration)
            cluster.advance(saved_migration)
        except HypervisorError:
            await scope.clock.sleep(seconds)
            cluster.unsave(saved_migration)
            raise
        with context.measure(f"resume-{saved.name}"):
            context.progress("restore", vm_name=saved.name)
            await scope.clock.sleep(seconds)
            cluster.finish(saved_migration, saved.vcpu_map)
