"""Read a domain at one moment: its groups, those above them, and what freezes them.

The kernel's files are read one after the other, while other programs may change them. A group that
disappears during that is left out. A reading that contradicts itself is repeated.
"""

import errno
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from .domain_view import DomainView, ForeignFreeze, FreezeRequest, GroupView
from .files import GoneError, is_group, tree
from .freezers import Freezer
from .hierarchy import Hierarchy
from .processes import has_ended, processes_of, threads_of

_MOST_READINGS = 5
"""The most readings of a domain that changes during each. Then the last one counts."""


def inspect(hierarchy: Hierarchy, name: str) -> DomainView:
    """Read the state of a domain, also of one that does not exist. Raises GroupError."""
    for left in reversed(range(_MOST_READINGS)):
        try:
            view = _read(hierarchy, name)
        except GoneError:
            if not left:
                raise
            continue
        there = tuple(filter(is_group, hierarchy.paths(name)))
        # If a group above is thawed between two reads, it looks like a hidden frozen group.
        if there == view.there and not view.above_is_hidden:
            break
    return view


def _read(hierarchy: Hierarchy, name: str) -> DomainView:
    freezer, paths = hierarchy.freezer, hierarchy.paths(name)
    there = tuple(filter(is_group, paths))
    above = [group for group in freezer.above(paths[-1]) if _is_requested(freezer, group)]
    groups = _groups(freezer, paths[-1], told=bool(above))
    if paths[-1] in there and not groups:
        raise GoneError(f"another program has just removed {paths[-1]}", errno.ENOENT)
    inside = _union(group.threads for group in groups)
    processes = hierarchy.processes(name)
    # Threads of one process may be in different groups.
    threads = _union(each for path in paths[:-1] for each in _threads(freezer, path))
    threads = threads.union(*map(threads_of, processes))
    loose, elsewhere = _outside(hierarchy, name, threads, inside)
    return DomainView(
        name=name,
        there=there,
        missing=tuple(path for path in paths if path not in there),
        defect=hierarchy.defect(name) if there == paths else None,
        groups=groups,
        loose=loose,
        loose_processes=processes_of(loose),
        above=tuple(_request(freezer, group) for group in above),
        above_is_hidden=_is_hidden_above(freezer, paths[-1], above),
        elsewhere=elsewhere,
        processes=processes,
        kills_frozen=freezer.kills_frozen,
        root=freezer.root,
    )


def _is_requested(freezer: Freezer, group: Path) -> bool:
    try:
        return freezer.read(group).requested
    except GoneError:
        return False


def _request(freezer: Freezer, group: Path) -> FreezeRequest:
    return FreezeRequest(group, freezer.thaw_command(group))


def _groups(freezer: Freezer, top: Path, *, told: bool) -> tuple[GroupView, ...]:
    """Return the groups of a domain. `told`: whether a group above it has a freeze request."""
    views: dict[Path, GroupView] = {}
    for path in reversed(tree(top)):
        try:
            reading, threads = freezer.read(path), freezer.threads(path)
        except GoneError:
            continue
        outer = views.get(path.parent)
        views[path] = GroupView(
            path=path,
            requested=reading.requested,
            told=reading.requested or (told if outer is None else outer.told),
            frozen=reading.frozen,
            threads=threads,
        )
    return tuple(views.values())


def _threads(freezer: Freezer, top: Path) -> Iterator[frozenset[int]]:
    for path in tree(top):
        with suppress(GoneError):
            yield freezer.threads(path)


def _is_hidden_above(freezer: Freezer, top: Path, above: list[Path]) -> bool:
    """Return whether a group above the visible root has a freeze request."""
    for group in (top, *freezer.above(top)):
        try:
            reading = freezer.read(group)
        except GoneError:
            continue
        told = reading.from_above or (reading.frozen and not reading.requested)
        return told and not any(group != each and group.is_relative_to(each) for each in above)
    return False


def _outside(
    hierarchy: Hierarchy, name: str, threads: frozenset[int], inside: frozenset[int]
) -> tuple[frozenset[int], tuple[ForeignFreeze, ...]]:
    """Return the threads outside of the hierarchy that freezes a domain, and other freezes.

    `threads` are all known threads, `inside` those in the hierarchy that freezes the domain.
    """
    own, top = hierarchy.freezer, hierarchy.paths(name)[-1]
    placed = _places(own, threads - inside)
    # Leave out threads that have ended or joined since the files were read.
    loose = {
        thread
        for thread, group in placed.items()
        if (group is None or top not in _upwards(group)) and not has_ended(thread)
    }
    found = _foreign(own, {thread: placed[thread] for thread in loose})
    for other in hierarchy.other_freezers:
        found += _foreign(other, _places(other, threads | inside))
    return frozenset(loose | ({0} & (threads - inside))), tuple(found)


def _places(freezer: Freezer, threads: Iterable[int]) -> dict[int, Path | None]:
    """Return the groups of threads, None for an invisible one. Leaves out ended threads."""
    places = {}
    groups: dict[str | None, Path | None] = {}  # a domain may have thousands of threads
    for thread in threads:
        if thread:
            with suppress(GoneError):
                path = freezer.path_of(thread)
                if path not in groups:
                    groups[path] = freezer.group_at(path)
                places[thread] = groups[path]
    return places


def _foreign(freezer: Freezer, places: dict[int, Path | None]) -> list[ForeignFreeze]:
    members: defaultdict[Path, set[int]] = defaultdict(set)
    for thread, group in places.items():
        if group is not None:
            members[group].add(thread)
    frozen: defaultdict[Path, set[int]] = defaultdict(set)
    for group, threads in members.items():
        for each in _upwards(group):
            if each.is_relative_to(freezer.root) and _is_requested(freezer, each):
                frozen[each] |= threads
                break
    return [
        ForeignFreeze(_request(freezer, group), frozenset(threads), freezer.kills_frozen)
        for group, threads in sorted(frozen.items())
    ]


def _upwards(group: Path) -> tuple[Path, ...]:
    """Return a group and those above it."""
    return (group, *group.parents)


def _union(sets: Iterable[frozenset[int]]) -> frozenset[int]:
    return frozenset[int]().union(*sets)
