"""Stopping domains: shutting one down, ending it by force, all that match at the same time."""

import asyncio
from typing import Any, Final

from fastlib.message import Result, Stop
from fastlib.migfra.errors import HypervisorError
from fastlib.migfra.plugin_api.context import Context
from fastlib.migfra.virt.names import check_name, matching

from . import domains
from .api import api
from .cancel_scope import Stopping
from .connections import Connection
from .results import result_of
from .site import LOOK, Site

_AGAIN: Final = 5.0
"""Seconds after which a domain is asked once more; one that boots does not hear the first time."""


async def stop(site: Site, task: Stop, context: Context) -> list[Result] | str | None:
    """Stop a domain, or each active domain whose name matches. Raises HypervisorError."""
    with Stopping(context) as stopping:
        if task.vm_name is not None:
            return await _stop(site, check_name(task.vm_name), task, context, stopping)
        assert task.regex is not None
        local = await site.local(task.driver)
        names = matching(task.regex, await local.call(domains.active_names))
        if not names:
            return f"no active domain's name matches {task.regex[:100]!r}"
        context.save_state(names=names)
        ended = await asyncio.gather(
            *(_stop(site, name, task, context, stopping) for name in names), return_exceptions=True
        )
        return [result_of(name, end) for name, end in zip(names, ended, strict=True)]


async def _stop(
    site: Site, name: str, task: Stop, context: Context, stopping: Stopping
) -> str | None:
    """Stop one. What is worth telling of a success, or None."""
    # Force needs not wait for what libvirt does with the domain: it ends that as well.
    alone = (
        site.locks.hold(name, stopping) if task.force else site.alone(name, task.driver, stopping)
    )
    async with alone:
        local = await site.local(task.driver)
        found = await local.call(domains.sight, name)
        if not found.known:
            await local.call(domains.description, name)  # raises, with libvirt's reason
        told = None
        if not found.active:
            if not task.undefine:
                raise HypervisorError(f"{name} is shut off on {site.host} already")
            told = f"{name} was shut off already"
        elif task.force:
            context.progress("destroy", vm_name=name)
            await local.call(domains.destroy, name)
        else:
            if found.paused:
                raise HypervisorError(
                    f"{name} is paused, so that it cannot shut down; resume it first, or stop it "
                    "with force: true"
                )
            context.progress("shutdown", vm_name=name)
            await _shut_down(site, name, local, stopping)
        if task.undefine:
            await local.call(domains.undefine, name)
    return told


async def _shut_down(site: Site, name: str, local: Connection, stopping: Stopping) -> None:
    loop = asyncio.get_running_loop()
    patience = site.options.stop_timeout
    deadline = loop.time() + patience
    async with local.changes(name) as changed:
        while True:
            changed.clear()
            if not (await local.call(_ask, name)):
                return
            asked = loop.time()
            while (now := loop.time()) < min(asked + _AGAIN, deadline):
                await stopping.any_of(min(asked + _AGAIN, deadline) - now, changed.wait())
                stopping.check()
                changed.clear()
                if not (await local.call(domains.sight, name)).active:
                    return
                await stopping.sleep(min(LOOK, patience))
            if loop.time() >= deadline:
                raise HypervisorError(
                    f"{name} has not shut down within {patience:g} s and runs on; its operating "
                    "system may ignore the power button: shut it down from within, or stop it with "
                    "force: true"
                )


def _ask(connection: Any, name: str) -> bool:
    """Ask a domain to shut down; False if it is off already."""
    libvirt = api()
    domain = domains.find(connection, name)
    if domain is None or not domain.isActive():
        return False
    try:
        domain.shutdown()
    except libvirt.libvirtError:
        if not domain.isActive():
            return False  # it went off by itself just now
        raise
    return True
