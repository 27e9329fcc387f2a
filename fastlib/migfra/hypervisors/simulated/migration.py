"""One migration, played round by round in the cluster's time.

It takes its share of the link anew each tick, so that migrations slow each other down, and asks
`precopy.decide` what to do, as a real hypervisor does.
"""

import contextlib
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from typing import Final

import msgspec

from fastlib.message.numbers import CpuMap
from fastlib.message.tasks import MigrationOptions
from fastlib.migfra.errors import HypervisorError, TaskCancelledError
from fastlib.migfra.plugin_api.context import Context
from fastlib.migfra.virt import precopy
from fastlib.migfra.virt.precopy import KIB, MIB

from .clock import Clock
from .cluster import Cluster, Domain
from .description import SimulatedOptions
from .faults import Call, FaultPlan
from .pace import Pace

_LEAST_TICK: Final = 0.02
"""Seconds of the world: however fast the cluster's time passes, it is not looked at more often."""
COMPRESSIONS: Final = ("mt", "xbzrle", "zlib", "zstd")
_COMPRESSION: Final = 0.5
"""What is left of memory by compression."""

Measure = Callable[[str], AbstractContextManager[object]]
"""Times a block under a name."""


class World:
    """What everything that happens on a host of the cluster has to do with."""

    def __init__(
        self, host: str, cluster: Cluster, options: SimulatedOptions, session: int
    ) -> None:
        self.host: Final = host
        self.cluster: Final = cluster
        self.options: Final = options
        self.session: Final = session
        self.clock: Final = Clock(cluster.epoch, options.speed)
        self.faults: Final = FaultPlan(cluster, options.faults, host)
        self.tick: Final = max(options.tick, _LEAST_TICK * options.speed)

    def reachable(self, host: str) -> bool:
        """Whether other hosts reach that one now."""
        return self.faults.reachable(host, self.clock.now())

    async def meet(self, call: Call, pace: Pace) -> None:
        """Let happen what goes wrong at the begin of a call. Raises HypervisorError."""
        for fault in self.faults.of_call(call, self.clock.now()):
            if fault.kind == "hang":
                await pace.sleep_deaf(fault.seconds)
            else:
                raise HypervisorError(fault.text or f"{call.task} fails, as it was planned")


class Trip(msgspec.Struct, frozen=True, kw_only=True):
    """Who migrates where, and how."""

    name: str
    source: str
    destination: str
    parameter: MigrationOptions
    vcpu_map: CpuMap | None = None
    pscom_hook_procs: str | None = None
    timer: str = "migrate"
    """Name of the timer of the whole."""


class Migration:
    """A migration from its first check to its end, which leaves the domain on exactly one host."""

    def __init__(
        self, world: World, trip: Trip, pace: Pace, context: Context, measure: Measure
    ) -> None:
        self._world = world
        self._cluster = world.cluster
        self._trip = trip
        self._pace = pace
        self._context = context
        self._measure = measure
        self._warm = (trip.parameter.migration_type or "warm") == "warm"
        self._options = precopy.Options.of(trip.parameter)
        call = Call(task="migrate", host=world.host, vm_name=trip.name)
        self._on_the_way = world.faults.on_the_way(call)
        self._down = ExitStack()
        # How far it has come
        self._left = 0.0
        self._sent = 0.0
        self._elapsed = 0.0
        self._round_seconds = 0.0
        self._iteration = 1
        self._downtime = self._options.first_downtime
        self._throttle = 0.0
        self._throttled_in = 0
        self._stalled = 0.0
        self._paused = False
        self._post_copy = False

    async def run(self, migration: int, then: int | None = None) -> None:
        """Play a migration that has begun in the cluster; `then` is one that waits for its end.

        Raises HypervisorError; `explained` says where the domain is.
        """
        trip = self._trip
        try:
            with self._measure(trip.timer), self._down:
                await self._copy(migration)
                await self._switch_over(migration, then)
        except HypervisorError:
            self._cluster.abandon(migration)
            await self._resume_pscom()
            raise
        except BaseException:
            self._cluster.abandon(migration)
            raise
        await self._finish()

    async def _prepare(self) -> None:
        """Check and prepare both sides. Raises HypervisorError."""
        trip = self._trip
        self._report("prepare")
        if not self._world.reachable(trip.destination):
            raise HypervisorError(f"{trip.destination} is unreachable")
        compression = trip.parameter.compression
        if compression is not None and compression not in COMPRESSIONS:
            raise HypervisorError(
                f"compression is one of {', '.join(COMPRESSIONS)}, not {compression[:40]!r}"
            )
        procs = trip.pscom_hook_procs
        if procs is not None and procs != "auto" and not (procs.isascii() and procs.isdigit()):
            raise HypervisorError(f"pscom-hook-procs is a count or auto, not {procs[:40]!r}")
        if self._has_pscom:
            with self._measure(f"pscom-suspend-{trip.name}"):
                await self._pace.sleep(self._world.options.call_seconds)

    @property
    def _has_pscom(self) -> bool:
        procs = self._trip.pscom_hook_procs
        return procs is not None and procs.strip("0") != ""

    # The rounds

    async def _copy(self, migration: int) -> None:
        domain = self._cluster.domain(self._trip.name)
        await self._prepare()
        self._workload = precopy.Workload(
            memory=float(domain.memory * KIB),
            dirty_rate=0.0 if domain.state == "paused" else domain.dirty_rate,
            working_set=domain.working_set,
        )
        self._left = self._workload.memory
        if self._warm:
            with self._measure(f"suspend-{domain.name}"):
                await self._pace.sleep(self._world.options.call_seconds)
            self._pause(migration)
        while True:
            bandwidth = self._bandwidth(migration)
            self._report_copy(bandwidth)
            await self._step(bandwidth)
            await self._meet_faults()
            await self._decide(migration, bandwidth)
            if self._left > 0:
                continue
            if not self._halted:
                rest = self._workload.dirtied(self._round_seconds, self._throttle)
                self._next_round(rest)
                if precopy.finishes(rest, bandwidth, self._downtime):
                    self._pause(migration)
            if self._left <= 0:
                self._report_copy(bandwidth)
                return

    async def _step(self, bandwidth: float) -> None:
        """Sends for a tick, or until the round or the time ends."""
        seconds = self._world.tick
        timeout = self._options.timeout
        if timeout is not None and self._elapsed < timeout:
            seconds = min(seconds, timeout - self._elapsed)
        ends = bandwidth > 0 and self._left <= bandwidth * seconds
        if ends:
            seconds = self._left / bandwidth
        if self._post_copy:
            await self._pace.clock.sleep(seconds)  # there is no way back any more
        else:
            await self._pace.sleep(seconds)
        sent = self._left if ends else bandwidth * seconds
        self._left = 0.0 if ends else self._left - sent
        self._sent += sent
        self._elapsed += seconds
        self._round_seconds += seconds
        self._stalled = 0.0 if bandwidth > 0 else self._stalled + seconds

    def _next_round(self, rest: float) -> None:
        self._left = rest
        self._iteration += 1
        self._round_seconds = 0.0

    async def _meet_faults(self) -> None:
        for fault in self._on_the_way.reached(self._percent, self._pace.clock.now()):
            if fault.kind == "hang":
                await self._pace.sleep_deaf(fault.seconds)
            else:
                raise HypervisorError(fault.text or f"broken off at {fault.percent:g} %")

    async def _decide(self, migration: int, bandwidth: float) -> None:
        statistics = precopy.MigrationStatistics(
            remaining=self._remaining,
            bandwidth=bandwidth,
            dirty_rate=self._dirty_rate,
            iteration=self._iteration,
            downtime=self._downtime,
            throttle=self._throttle,
            throttled_in=self._throttled_in,
            stalled=self._stalled,
            paused=self._paused,
            post_copy=self._post_copy,
        )
        decision = precopy.decide(statistics, self._options, self._elapsed)
        if decision == precopy.GoOn():
            return
        self._context.log.info("%s: %s", self._trip.name, precopy.describe(decision))
        match decision:
            case precopy.RaiseDowntime(seconds):
                self._downtime = seconds
            case precopy.Throttle(part):
                self._throttle = part
                self._throttled_in = self._iteration
            case precopy.Pause():
                self._next_round(self._remaining)
                self._pause(migration)
            case precopy.SwitchToPostCopy():
                await self._switch_to_post_copy(migration)
            case precopy.Abort(reason):
                raise HypervisorError(reason)

    async def _switch_to_post_copy(self, migration: int) -> None:
        self._next_round(self._remaining)
        self._pause(migration)
        await self._pace.sleep(self._world.options.call_seconds)
        self._cluster.switch_to_post_copy(migration)
        self._paused = False
        self._post_copy = True
        self._down.close()

    def _pause(self, migration: int) -> None:
        if not self._paused:
            self._down.enter_context(self._measure(f"downtime-{self._trip.name}"))
        self._cluster.pause(migration)
        self._paused = True

    # The end

    async def _switch_over(self, migration: int, then: int | None) -> None:
        """From here on nothing holds it up."""
        await self._pace.clock.sleep(self._world.options.call_seconds)
        if self._trip.vcpu_map is not None:
            with self._measure("repin"):
                await self._pace.clock.sleep(self._world.options.call_seconds)
        self._cluster.finish(migration, self._trip.vcpu_map, then)
        if self._warm or self._trip.vcpu_map is not None:
            with self._measure(f"resume-{self._trip.name}"):
                await self._pace.clock.sleep(self._world.options.call_seconds)

    async def _finish(self) -> None:
        self._report("finish", percent=100.0)
        await self._resume_pscom()

    async def _resume_pscom(self) -> None:
        if self._has_pscom:
            with self._measure(f"pscom-resume-{self._trip.name}"):
                await self._pace.clock.sleep(self._world.options.call_seconds)

    # How far it is

    @property
    def _halted(self) -> bool:
        """Whether nothing is written that would have to be sent again."""
        return self._paused or self._post_copy

    @property
    def _dirty_rate(self) -> float:
        return 0.0 if self._halted else self._workload.dirty_rate * (1 - self._throttle)

    @property
    def _remaining(self) -> float:
        if self._halted:
            return self._left
        written = self._workload.dirtied(self._round_seconds, self._throttle)
        return min(self._workload.memory, self._left + written)

    @property
    def _percent(self) -> float:
        return 100 * self._sent / (self._sent + self._remaining) if self._sent else 0.0

    def _bandwidth(self, migration: int) -> float:
        """Bytes of memory a second that the migration has now."""
        trip, parameter = self._trip, self._trip.parameter
        share = self._cluster.share(migration)
        if not (self._world.reachable(trip.source) and self._world.reachable(trip.destination)):
            return 0.0
        one = self._cluster.link(trip.source, trip.destination).connection_bandwidth
        if one is not None and not parameter.rdma_migration:
            share = min(share, one * MIB * (parameter.parallel_connections or 1))
        if parameter.bandwidth_limit:
            share = min(share, float(parameter.bandwidth_limit * MIB))
        return share / _COMPRESSION if parameter.compression else share

    def _report_copy(self, bandwidth: float) -> None:
        running = "post-copy" if self._post_copy else "migrate"
        phase = "downtime" if self._paused else running
        remaining, dirty_rate = self._remaining, self._dirty_rate
        self._report(
            phase,
            percent=self._percent,
            transferred=round(self._sent),
            total=round(self._workload.memory),
            remaining=round(remaining),
            dirty_rate=round(dirty_rate),
            expected=precopy.expected_seconds(remaining, dirty_rate, bandwidth),
        )

    def _report(
        self,
        phase: str,
        *,
        percent: float | None = None,
        transferred: int | None = None,
        total: int | None = None,
        remaining: int | None = None,
        dirty_rate: int | None = None,
        expected: float | None = None,
    ) -> None:
        self._context.progress(
            phase,
            vm_name=self._trip.name,
            percent=percent,
            transferred=transferred,
            total=total,
            remaining=remaining,
            dirty_rate=dirty_rate,
            expected=expected,
        )


def explained(cluster: Cluster, trip: Trip, error: HypervisorError) -> HypervisorError:
    """Why a migration failed, with where its domain is now."""
    where = whereabouts(cluster, trip.name)
    if isinstance(error, TaskCancelledError):
        return TaskCancelledError(f"{error}; {where}")
    return HypervisorError(f"{trip.name} did not migrate to {trip.destination}: {error}; {where}")


def whereabouts(cluster: Cluster, name: str) -> str:
    """Where a domain is, in words."""
    domain: Domain | None = None
    with contextlib.suppress(HypervisorError):
        domain = cluster.domain(name)
    if domain is None:
        return f"{name} is gone"
    words = {"running": "runs", "paused": "is paused", "shut off": "is shut off"}
    return f"{name} {words[domain.state]} on {domain.host}"
