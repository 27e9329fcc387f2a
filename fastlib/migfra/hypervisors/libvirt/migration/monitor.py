"""Monitor a migration: report its progress, and act when it does not converge or must end."""

import asyncio
from typing import Any, Final

import msgspec

from fastlib.migfra.errors import HypervisorError, TaskCancelledError
from fastlib.migfra.hypervisors.libvirt.connection.connection import Connection
from fastlib.migfra.hypervisors.libvirt.domain import job
from fastlib.migfra.hypervisors.libvirt.errors import LibvirtError
from fastlib.migfra.hypervisors.libvirt.runtime import LibvirtRuntime
from fastlib.migfra.plugin_api.cancel_scope import CancelScope
from fastlib.migfra.plugin_api.context import Context
from fastlib.migfra.virt import precopy
from fastlib.migfra.virt.migration_spec import MigrationSpec

_POLL_SECONDS: Final = 0.25
"""Seconds between two polls of a migration."""
_ANSWER_SECONDS: Final = 5.0
_GRACE_SECONDS: Final = 10.0
"""Seconds after an abort within which the call must return, and for which a decision may fail."""


class MigrationMonitor:
    """Polls a migration in progress, reports its progress, and intervenes."""

    def __init__(
        self,
        runtime: LibvirtRuntime,
        spec: MigrationSpec,
        scope: CancelScope,
        context: Context,
        *,
        saving: bool = False,
        in_post_copy: bool = False,
    ) -> None:
        """`saving`: the domain is saved to storage. Such a job can only be awaited or aborted.

        `in_post_copy`: the domain runs at the destination already.
        """
        self._runtime = runtime
        self._spec = spec
        self._scope = scope
        self._context = context
        self._saving = saving
        self._options = precopy.Options.of(spec.parameter, stall=runtime.options.stall_timeout)
        if saving:
            self._options = precopy.Options(
                timeout=self._options.timeout, stall=self._options.stall
            )
        self._loop = asyncio.get_running_loop()
        self._began = self._loop.time()
        self._moved = self._began
        """The time of the last progress."""
        self._last: object = None
        self._downtime = precopy.DEFAULT_DOWNTIME
        self._paused = saving or spec.kind == "warm"
        self._post_copy = in_post_copy
        self._failing_since: float | None = None
        """The time since which the decision cannot be carried out."""
        self._copies_disks = False
        """Whether libvirt still copies disks. Only then does it send memory."""

    async def wait(self, end: "asyncio.Future[None]") -> HypervisorError | None:
        """Wait for the end, and intervene where necessary.

        Returns the reason if the migration was aborted; `end` may still be pending then. Else None.
        """
        while True:
            await self._scope.wait_any(_POLL_SECONDS, end)
            if end.done():
                return None
            if self._scope.cancelled and not self._post_copy:
                await self._facts()  # an earlier run of the daemon may have begun post-copy
                if not self._post_copy:
                    return await self._abort(TaskCancelledError(self._scope.reason), end)
            if self._scope.cancelled:
                await asyncio.wait({end}, timeout=_POLL_SECONDS)  # post-copy cannot be aborted
            problem = await self._look(end)
            if problem is not None and self._post_copy:
                return problem  # an abort would end the domain
            if problem is not None:
                return await self._abort(problem, end)

    async def _abort(self, why: HypervisorError, end: "asyncio.Future[None]") -> HypervisorError:
        name = self._spec.name
        self._context.log.warning("%s: the migration is aborted: %s", name, why)
        self._context.progress("abort", vm_name=name)
        deadline = self._loop.time() + _GRACE_SECONDS
        while not end.done() and self._loop.time() < deadline:
            try:
                await (await self._source()).within(_ANSWER_SECONDS, job.abort, name)
            except LibvirtError as error:
                # Before the migration sends data, libvirt has no job to abort. So try again.
                self._context.log.info("%s", error)
            await asyncio.wait({end}, timeout=1.0)
        return why

    async def _source(self) -> Connection:
        spec = self._spec
        return await self._runtime.connections.get(spec.source, spec.driver, spec.transport)

    async def _facts(self) -> dict[str, Any]:
        """Read the statistics of the job. They are empty without an answer. Detects post-copy."""
        try:
            facts = await (await self._source()).within(
                _ANSWER_SECONDS, job.statistics, self._spec.name
            )
        except HypervisorError as error:
            self._context.log.debug("%s", error)
            return {}
        self._post_copy = self._post_copy or bool(facts.get(job.IN_POST_COPY))
        return facts

    async def _look(self, end: "asyncio.Future[None]") -> HypervisorError | None:
        """Poll once and act. Returns the reason to abort, or None."""
        facts = await self._facts()
        if end.done():
            return None
        statistics = self._statistics(facts)
        if self._post_copy and statistics.stalled >= self._options.stall:
            return HypervisorError(f"nothing has moved for {statistics.stalled:.0f} s in post-copy")
        elapsed = self._loop.time() - self._began
        decision = precopy.decide(statistics, self._options_now, elapsed)
        sends_memory = bool(facts.get("data_total")) and not self._copies_disks
        if decision == precopy.SwitchToPostCopy() and not sends_memory:
            decision = precopy.GoOn()  # libvirt can switch only once it sends memory
        if decision == precopy.GoOn():
            self._failing_since = None
            return None
        self._context.log.info("%s: %s", self._spec.name, precopy.describe(decision))
        if isinstance(decision, precopy.Abort):
            return HypervisorError(decision.reason)
        try:
            await self._act(decision)
        except LibvirtError as error:
            now = self._loop.time()
            self._failing_since = self._failing_since or now
            self._context.log.warning("%s", error)
            if now - self._failing_since >= _GRACE_SECONDS:
                return HypervisorError(f"could not {precopy.describe(decision)}: {error}")
        else:
            self._failing_since = None
        return None

    @property
    def _options_now(self) -> precopy.Options:
        # If the migration's flags allow it, QEMU throttles the guest without a call of this daemon.
        return msgspec.structs.replace(self._options, auto_converge=False)

    def _statistics(self, facts: dict[str, Any]) -> precopy.MigrationStatistics:
        remaining = float(facts.get("data_remaining", 0))
        processed = int(facts.get("data_processed", 0))
        total = int(facts.get("data_total", 0))
        iteration = int(facts.get("memory_iteration", 0))
        disks = _disk_progress(facts)
        if facts:
            self._copies_disks = bool(disks) and not facts.get("memory_total")
        bandwidth = float(facts.get("disk_bps" if self._copies_disks else "memory_bps", 0))
        dirty_rate = float(facts.get("memory_dirty_rate", 0) * facts.get("memory_page_size", 4096))
        if self._paused or self._post_copy:
            dirty_rate = 0.0  # libvirt goes on to report the last rate
        now = self._loop.time()
        observed = (remaining, processed, iteration) if facts else self._last
        if observed != self._last:
            self._last, self._moved = observed, now
        if facts:
            phase = "migrate"
            if self._saving:
                phase = "save"
            elif self._post_copy:
                phase = "post-copy"
            elif self._copies_disks:
                phase = "copy disks"
            elif self._paused:
                phase = "downtime"
            self._context.progress(
                phase,
                vm_name=self._spec.name,
                percent=100 * (1 - remaining / total) if total > 0 else None,
                transferred=processed,
                total=total,
                remaining=round(remaining),
                **disks,
                dirty_rate=round(dirty_rate),
                expected=precopy.expected_seconds(remaining, dirty_rate, bandwidth),
            )
        return precopy.MigrationStatistics(
            remaining=remaining,
            bandwidth=bandwidth,
            dirty_rate=dirty_rate,
            iteration=iteration,
            downtime=self._downtime,
            stalled=now - self._moved,
            paused=self._paused,
            post_copy=self._post_copy,
        )

    async def _act(self, decision: precopy.Decision) -> None:
        source, name = await self._source(), self._spec.name
        match decision:
            case precopy.RaiseDowntime(seconds):
                await source.within(_ANSWER_SECONDS, job.set_downtime, name, seconds)
                self._downtime = seconds
            case precopy.Pause():
                await source.within(_ANSWER_SECONDS, job.pause, name)
                self._paused = True
            case precopy.SwitchToPostCopy():
                await source.within(_ANSWER_SECONDS, job.start_post_copy, name)
                self._post_copy = True


def _disk_progress(facts: dict[str, Any]) -> dict[str, int]:
    """Return the progress of the copies of disks, in bytes. It is empty if there are none."""
    if not facts.get("disk_total"):
        return {}
    return {
        "disk_transferred": int(facts.get("disk_processed", 0)),
        "disk_total": int(facts["disk_total"]),
        "disk_remaining": int(facts.get("disk_remaining", 0)),
    }
