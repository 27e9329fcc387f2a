"""The tasks `suspend vm` and `resume vm`: freeze and thaw a domain."""

from contextlib import suppress

from fastlib.migfra.errors import HypervisorError, TaskCancelledError
from fastlib.migfra.plugin_api.context import Context

from .decisions import freezes, to_thaw, why_not_resumable, why_not_suspendable
from .domain_view import DomainView
from .files import GoneError
from .hierarchy import Hierarchy
from .inspection import inspect
from .processes import blocked, describe_processes, processes_of
from .runtime import PonciRuntime
from .waiting import wait_until


def suspend(runtime: PonciRuntime, name: str, context: Context) -> str | None:
    """Freeze a domain. Returns the details of the success, or None. Raises HypervisorError."""
    view = runtime.view(name)
    if why := why_not_suspendable(view):
        raise HypervisorError(why)
    if view.is_requested and view.is_frozen:
        return f"{name} was paused already"
    runtime.check_not_own(name, "freeze")
    freezer, group = runtime.hierarchy.freezer, view.groups[0].path
    if not freezer.can_freeze(group):
        raise HypervisorError(
            "this kernel cannot freeze a group of cgroup v2; use Linux 5.2 or newer"
        )
    context.check_cancelled()
    with context.measure(f"suspend-{name}"):
        freezer.freeze(group)
        wait_until_frozen(runtime, name, context, was_told=view.is_requested)
    return None


def wait_until_frozen(
    runtime: PonciRuntime, name: str, context: Context, *, was_told: bool = False
) -> None:
    """Wait until a domain has frozen. After a timeout or a cancellation, thaw it.

    Earlier freeze requests of other programs stay: that of the domain itself with `was_told`, and
    those of the groups in it.

    Raises HypervisorError if it takes too long, and TaskCancelledError.
    """
    hierarchy = runtime.hierarchy
    group, patience = hierarchy.paths(name)[-1], runtime.options.freeze_timeout
    context.progress("freeze", vm_name=name)
    try:
        done = wait_until(lambda: hierarchy.freezer.read(group).frozen, patience, context)
    except TaskCancelledError:
        if not was_told:
            hierarchy.freezer.thaw(group)
        raise
    if done:
        return
    if was_told:
        raise HypervisorError(
            f"{name} has not frozen within {patience:g} s; another program had requested the "
            f"freeze before this task, so it continues: wait for that, or resume {name}"
        )
    hierarchy.freezer.thaw(group)
    raise HypervisorError(
        f"{name} has not frozen within {patience:g} s and {_afterwards(hierarchy, name)}"
    )


def _afterwards(hierarchy: Hierarchy, name: str) -> str:
    """Return the state of a domain that was thawed because it did not freeze, and the remedy."""
    view = inspect(hierarchy, name)
    does = "was thawed, but parts of it are frozen" if freezes(view) else "continues to run"
    waiting = blocked(processes_of(view.running))
    if not waiting:
        return f"{does}; suspend it again, or set a longer freeze-timeout"
    return (
        f"{does}; one of its processes waits for a device or a file server (ps shows "
        f"{describe_processes(waiting)} in state D): check these, or set a longer freeze-timeout"
    )


def resume(runtime: PonciRuntime, name: str, context: Context) -> str | None:
    """Thaw a domain and all groups in it. Returns the details of the success, or None.

    Raises HypervisorError before it thaws a group, if a frozen group outside of the domain would
    prevent it from running.
    """
    view = runtime.view(name)
    if why := why_not_resumable(view):
        raise HypervisorError(why)
    if not freezes(view):
        return f"{name} was running already"
    context.check_cancelled()
    context.progress("thaw", vm_name=name)
    with context.measure(f"resume-{name}"):
        thaw(runtime.hierarchy, view)
        if not wait_until(
            lambda: not freezes(inspect(runtime.hierarchy, name)),
            runtime.options.freeze_timeout,
            context,
        ):
            raise HypervisorError(_still_frozen(inspect(runtime.hierarchy, name)))
    if not view.requested_inside:
        return None
    inside = ", ".join(map(str, view.requested_inside))
    return f"groups in {name} were frozen separately and were thawed too: {inside}"


def thaw(hierarchy: Hierarchy, view: DomainView) -> None:
    """Thaw a domain and all groups in it that have a freeze request."""
    for group in to_thaw(view):
        with suppress(GoneError):  # a group that is gone freezes nothing
            hierarchy.freezer.thaw(group)


def _still_frozen(view: DomainView) -> str:
    """Return why a thawed domain does not run."""
    if why := why_not_resumable(view):
        return why
    groups = ", ".join(map(str, view.requested_inside)) or str(view.groups[0].path)
    return (
        f"{view.name} was thawed, but another program has frozen {groups} again; "
        f"find out who does so, then resume {view.name}"
    )
