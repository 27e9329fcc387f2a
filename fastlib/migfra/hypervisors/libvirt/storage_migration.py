"""The domain of a swap that is on storage meanwhile, as neither host has room for both.

A file may be restored only as long as the domain cannot have run since it was saved: what it has
written to its disks meanwhile would not fit the memory in the file any more.
"""

import asyncio
from pathlib import Path

from fastlib.migfra.errors import FinalError, HypervisorError, TaskCancelledError

from . import domains, job, storage
from .migration import Migration
from .reconcile import PATIENCE
from .site import LOOK


class StoredMigration(Migration):
    """A migration by way of a file that both hosts see."""

    async def check_path(self, path: str) -> None:
        """Raises HypervisorError if there is something already where it is to be saved."""
        if await asyncio.to_thread(Path(path).exists):
            raise HypervisorError(
                f"there is a file {path} already, perhaps the memory of a domain that was not "
                "restored; move it away"
            )

    async def save(self, path: str) -> None:
        """Save it into a file, so that its memory is free.

        Raises HypervisorError, which says where it is then.
        """
        trip = self.trip
        self._report("save")
        own = self._site.connections.own
        watch = job.Watch(self._site, trip, self._stopping, self._context, saving=True)
        try:
            source = await self._site.connections.get(trip.source, trip.driver, trip.transport)
            xml = await source.call(storage.definition, trip.name)
            await self._kept(phase="saving", path=path, xml=xml)
            with self._measure(f"suspend-{trip.name}"):
                async with own(trip.source, trip.driver, trip.transport) as connection:
                    call = connection.submit(storage.save, trip.name, path)
                    await job.await_call(watch, call)
        except HypervisorError as error:
            if self.record.kept.path is None or not await self.is_saved():
                raise await self.undone(error) from error
            await self._kept(phase="saved")
            if isinstance(error, TaskCancelledError):
                words = "; ".join([str(error), *await self.restore_here()])
                raise TaskCancelledError(words) from error
            self._context.log.warning("%s is saved in spite of: %s", trip.name, error)
        else:
            await self._kept(phase="saved")

    async def is_saved(self) -> bool:
        """Whether it is in its file and no longer on its host, once libvirt has done with it.

        Raises HypervisorError if that cannot be found out.
        """
        kept = self.record.kept
        await job.ended(self._site, self.trip)
        seen = await self._here(domains.sight)
        assert kept.path is not None
        return not seen.active and await asyncio.to_thread(Path(kept.path).exists)

    async def restore_here(self) -> list[str]:
        """Let it go on from the file on its source: where it is then, and what is wrong."""
        trip, kept = self.trip, self.record.kept
        await self._kept(phase="restoring")
        try:
            await self._restore(trip.source, paused=False)
        except HypervisorError as error:
            seen = await self.restored(trip.source)
            if seen is None or not seen.active:
                return [f"could not restore it: {error}", f"{trip.name} is saved in {kept.path}"]
        return await self.stayed()

    async def stayed(self) -> list[str]:
        """Once it is active on its source again: where it is, and what is wrong with it."""
        troubles: list[str] = []
        await self._unlink(troubles)
        await self._reattach(self.trip.source, troubles)
        await self._resume_pscom(troubles)
        return [await self._at_source(), *troubles]

    async def restore_there(self) -> None:
        """Let it go on from the file on the destination, and finish.

        Raises ArrivedError for what is wrong with it there, and HypervisorError if it is not there.
        """
        trip = self.trip
        await self._kept(phase="restoring")
        try:
            with self._measure(f"resume-{trip.name}"):
                await self._restore(trip.destination, paused=trip.vcpu_map is not None)
        except HypervisorError as error:
            await self._look_there(error)
        await self.arrived()

    async def arrived(self) -> None:
        """Once it is active on the destination: let its source forget it, and finish."""
        trip, kept = self.trip, self.record.kept
        troubles: list[str] = []
        if kept.xml is not None:
            defined = self._there(storage.define, kept.xml)
            await self._try(troubles, "define it there", defined)
            forgotten = self._here(domains.undefine)
            await self._try(troubles, f"forget its definition on {trip.source}", forgotten)
        await self._unlink(troubles)
        await self.finish(troubles)

    async def _look_there(self, error: HypervisorError) -> None:
        """After a failure: raises FinalError unless it is on the destination all the same."""
        trip, path = self.trip, self.record.kept.path
        failed = f"{trip.name} could not be restored on {trip.destination}: {error}"
        seen = await self.restored(trip.destination)
        if seen is None:
            raise FinalError(
                f"{failed}; it is saved in {path}, and whether it runs on {trip.destination} "
                f"cannot be asked: look there, and only if it does not, use virsh restore {path}"
            ) from error
        if not seen.active:
            raise FinalError("; ".join([failed, *await self.restore_here()])) from error
        self._context.log.warning("%s is restored in spite of: %s", trip.name, error)

    async def restored(self, host: str) -> domains.Sighting | None:
        """What a host says of the domain once nothing is under way there; None if it says nothing.

        That it is not active counts only if it is seen twice, as a call may still be on its way.
        """
        trip = self.trip
        loop = asyncio.get_running_loop()
        deadline = loop.time() + PATIENCE
        absent = False
        while True:
            try:
                seen = await self._site.insist(
                    host, trip.driver, trip.transport, domains.sight, trip.name
                )
            except HypervisorError as error:
                self._context.log.warning("%s", error)
                return None
            late = loop.time() >= deadline
            if seen.active and (late or not seen.migrating):
                return seen
            if not seen.active and absent:
                return seen
            absent = not seen.active
            await asyncio.sleep(LOOK)

    async def _restore(self, host: str, *, paused: bool) -> None:
        trip, kept = self.trip, self.record.kept
        self._report("restore")
        assert kept.path is not None
        paused = paused or not kept.was_running
        async with self._site.connections.own(host, trip.driver, trip.transport) as connection:
            call = connection.submit(storage.restore, trip.name, kept.path, paused)
            await asyncio.wrap_future(call)

    async def _unlink(self, troubles: list[str]) -> None:
        path = self.record.kept.path
        if path is None:
            return
        try:
            await asyncio.to_thread(Path(path).unlink, missing_ok=True)
        except OSError as error:
            troubles.append(f"could not remove {path}: {error.strerror}")
        self.record.keep(path=None, phase="move")
