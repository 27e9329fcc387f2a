"""Decide from the view of a domain its state, and what a task must refuse. Pure."""

from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Final, Literal

from .domain_view import DomainView, ForeignFreeze
from .processes import describe_processes

State = Literal["running", "freezing", "paused", "partly paused", "incomplete"]
_MOST_SHOWN: Final = 8
"""The most threads that an error names."""


def state_of(view: DomainView) -> State:
    """Return the state of a domain.

    `paused` means that all of its processes are frozen, for whatever reason. `partly paused` means
    that some of them run, and that others stay frozen.
    """
    if view.missing or view.defect:
        return "incomplete"
    if view.is_requested or view.is_frozen_from_above:
        if not view.is_frozen:
            return "freezing"
        return "partly paused" if view.running else "paused"
    if any(group.told and not group.frozen and group.threads for group in view.groups):
        return "freezing"
    if view.still:
        return "partly paused" if view.running else "paused"
    return "running"


def freezes(view: DomainView) -> bool:
    """Return whether a domain or a part of it is frozen, also a part without processes."""
    inside = any(group.told or group.frozen for group in view.groups)
    return inside or view.is_frozen_from_above or bool(view.elsewhere)


def to_thaw(view: DomainView) -> list[Path]:
    """Return the groups of a domain with a freeze request, inner ones first.

    While the domain's own group is frozen, no process in it runs. That group is thawed last, so
    all processes resume at once.
    """
    return [group.path for group in reversed(view.groups) if group.requested]


def why_incomplete(view: DomainView) -> str | None:
    """Return the missing groups of a domain in words, with the remedy. None if all exist."""
    if not view.missing:
        return None
    return (
        f"{view.name} is incomplete: it has {_paths(view.there)} but not {_paths(view.missing)}; "
        "stop it, then start it again"
    )


def why_not_resumable(view: DomainView) -> str | None:
    """Return what outside of a domain keeps it frozen, with the remedy. None if nothing does."""
    if why := _frozen_from_above(view):
        cause, remedy = why
        return f"{view.name} cannot run: {cause}; {remedy}, then resume {view.name}"
    if view.elsewhere:
        cause, remedy = _frozen_elsewhere(view.elsewhere[0])
        return (
            f"{view.name} cannot run as a whole: {cause}, which is not a part of it; {remedy}, "
            f"then resume {view.name}"
        )
    return None


def why_not_killable(view: DomainView) -> str | None:
    """Return what outside of a domain keeps its processes alive, with the remedy, or None."""
    found = None if view.kills_frozen or not view.processes else _frozen_from_above(view)
    if found is None:
        for each in view.elsewhere:
            if not each.kills_frozen:
                found = _frozen_elsewhere(each)
                break
    if found is None:
        return None
    cause, remedy = found
    return (
        f"{view.name} cannot be stopped: {cause}, and with cgroup v1 a frozen process does not "
        f"end; {remedy}, then stop {view.name} again"
    )


def why_not_deletable(view: DomainView) -> str | None:
    """Return why a domain without processes cannot be deleted, with the remedy, or None.

    A threaded group of v2 has threads of processes that belong to a group above it.
    """
    threads = frozenset[int]().union(*(group.threads for group in view.groups))
    if view.defect is None or view.processes or not threads:
        return None
    return (
        f"{view.name} cannot be deleted: {view.defect}, and its threads ({_some(threads)}) belong "
        "to processes of a group above it; end these processes, or move the threads"
    )


def why_not_startable(view: DomainView, host: str) -> str | None:
    """Return why no domain with this name can be started, with the remedy, or None.

    Without the domain, the view is of the groups above it.
    """
    if view.there:
        there = f"{view.name} exists on {host} already"
        if view.missing:
            return (
                f"{there}, but incomplete: it has {_paths(view.there)} and not "
                f"{_paths(view.missing)}; stop it first"
            )
        return f"{there}, as {view.there[0]}; stop it first"
    if why := _frozen_from_above(view):
        cause, remedy = why
        return f"{view.name} could not run: {cause}; {remedy}, then start {view.name}"
    return None


def why_not_suspendable(view: DomainView) -> str | None:
    """Return the processes of a domain that would not freeze, with the remedy, or None."""
    if not view.loose:
        return None
    return (
        f"{view.name} has {describe_processes(view.loose_processes)} in the tree of cpuset but "
        f"not in that of freezer, so they would not freeze; also write each into "
        f"{view.groups[0].path}/cgroup.procs"
    )


def _frozen_from_above(view: DomainView) -> tuple[str, str] | None:
    """Return the cause and the remedy if a group above a domain has a freeze request."""
    if view.above:
        groups = _paths(each.group for each in view.above)
        commands = " && ".join(each.thaw_command for each in view.above)
        if len(view.above) == 1:
            cause, what = f"{groups}, which is above it, is frozen", "that group"
        else:
            cause, what = f"{groups}, which are above it, are frozen", "those groups"
        return cause, f"thaw {what} first ({commands})"
    if view.above_is_hidden:
        cause = f"a group above {view.root} is frozen, which cannot be seen from here"
        return cause, "thaw that group first, on the host of this container"
    return None


def _frozen_elsewhere(freeze: ForeignFreeze) -> tuple[str, str]:
    request, threads = freeze.request, _some(freeze.threads)
    cause = (
        f"its thread {threads} is frozen by {request.group}"
        if len(freeze.threads) == 1
        else f"its threads {threads} are frozen by {request.group}"
    )
    return cause, f"thaw that group first ({request.thaw_command})"


def _paths(paths: Iterable[Path]) -> str:
    return " and ".join(map(str, paths))


def _some(threads: Collection[int]) -> str:
    """Name some of several threads."""
    few = ", ".join(map(str, sorted(threads)[:_MOST_SHOWN]))
    return f"{few}, …" if len(threads) > _MOST_SHOWN else few
