"""Stopping a domain deletes its group. What runs in it is killed if the task says so."""

import os
import signal
from collections.abc import Callable
from contextlib import ExitStack, suppress
from functools import partial
from typing import Final

from fastlib.message import Result, Stop
from fastlib.migfra.errors import HypervisorError, TaskCancelledError
from fastlib.migfra.plugin_api.context import Context
from fastlib.migfra.tasks.results import sound
from fastlib.migfra.virt.names import matching

from .files import BusyError
from .hierarchy import Hierarchy, counted
from .site import Site
from .waiting import until

_SETTLING: Final = 1.0
"""Seconds that processes get to freeze before they are killed, frozen or not."""


def stop(site: Site, task: Stop, context: Context) -> list[Result] | str | None:
    """Stop a domain, or each whose name matches. Raises HypervisorError."""
    if task.vm_name is not None:
        stop_one(site, task.vm_name, task, context)
        return None
    assert task.regex is not None
    names = matching(task.regex, site.groups.names())
    if not names:
        return f"no active domain's name matches {task.regex[:100]!r}"
    context.save_state(names=names).result()
    return [result_of(name, partial(stop_one, site, name, task, context)) for name in names]


def result_of(name: str, stopping: Callable[[], str | None]) -> Result:
    """How it ended with one of several."""
    try:
        details = stopping()
    except HypervisorError as error:
        return Result(vm_name=name, status="error", details=sound(str(error)))
    return Result(vm_name=name, status="success", details=details)


def stop_one(site: Site, name: str, task: Stop, context: Context) -> None:
    """Stop a domain. Raises HypervisorError."""
    with site.alone(name, task, context):
        site.need(name)
        if task.force and site.groups.processes(name):
            site.refuse_own(name, "kill")
            killed = context.saved_state.get("killed", ())
            context.save_state(killed=[*killed, name]).result()
            context.check_cancelled()
            _kill(site, name, context)
        _delete(site, name, context)


def _kill(site: Site, name: str, context: Context) -> None:
    """Kill all that runs in a domain, what it begins meanwhile included, and wait for the end."""
    groups, patience = site.groups, site.options.stop_timeout

    def empty() -> bool:
        if not groups.kill(name):
            kill_each(site, name, context)
        return not groups.processes(name)

    context.progress("kill", vm_name=name)
    with context.measure("kill"):
        try:
            done = until(empty, patience, context)
        except TaskCancelledError as error:
            raise TaskCancelledError(
                f"cancelled while the processes of {name} were being killed; it is not deleted"
            ) from error
    if not done:
        raise HypervisorError(
            f"{name} still has {counted(groups.processes(name))} {patience:g} s after they were "
            "killed; they wait for a device or a file server, or are of another PID namespace (0): "
            "look at that, and stop it once more"
        )


def kill_each(site: Site, name: str, context: Context) -> None:
    """Kill the processes that a domain has now, one by one.

    They are frozen before, so that none begins others meanwhile; where they cannot be, it is done
    again until there are none left.
    """
    groups = site.groups
    if not groups.can_freeze(name):
        _send_kill(groups, name)
        return
    groups.freeze(name)
    try:
        until(lambda: groups.state(name) == "paused", _SETTLING, context)
        _send_kill(groups, name)
    finally:
        groups.thaw(name)


def _send_kill(groups: Hierarchy, name: str) -> None:
    """Kill the processes of a domain, and no other that has got the id of one that has ended."""
    with ExitStack() as files:
        handles: dict[int, int] = {}
        for pid in groups.processes(name) - {0}:
            with suppress(ProcessLookupError):  # it has ended by itself
                handles[pid] = os.pidfd_open(pid)
                files.callback(os.close, handles[pid])
        # What a handle was opened for was one of these if its id is among them still.
        for pid in groups.processes(name) & handles.keys():
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(handles[pid], signal.SIGKILL)


def _delete(site: Site, name: str, context: Context) -> None:
    groups, patience = site.groups, site.options.stop_timeout

    def deleted() -> bool:
        if processes := groups.processes(name):
            raise HypervisorError(
                f"{name} has {counted(processes)}, so that it cannot be deleted; end them or move "
                "them to another group, or stop it with force: true, which kills them"
            )
        try:
            groups.delete(name)
        except BusyError:
            return False  # the kernel is not done with those that have just ended
        return True

    context.progress("delete", vm_name=name)
    if not until(deleted, patience, context):
        raise HypervisorError(
            f"{name} has no processes, and yet it has been busy for {patience:g} s; look at what "
            f"else uses {groups.parent / name}, and stop it once more"
        )
