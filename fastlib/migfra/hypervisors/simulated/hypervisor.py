"""The hypervisor of a simulated cluster: every task, played in the cluster's time."""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar, Final

from fastlib.message import (
    Evacuate,
    Migrate,
    Repin,
    Result,
    Resume,
    Start,
    Stop,
    Suspend,
    Task,
    TimeMeasurement,
)
from fastlib.message.node import DomainReport, NodeReport
from fastlib.message.tasks import EvacuateParameter, MigrateParameter, Query
from fastlib.migfra.errors import HypervisorError, TaskCancelledError
from fastlib.migfra.plugin_api.context import Context
from fastlib.migfra.plugin_api.hypervisor import Hypervisor, NodeContext, Outcome
from fastlib.migfra.virt.domain_xml import read_domain
from fastlib.migfra.virt.names import check_name, matching
from fastlib.migfra.virt.placement import Placement

from .cluster import Cluster, Domain
from .description import SimulatedOptions, State
from .faults import Call
from .migration import COMPRESSIONS, Measure, Migration, Trip, World, explained, whereabouts
from .pace import Pace
from .swap import swap

DEFAULT_CLUSTER: Final = "default"
_LONGEST_PAUSE: Final = 30.0
"""Seconds between two tries of a migration."""


class SimulatedHypervisor(Hypervisor):
    """One host of a simulated cluster, which `type: simulated` puts into a daemon's hands.

    There are no devices, no NUMA nodes and no drivers in it: what a task says of them, and of the
    transport, has no effect.
    """

    name: ClassVar[str] = "simulated"
    Options: ClassVar[type[SimulatedOptions]] = SimulatedOptions

    def __init__(self, options: SimulatedOptions, node: NodeContext) -> None:
        super().__init__(options, node)
        self._host = node.host
        self._opened: World | None = None

    # Life

    async def open(self) -> None:
        """Join the cluster. Raises ClusterError, and HypervisorError if it has no such host."""
        options: SimulatedOptions = self.options
        if options.file is not None:
            cluster = Cluster(options.create, options.file)
        else:
            cluster = Cluster.named(options.cluster or DEFAULT_CLUSTER, options.create)
        self._opened = World(self._host, cluster, options, cluster.join(self._host))

    async def close(self) -> None:
        """Leave the cluster; what was under way is where it was before."""
        world, self._opened = self._opened, None
        if world is not None:
            world.cluster.leave(world.session)
            if self.options.file is not None:
                world.cluster.close()

    def capabilities(self) -> dict[str, Any]:
        return {
            "migration-types": ["live", "warm", "offline"],
            "swap": True,
            "cancel": True,
            "post-copy": True,
            "compression": list(COMPRESSIONS),
        }

    @property
    def _world(self) -> World:
        if self._opened is None:
            raise HypervisorError("the simulated hypervisor is not open")
        return self._opened

    @property
    def cluster(self) -> Cluster:
        """The cluster, once it is open."""
        return self._world.cluster

    # Tasks

    async def start(self, task: Start, context: Context) -> Outcome:
        """Start a domain that is defined, or one of an XML description."""
        name, memory, vcpus, define = _what_to_start(task)
        with self._pace(context) as pace:
            await self._call("start", name, pace)
            context.progress("start", vm_name=name)
            self.cluster.start(
                name,
                self._host,
                memory=memory,
                vcpus=vcpus,
                vcpu_map=task.vcpu_map,
                define=define,
            )
            if task.probe_with_ssh is not False:
                context.progress("probe", vm_name=name)
                await pace.sleep(self._world.options.start_seconds)
        return None

    async def stop(self, task: Stop, context: Context) -> Outcome:
        """Stop a domain, or each active domain whose name matches."""
        if task.vm_name is not None:
            await self._stop_one(check_name(task.vm_name), task, context)
            return None
        assert task.regex is not None
        active = [domain.name for domain in self.cluster.domains(self._host) if domain.active]
        names = matching(task.regex, active)
        if not names:
            return f"no active domain's name matches {task.regex[:100]!r}"
        context.save_state(names=names)
        ended = await asyncio.gather(
            *(self._stop_one(name, task, context) for name in names), return_exceptions=True
        )
        return [_result(name, error) for name, error in zip(names, ended, strict=True)]

    async def _stop_one(self, name: str, task: Stop, context: Context) -> None:
        with self._pace(context) as pace:
            await self._call("stop", name, pace)
            self._need_active(name)
            if not task.force:
                context.progress("stop", vm_name=name)
                await pace.sleep(self._world.options.stop_seconds)
            self.cluster.stop(name, self._host, undefine=task.undefine or False)

    async def suspend(self, task: Suspend, context: Context) -> Outcome:
        """Pause a domain."""
        return await self._set_state("suspend", task.vm_name, "paused", context)

    async def resume(self, task: Resume, context: Context) -> Outcome:
        """Let a paused domain run on."""
        return await self._set_state("resume", task.vm_name, "running", context)

    async def _set_state(self, call: str, vm_name: str, state: State, context: Context) -> Outcome:
        name = check_name(vm_name)
        with self._pace(context) as pace, context.measure(f"{call}-{name}"):
            await self._call(call, name, pace)
            if not self.cluster.set_state(name, self._host, state):
                return f"{name} was {state} already"
        return None

    async def repin(self, task: Repin, context: Context) -> Outcome:
        """Change the CPUs that a domain's vCPUs may use."""
        name = check_name(task.vm_name)
        with self._pace(context) as pace, context.measure("repin"):
            await self._call("repin", name, pace)
            self.cluster.repin(name, self._host, task.vcpu_map)
        return None

    async def query(self, task: Query, context: Context) -> NodeReport:
        """What the host has and what runs on it."""
        with self._pace(context) as pace:
            await self._world.meet(Call(task="query", host=self._host), pace)
        host = self.cluster.host(self._host)
        return NodeReport(
            host=self._host,
            hypervisor=self.name,
            cpus=host.cpus,
            memory=host.memory,
            free_memory=max(0, host.free),
            domains=[
                DomainReport(
                    name=domain.name,
                    state=domain.state,
                    vcpus=domain.vcpus,
                    memory=domain.memory,
                )
                for domain in self.cluster.domains(self._host)
            ],
        )

    # Migration

    async def migrate(self, task: Migrate, context: Context) -> Outcome:
        """Move a domain to another host, and another one back if the task says so."""
        parameter = task.parameter or MigrateParameter()
        trip = Trip(
            name=check_name(task.vm_name),
            source=self._host,
            destination=task.destination,
            parameter=parameter,
            vcpu_map=parameter.vcpu_map,
            pscom_hook_procs=parameter.pscom_hook_procs,
        )
        with self._pace(context) as pace:
            await self._world.meet(Call(task="migrate", host=self._host, vm_name=trip.name), pace)
            pace.check()
            if parameter.migration_type == "offline":
                if parameter.swap_with is not None:
                    raise HypervisorError("domains that are shut off cannot be swapped")
                await pace.sleep(self._world.options.call_seconds)
                self.cluster.move(trip.name, trip.source, trip.destination)
            elif parameter.swap_with is None:
                migration = self.cluster.begin(
                    self._world.session, trip.name, trip.source, trip.destination, trip.vcpu_map
                )
                await self._play(trip, migration, pace, context, context.measure)
            else:
                back = Trip(
                    name=check_name(parameter.swap_with.vm_name),
                    source=trip.destination,
                    destination=trip.source,
                    parameter=parameter,
                    vcpu_map=parameter.swap_with.vcpu_map,
                    pscom_hook_procs=parameter.swap_with.pscom_hook_procs,
                )
                await swap(self._world, trip, back, context)
        return None

    async def evacuate(self, task: Evacuate, context: Context) -> Outcome:
        """Move every active domain to the destinations, all at the same time."""
        parameter = task.parameter or EvacuateParameter()
        destinations = [name for name in task.destinations if name != self._host]
        with self._pace(context) as pace:
            await self._world.meet(Call(task="evacuate", host=self._host), pace)
            names = await self._settled(pace)
            if task.vm_name is not None:
                self._need_active(check_name(task.vm_name))
                names = [task.vm_name]
            context.progress("place")
            begun = self.cluster.begin_evacuation(
                self._world.session,
                self._host,
                names,
                [name for name in destinations if self._world.reachable(name)],
                parameter.mode or "auto",
                parameter.overbooking is not False,
            )
            context.save_state(placements={p.guest: p.host for p, _ in begun})
            async with asyncio.TaskGroup() as group:
                tasks = [
                    group.create_task(
                        self._evacuate_one(placed, migration, parameter, pace, context)
                    )
                    for placed, migration in begun
                ]
        if not tasks:
            return f"no domain is active on {self._host}"
        return [task.result() for task in tasks]

    async def _evacuate_one(
        self,
        placed: Placement,
        migration: int | None,
        parameter: EvacuateParameter,
        pace: Pace,
        context: Context,
    ) -> Result:
        if placed.host is None or migration is None:
            reason = f"{placed.guest} stays on {self._host}: {placed.reason}"
            return _result(placed.guest, HypervisorError(reason))
        trip = Trip(
            name=placed.guest,
            source=self._host,
            destination=placed.host,
            parameter=parameter,
            pscom_hook_procs=parameter.pscom_hook_procs,
        )
        measurement = TimeMeasurement(enabled=context.measurement.enabled)
        error: HypervisorError | None = None
        retries = 0
        with measurement.measure("overall"):
            try:
                retries = await self._insist(trip, migration, pace, context, measurement.measure)
            except HypervisorError as caught:
                error = caught
        details = None if parameter.retry_counter is None else str(retries)
        return _result(trip.name, error, measurement, details)

    async def _insist(
        self, trip: Trip, migration: int | None, pace: Pace, context: Context, measure: Measure
    ) -> int:
        """Play one migration, again if it fails; the number of retries.

        The daemon tries whole tasks again, but of an evacuation only some domains may be left.
        """
        most = trip.parameter.retry_counter or 0
        retries = 0
        while True:
            try:
                if migration is None:
                    migration = self.cluster.begin(
                        self._world.session, trip.name, trip.source, trip.destination
                    )
                await self._play(trip, migration, pace, context, measure)
            except TaskCancelledError:
                raise
            except HypervisorError as error:
                if retries == most:
                    raise
                migration = None
                context.log.warning("retry %d of %d: %s", retries + 1, most, error)
                context.progress("retry", vm_name=trip.name)
                await pace.sleep(min(_LONGEST_PAUSE, 2.0**retries))
                retries += 1
            else:
                return retries

    async def _play(
        self, trip: Trip, migration: int, pace: Pace, context: Context, measure: Measure
    ) -> None:
        """Play one migration. Raises HypervisorError, which says where the domain is."""
        try:
            await Migration(self._world, trip, pace, context, measure).run(migration)
        except HypervisorError as error:
            raise explained(self.cluster, trip, error) from error

    async def _settled(self, pace: Pace) -> list[str]:
        """The active domains, once none of them is migrating any more."""
        while True:
            domains = [domain for domain in self.cluster.domains(self._host) if domain.active]
            if not any(domain.migrating for domain in domains):
                return [domain.name for domain in domains]
            await pace.sleep(self._world.tick)

    # After a restart

    async def recover(self, task: Task, context: Context) -> Outcome:
        """How a task ended that was under way when the daemon was killed, by what there is now."""
        if isinstance(task, Evacuate):
            return self._recover_evacuation(context)
        if isinstance(task, Stop) and task.vm_name is None:
            names: Sequence[str] = context.saved_state.get("names", ())
            return [_result(name, self._still_active(name)) for name in names]
        error = self._unfinished(task)
        if error is not None:
            raise error
        return "found done after the daemon's restart"

    def _unfinished(self, task: Task) -> HypervisorError | None:
        """Why a task is not done, or None if it is."""
        if isinstance(task, Stop):
            assert task.vm_name is not None
            return self._still_active(task.vm_name)
        if isinstance(task, Migrate):
            return self._not_at(task)
        if not isinstance(task, Start | Suspend | Resume | Repin):
            return HypervisorError("the daemon ended while this was under way")
        name = _what_to_start(task)[0] if isinstance(task, Start) else task.vm_name
        domain = self._here(name)
        wanted: dict[type[Task], State] = {Start: "running", Suspend: "paused", Resume: "running"}
        state = wanted.get(type(task))
        done = domain is not None and domain.active and state in (None, domain.state)
        if isinstance(task, Repin) and domain is not None:
            done = _plain(domain.vcpu_map) == _plain(task.vcpu_map)
        return None if done else self._interrupted(name)

    def _not_at(self, task: Migrate) -> HypervisorError | None:
        swapped = task.parameter and task.parameter.swap_with
        ways = [(task.vm_name, task.destination)]
        if swapped:
            ways.append((swapped.vm_name, self._host))
        places = {domain.name: domain.host for domain in self.cluster.domains()}
        if all(places.get(name) == host for name, host in ways):
            return None
        return self._interrupted(*(name for name, _ in ways))

    def _recover_evacuation(self, context: Context) -> Outcome:
        placements: dict[str, str | None] = context.saved_state.get("placements", {})
        places = {domain.name: domain.host for domain in self.cluster.domains()}
        if not placements and any(d.active for d in self.cluster.domains(self._host)):
            raise HypervisorError("the daemon ended before the evacuation began")
        if not placements:
            return f"no domain is active on {self._host}"
        return [
            _result(name, None if host and places.get(name) == host else self._interrupted(name))
            for name, host in placements.items()
        ]

    def _here(self, name: str) -> Domain | None:
        domain = self.cluster.find(name)
        return domain if domain is not None and domain.host == self._host else None

    def _still_active(self, name: str) -> HypervisorError | None:
        domain = self._here(name)
        return self._interrupted(name) if domain is not None and domain.active else None

    def _interrupted(self, *names: str) -> HypervisorError:
        where = ", ".join(whereabouts(self.cluster, name) for name in names)
        return HypervisorError(f"the daemon ended while this was under way; {where}")

    # Common to all

    @contextmanager
    def _pace(self, context: Context) -> Iterator[Pace]:
        with Pace(self._world.clock, context) as pace:
            yield pace

    async def _call(self, task: str, name: str, pace: Pace) -> None:
        """The begin of every call: what goes wrong happens, and a running migration ends first."""
        await self._world.meet(Call(task=task, host=self._host, vm_name=name), pace)
        await pace.sleep(self._world.options.call_seconds)
        while (domain := self._here(name)) is not None and domain.migrating:
            await pace.sleep(self._world.tick)

    def _need_active(self, name: str) -> None:
        """Raises HypervisorError unless the domain is active here."""
        domain = self.cluster.domain(name)
        if domain.host != self._host or not domain.active:
            raise HypervisorError(
                f"{name} is not active on {self._host}: {whereabouts(self.cluster, name)}"
            )


def _what_to_start(task: Start) -> tuple[str, int | None, int | None, bool | None]:
    """Name, memory, vCPUs and whether to define it."""
    if task.xml is None:
        assert task.vm_name is not None
        return check_name(task.vm_name), task.memory, task.vcpus, None
    described = read_domain(task.xml)
    if task.vm_name is not None and task.vm_name != described.name:
        raise HypervisorError(f"vm-name is {task.vm_name!r}, but the XML says {described.name!r}")
    memory = described.memory if task.memory is None else task.memory
    vcpus = described.vcpus if task.vcpus is None else task.vcpus
    return described.name, memory, vcpus, not task.transient


def _result(
    name: str,
    error: BaseException | None,
    measurement: TimeMeasurement | None = None,
    details: str | None = None,
) -> Result:
    """The result of one domain. What was not to be expected is raised."""
    if error is not None and not isinstance(error, HypervisorError):
        raise error
    return Result(
        vm_name=name,
        status="success" if error is None else "error",
        details=details if error is None else str(error),
        time_measurement=measurement if measurement else None,
    )


def _plain(vcpu_map: Sequence[Sequence[int]] | None) -> list[list[int]] | None:
    return None if vcpu_map is None else [list(row) for row in vcpu_map]
