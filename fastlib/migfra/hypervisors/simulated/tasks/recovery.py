"""Recover after a crash of the daemon: find out from the cluster how an interrupted task ended."""

import asyncio
from collections.abc import Sequence
from typing import Protocol

from fastlib.message import Evacuate, Migrate, Repin, Result, Resume, Start, Stop, Suspend, Task
from fastlib.migfra.errors import HypervisorError
from fastlib.migfra.hypervisors.simulated.cluster.description import State
from fastlib.migfra.hypervisors.simulated.cluster.location import describe_location
from fastlib.migfra.hypervisors.simulated.migration.turn import waiting_names
from fastlib.migfra.hypervisors.simulated.runtime import SimulatedRuntime
from fastlib.migfra.hypervisors.simulated.scope import ClockScope
from fastlib.migfra.plugin_api.context import Context
from fastlib.migfra.plugin_api.domain_results import domain_result
from fastlib.migfra.plugin_api.hypervisor import Outcome
from fastlib.migfra.virt.placement import Placement

from .evacuation import evacuate_one
from .start_arguments import StartArguments


class Migrates(Protocol):
    """The method of the hypervisor that `recover` calls."""

    async def migrate(self, task: Migrate, context: Context) -> Outcome:
        """Migrate a domain."""


async def recover(
    hypervisor: Migrates, runtime: SimulatedRuntime, task: Task, context: Context
) -> Outcome:
    """Return the outcome of an interrupted task. Raises HypervisorError if it is not done.

    Migrations that waited for their turn run now.
    """
    if isinstance(task, Evacuate):
        return await _recover_evacuation(runtime, task, context)
    if isinstance(task, Migrate) and waiting_names(context):
        context.not_begun()
        return await hypervisor.migrate(task, context)
    if isinstance(task, Stop) and task.vm_name is None:
        names: Sequence[str] = context.saved_state.get("names", ())
        return [domain_result(name, _error_if_active(runtime, name)) for name in names]
    error = _unfinished(runtime, task)
    if error is not None:
        raise error
    return "found done after the daemon's restart"


def _unfinished(runtime: SimulatedRuntime, task: Task) -> HypervisorError | None:
    """Return an error if a task is not done, or None if it is done."""
    if isinstance(task, Stop):
        assert task.vm_name is not None
        return _error_if_active(runtime, task.vm_name)
    if isinstance(task, Migrate):
        return _error_if_not_migrated(runtime, task)
    if not isinstance(task, Start | Suspend | Resume | Repin):
        return HypervisorError("the daemon ended while this was in progress")
    name = StartArguments.of_task(task).name if isinstance(task, Start) else task.vm_name
    domain = runtime.find_here(name)
    wanted: dict[type[Task], State] = {Start: "running", Suspend: "paused", Resume: "running"}
    state = wanted.get(type(task))
    done = domain is not None and domain.active and state in (None, domain.state)
    if isinstance(task, Repin) and domain is not None:
        done = _lists(domain.vcpu_map) == _lists(task.vcpu_map)
    return None if done else _interrupted(runtime, name)


def _error_if_not_migrated(runtime: SimulatedRuntime, task: Migrate) -> HypervisorError | None:
    expected = [(task.vm_name, runtime.host_name(task.destination))]
    if task.parameter and task.parameter.swap_with:
        expected.append((task.parameter.swap_with.vm_name, runtime.host))
    hosts = {domain.name: domain.host for domain in runtime.cluster.domains()}
    if all(hosts.get(name) == host for name, host in expected):
        return None
    return _interrupted(runtime, *(name for name, _ in expected))


async def _recover_evacuation(
    runtime: SimulatedRuntime, task: Evacuate, context: Context
) -> Outcome:
    placements: dict[str, str | None] = context.saved_state.get("placements", {})
    hosts = {domain.name: domain.host for domain in runtime.cluster.domains()}
    if not placements and any(d.active for d in runtime.cluster.domains(runtime.host)):
        raise HypervisorError("the daemon ended before the evacuation began")
    if not placements:
        return f"no domain is active on {runtime.host}"
    waiting = waiting_names(context)
    if {name for name, host in placements.items() if host is not None} <= set(waiting):
        context.expiry.reset()  # none of them has begun to migrate

    async def one(name: str, host: str | None, scope: ClockScope) -> Result:
        if name in waiting:
            placed = Placement(guest=name, host=host)
            return await evacuate_one(runtime, task, placed, scope, context)
        done = host is not None and hosts.get(name) == host
        return domain_result(name, None if done else _interrupted(runtime, name))

    with runtime.scope(context) as scope:
        return await asyncio.gather(*(one(name, host, scope) for name, host in placements.items()))


def _error_if_active(runtime: SimulatedRuntime, name: str) -> HypervisorError | None:
    domain = runtime.find_here(name)
    return _interrupted(runtime, name) if domain is not None and domain.active else None


def _interrupted(runtime: SimulatedRuntime, *names: str) -> HypervisorError:
    where = ", ".join(describe_location(runtime.cluster, name) for name in names)
    return HypervisorError(f"the daemon ended while this was in progress; {where}")


def _lists(vcpu_map: Sequence[Sequence[int]] | None) -> list[list[int]] | None:
    return None if vcpu_map is None else [list(row) for row in vcpu_map]
