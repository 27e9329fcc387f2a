"""Operations on a domain's groups for both versions of cgroups. All of them may block."""

import errno
from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar, Final

import msgspec

from fastlib.migfra.errors import HypervisorError
from fastlib.number_ranges import number_ranges

from .files import (
    GoneError,
    GroupError,
    folders_in,
    is_group,
    make,
    number_of,
    read,
    remove,
    tree,
    write,
)
from .freezers import Freezer
from .id_lists import parse_id_list
from .processes import processes_of


class CpuSets(msgspec.Struct, frozen=True):
    """CPUs and memory nodes."""

    cpus: frozenset[int]
    nodes: frozenset[int]


class Hierarchy:
    """The groups of the domains, below one parent. Every method may raise GroupError."""

    version: ClassVar[str] = ""
    effective: ClassVar[tuple[str, str]] = ("", "")
    """The files with the effective CPUs and nodes of a group."""

    def __init__(
        self, root: Path, parents: Iterable[Path], freezer: Freezer, others: Iterable[Freezer]
    ) -> None:
        """Take the root of `cpuset`, the parent in each tree, and the freezers of the machine.

        The first tree has `cpuset`, the last one freezes domains. Both may be the same. `others`
        are freezers of trees without groups of domains.
        """
        self.root: Final = root
        self._parents: Final = tuple(dict.fromkeys(parents))
        self.parent: Final = self._parents[0]
        self.freezer: Final = freezer
        self.other_freezers: Final = tuple(
            each for each in others if not isinstance(each, type(freezer))
        )

    # The parent

    def prepare(self) -> None:
        """Make the parent of the domains."""
        raise NotImplementedError

    def check(self) -> None:
        """Raise what `prepare` would raise, as far as that is known without a change."""
        raise NotImplementedError

    def available(self) -> CpuSets:
        """Read the CPUs and memory nodes that domains can get.

        A parent that is missing or empty gets those of the group above it at the next start.
        """
        for group in (self.parent, *self.parent.parents):
            try:
                sets = CpuSets(*(parse_id_list(read(group / file)) for file in self.effective))
            except GoneError as error:
                if group == self.root:
                    raise GoneError(
                        f"cgroup {self.version} with the controller cpuset is no longer mounted "
                        f"at {group}; mount it again, then restart migfra",
                        error.errno,
                    ) from error
                continue
            if group == self.root or (sets.cpus and sets.nodes):
                break
        return sets

    def identity(self) -> tuple[int | None, ...]:
        """Return numbers that change when the parent is removed or made again."""
        return tuple(map(number_of, self._parents))

    def names(self) -> list[str]:
        """Return the names of the domains, sorted."""
        return sorted({name for parent in self._parents for name in folders_in(parent)})

    # A domain

    def paths(self, name: str) -> tuple[Path, ...]:
        """Return the groups of a domain, one in each tree, that of `cpuset` first."""
        return tuple(parent / name for parent in self._parents)

    def exists(self, name: str) -> bool:
        """Return whether the domain exists, possibly only in part after a crash."""
        return any(map(is_group, self.paths(name)))

    def defect(self, name: str) -> str | None:
        """Return why no process can be put into a domain whose groups all exist, or None."""
        raise NotImplementedError

    def create(self, name: str, cpus: frozenset[int] | None, nodes: frozenset[int] | None) -> None:
        """Make all groups of a domain or none. None for CPUs or nodes means all available ones."""
        made: list[Path] = []
        try:
            # The group of cpuset is the last one: programs put processes into it.
            for parent in reversed(self._parents):
                if not make(parent / name):
                    raise HypervisorError(f"another program has just made {name}; stop it first")
                made.append(parent / name)
            if nodes is not None:
                self.set_nodes(name, nodes)
            if cpus is not None:
                self.set_cpus(name, cpus)
            self._complete(name)
        except BaseException as error:
            for group in made:
                try:
                    remove(group)
                except GroupError as left:
                    raise HypervisorError(f"{error}; and {left}") from error
            raise

    def _complete(self, name: str) -> None:
        """Complete a new domain: then processes can be put into it."""

    def sets(self, name: str) -> CpuSets:
        """Read the CPUs and memory nodes of the domain. An empty set is inherited."""
        group = self.parent / name
        return CpuSets(
            parse_id_list(read(group / "cpuset.cpus")), parse_id_list(read(group / "cpuset.mems"))
        )

    def set_cpus(self, name: str, cpus: frozenset[int]) -> None:
        """Set the CPUs of the domain's processes."""
        write(self.parent / name / "cpuset.cpus", number_ranges(cpus))

    def set_nodes(self, name: str, nodes: frozenset[int]) -> None:
        """Set the memory nodes of the domain's processes."""
        write(self.parent / name / "cpuset.mems", number_ranges(nodes))

    def kill(self, name: str) -> bool:
        """Let the kernel kill the domain's processes. Returns False if it cannot."""
        return False

    def processes(self, name: str) -> frozenset[int]:
        """Return the processes of the domain and of all groups below it.

        A process of another PID namespace is 0: the daemon cannot know its id.
        """
        return frozenset().union(
            *(processes_below(path, self.freezer) for path in self.paths(name))
        )

    def delete(self, name: str) -> None:
        """Delete the domain and the groups below it. Raises BusyError if they have processes."""
        for parent in self._parents:
            for group in tree(parent / name):
                remove(group)


def processes_below(group: Path, freezer: Freezer) -> set[int]:
    """Return the processes of a group in one tree and of all groups below it.

    v2 does not list a process whose first thread had ended before the others were put into the
    group. Such a process is found by its threads.
    """
    found: set[int] = set()
    threads: set[int] = set()
    for each in tree(group):
        try:
            found.update(map(int, read(each / "cgroup.procs").split()))
            threads.update(freezer.threads(each))
        except GoneError:
            continue  # the group was removed in the meantime
        except GroupError as error:
            if error.errno != errno.EOPNOTSUPP:
                raise
            if each == group:
                return set()  # its threads are of processes in groups above it
            # A threaded group. The group above has the processes of its threads.
    return found or set(processes_of(threads))
