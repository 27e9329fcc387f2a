"""Remove the images that starts have created for a domain, in the task `stop vm`.

The domain's definition names them (`domain/new_disks_xml.py`). So they are removed before the
definition, and the task can be repeated after a failure.
"""

import asyncio
import os
from collections.abc import Mapping, Sequence
from typing import Any

from fastlib.migfra.errors import HypervisorError
from fastlib.migfra.hypervisors.libvirt.domain import volumes
from fastlib.migfra.hypervisors.libvirt.domain.image_users import link_target
from fastlib.migfra.hypervisors.libvirt.domain.image_uses import ImageUse, uses_of
from fastlib.migfra.hypervisors.libvirt.domain.new_disks_xml import recorded_images
from fastlib.migfra.hypervisors.libvirt.domain.state import find
from fastlib.migfra.hypervisors.libvirt.runtime import LibvirtRuntime
from fastlib.migfra.hypervisors.libvirt.whereabouts import ask_hosts
from fastlib.migfra.plugin_api.context import Context


class StorageRemoval:
    """The images of one domain that is being stopped."""

    def __init__(
        self, runtime: LibvirtRuntime, name: str, driver: str | None, context: Context
    ) -> None:
        self._runtime = runtime
        self._name = name
        self._driver = driver
        self._context = context
        self._uuid = ""
        self._images: Mapping[str, str] = {}

    async def check(self) -> None:
        """Check that the images can be removed once the domain is off. Changes nothing.

        Raises HypervisorError for an image that another domain uses, here or on another host.
        """
        local = await self._runtime.local(self._driver)
        self._uuid, self._images = await local.call(_read, self._name)
        if self._images:
            await self._check_unused(is_off=False)
            await self._check_nodes()

    async def remove(self) -> str:
        """Remove the images of a domain that is off. Returns a sentence about them.

        Raises HypervisorError if one cannot be removed. The others are removed, and the definition
        names all of them.
        """
        if not self._images:
            return f"no start has created images for {self._name}"
        await self._check_unused(is_off=True)
        removed, problems = [], []
        for path, target in self._images.items():
            link = await asyncio.to_thread(link_target, path)
            try:
                async with self._runtime.storage:
                    was_there = await self._call(volumes.remove_image, path)
                words = path if was_there else f"{path}, gone before"
                if link is not None:
                    words = f"{path}, a link; {link} stays"
                removed.append(f"{target} ({words})")
            except HypervisorError as error:
                problems.append(f"{target} ({path}) could not be removed: {error}")
        if problems:
            raise HypervisorError(
                f"{self._name} is shut off on {self._runtime.host}, but {'; '.join(problems)}; its "
                "definition stays, so stop it again once that is repaired"
            )
        return f"removed {', '.join(removed)}"

    async def _check_unused(self, *, is_off: bool) -> None:
        """Check that no domain but this one uses the images, and that it does not run on."""
        paths = list(self._images)
        uses = await self._call(uses_of, paths, is_local=True)
        for path in paths:
            self._refuse(path, self._runtime.host, uses[path], is_off=is_off)
            if not await asyncio.to_thread(os.path.exists, os.path.dirname(path)):
                continue  # with the folder the image has gone, too
            async with self._runtime.storage:
                overlays = await self._call(volumes.overlays_of, path)
            if overlays:
                raise HypervisorError(
                    f"{path} is the backing file of {', '.join(overlays)}, so it is not removed; "
                    f"remove these, or stop {self._name} without remove-storage"
                )

    def _refuse(self, path: str, host: str, uses: Sequence[ImageUse], *, is_off: bool) -> None:
        for use in uses:
            is_own = use.uuid == self._uuid
            if is_own and not use.is_backing and not (is_off and use.is_active):
                continue
            if is_own and use.is_backing:
                raise HypervisorError(
                    f"{path} {use.words}, probably because of an external snapshot, so it is not "
                    f"removed; delete the snapshot, or stop {self._name} without remove-storage"
                )
            if is_own:
                raise HypervisorError(
                    f"{self._name} has been started again on {host}, so its images are not "
                    "removed; stop it again"
                )
            raise HypervisorError(
                f"{path} {use.words} on {host}, too, so it is not removed; undefine {use.name}, or "
                f"stop {self._name} without remove-storage"
            )

    async def _check_nodes(self) -> None:
        """Check that no domain of another host uses the images: the hosts may share the storage."""
        runtime, paths = self._runtime, list(self._images)
        for answer in await ask_hosts(runtime, self._name, runtime.options.nodes, self._driver):
            try:
                connection = await runtime.connections.get(answer.host, self._driver)
                uses = await connection.call(uses_of, paths, is_local=False)
            except HypervisorError as error:
                if not runtime.options.ignore_unreachable_nodes:
                    raise HypervisorError(
                        f"a domain on {answer.host} may use images of {self._name}, and cannot be "
                        f"queried: {error}; stop {self._name} without remove-storage, or set "
                        "ignore-unreachable-nodes: true"
                    ) from error
                self._context.log.warning(
                    "images of %s are removed without an answer of %s: %s",
                    self._name, answer.host, error,
                )  # fmt: skip
                continue
            for path in paths:
                if uses[path]:
                    raise HypervisorError(
                        f"{path} {uses[path][0].words} on {answer.host}, too, so it is not "
                        f"removed; undefine {uses[path][0].name} there, or stop {self._name} here "
                        "without remove-storage"
                    )

    async def _call(self, function: Any, *arguments: Any, **named: Any) -> Any:
        runtime = self._runtime
        return await runtime.call_until_reachable(
            runtime.host, self._driver, None, function, *arguments, **named
        )


def _read(connection: Any, name: str) -> tuple[str, dict[str, str]]:
    """Return a domain's UUID, and the images that starts have created for it. Blocks."""
    domain = find(connection, name)
    if domain is None:
        return "", {}
    return domain.UUIDString(), recorded_images(domain.XMLDesc(0))
