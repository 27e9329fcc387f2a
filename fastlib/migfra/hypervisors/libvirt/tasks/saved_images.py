"""Saved images (managed save) in the task `start vm`: find, decide, delete, save again."""

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final, TypeVar

from fastlib.message import Start
from fastlib.migfra.errors import HypervisorError
from fastlib.migfra.hypervisors.libvirt.domain import control, saved_state
from fastlib.migfra.hypervisors.libvirt.runtime import LibvirtRuntime
from fastlib.migfra.hypervisors.libvirt.whereabouts import ask_hosts
from fastlib.migfra.plugin_api.context import Context
from fastlib.migfra.virt.saved_state import (
    DISCARDED,
    RESTORED,
    Action,
    StartOrder,
    decide,
)

from .undo import Undo

T = TypeVar("T")
_KEY: Final = "restores-image"
"""Key in the journal: libvirt is about to restore an image, or has just done so."""


def was_restoring(context: Context) -> bool:
    """Return whether a start was interrupted after its restore and before the domain ran."""
    return bool(context.saved_state.get(_KEY))


class SavedImages:
    """The saved images of a domain that is to be started, and the start's use of them."""

    def __init__(
        self,
        runtime: LibvirtRuntime,
        name: str,
        uuid: str | None,
        driver: str | None,
        context: Context,
    ) -> None:
        """Take the UUID of the domain. None if it is not known yet."""
        self._runtime = runtime
        self._name = name
        self._uuid = uuid
        self._driver = driver
        self._context = context
        self._action: Action = "boot"
        self._elsewhere: Sequence[str] = ()
        self._image_here = False
        self._unexpected = False
        self._vanished = False
        self._notes: list[str] = []

    @property
    def restores(self) -> bool:
        """Whether the start restores an image, or has restored one that the checks missed."""
        return self._action == "restore" or self._unexpected

    @property
    def deletions(self) -> list[str]:
        """The images that were deleted, in words. The error of a failed start must name them."""
        return self._notes

    @property
    def details(self) -> list[str]:
        """The facts that the result of a success must name."""
        return [*self._notes, *([RESTORED] if self.restores else [])]

    async def check(self, task: Start) -> None:
        """Decide what the start does with the images. Raises HypervisorError if it is refused."""
        runtime, name = self._runtime, self._name
        local = await runtime.local(self._driver)
        image = await local.call(saved_state.image, name)
        self._image_here = image is not None
        self._elsewhere = await self._hosts_with_image()
        order = StartOrder.of(task, name, runtime.host)
        decision = decide(order, image, self._elsewhere)
        if decision.action == "refuse":
            raise HypervisorError(str(decision.reason))
        self._action = decision.action

    async def _hosts_with_image(self) -> list[str]:
        """Query the other hosts. An image of another domain with this name does not count."""
        runtime, name, uuid = self._runtime, self._name, self._uuid
        found = []
        for answer in await ask_hosts(runtime, name, runtime.options.nodes, self._driver):
            try:
                connection = await runtime.connections.get(answer.host, self._driver)
                image = await connection.call(saved_state.image, name)
            except HypervisorError as error:
                if not runtime.options.ignore_unreachable_nodes:
                    raise HypervisorError(
                        f"{answer.host} may have a saved image of {name}, but cannot be queried: "
                        f"{error}"
                    ) from error
                self._context.log.warning("%s is not queried for images: %s", answer.host, error)
                continue
            if image is not None and (uuid is None or image.uuid in (None, uuid)):
                found.append(answer.host)
        return found

    async def discard(self) -> None:
        """Delete the images if the task says so. Call it right before and right after the start.

        A file without a domain can only be deleted once there is a domain with its name. Raises
        HypervisorError.
        """
        if self._action != "discard":
            return
        if self._image_here:
            local = await self._runtime.local(self._driver)
            if await local.call(saved_state.remove, self._name):
                self._image_here = False
                self._note(DISCARDED)
        for host in self._elsewhere:
            connection = await self._runtime.connections.get(host, self._driver)
            if await connection.call(saved_state.remove, self._name):
                self._note(f"{DISCARDED} on {host}")
            else:
                self._note(
                    f"{host} no longer knows {self._name}, but has an old file of its "
                    f"memory; delete {saved_state.path(self._name)} there"
                )
        self._elsewhere = ()

    def _note(self, text: str) -> None:
        self._context.log.info("%s: %s", self._name, text)
        self._notes.append(text)

    async def start(self, create: Callable[..., int], *arguments: Any) -> int:
        """Start the domain with `create`. Returns the id of its run. Raises HypervisorError."""
        try:
            if self.restores:
                await asyncio.wrap_future(self._context.save_state(**{_KEY: True}))
                # Reading a large image takes longer than other calls may.
                run, restored = await self._call(_create, self._name, create, *arguments)
                if restored is False:
                    self._action, self._vanished = "boot", True
                return run
            local = await self._runtime.local(self._driver)
            run, restored = await local.call(_create, self._name, create, *arguments)
            self._unexpected = restored is True
            return run
        except HypervisorError as error:
            if not self.restores:
                raise
            raise type(error)(f"{error}; {await self._describe_image()}") from error

    async def _call(self, function: Callable[..., T], *arguments: Any) -> T:
        """Call a function with a separate connection and without a timeout."""
        own = self._runtime.connections.own
        async with own(self._runtime.host, self._driver) as connection:
            return await asyncio.wrap_future(connection.submit(function, *arguments))

    async def _describe_image(self) -> str:
        """Return a sentence: whether the image is left after a failed restore."""
        try:
            local = await self._runtime.local(self._driver)
            kept = await local.call(saved_state.image, self._name)
        except HypervisorError as error:
            return f"check whether its saved image is still there ({error})"
        if kept is None:
            return "its saved image is gone"
        return "its saved image is kept; saved-state: discard deletes it and boots the domain"

    def check_booted(self) -> None:
        """Raise HypervisorError if the start should have restored an image, and did not."""
        if self._vanished:
            raise HypervisorError(
                f"the saved image of {self._name} was deleted during the start; find out what else "
                "starts it, and try again"
            )

    def plan_undo(self, uuid: str, run: int, undo: Undo) -> None:
        """Let the undo of a restore save the domain again, and never end it: its image is gone."""
        undo.add(
            "save it again", partial(self._call, saved_state.save_again, self._name, uuid, run)
        )

    async def let_run(self) -> None:
        """Resume a restored domain. Raises HypervisorError if it should not have been restored."""
        if self._unexpected:
            raise HypervisorError(
                f"libvirt restored {self._name} from a saved image that was not there before the "
                "start; try again"
            )
        local = await self._runtime.local(self._driver)
        await local.call(control.ensure_running, self._name)
        await asyncio.wrap_future(self._context.save_state(**{_KEY: False}))


def _create(
    connection: Any, name: str, create: Callable[..., int], *arguments: Any
) -> tuple[int, bool | None]:
    """Start a domain. Returns libvirt's id of the run, and whether it restored an image. Blocks.

    Not all drivers report that. None means unknown.
    """
    run = create(connection, name, *arguments)
    return run, saved_state.was_restored(connection, name, run)
