"""The task `stop vm`: shut down or destroy a domain, or all domains whose names match."""

import asyncio
from typing import Any, Final

from fastlib.message import Result, Stop
from fastlib.migfra.errors import HypervisorError, TaskCancelledError
from fastlib.migfra.hypervisors.libvirt.connection.api import api
from fastlib.migfra.hypervisors.libvirt.connection.connection import Connection, End
from fastlib.migfra.hypervisors.libvirt.domain import control, host_info, saved_state
from fastlib.migfra.hypervisors.libvirt.domain.state import (
    SHUT_OFF_BY_MIGRATION,
    SHUT_OFF_BY_SAVING,
    DomainState,
    find,
    look_up,
    read_xml,
)
from fastlib.migfra.hypervisors.libvirt.migration.settling import settle_first
from fastlib.migfra.hypervisors.libvirt.runtime import POLL_SECONDS, LibvirtRuntime
from fastlib.migfra.hypervisors.libvirt.whereabouts import find_domain, refuse_if_elsewhere
from fastlib.migfra.plugin_api.cancel_scope import CancelScope
from fastlib.migfra.plugin_api.context import Context
from fastlib.migfra.plugin_api.domain_results import domain_result
from fastlib.migfra.virt.names import check_name, matching_in_thread
from fastlib.migfra.virt.new_disks import check_removal
from fastlib.migfra.virt.saved_state import DISCARDED

from .storage_removal import StorageRemoval

_AGAIN: Final = 5.0
"""Seconds after which the shutdown is requested again. A booting domain ignores the first one."""


async def stop(runtime: LibvirtRuntime, task: Stop, context: Context) -> list[Result] | str | None:
    """Stop a domain, or each active domain whose name matches. Raises HypervisorError."""
    check_removal(task)
    with CancelScope(context) as scope:
        if task.vm_name is not None:
            return await _stop(runtime, check_name(task.vm_name), task, context, scope)
        assert task.regex is not None
        local = await runtime.local(task.driver)
        names = await matching_in_thread(task.regex, await local.call(host_info.active_names))
        if not names:
            return f"no active domain's name matches {task.regex[:100]!r}"
        context.save_state(names=names)

        async def one(name: str) -> str | None:
            with context.about(name):
                return await _stop(runtime, name, task, context, scope)

        ended = await asyncio.gather(*map(one, names), return_exceptions=True)
        return [domain_result(name, end) for name, end in zip(names, ended, strict=True)]


async def _stop(
    runtime: LibvirtRuntime, name: str, task: Stop, context: Context, scope: CancelScope
) -> str | None:
    """Stop one domain. Returns the details of the success, or None."""
    # With force there is no wait for libvirt's job with the domain: destroy ends it too.
    exclusive = (
        runtime.locks.hold(name, scope)
        if task.force
        else runtime.exclusive(name, task.driver, scope)
    )
    async with exclusive:
        await settle_first(runtime, name)
        local = await runtime.local(task.driver)
        found = await local.call(look_up, name)
        if not (found.active or task.undefine):
            await refuse_if_elsewhere(runtime, name, task.driver, "stop it")
        if not found.known:
            await local.call(read_xml, name)  # raises, with libvirt's reason
        removal = None
        if task.remove_storage:
            removal = StorageRemoval(runtime, name, task.driver, context)
            await removal.check()
        await scope.begin()
        details: list[str] = []
        image = await local.call(saved_state.image, name)
        if await local.call(saved_state.remove_old, name):
            details.append("its old saved image is deleted")
        if not found.active:
            if not task.undefine:
                raise HypervisorError(f"{name} is shut off on {runtime.host} already")
            if image is not None and not task.force:
                raise HypervisorError(
                    f"{name} has a saved image on {runtime.host} with its newest memory, which "
                    "undefine would delete; start it first, or delete the image with force: true"
                )
            details.append(f"{name} was shut off already")
            if await local.call(saved_state.remove, name):
                details.append(DISCARDED)
        elif task.force:
            context.progress("destroy", vm_name=name)
            if not await local.call(control.destroy, name):
                await _check_not_left(runtime, name, task, found)
        else:
            if found.paused:
                raise HypervisorError(
                    f"{name} is paused, so it cannot shut down; resume it first, or stop it "
                    "with force: true"
                )
            context.progress("shutdown", vm_name=name)
            end = await _shut_down(runtime, name, local, scope)
            if end != "stopped":
                await _check_not_left(runtime, name, task, found, end)
            await _check_not_saved(runtime, name, local)
        if removal is not None:
            context.progress("remove storage", vm_name=name)
            details.append(await removal.remove())
        if task.undefine:
            await local.call(control.undefine, name)
        details += [entry.remark for entry in runtime.unsettled.of(name)]
    return "; ".join(details) or None


async def _check_not_left(
    runtime: LibvirtRuntime,
    name: str,
    task: Stop,
    before: DomainState,
    end: End | None = None,
) -> None:
    """Raise HypervisorError if the domain has not ended, but has migrated away.

    A daemon on another host may have moved it, for example in a swap.
    """
    local = await runtime.local(task.driver)
    here = await local.call(look_up, name)
    if end is None and here.known and here.reason != SHUT_OFF_BY_MIGRATION:
        return
    found = await find_domain(runtime, name, task.driver, uuid=before.uuid)
    here = found.here
    if found.elsewhere is not None and not here.active:
        raise HypervisorError(f"{name} was not stopped: {found.sentence}; stop it there")
    if end == "migrated" or here.reason == SHUT_OFF_BY_MIGRATION:
        raise HypervisorError(
            f"{name} was not stopped: it has migrated away from {runtime.host}, and "
            f"{found.sentence}; check the other hosts"
        )


async def _check_not_saved(runtime: LibvirtRuntime, name: str, local: Connection) -> None:
    """Raise HypervisorError if the domain was saved instead of shut down, as libvirt-guests does.

    Its image has the newest memory. `undefine` would delete it.
    """
    here = await local.call(look_up, name)
    if not here.active and here.reason == SHUT_OFF_BY_SAVING:
        raise HypervisorError(
            f"{name} has not shut down on {runtime.host}: it was saved in the meantime; start it, "
            "which restores its memory, and stop it again"
        )


async def _shut_down(
    runtime: LibvirtRuntime, name: str, local: Connection, scope: CancelScope
) -> End | None:
    """Shut a domain down. Returns how it ended if libvirt has reported that, else None."""
    loop = asyncio.get_running_loop()
    patience = runtime.options.stop_timeout
    deadline = loop.time() + patience
    async with local.changes(name) as changed:
        while True:
            changed.clear()
            if not (await local.call(_ask, name)):
                return changed.end
            limit = min(loop.time() + _AGAIN, deadline)
            while (left := limit - loop.time()) > 0 or scope.cancelled:
                await scope.wait_any(max(left, 0.0), changed.wait())
                changed.clear()
                observed = await local.call(look_up, name)
                if not observed.active:
                    return changed.end
                if scope.cancelled:
                    raise TaskCancelledError(
                        f"{scope.reason}; the shutdown of {name} was requested and may still "
                        f"complete; now it {observed.phrase} on {runtime.host}"
                    )
                await scope.wait_any(min(POLL_SECONDS, patience))
            if loop.time() < deadline:
                continue
            observed = await local.call(look_up, name)
            if not observed.active:
                return changed.end
            raise HypervisorError(
                f"{name} has not shut down within {patience:g} s and {observed.phrase} on "
                f"{runtime.host}; its operating system may ignore the power button: shut it down "
                "from within, or stop it with force: true"
            )


def _ask(connection: Any, name: str) -> bool:
    """Request the shutdown of a domain. Returns False if it is off already."""
    libvirt = api()
    domain = find(connection, name)
    if domain is None or not domain.isActive():
        return False
    try:
        domain.shutdown()
    except libvirt.libvirtError:
        if not domain.isActive():
            return False  # it has just shut down
        raise
    return True
