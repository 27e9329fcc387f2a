"""The task `stop vm`: delete a group, and with `force` kill its processes."""

import os
import signal
from collections.abc import Callable
from contextlib import ExitStack, suppress
from functools import partial
from typing import Final

from fastlib.message import Result, Stop
from fastlib.migfra.errors import HypervisorError, TaskCancelledError
from fastlib.migfra.plugin_api.context import Context
from fastlib.migfra.plugin_api.domain_results import domain_result, sound
from fastlib.migfra.virt.names import matching

from .decisions import why_not_deletable, why_not_killable
from .files import BusyError, GoneError
from .freezing import thaw
from .hierarchy import Hierarchy
from .inspection import inspect
from .processes import describe_processes, why_alive
from .runtime import PonciRuntime
from .waiting import wait_until

_FREEZE_BEFORE_KILL_SECONDS: Final = 1.0
"""Seconds that processes get to freeze. Then they are killed, frozen or not."""


def stop(runtime: PonciRuntime, task: Stop, context: Context) -> list[Result] | str | None:
    """Stop a domain, or each whose name matches. Raises HypervisorError."""
    if task.remove_storage:
        raise HypervisorError("a cgroup has no disks; leave 'remove-storage' out")
    if task.vm_name is not None:
        stop_one(runtime, task.vm_name, task, context)
        return None
    assert task.regex is not None
    # A regular expression cannot match names that are not valid text.
    names = [name for name in runtime.hierarchy.names() if name == sound(name)]
    names = matching(task.regex, names)
    if not names:
        return f"no active domain's name matches {task.regex[:100]!r}"
    context.save_state(names=names).result()
    return [result_of(name, partial(stop_one, runtime, name, task, context)) for name in names]


def result_of(name: str, operation: Callable[[], str | None]) -> Result:
    """Return the result of one of several domains."""
    try:
        return domain_result(name, operation())
    except HypervisorError as error:
        return domain_result(name, error)


def stop_one(runtime: PonciRuntime, name: str, task: Stop, context: Context) -> None:
    """Stop a domain. Raises HypervisorError."""
    with context.about(name), runtime.exclusive(name, task, context):
        stop_held(runtime, name, task, context)


def stop_held(runtime: PonciRuntime, name: str, task: Stop, context: Context) -> None:
    """Stop a domain whose lock the caller holds. Raises HypervisorError."""
    runtime.check_exists(name)
    if why := why_not_deletable(inspect(runtime.hierarchy, name)):
        raise HypervisorError(why)
    if task.force and runtime.hierarchy.processes(name):
        runtime.check_not_own(name, "kill")
        if why := why_not_killable(inspect(runtime.hierarchy, name)):
            raise HypervisorError(why)
        killed = context.saved_state.get("killed", ())
        context.save_state(killed=[*killed, name]).result()
        context.check_cancelled()
        _kill(runtime, name, context)
    _delete(runtime, name, context)


def _kill(runtime: PonciRuntime, name: str, context: Context) -> None:
    """Kill all processes in a domain, also those that begin in the meantime. Wait for the end."""
    hierarchy, patience = runtime.hierarchy, runtime.options.stop_timeout

    def empty() -> bool:
        if hierarchy.kill(name):
            _send_kill(hierarchy, name)  # for processes that the kernel leaves out
        else:
            kill_each(runtime, name, context)
        return not hierarchy.processes(name)

    context.progress("kill", vm_name=name)
    with context.measure("kill"):
        try:
            done = wait_until(empty, patience, context)
        except TaskCancelledError as error:
            raise TaskCancelledError(
                f"cancelled while the processes of {name} were being killed; it is not deleted"
            ) from error
    if not done:
        view = inspect(hierarchy, name)
        why = why_not_killable(view)
        if why is None and (alive := why_alive(view.processes)):
            why = f"{alive}; then stop {name} again"
        if why is not None:
            raise HypervisorError(
                f"{name} still has {describe_processes(view.processes)} {patience:g} s after they "
                f"were killed; {why}"
            )


def kill_each(runtime: PonciRuntime, name: str, context: Context) -> None:
    """Kill the present processes of a domain, one by one, and thaw all of its groups.

    The processes are frozen first, so none of them starts another one. If they cannot be frozen,
    the caller repeats this until no process is left. With v1 they end when they are thawed. The
    inner groups are thawed first, so all processes end at the same time.
    """
    hierarchy, freezer = runtime.hierarchy, runtime.hierarchy.freezer
    group = hierarchy.paths(name)[-1]
    if not freezer.can_freeze(group):
        _send_kill(hierarchy, name)
        return
    with suppress(GoneError):  # another program removes it; the caller checks the rest
        freezer.freeze(group)
        try:
            wait_until(lambda: freezer.read(group).frozen, _FREEZE_BEFORE_KILL_SECONDS, context)
            _send_kill(hierarchy, name)
        finally:
            try:
                thaw(hierarchy, inspect(hierarchy, name))
            finally:
                freezer.thaw(group)


def _send_kill(hierarchy: Hierarchy, name: str) -> None:
    """Kill the processes of a domain. Never kill another process that has got a reused id."""
    with ExitStack() as files:
        handles: dict[int, int] = {}
        for pid in hierarchy.processes(name) - {0}:
            with suppress(ProcessLookupError):  # it has ended already
                handles[pid] = os.pidfd_open(pid)
                files.callback(os.close, handles[pid])
        # If the id is still in the group, the handle is of a process of the group.
        for pid in hierarchy.processes(name) & handles.keys():
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(handles[pid], signal.SIGKILL)


def _delete(runtime: PonciRuntime, name: str, context: Context) -> None:
    hierarchy, patience = runtime.hierarchy, runtime.options.stop_timeout

    def deleted() -> bool:
        if processes := hierarchy.processes(name):
            raise HypervisorError(
                f"{name} has {describe_processes(processes)}, so it cannot be deleted; "
                "end them or move them to another group, or kill them and stop it with "
                "force: true"
            )
        try:
            hierarchy.delete(name)
        except BusyError:
            return False  # the kernel still has processes that have just ended
        return True

    context.progress("delete", vm_name=name)
    if not wait_until(deleted, patience, context):
        raise HypervisorError(
            f"{name} has no processes, but it has been busy for {patience:g} s; check what "
            f"else uses {hierarchy.parent / name}, and stop it again"
        )
