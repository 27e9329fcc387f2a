"""Wait for the turn of a migration, and hold its slots of both hosts in the cluster.

A waiting migration does not lock its domain. So after the wait the domain may have been stopped or
moved.
"""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, nullcontext
from typing import Final

from fastlib.migfra.hypervisors.simulated.runtime import SimulatedRuntime
from fastlib.migfra.hypervisors.simulated.scope import ClockScope
from fastlib.migfra.plugin_api.context import Context
from fastlib.migfra.virt.migration_limits import QUEUED
from fastlib.migfra.virt.migration_queue import Slot, slots_between
from fastlib.migfra.virt.migration_spec import MigrationSpec

_TICKET_SECONDS: Final = 3.0
"""Cluster seconds for which a free slot is reserved for a daemon that came earlier."""


class ClusterSlots:
    """The slots of one migration or swap in the cluster: a `SlotKeeper`."""

    def __init__(self, runtime: SimulatedRuntime, slots: frozenset[Slot]) -> None:
        self._runtime = runtime
        self._slots = slots
        self._holder: int | None = None

    async def take(self) -> bool:
        """Take all slots or none."""
        runtime = self._runtime
        if self._holder is None:
            self._holder = runtime.cluster.count("holder")
        return runtime.cluster.take_slots(
            runtime.session,
            self._holder,
            self._slots,
            runtime.slot_limits,
            runtime.clock.now(),
            _TICKET_SECONDS,
        )

    async def give_back(self) -> None:
        """Free the slots."""
        if self._holder is not None:
            self._runtime.cluster.free_slots(self._holder)


@asynccontextmanager
async def in_turn(
    runtime: SimulatedRuntime,
    specs: Sequence[MigrationSpec],
    scope: ClockScope,
    context: Context,
    check: Callable[[], object],
    *,
    is_whole_task: bool = True,
) -> AsyncIterator[None]:
    """Hold the slots of a migration, or of the two of a swap.

    `check` is called first, to refuse at once a migration that cannot succeed. Raises the errors
    of `check`, and TaskCancelledError.
    """
    slots = slots_between(specs[0].source, specs[0].destination, swap=len(specs) > 1)
    domains = [runtime.cluster.find(spec.name) for spec in specs]
    memory = max((domain.memory for domain in domains if domain is not None), default=0)
    name = specs[0].name
    keeper = ClusterSlots(runtime, slots)
    async with runtime.limits.enqueued(name, slots, memory, keeper) as turn:
        if not await turn.try_to_begin(scope):
            check()
            _note(context, name, waits=True)
            # An evacuation has other domains to migrate while one waits.
            with context.waiting() if is_whole_task else nullcontext():
                await turn.wait(scope, context)
            _note(context, name, waits=False)
        await scope.begin()
        yield


def _note(context: Context, name: str, *, waits: bool) -> None:
    """Record whether a domain of the task waits. A later run can begin the waiting migrations."""
    waiting = set(waiting_names(context)) - {name}
    context.save_state(**{QUEUED: sorted(waiting | {name} if waits else waiting)})


def waiting_names(context: Context) -> list[str]:
    """Return the domains of a task that waited for their turn when the daemon ended."""
    names: list[str] = context.saved_state.get(QUEUED, [])
    return names
