"""The images that a migration makes at the destination: create them, and remove them if it failed.

Only images that this migration has made are removed. So the journal has the name of each image
before it is created, and a note after it.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from fastlib.migfra.errors import HypervisorError
from fastlib.migfra.hypervisors.libvirt.domain.state import look_up
from fastlib.migfra.hypervisors.libvirt.domain.volumes import (
    ImageExistsError,
    create_image,
    remove_image,
    remove_image_without_data,
    remove_left_image,
    remove_unneeded_image,
)
from fastlib.migfra.hypervisors.libvirt.errors import LostError
from fastlib.migfra.hypervisors.libvirt.runtime import LibvirtRuntime
from fastlib.migfra.plugin_api.cancel_scope import CancelScope
from fastlib.migfra.plugin_api.context import Context
from fastlib.migfra.virt.migration_spec import MigrationSpec

from .disks_check import PlannedCopy
from .record import DiskCopy, MigrationRecord


class DiskCopies:
    """The copies of one migration's disks."""

    def __init__(
        self,
        runtime: LibvirtRuntime,
        spec: MigrationSpec,
        record: MigrationRecord,
        scope: CancelScope,
        context: Context,
    ) -> None:
        self._runtime = runtime
        self._spec = spec
        self._record = record
        self._scope = scope
        self._context = context

    @property
    def _copies(self) -> Sequence[DiskCopy]:
        return self._record.state.disks

    async def create(self, planned: Sequence[PlannedCopy]) -> None:
        """Create the images without data. Raises HypervisorError, for example if one exists."""
        spec = self._spec
        copies = tuple(
            DiskCopy(target=copy.target, image=copy.image, data_file=copy.data_file)
            for copy in planned
        )
        done: tuple[DiskCopy, ...] = ()
        # The journal never has more than one image that may not be of this migration.
        await self._save(copies[:1])
        for number, copy in enumerate(copies):
            try:
                self._scope.check()
                there = await self._runtime.connections.get(
                    spec.destination, spec.driver, spec.transport
                )
            except HypervisorError:
                await self._save(done)
                raise
            try:
                await there.call(create_image, copy.image)
            except HypervisorError as error:
                if isinstance(error, ImageExistsError):
                    await self._save(done)
                raise HypervisorError(
                    f"the image {copy.image.path} for disk {copy.target} could not be created on "
                    f"{spec.destination}: {error}"
                ) from error
            done += (msgspec.structs.replace(copy, created=True),)
            await self._save((*done, *copies[number + 1 : number + 2]))

    async def _save(self, copies: tuple[DiskCopy, ...]) -> None:
        await asyncio.wrap_future(self._record.save(disks=copies))

    async def remove(self, problems: list[str], *, late: bool = False) -> None:
        """Remove the copies after the domain has stayed on its source. The source is untouched.

        The record keeps those that are not removed because the destination is silent. A later
        `settle` removes them. It is `late`: someone may have put other images there since.
        """
        if not self._copies:
            return
        there, left = self._spec.destination, []
        silence: LostError | None = None
        for copy in self._copies:
            may_have = (
                f"the unfinished copy {copy.image.path} of disk {copy.target} may have stayed on "
                f"{there}"
            )
            try:
                if silence is None:
                    await self._remove_one(copy, late)
            except LostError as error:
                silence = error
            except HypervisorError as error:
                problems.append(f"{may_have} ({error}); remove it there")
            if silence is not None:
                left.append(copy)
                problems.append(
                    f"{may_have} ({silence}); the daemon removes it once {there} answers"
                )
        await self._save(tuple(left))

    async def _remove_one(self, copy: DiskCopy, late: bool) -> None:
        if copy.created and late:
            await self._call(self._spec.destination, remove_left_image, copy.image)
            return
        if copy.created:
            await self._call(self._spec.destination, remove_image, copy.image.path)
            return
        # An earlier run of the daemon was about to create it. Another program may have been faster.
        if not await self._call(self._spec.destination, remove_image_without_data, copy.image):
            raise HypervisorError("it has data, so it may be of another program")

    async def remove_if_never_ran(self) -> list[str]:
        """Remove the copies of a domain that is active nowhere, unless it has arrived before.

        libvirt defines a domain on the destination once it runs there, and then undefines it on
        the source. Returns sentences about copies that stay.
        """
        if not self._copies:
            return []
        spec, problems = self._spec, list[str]()
        try:
            here = await self._call(spec.source, look_up, spec.name)
            there = await self._call(spec.destination, look_up, spec.name)
        except HypervisorError as error:
            return [*self.words_of_uncertain(), str(error)]
        if here.known and not here.active and not there.known:
            await self.remove(problems)
            return problems
        return self.words_of_uncertain()

    def words_of_uncertain(self) -> list[str]:
        """Return the sentence about the images of a domain whose place is not certain."""
        if not self._copies:
            return []
        spec = self._spec
        return [
            f"both {spec.source} and {spec.destination} have images of {self._names}; only the "
            "host where the domain ran last has the newest ones, so remove none before that is "
            "certain"
        ]

    @property
    def _names(self) -> str:
        return ", ".join(f"{copy.target} ({copy.image.path})" for copy in self._copies)

    async def finish(self, *, is_certain: bool) -> str | None:
        """Keep or remove the images on the source, after the domain has arrived.

        Returns the sentence about them. `is_certain` is false if the source may still have the
        domain; then its images stay.
        """
        copies, spec = self._copies, self._spec
        if not copies:
            return None
        if spec.parameter.source_disks != "remove":
            return f"copied {self._names}; {spec.source} keeps its images"
        if not is_certain:
            return (
                f"copied {self._names}; the images on {spec.source} are not removed, because the "
                "domain may still be there"
            )
        problems, left = [], []
        is_own = self._runtime.connections.is_own(spec.source)
        for copy in copies:
            try:
                await self._call(
                    spec.source, remove_unneeded_image, copy.image.path, on_own_host=is_own
                )
            except HypervisorError as error:
                problems.append(f"{copy.target} could not be removed there: {error}")
            else:
                left += [] if copy.data_file is None else [f"{copy.data_file} of {copy.target}"]
        stays = (
            f"; {spec.source} keeps files with the data of images: {', '.join(left)}; remove them "
            "there if nothing else needs them"
            if left
            else ""
        )
        if problems:
            words = "; ".join(problems)
            return f"copied {self._names}; {spec.source} keeps images: {words}{stays}"
        return f"copied {self._names}; removed the images on {spec.source}{stays}"

    async def _call(
        self, host: str, function: Callable[..., Any], *arguments: Any, **named: Any
    ) -> Any:
        spec = self._spec
        return await self._runtime.call_until_reachable(
            host, spec.driver, spec.transport, function, *arguments, **named
        )
