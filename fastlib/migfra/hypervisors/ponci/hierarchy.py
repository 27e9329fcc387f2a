"""Operations on a domain's group, the same for both versions of cgroups. All of them may block."""

import errno
from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar, Final

import msgspec

from fastlib.migfra.errors import HypervisorError

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
from .id_lists import format_id_list, parse_id_list
from .processes import processes_of


class CpuSets(msgspec.Struct, frozen=True):
    """CPUs and memory nodes."""

    cpus: frozenset[int]
    nodes: frozenset[int]


class Hierarchy:
    """The groups of the domains, all below one parent. Every method may raise GroupError."""

    version: ClassVar[str] = ""
    effective: ClassVar[tuple[str, str]] = ("", "")
    """The files of the CPUs and nodes that a group really has."""

    def __init__(
        self, root: Path, parents: Iterable[Path], freezer: Freezer, others: Iterable[Freezer]
    ) -> None:
        """Take the root of `cpuset`, the parent in each tree, and the freezers of the machine.

        The tree with `cpuset` is the first, the one that freezes domains the last. They may be the
        same. `others` freeze through trees that have no groups of domains.
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
        """Make the parent, so that domains can be made in it."""
        raise NotImplementedError

    def available(self) -> CpuSets:
        """Read the CPUs and memory nodes that domains can get.

        A parent that is missing or has none gets those of the group above it at the next start.
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
        """Numbers that differ after the parent was removed, also if it was made again."""
        return tuple(map(number_of, self._parents))

    def names(self) -> list[str]:
        """The domains, in order."""
        return sorted({name for parent in self._parents for name in folders_in(parent)})

    # A domain

    def paths(self, name: str) -> tuple[Path, ...]:
        """The groups that a domain has, one in each tree: first that of `cpuset`."""
        return tuple(parent / name for parent in self._parents)

    def exists(self, name: str) -> bool:
        """Tell whether there is the domain, perhaps half of it after a crash."""
        return any(map(is_group, self.paths(name)))

    def defect(self, name: str) -> str | None:
        """Say why no process can be put into a domain of which all groups are there, or None."""
        raise NotImplementedError

    def create(self, name: str, cpus: frozenset[int] | None, nodes: frozenset[int] | None) -> None:
        """Make a domain, whole or not at all; None is all that it can get."""
        made: list[Path] = []
        try:
            # That of cpuset last, as it is the one that processes are put into.
            for parent in reversed(self._parents):
                if not make(parent / name):
                    raise HypervisorError(
                        f"{name} was made by another program just now; stop it first"
                    )
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
        """Do what a new domain still needs so that processes can be put into it."""

    def sets(self, name: str) -> CpuSets:
        """Read the CPUs and memory nodes of the domain. An empty set is inherited."""
        group = self.parent / name
        return CpuSets(
            parse_id_list(read(group / "cpuset.cpus")), parse_id_list(read(group / "cpuset.mems"))
        )

    def set_cpus(self, name: str, cpus: frozenset[int]) -> None:
        """Set the CPUs of the domain's processes."""
        write(self.parent / name / "cpuset.cpus", format_id_list(cpus))

    def set_nodes(self, name: str, nodes: frozenset[int]) -> None:
        """Set the memory nodes of the domain's processes."""
        write(self.parent / name / "cpuset.mems", format_id_list(nodes))

    def kill(self, name: str) -> bool:
        """Let the kernel kill the domain's processes. Returns False if it cannot do that."""
        return False

    def processes(self, name: str) -> frozenset[int]:
        """The processes of the domain and of all groups below it.

        Those of which the daemon cannot know the id, as they are of another PID namespace, are 0.
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
    """The processes of a group in one tree and of all groups below it.

    v2 does not list a process whose first thread had ended before the others were put into the
    group, so it is found by its threads.
    """
    found: set[int] = set()
    threads: set[int] = set()
    for each in tree(group):
        try:
            found.update(map(int, read(each / "cgroup.procs").split()))
            threads.update(freezer.threads(each))
        except GoneError:
            continue  # it went while it was looked at
        except GroupError as error:
            if error.errno != errno.EOPNOTSUPP:
                raise
            if each == group:
                return set()  # its threads are of processes in groups above it
            # It has threads only. The group above has their processes.
    return found or set(processes_of(threads))
