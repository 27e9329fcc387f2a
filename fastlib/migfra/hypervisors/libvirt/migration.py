"""One migration, in phases: check, prepare, move, finish; or undo all of it, the last step first.

However it ends, the domain is on one host, and the result says which.
"""

import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Final

import msgspec

from ... import precopy
from ...context import Context
from ...errors import HypervisorError, TaskCancelledError
from . import devices, domains, job, storage
from .api import api
from .description import Attached, check_map, parse, text
from .domains import Sighting
from .errors import UnsupportedCallError
from .pscom import Pscom, count_of
from .site import Site
from .stopping import Stopping
from .trip import Kept, Record, Trip
from .uris import check_host, migration_uri
from .whereabouts import Found, establish

Measure = Callable[[str], AbstractContextManager[object]]
"""Times a block under a name."""


class Peer(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be known of one of the two hosts."""

    sighting: Sighting
    kind: str
    """Type of the hypervisor, such as QEMU."""
    version: int
    cpus: int
    free_memory: int | None
    """KiB."""


def _peer(connection: Any, name: str) -> Peer:
    return Peer(
        sighting=domains.sight(connection, name),
        kind=connection.getType(),
        version=connection.getVersion(),
        cpus=domains.host_cpus(connection),
        free_memory=domains.free_memory(connection),
    )


class Migration:
    """A migration from its first check to its end."""

    def __init__(
        self, site: Site, trip: Trip, stopping: Stopping, context: Context, measure: Measure
    ) -> None:
        self._site = site
        self.trip: Final = trip
        self._stopping = stopping
        self._context = context
        self._measure = measure
        kept = Kept(source=trip.source, destination=trip.destination)
        self.record: Final = Record(context, trip.name, kept)
        self._persistent = True
        self._pscom_count = 0
        self._found: Found | None = None
        """Where it is, once that had to be established."""

    async def run(self) -> str | None:
        """All phases. What is worth telling of a success, or None. Raises HypervisorError."""
        told = None
        try:
            with self._measure(self.trip.timer):
                await self.check()
                await self.prepare()
                told = await self._move()
        except HypervisorError as error:
            raise await self.undone(error) from error
        except Exception:
            await self.undo()
            raise
        await self.finish()
        return told

    # Check

    async def check(self) -> None:
        """Raises HypervisorError if it cannot come to a good end. Changes nothing."""
        trip = self.trip
        self._report("check")
        check_host(trip.destination)
        if trip.source == trip.destination:
            raise HypervisorError(f"{trip.name} is on {trip.source}, and is to go there as well")
        job.check_parameter(trip)
        source, destination = await asyncio.gather(
            self._peer(trip.source), self._peer(trip.destination), return_exceptions=True
        )
        for peer in (destination, source):
            if isinstance(peer, BaseException):
                raise peer
        assert isinstance(source, Peer)
        assert isinstance(destination, Peer)
        self._check_source(source)
        self._check_destination(source, destination)
        if trip.kind != "offline":
            await self._check_cpu()
        self._persistent = source.sighting.persistent
        self.record.kept = msgspec.structs.replace(
            self.record.kept, was_running=source.sighting.running
        )
        self._pscom_count = count_of(trip.pscom_hook_procs, source.sighting.vcpus)
        self._stopping.check()

    async def _peer(self, host: str) -> Peer:
        trip = self.trip
        connection = await self._site.connections.get(host, trip.driver, trip.transport)
        return await connection.call(_peer, trip.name)

    def _check_source(self, source: Peer) -> None:
        trip, seen = self.trip, source.sighting
        if not seen.known:
            raise HypervisorError(
                f"there is no domain {trip.name} on {trip.source}; look at its spelling, and where "
                "it is"
            )
        if trip.kind == "offline":
            if seen.active:
                raise HypervisorError(
                    f"{trip.name} is active on {trip.source}, but only a domain that is shut off "
                    "migrates offline; choose live or warm, or stop it first"
                )
        elif not seen.active:
            raise HypervisorError(
                f"{trip.name} is shut off on {trip.source}; start it first, or choose "
                "migration-type: offline"
            )

    def _check_destination(self, source: Peer, destination: Peer) -> None:
        trip, here, there = self.trip, source.sighting, destination.sighting
        if there.active:
            raise HypervisorError(f"{trip.destination} has an active domain {trip.name} already")
        if there.known and there.uuid != here.uuid:
            raise HypervisorError(
                f"{trip.destination} has another domain with the name {trip.name} (UUID "
                f"{there.uuid}, not {here.uuid}); undefine it there first"
            )
        if source.kind != destination.kind:
            raise HypervisorError(
                f"{trip.source} has the hypervisor {source.kind}, {trip.destination} has "
                f"{destination.kind}"
            )
        if source.version // 1_000_000 != destination.version // 1_000_000:
            raise HypervisorError(
                f"{trip.source} has {source.kind} {domains.version(source.version)}, "
                f"{trip.destination} has {domains.version(destination.version)}; the major "
                "versions must be the same"
            )
        if trip.kind != "offline" and trip.check_room and destination.free_memory is not None:
            free = max(0, destination.free_memory - self._site.options.reserved_memory)
            if here.memory > free:
                raise HypervisorError(
                    f"{trip.destination} has {free} KiB of memory free, {trip.name} needs "
                    f"{here.memory} KiB"
                )
        if trip.vcpu_map is not None:
            check_map(trip.name, here.vcpus, trip.vcpu_map)
            largest = max(map(max, trip.vcpu_map), default=0)
            if largest >= destination.cpus:
                raise HypervisorError(
                    f"the vcpu-map has CPU {largest}, but {trip.destination} has the CPUs 0 to "
                    f"{destination.cpus - 1}"
                )

    async def _check_cpu(self) -> None:
        trip = self.trip
        connect = self._site.connections.get
        source = await connect(trip.source, trip.driver, trip.transport)
        destination = await connect(trip.destination, trip.driver, trip.transport)
        wanted = await source.call(_cpu_of, trip.name)
        if wanted is None:
            return
        try:
            fits = await destination.call(_fits, wanted)
        except UnsupportedCallError as error:
            self._context.log.info("the CPUs cannot be compared: %s", error)
            return
        if not fits:
            raise HypervisorError(
                f"the CPU of {trip.destination} lacks what that of {trip.name} has; give the "
                "domain a CPU model that both hosts have"
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
        if self._pscom_count:
            await self._kept(pscom=self._pscom_count)
            with self._measure(f"pscom-suspend-{trip.name}"):
                await self._pscom().suspend(self._stopping)
        for kind, timer in (("pci", "detach-pci-devs"), ("ivshmem", "detach-ivshmem-devs")):
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
        """Have libvirt move it. Raises HypervisorError, and it is on the source then."""
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
        try:
            if trip.kind == "warm":
                with self._measure(f"downtime-{trip.name}"):
                    await job.run(self._site, trip, order, self._stopping, self._context)
            else:
                await job.run(self._site, trip, order, self._stopping, self._context)
        except HypervisorError as error:
            return await self.settle(error)
        return None

    async def settle(self, error: HypervisorError) -> str:
        """Find out where the domain is after an error: what to tell if it has arrived all the same.

        Raises HypervisorError, which says where it is, if it has not.
        """
        trip = self.trip
        if trip.kind == "offline":
            raise error
        self._found = found = await self._establish()
        if found.place == "destination":
            self._context.log.warning("%s has arrived in spite of: %s", trip.name, error)
            return f"it has arrived in spite of this: {error}"
        raise error

    async def _establish(self) -> Found:
        return await establish(
            self._site, self.trip, self._context, was_running=self.record.kept.was_running
        )

    # On storage, where there is no room for both domains of a swap

    async def save(self, path: str) -> None:
        """Save it into a file, so that its memory is free. Raises HypervisorError."""
        trip = self.trip
        self._report("save")
        await self._kept(path=path)
        async with self._site.connections.own(trip.source, trip.driver, trip.transport) as source:
            with self._measure(f"suspend-{trip.name}"):
                xml = await asyncio.wrap_future(source.submit(storage.save, trip.name, path))
        await self._kept(phase="saved", xml=xml)

    async def restore(self, host: str) -> list[str]:
        """Let it go on from the file, on its source; what could not be, in words."""
        troubles: list[str] = []
        await self._try(troubles, "restore it", self._restore(host, paused=False))
        if troubles:
            return [*troubles, f"{self.trip.name} is saved in {self.record.kept.path}"]
        await self._reattach(host, troubles)
        await self._resume_pscom(troubles)
        return [f"{self.trip.name} runs on {host}", *troubles]

    async def restore_there(self) -> None:
        """Let it go on from the file, on the destination. Raises HypervisorError."""
        trip = self.trip
        try:
            with self._measure(f"resume-{trip.name}"):
                await self._restore(trip.destination, paused=trip.vcpu_map is not None)
        except HypervisorError as error:
            words = "; ".join([str(error), *await self.restore(trip.source)])
            raise HypervisorError(
                f"{trip.name} could not be restored on {trip.destination}: {words}"
            ) from error
        await self.forget_source()

    async def forget_source(self) -> None:
        """Once it runs on the destination: forget what the source has of it."""
        trip, kept = self.trip, self.record.kept
        if kept.path is not None:
            await asyncio.to_thread(Path(kept.path).unlink, missing_ok=True)
        if kept.xml is not None:
            await self._site.insist(
                trip.source, trip.driver, trip.transport, domains.undefine, trip.name
            )
        await self._kept(path=None, phase="move")

    async def _restore(self, host: str, *, paused: bool) -> None:
        trip, kept = self.trip, self.record.kept
        self._report("restore")
        assert kept.path is not None
        paused = paused or not kept.was_running
        async with self._site.connections.own(host, trip.driver, trip.transport) as connection:
            await asyncio.wrap_future(
                connection.submit(storage.restore, trip.name, kept.path, kept.xml, paused)
            )
        if host == trip.source:
            await asyncio.to_thread(Path(kept.path).unlink, missing_ok=True)
            await self._kept(path=None, phase="move")

    # Finish

    async def finish(self) -> None:
        """Let it run on the destination as it did on the source.

        Raises HypervisorError, which says that it has arrived and what is wrong with it there.
        """
        trip = self.trip
        if trip.kind == "offline":
            return
        self._report("finish", percent=100.0)
        self.record.keep(phase="finish")
        troubles: list[str] = []
        if trip.vcpu_map is not None:
            rows = [list(row) for row in trip.vcpu_map]
            with self._measure("repin"):
                await self._try(troubles, "repin", self._there(domains.pin, rows))
        if self.record.kept.was_running:
            with self._measure(f"resume-{trip.name}"):
                await self._try(troubles, "resume", self._there(domains.resume))
        await self._reattach(trip.destination, troubles)
        await self._resume_pscom(troubles)
        if troubles:
            found = await self._establish()
            raise HypervisorError(f"{found.words}, but {'; '.join(troubles)}")

    async def _there(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """A call on the destination, which may be away for a while."""
        trip = self.trip
        return await self._site.insist(
            trip.destination, trip.driver, trip.transport, function, trip.name, *arguments
        )

    async def _try(self, troubles: list[str], what: str, step: Any) -> None:
        try:
            await step
        except HypervisorError as error:
            troubles.append(f"could not {what}: {error}")

    async def _reattach(self, host: str, troubles: list[str]) -> None:
        kept = self.record.kept
        for kind, timer in (("ivshmem", "reattach-ivshmem-devs"), ("pci", "reattach-pci-devs")):
            of_kind = [device for device in kept.detached if device.kind == kind]
            if not of_kind:
                continue
            with self._measure(timer):
                for device in of_kind:
                    await self._try(troubles, f"reattach a {kind} device", self._give(host, device))
        if kept.detached:
            self.record.keep(detached=())

    async def _give(self, host: str, device: Attached) -> None:
        trip = self.trip
        await self._site.insist(
            host, trip.driver, trip.transport, devices.reattach, trip.name, device
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
        if kept.was_running and kept.phase != "prepare" and trip.kind != "offline":
            step = self._site.insist(
                trip.source, trip.driver, trip.transport, domains.resume, trip.name
            )
            await self._try(troubles, "resume it", step)
        await self._reattach(trip.source, troubles)
        await self._resume_pscom(troubles)
        return troubles

    async def undone(self, error: HypervisorError) -> HypervisorError:
        """Undo it, and say why it failed and where the domain is."""
        trip = self.trip
        self._report("undo")
        kept = self.record.kept
        begun = kept.phase != "prepare" or kept.pscom or kept.detached
        if not begun:
            if isinstance(error, TaskCancelledError):
                return error
            return HypervisorError(f"{trip.name} did not migrate to {trip.destination}: {error}")
        found = self._found
        if found is None and trip.kind != "offline":
            found = await self._establish()
        words = [str(error)]
        if found is None or found.place == "source":
            troubles = await self.undo()
            words += [await self._at_source(), *troubles]
        else:
            words.append(found.words)
        if isinstance(error, TaskCancelledError):
            return TaskCancelledError("; ".join(words))
        return HypervisorError(
            f"{trip.name} did not migrate to {trip.destination}: {'; '.join(words)}"
        )

    async def _at_source(self) -> str:
        """What it does on the source, in words."""
        trip = self.trip
        try:
            seen = await self._site.insist(
                trip.source, trip.driver, trip.transport, domains.sight, trip.name
            )
        except HypervisorError as error:
            return f"{trip.name} is on {trip.source} ({error})"
        return f"{trip.name} {seen.words} on {trip.source}"

    def _report(self, phase: str, percent: float | None = None) -> None:
        self._context.progress(phase, vm_name=self.trip.name, percent=percent)


def _cpu_of(connection: Any, name: str) -> tuple[str, str, str, str] | None:
    """CPU, emulator, architecture and machine of a running domain; None if it asks for nothing."""
    libvirt = api()
    xml = connection.lookupByName(name).XMLDesc(libvirt.VIR_DOMAIN_XML_MIGRATABLE)
    root = parse(xml)
    cpu, kind = root.find("cpu"), root.find("os/type")
    if cpu is None or cpu.find("model") is None or kind is None:
        return None
    return (
        text(cpu),
        str(kind.get("arch", "")),
        str(kind.get("machine", "")),
        str(root.get("type", "")),
    )


def _fits(connection: Any, wanted: tuple[str, str, str, str]) -> bool:
    libvirt = api()
    cpu, architecture, machine, kind = wanted
    found = connection.compareHypervisorCPU(None, architecture, machine, kind, cpu, 0)
    return bool(found != libvirt.VIR_CPU_COMPARE_INCOMPATIBLE)
