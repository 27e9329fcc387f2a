"""The images that a start creates for new disks: create them, and remove them if it fails.

Only images that this start has created are removed. So the journal has the name of each image
before it is created, and a note after it. The definition of the domain has them, too.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Final

import msgspec

from fastlib.migfra.errors import HypervisorError
from fastlib.migfra.hypervisors.libvirt.domain import creation, volumes
from fastlib.migfra.hypervisors.libvirt.domain.image_uses import check_free
from fastlib.migfra.hypervisors.libvirt.domain.new_disks_xml import recorded_images
from fastlib.migfra.hypervisors.libvirt.domain.state import look_up, read_xml
from fastlib.migfra.hypervisors.libvirt.domain.volumes import Image, ImageExistsError
from fastlib.migfra.hypervisors.libvirt.errors import LostError
from fastlib.migfra.hypervisors.libvirt.runtime import LibvirtRuntime
from fastlib.migfra.plugin_api.cancel_scope import CancelScope
from fastlib.migfra.plugin_api.context import Context

from .new_disks_check import PlannedImage
from .new_disks_room import check_room_of_all
from .undo import Undo

_KEY: Final = "new-disks"
"""Key in the journal: the images that a start creates, and the definition of before."""


class NewImage(msgspec.Struct, frozen=True, kw_only=True):
    """An image that a start creates."""

    target: str
    image: Image
    created: bool = False
    """Whether the start has created it. If not, it was about to."""


class NewDisksState(msgspec.Struct, frozen=True, kw_only=True):
    """The record of a start in the journal."""

    images: Sequence[NewImage] = ()
    before: str | None = None
    """The domain's definition before the start. None without one."""


@asynccontextmanager
async def claimed(
    runtime: LibvirtRuntime, driver: str | None, name: str, planned: Sequence[PlannedImage]
) -> AsyncIterator[None]:
    """Reserve the paths of new images, and the room that they may take.

    Raises HypervisorError if another start has reserved a path, or if the images of all starts may
    together take more room than there is.
    """
    sizes = {each.image.path: each.image.capacity for each in planned}
    async with runtime.claims:
        taken = sorted(sizes.keys() & runtime.new_images.keys())
        if taken:
            raise HypervisorError(
                f"another start creates {', '.join(taken)} at the same time; choose another path"
            )
        if planned and not runtime.options.overcommit_disks:
            await check_room_of_all(runtime, driver, name, planned)
        runtime.new_images.update(sizes)
    try:
        yield
    finally:
        for path in sizes:
            del runtime.new_images[path]


class NewDisks:
    """The new disks of one start."""

    def __init__(
        self, runtime: LibvirtRuntime, name: str, driver: str | None, context: Context
    ) -> None:
        self._runtime = runtime
        self._name = name
        self._driver = driver
        self._context = context
        self._state = msgspec.convert(context.saved_state.get(_KEY, {}), NewDisksState)

    @property
    def details(self) -> list[str]:
        """The sentence about the new disks, for the result of a success."""
        if not self._state.images:
            return []
        words = ", ".join(f"{new.target} ({new.image.path})" for new in self._state.images)
        return [f"created {words}"]

    async def create(
        self,
        planned: Sequence[PlannedImage],
        before: str | None,
        scope: CancelScope,
        undo: Undo,
    ) -> None:
        """Create the images without data. Raises HypervisorError, for example if one exists."""
        if not planned:
            return
        images = [NewImage(target=each.disk.target, image=each.image) for each in planned]
        await self._save(NewDisksState(images=images, before=before))
        for number, new in enumerate(images):
            scope.check()
            path = new.image.path
            try:
                async with self._runtime.storage:
                    local = await self._runtime.local(self._driver)
                    await local.call(volumes.create_image, new.image)
            except HypervisorError as error:
                if not isinstance(error, ImageExistsError):
                    # libvirt may have done the call without an answer.
                    undo.add(f"remove {path}", partial(self._remove_without_data, new))
                kind = LostError if isinstance(error, LostError) else HypervisorError
                raise kind(
                    f"the image {path} for disk {new.target} of {self._name} could not be created: "
                    f"{error}"
                ) from error
            undo.add(f"remove {path}", partial(self._remove, path))
            images[number] = msgspec.structs.replace(new, created=True)
            await self._save(NewDisksState(images=images, before=before))

    async def undo_after_crash(self) -> list[str]:
        """Remove what an earlier run of the daemon has created, unless the domain may have run.

        Returns sentences about the images.
        """
        state, name, host = self._state, self._name, self._runtime.host
        if not state.images:
            return []
        try:
            observed = await self._call(look_up, name)
            if observed.active:
                return []
            paths = [new.image.path for new in state.images]
            if observed.known and not await self._forget(observed.uuid, paths):
                return [
                    f"it keeps {', '.join(paths)}, which may have data; stop it with undefine and "
                    "remove-storage to remove them"
                ]
        except HypervisorError as error:
            return [f"{', '.join(new.image.path for new in state.images)} may be left ({error})"]
        removed, sentences = [], []
        for new in state.images:
            try:
                await self._remove_without_data(new)
                removed.append(new.image.path)
            except HypervisorError as error:
                sentences.append(
                    f"{new.image.path} stays on {host} ({error}); remove it if it is not needed"
                )
        return [*([f"the start's new disks are removed ({', '.join(removed)})"] if removed else []),
                *sentences]  # fmt: skip

    async def _forget(self, uuid: str, paths: Sequence[str]) -> bool:
        """Undo the definition of the interrupted start. Returns False if the domain may have run.

        A domain that does not name the images is not of this start, and stays as it is.
        """
        xml = await self._call(read_xml, self._name)
        if not recorded_images(xml).keys() & set(paths):
            return True
        for new in self._state.images:
            if await self._call_storage(volumes.has_data, new.image):
                return False
        if self._state.before is None:
            await self._call(creation.forget, self._name, uuid)
        else:
            await self._call(creation.restore_definition, self._name, self._state.before)
        return True

    async def _remove(self, path: str) -> None:
        """Remove an image that this run has created."""
        await self._call(check_free, path)
        await self._call_storage(volumes.remove_image, path)

    async def _remove_without_data(self, new: NewImage) -> None:
        """Remove an image that this start may have created: another one may have been faster."""
        await self._call(check_free, new.image.path)
        if not await self._call_storage(volumes.remove_image_without_data, new.image):
            raise HypervisorError("it has data, or is another image than the start creates")

    async def _save(self, state: NewDisksState) -> None:
        self._state = state
        saved = {_KEY: msgspec.to_builtins(state)}
        await asyncio.wrap_future(self._context.save_state(**saved))

    async def _call_storage(self, function: Callable[..., Any], *arguments: Any) -> Any:
        async with self._runtime.storage:
            return await self._call(function, *arguments)

    async def _call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        runtime = self._runtime
        return await runtime.call_until_reachable(
            runtime.host, self._driver, None, function, *arguments
        )
