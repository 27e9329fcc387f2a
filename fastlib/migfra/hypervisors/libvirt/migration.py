"""One migration, in phases: check, prepare, move, finish; or undo all of it, the last step first.

However it ends, the domain is on one host, and the result says which.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Final, TypeVar

import msgspec

from fastlib.message import TimeMeasurement
from fastlib.migfra.errors import FinalError, HypervisorError, TaskCancelledError
from fastlib.migfra.plugin_api.context import Context
from fastlib.migfra.virt import precopy

from . import checks, devices, domains, job
from .cancel_scope import Stopping
from .description import Attached
from .errors import ArrivedError
from .migration_spec import Kept, Record, Trip
from .pscom import Pscom, count_of
from .reconcile import Found, establish
from .site import Site
from .uris import migration_uri

T = TypeVar("T")
_KINDS: Final = (("pci", "detach-pci-devs"), ("ivshmem", "detach-ivshmem-devs"))
"""Kinds of devices in the order in which they are detached, each with its timer."""


class Migration:
    """A migration from its first check to its end."""

    def __init__(
        self,
        site: Site,
        trip: Trip,
        stopping: Stopping,
        context: Context,
        measurement: TimeMeasurement,
    ) -> None:
        self._site = site
        self.trip: Final = trip
        self._stopping = stopping
        self._context = context
        self._measurement = measurement
        kept = Kept(source=trip.source, destination=trip.destination)
        self.record: Final = Record(context, trip.name, kept)
        self._persistent = True
        self._pscom_count = 0
        self._found: Found | None = None
        """Where it is, once that had to be established."""

    async def run(self) -> str | None:
        """All phases. What is worth telling of a success, or None. Raises HypervisorError."""
        with self._measure(self.trip.timer):
            await self.check()
            told = await self.leave()
        await self.finish()
        return told

    async def leave(self) -> str | None:
        """All that comes between the check and the finish, or undo it. Raises HypervisorError."""
        with self._measure(self.trip.timer):
            await self.or_undone(self.prepare())
            return await self.or_undone(self._move())

    async def or_undone(self, step: Awaitable[T]) -> T:
        """What a step gives, or undo everything. Raises HypervisorError."""
        try:
            return await step
        except HypervisorError as error:
            raise await self.undone(error) from error
        except Exception as error:
            self._context.log.exception("%s: an error that was not to be expected", self.trip.name)
            surprise = HypervisorError(f"{type(error).__name__}: {error}")
            raise await self.undone(surprise) from error

    # Check

    async def check(self) -> None:
        """Raises HypervisorError if it cannot come to a good end. Changes nothing."""
        trip = self.trip
        self._report("check")
        source, destination = await self.or_undone(checks.check(self._site, trip, self._context))
        self._pscom_count = await self.or_undone(count_of(self._site, trip))
        self._stopping.check()
        seen = source.sighting
        self._persistent = seen.persistent
        self.record.kept = msgspec.structs.replace(
            self.record.kept,
            uuid=seen.uuid,
            was_running=seen.running,
            autostart=seen.autostart,
            known_there=destination.sighting.known,
        )

    # Prepare

    async def prepare(self) -> None:
        """Suspend pscom, and take from the domain what cannot migrate. Each step can be undone."""
        trip = self.trip
        if trip.kind == "offline":
            await self._kept(phase="move")
            return
        self._report("prepare")
        source = await self._site.connections.get(trip.source, trip.driver, trip.transport)
        attached = await source.call(devices.attached, trip.name)
        devices.check_movable(trip.name, attached)
        if self._pscom_count:
            await self._kept(pscom=self._pscom_count)
            with self._measure(f"pscom-suspend-{trip.name}"):
                await self._pscom().suspend(self._stopping)
        for kind, timer in _KINDS:
            of_kind = [device for device in attached if device.kind == kind]
            if not of_kind:
                continue
            with self._measure(timer):
                for device in of_kind:
                    self._stopping.check()
                    detached = (*self.record.kept.detached, device)
                    await self._kept(detached=detached)
                    await source.call(devices.detach, trip.name, device.xml)
        if trip.parameter.max_downtime is not None:
            seconds = precopy.Options.of(trip.parameter).first_downtime
            await source.call(job.set_downtime, trip.name, seconds)
        self._stopping.check()
        await self._kept(phase="move")

    async def _kept(self, **changes: Any) -> None:
        await asyncio.wrap_future(self.record.keep(**changes))

    def _pscom(self) -> Pscom:
        return Pscom(
            self._site.node,
            self._context,
            self.trip.name,
            self.record.kept.pscom,
            self._site.options.pscom_timeout,
        )

    # Move

    async def _move(self) -> str | None:
        """Have libvirt move it. Raises HypervisorError if it has not arrived."""
        trip, options = self.trip, self._site.options
        self._report("migrate")
        peer = None
        if options.migration == "peer-to-peer":
            peer = self._site.connections.outer_uri(trip.destination, trip.driver, trip.transport)
        order = job.order_of(
            trip,
            persistent=self._persistent,
            peer=peer,
            migration_uri=migration_uri(
                options, trip.destination, bool(trip.parameter.rdma_migration)
            ),
        )
        warm = trip.kind == "warm"
        try:
            with self._measure(f"downtime-{trip.name}") if warm else nullcontext():
                await job.run(self._site, trip, order, self._stopping, self._context)
        except HypervisorError as error:
            return await self.settle(error)
        if trip.kind == "live" and self._measurement.enabled:
            await self._measure_downtime()
        return None

    async def _measure_downtime(self) -> None:
        trip = self.trip
        there = await self._site.connections.get(trip.destination, trip.driver, trip.transport)
        try:
            seconds = await there.call(job.downtime, trip.name)
        except HypervisorError as error:
            self._context.log.warning("how long %s stood still is not known: %s", trip.name, error)
            return
        if seconds is not None:
            self._measurement.add(f"downtime-{trip.name}", seconds)

    async def settle(self, error: HypervisorError) -> str:
        """Find out where the domain is after an error: what to tell if it has arrived all the same.

        Raises HypervisorError if it has not.
        """
        trip = self.trip
        if trip.kind == "offline":
            if await self.defined_there():
                return f"it has arrived in spite of this: {error}"
            raise error
        watch = job.Watch(self._site, trip, self._stopping, self._context)
        trouble = None
        if await self._goes_on():
            trouble = await job.follow(self._site, trip, watch)
        self._found = found = await self.established()
        if found.place != "destination":
            raise trouble or error
        self._context.log.warning("%s has arrived in spite of: %s", trip.name, error)
        note = "" if found.note is None else f"; {found.note}"
        return f"it has arrived in spite of this: {error}{note}"

    async def _goes_on(self) -> bool:
        """Whether libvirt still moves it, although nobody waits for the call any more."""
        trip = self.trip
        try:
            source = await self._site.connections.get(trip.source, trip.driver, trip.transport)
            seen = await source.call(domains.sight, trip.name)
        except HypervisorError as error:
            self._context.log.info("%s", error)
            return False
        return seen.migrating and seen.reason not in domains.PAUSED_IN_POST_COPY

    async def established(self) -> Found:
        """Where it is, asked of both hosts and put right."""
        return await establish(self._site, self.trip, self.record.kept, self._context)

    async def defined_there(self) -> bool:
        """Whether the definition of a domain that is shut off has moved."""
        trip = self.trip
        there = await self._site.insist(
            trip.destination, trip.driver, trip.transport, domains.sight, trip.name
        )
        here = await self._site.insist(
            trip.source, trip.driver, trip.transport, domains.sight, trip.name
        )
        return there.known and not here.known

    # Finish

    async def finish(self, troubles: list[str] | None = None) -> None:
        """Let it run on the destination as it did on the source.

        Raises ArrivedError for what is wrong with it there; `troubles` is what is known already.
        """
        trip = self.trip
        if trip.kind == "offline":
            return
        self._report("finish", percent=100.0)
        self.record.keep(phase="finish")
        troubles = [] if troubles is None else troubles
        if trip.vcpu_map is not None:
            rows = [list(row) for row in trip.vcpu_map]
            with self._measure("repin"):
                await self._try(troubles, "repin", self._there(domains.pin, rows))
        if self.record.kept.autostart:
            what = "let it start with its host"
            await self._try(troubles, what, self._there(domains.set_autostart))
        if self.record.kept.was_running:
            with self._measure(f"resume-{trip.name}"):
                await self._try(troubles, "resume", self._there(domains.let_run))
        await self._reattach(trip.destination, troubles)
        await self._resume_pscom(troubles)
        if troubles:
            found = await self.established()
            raise ArrivedError(f"{found.whole}, but {'; '.join(troubles)}")

    async def _there(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """A call on the destination, which may be away for a while."""
        trip = self.trip
        return await self._site.insist(
            trip.destination, trip.driver, trip.transport, function, trip.name, *arguments
        )

    async def _here(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """A call on the source, which may be away for a while."""
        trip = self.trip
        return await self._site.insist(
            trip.source, trip.driver, trip.transport, function, trip.name, *arguments
        )

    async def _try(self, troubles: list[str], what: str, step: Awaitable[object]) -> None:
        try:
            await step
        except HypervisorError as error:
            troubles.append(f"could not {what}: {error}")

    async def _reattach(self, host: str, troubles: list[str]) -> None:
        """What was detached last comes first."""
        kept = self.record.kept
        for kind, timer in reversed(_KINDS):
            of_kind = [device for device in kept.detached if device.kind == kind]
            if not of_kind:
                continue
            with self._measure(f"re{timer.replace('detach', 'attach')}"):
                for device in of_kind:
                    await self._try(troubles, f"reattach a {kind} device", self._give(host, device))
        if kept.detached:
            self.record.keep(detached=())

    async def _give(self, host: str, device: Attached) -> None:
        trip, others = self.trip, self.record.kept.detached
        at_home = host == trip.source
        # Each of them is to have its own place again, even if another one's is taken meanwhile.
        spared = [other.address for other in others if at_home and other is not device]
        await self._site.insist(
            host, trip.driver, trip.transport, devices.reattach, trip.name, device, at_home, spared
        )

    async def _resume_pscom(self, troubles: list[str]) -> None:
        if self.record.kept.pscom:
            with self._measure(f"pscom-resume-{self.trip.name}"):
                await self._try(troubles, "resume pscom", self._pscom().resume())
            self.record.keep(pscom=0)

    # Undo

    async def undo(self) -> list[str]:
        """Let it run on the source as before; what could not be, in words."""
        trip, troubles = self.trip, list[str]()
        kept = self.record.kept
        if kept.phase != "prepare":
            if kept.was_running:
                await self._try(troubles, "resume it", self._here(domains.let_run))
            if trip.parameter.max_downtime is not None:
                step = self._here(job.set_downtime, precopy.DEFAULT_DOWNTIME)
                await self._try(troubles, "take the longest downtime back", step)
        await self._reattach(trip.source, troubles)
        await self._resume_pscom(troubles)
        return troubles

    async def undone(self, error: HypervisorError) -> HypervisorError:
        """Undo it, and say why it failed and where the domain is."""
        trip, kept = self.trip, self.record.kept
        begun = kept.phase != "prepare" or kept.pscom or kept.detached
        if not begun and isinstance(error, TaskCancelledError):
            return error
        words = [str(error)]
        known = True
        if begun:
            self._report("undo")
            if kept.phase == "prepare" or trip.kind == "offline":
                # Nothing has moved, so nobody else is asked.
                words += await self._undo_here()
            else:
                found = self._found or await self.established()
                known = found.place == "source"
                words += await self._undo_here(found.note) if known else [found.whole]
        if isinstance(error, TaskCancelledError):
            return TaskCancelledError("; ".join(words))
        final = FinalError if not known or isinstance(error, FinalError) else HypervisorError
        return final(f"{trip.name} did not migrate to {trip.destination}: {'; '.join(words)}")

    async def _undo_here(self, note: str | None = None) -> list[str]:
        """Undo it on the source, where it is; what is to be said of that."""
        troubles = [] if self.trip.kind == "offline" else await self.undo()
        return [await self._at_source(), *([] if note is None else [note]), *troubles]

    async def _at_source(self) -> str:
        """What it does on the source, in words."""
        trip = self.trip
        try:
            seen = await self._here(domains.sight)
        except HypervisorError as error:
            return f"{trip.name} is on {trip.source} ({error})"
        return f"{trip.name} {seen.words} on {trip.source}"

    def _report(self, phase: str, percent: float | None = None) -> None:
        self._context.progress(phase, vm_name=self.trip.name, percent=percent)

    def _measure(self, name: str) -> AbstractContextManager[object]:
        """Times a block; a timer that runs already goes on."""
        if name in self._measurement.running:
            return nullcontext()
        return self._measurement.measure(name)
