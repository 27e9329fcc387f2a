"""The task `stop vm`: shut down or destroy a domain, or all whose names match."""

import asyncio
from typing import Any, Final

from fastlib.message import Result, Stop
from fastlib.migfra.errors import HypervisorError
from fastlib.migfra.hypervisors.libvirt.connection.api import api
from fastlib.migfra.hypervisors.libvirt.connection.connection import Connection
from fastlib.migfra.hypervisors.libvirt.domain import control, host_info, saved_state
from fastlib.migfra.hypervisors.libvirt.domain.state import find, look_up, read_xml
from fastlib.migfra.hypervisors.libvirt.runtime import POLL_SECONDS, LibvirtRuntime
from fastlib.migfra.plugin_api.cancel_scope import CancelScope
from fastlib.migfra.plugin_api.context import Context
from fastlib.migfra.plugin_api.domain_results import domain_result
from fastlib.migfra.virt.names import check_name, matching
from fastlib.migfra.virt.saved_state import DISCARDED

_AGAIN: Final = 5.0
"""Seconds after which a domain is asked once more; one that boots does not hear the first time."""


async def stop(runtime: LibvirtRuntime, task: Stop, context: Context) -> list[Result] | str | None:
    """Stop a domain, or each active domain whose name matches. Raises HypervisorError."""
    with CancelScope(context) as scope:
        if task.vm_name is not None:
            return await _stop(runtime, check_name(task.vm_name), task, context, scope)
        assert task.regex is not None
        local = await runtime.local(task.driver)
        names = matching(task.regex, await local.call(host_info.active_names))
        if not names:
            return f"no active domain's name matches {task.regex[:100]!r}"
        context.save_state(names=names)
        ended = await asyncio.gather(
            *(_stop(runtime, name, task, context, scope) for name in names), return_exceptions=True
        )
        return [domain_result(name, end) for name, end in zip(names, ended, strict=True)]


async def _stop(
    runtime: LibvirtRuntime, name: str, task: Stop, context: Context, scope: CancelScope
) -> str | None:
    """Stop one. What is worth telling of a success, or None."""
    # Force needs not wait for what libvirt does with the domain: it ends that as well.
    exclusive = (
        runtime.locks.hold(name, scope)
        if task.force
        else runtime.exclusive(name, task.driver, scope)
    )
    async with exclusive:
        local = await runtime.local(task.driver)
        found = await local.call(look_up, name)
        if not found.known:
            await local.call(read_xml, name)  # raises, with libvirt's reason
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
            await local.call(control.destroy, name)
        else:
            if found.paused:
                raise HypervisorError(
                    f"{name} is paused, so that it cannot shut down; resume it first, or stop it "
                    "with force: true"
                )
            context.progress("shutdown", vm_name=name)
            await _shut_down(runtime, name, local, scope)
        if task.undefine:
            await local.call(control.undefine, name)
    return "; ".join(details) or None


async def _shut_down(
    runtime: LibvirtRuntime, name: str, local: Connection, scope: CancelScope
) -> None:
    loop = asyncio.get_running_loop()
    patience = runtime.options.stop_timeout
    deadline = loop.time() + patience
    async with local.changes(name) as changed:
        while True:
            changed.clear()
            if not (await local.call(_ask, name)):
                return
            asked = loop.time()
            while (now := loop.time()) < min(asked + _AGAIN, deadline):
                await scope.wait_any(min(asked + _AGAIN, deadline) - now, changed.wait())
                scope.check()
                changed.clear()
                if not (await local.call(look_up, name)).active:
                    return
                await scope.sleep(min(POLL_SECONDS, patience))
            if loop.time() >= deadline:
                raise HypervisorError(
                    f"{name} has not shut down within {patience:g} s and runs on; its operating "
                    "system may ignore the power button: shut it down from within, or stop it with "
                    "force: true"
                )


def _ask(connection: Any, name: str) -> bool:
    """Ask a domain to shut down; False if it is off already."""
    libvirt = api()
    domain = find(connection, name)
    if domain is None or not domain.isActive():
        return False
    try:
        domain.shutdown()
    except libvirt.libvirtError:
        if not domain.isActive():
            return False  # it went off by itself just now
        raise
    return True
