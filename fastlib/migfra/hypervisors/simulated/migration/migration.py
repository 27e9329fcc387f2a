"""One migration, computed round by round in the cluster's time.

It reads its share of the link again in each tick. So migrations slow each other down. It calls
`precopy.decide` for decisions, like a real hypervisor.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from typing import Final

from fastlib.migfra.errors import HypervisorError
from fastlib.migfra.hypervisors.simulated.cluster.location import error_with_location
from fastlib.migfra.hypervisors.simulated.cluster.tables import Domain
from fastlib.migfra.hypervisors.simulated.faults import Call
from fastlib.migfra.hypervisors.simulated.runtime import SimulatedRuntime
from fastlib.migfra.hypervisors.simulated.scope import ClockScope
from fastlib.migfra.plugin_api.context import Context
from fastlib.migfra.virt import combination_checks, combinations, precopy
from fastlib.migfra.virt.migration_spec import MigrationSpec
from fastlib.migfra.virt.precopy import KIB, MIB

_DISK: Final = "vda"
_COMPRESSED_PART: Final = 0.5
"""Size of compressed memory, as a fraction of the original size."""
Measure = Callable[[str], AbstractContextManager[object]]
"""A function that times a block under a name."""


class Migration:
    """A migration from its first check to its end. Then the domain is on exactly one host."""

    def __init__(
        self,
        runtime: SimulatedRuntime,
        spec: MigrationSpec,
        scope: ClockScope,
        context: Context,
        measure: Measure,
    ) -> None:
        self._runtime = runtime
        self._cluster = runtime.cluster
        self._spec = spec
        self._scope = scope
        self._context = context
        self._measure = measure
        self._warm = (spec.parameter.migration_type or "warm") == "warm"
        self._options = precopy.Options.of(spec.parameter)
        call = Call(task="migrate", host=runtime.host, vm_name=spec.name)
        self._faults = runtime.faults.of_migration(call)
        self._downtime_timer = ExitStack()
        # Progress
        self._unsent = 0.0
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
        self._disk = self._disk_unsent = 0.0

    async def run(self, migration: int, next_migration: int | None = None) -> None:
        """Run a migration that has begun in the cluster. `next_migration` waits for its end.

        Raises HypervisorError. `error_with_location` adds the host of the domain to it.
        """
        spec = self._spec
        try:
            with self._measure(spec.timer), self._downtime_timer:
                await self._copy(migration)
                await self._switch_over(migration, next_migration)
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
        spec = self._spec
        self._context.progress("prepare", vm_name=spec.name)
        if not self._runtime.reachable(spec.destination):
            raise HypervisorError(f"{spec.destination} is unreachable")
        procs = spec.pscom_hook_procs
        if procs is not None and procs != "auto" and not (procs.isascii() and procs.isdigit()):
            raise HypervisorError(f"pscom-hook-procs must be a count or auto, not {procs[:40]!r}")
        if self._has_pscom:
            with self._measure(f"pscom-suspend-{spec.name}"):
                await self._scope.sleep(self._runtime.options.call_seconds)

    @property
    def _has_pscom(self) -> bool:
        procs = self._spec.pscom_hook_procs
        return procs is not None and procs.strip("0") != ""

    # The rounds

    async def _copy(self, migration: int) -> None:
        domain = self._cluster.domain(self._spec.name)
        if domain.state == "paused":
            combination_checks.check_order(self._spec, combinations.PAUSED)
        self._check_disk(domain)
        await self._prepare()
        self._workload = precopy.Workload(
            memory=float(domain.memory * KIB),
            dirty_rate=0.0 if domain.state == "paused" else domain.dirty_rate,
            working_set=domain.working_set,
        )
        await self._copy_disk(migration)
        self._unsent = self._workload.memory
        if self._warm:
            with self._measure(f"suspend-{domain.name}"):
                await self._scope.sleep(self._runtime.options.call_seconds)
            self._pause(migration)
        while True:
            bandwidth = self._bandwidth(migration)
            self._report_copy(bandwidth)
            await self._send(bandwidth)
            await self._apply_faults()
            await self._decide(migration, bandwidth)
            if self._unsent > 0:
                continue
            if not self._memory_is_final:
                rest = self._workload.dirtied(self._round_seconds, self._throttle)
                self._next_round(rest)
                if precopy.finishes(rest, bandwidth, self._downtime):
                    self._pause(migration)
            if self._unsent <= 0:
                self._report_copy(bandwidth)
                return

    def _check_disk(self, domain: Domain) -> None:
        """Raise HypervisorError if the disk does not move with the order."""
        spec, parameter = self._spec, self._spec.parameter
        for name in parameter.copy_disks or ():
            if name != _DISK or not domain.disk:
                raise HypervisorError(
                    f"copy-disks has {name[:40]!r}, but {spec.name} writes "
                    + (f"only the disk {_DISK}" if domain.disk else "only disks that all share")
                )
        if not domain.disk:
            return
        if parameter.copy_storage is None:
            raise HypervisorError(
                f"disk {_DISK} of {spec.name} is not on storage that {spec.source} and "
                f"{spec.destination} share; order copy-storage: all, which copies it"
            )
        self._disk = self._disk_unsent = float(domain.disk * KIB)

    async def _copy_disk(self, migration: int) -> None:
        """Send the disk. The domain runs meanwhile, so only a timeout or a stall has an effect."""
        while self._disk_unsent > 0:
            self._unsent = self._disk_unsent
            bandwidth = self._link_bandwidth(migration)
            self._report_copy(bandwidth, self._bandwidth(migration))
            await self._send(bandwidth)
            self._disk_unsent = self._unsent
            await self._apply_faults()
            statistics = precopy.MigrationStatistics(
                remaining=self._disk_unsent, bandwidth=bandwidth, stalled=self._stalled
            )
            decision = precopy.decide(statistics, self._options, self._elapsed)
            if isinstance(decision, precopy.Abort):
                raise HypervisorError(decision.reason)
        self._round_seconds = 0.0

    async def _send(self, bandwidth: float) -> None:
        """Send for a tick, or until the round or the time ends."""
        seconds = self._runtime.tick
        timeout = self._options.timeout
        if timeout is not None and self._elapsed < timeout:
            seconds = min(seconds, timeout - self._elapsed)
        ends = bandwidth > 0 and self._unsent <= bandwidth * seconds
        if ends:
            seconds = self._unsent / bandwidth
        if self._post_copy:
            await self._scope.clock.sleep(seconds)  # post-copy cannot be aborted
        else:
            await self._scope.sleep(seconds)
        sent = self._unsent if ends else bandwidth * seconds
        self._unsent = 0.0 if ends else self._unsent - sent
        self._sent += sent
        self._elapsed += seconds
        self._round_seconds += seconds
        self._stalled = 0.0 if bandwidth > 0 else self._stalled + seconds

    def _next_round(self, rest: float) -> None:
        self._unsent = rest
        self._iteration += 1
        self._round_seconds = 0.0

    async def _apply_faults(self) -> None:
        for fault in self._faults.reached(self._percent, self._scope.clock.now()):
            if fault.kind == "hang":
                await self._scope.hang(fault.seconds)
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
        self._context.log.info("%s: %s", self._spec.name, precopy.describe(decision))
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
        await self._scope.sleep(self._runtime.options.call_seconds)
        self._cluster.switch_to_post_copy(migration)
        self._paused = False
        self._post_copy = True
        self._downtime_timer.close()

    def _pause(self, migration: int) -> None:
        if not self._paused:
            self._downtime_timer.enter_context(self._measure(f"downtime-{self._spec.name}"))
        self._cluster.pause(migration)
        self._paused = True

    # The end

    async def _switch_over(self, migration: int, next_migration: int | None) -> None:
        """Move the domain. From here on the migration cannot be cancelled."""
        await self._scope.clock.sleep(self._runtime.options.call_seconds)
        self._cluster.finish(migration, self._spec.vcpu_map, next_migration)
        if self._warm:
            with self._measure(f"resume-{self._spec.name}"):
                await self._scope.clock.sleep(self._runtime.options.call_seconds)

    async def _finish(self) -> None:
        self._context.progress("finish", vm_name=self._spec.name, percent=100.0)
        await self._resume_pscom()

    async def _resume_pscom(self) -> None:
        if self._has_pscom:
            with self._measure(f"pscom-resume-{self._spec.name}"):
                await self._scope.clock.sleep(self._runtime.options.call_seconds)

    # Statistics

    @property
    def _memory_is_final(self) -> bool:
        """Return whether the guest writes no memory that would have to be sent again."""
        return self._paused or self._post_copy

    @property
    def _dirty_rate(self) -> float:
        return 0.0 if self._memory_is_final else self._workload.dirty_rate * (1 - self._throttle)

    @property
    def _remaining(self) -> float:
        if self._disk_unsent > 0:
            return self._disk_unsent + self._workload.memory
        if self._memory_is_final:
            return self._unsent
        written = self._workload.dirtied(self._round_seconds, self._throttle)
        return min(self._workload.memory, self._unsent + written)

    @property
    def _percent(self) -> float:
        return 100 * self._sent / (self._sent + self._remaining) if self._sent else 0.0

    def _bandwidth(self, migration: int) -> float:
        """Return the present rate of the migration, in bytes of memory a second."""
        rate = self._link_bandwidth(migration)
        return rate / _COMPRESSED_PART if self._spec.parameter.compression else rate

    def _link_bandwidth(self, migration: int) -> float:
        """Return the bytes that the link carries a second for the migration."""
        spec, parameter = self._spec, self._spec.parameter
        share = self._cluster.share(migration)
        if not (self._runtime.reachable(spec.source) and self._runtime.reachable(spec.destination)):
            return 0.0
        one = self._cluster.link(spec.source, spec.destination).connection_bandwidth
        if one is not None and not parameter.rdma_migration:
            share = min(share, one * MIB * (parameter.parallel_connections or 1))
        if parameter.bandwidth_limit:
            share = min(share, float(parameter.bandwidth_limit * MIB))
        return share

    def _expected(self, bandwidth: float, memory_bandwidth: float) -> float | None:
        """Return the seconds until the end at the present rates. None if it does not converge."""
        if not (bandwidth > 0 and memory_bandwidth > 0):
            return None
        options = self._runtime.options
        # The switch-over, and the steps after it.
        after = options.call_seconds * (1 + self._warm + self._has_pscom)
        if self._disk_unsent > 0:
            after += self._disk_unsent / bandwidth
            if self._warm:
                return after + options.call_seconds + self._workload.memory / memory_bandwidth
            unsent, round_seconds = self._workload.memory, 0.0
        elif self._memory_is_final:
            return after + self._unsent / memory_bandwidth
        else:
            unsent, round_seconds = self._unsent, self._round_seconds
        left = precopy.seconds_left(
            self._workload, unsent, round_seconds, memory_bandwidth, self._downtime, self._throttle
        )
        return None if left is None else after + left

    def _report_copy(self, bandwidth: float, memory_bandwidth: float | None = None) -> None:
        """Report the progress. `memory_bandwidth` is that of the memory if a disk is sent now."""
        running = "post-copy" if self._post_copy else "migrate"
        phase = "downtime" if self._paused else running
        if self._disk_unsent > 0:
            phase = "copy disks"
        disks = {}
        if self._disk > 0:
            disks = {
                "disk_transferred": round(self._disk - self._disk_unsent),
                "disk_total": round(self._disk),
                "disk_remaining": round(self._disk_unsent),
            }
        self._context.progress(
            phase,
            vm_name=self._spec.name,
            percent=self._percent,
            transferred=round(self._sent),
            total=round(self._workload.memory + self._disk),
            remaining=round(self._remaining),
            **disks,
            dirty_rate=round(self._dirty_rate),
            expected=self._expected(bandwidth, memory_bandwidth or bandwidth),
        )


async def run_migration(
    runtime: SimulatedRuntime,
    spec: MigrationSpec,
    migration: int,
    scope: ClockScope,
    context: Context,
    measure: Measure,
) -> None:
    """Run a migration that has begun. Raises HypervisorError with the host of the domain."""
    try:
        await Migration(runtime, spec, scope, context, measure).run(migration)
    except HypervisorError as error:
        raise error_with_location(runtime.cluster, spec, error) from error
