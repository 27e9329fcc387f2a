"""Operations on a domain's group, the same for both versions of cgroups. All of them may block."""

import errno
import os
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any, ClassVar, Final, Literal

import msgspec

from fastlib.migfra.errors import HypervisorError

from .files import GoneError, GroupError, make, read, remove, tree, write
from .id_lists import format_id_list, parse_id_list

State = Literal["running", "freezing", "paused"]
_MOST_SHOWN: Final = 8
"""At most so many processes are named by their ids."""


class CpuSets(msgspec.Struct, frozen=True):
    """CPUs and memory nodes."""

    cpus: frozenset[int]
    nodes: frozenset[int]


class Hierarchy:
    """The groups of the domains, all below one parent. Every method may raise GroupError."""

    version: ClassVar[str] = ""
    effective: ClassVar[tuple[str, str]] = ("", "")
    """The files of the CPUs and nodes that a group really has."""

    def __init__(self, parents: Iterable[Path]) -> None:
        """The parent in each tree, the one with `cpuset` first; perhaps it is the same twice."""
        self._parents: Final = tuple(dict.fromkeys(parents))
        self.parent: Final = self._parents[0]

    # The parent

    def prepare(self) -> None:
        """Make the parent, so that domains can be made in it."""
        raise NotImplementedError

    def available(self) -> CpuSets:
        """Read the CPUs and memory nodes that domains can get."""
        return CpuSets(*(parse_id_list(read(self.parent / file)) for file in self.effective))

    def names(self) -> list[str]:
        """The domains, in order."""
        return sorted({name for parent in self._parents for name in groups_in(parent)})

    # A domain

    def exists(self, name: str) -> bool:
        """Tell whether there is the domain, perhaps half of it after a crash."""
        return any((parent / name).is_dir() for parent in self._parents)

    def create(self, name: str, cpus: frozenset[int] | None, nodes: frozenset[int] | None) -> None:
        """Make a domain, whole or not at all; None is all that it can get."""
        made: list[Path] = []
        try:
            # That of cpuset last, as it is the one that processes are put into.
            for parent in reversed(self._parents):
                if not make(parent / name):
                    raise HypervisorError(
                        f"{name} was made by somebody else just now; stop it first"
                    )
                made.append(parent / name)
            if nodes is not None:
                self.set_nodes(name, nodes)
            if cpus is not None:
                self.set_cpus(name, cpus)
            self._complete(name)
        except BaseException:
            for group in made:
                remove(group)
            raise

    def _complete(self, name: str) -> None:
        """Do what a new domain still needs so that processes can be put into it."""

    def is_ready(self, name: str) -> bool:
        """Tell whether the domain is there as a whole, so that processes can be put into it."""
        raise NotImplementedError

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

    def state(self, name: str) -> State:
        """Tell whether the domain's processes run."""
        raise NotImplementedError

    def is_freeze_requested(self, name: str) -> bool:
        """Tell whether the domain itself was frozen, and not just a group above it."""
        raise NotImplementedError

    def can_freeze(self, name: str) -> bool:
        """Tell whether the kernel has what freezes the domain."""
        raise NotImplementedError

    def freeze(self, name: str) -> None:
        """Request that the domain freezes. `state` tells when it has frozen."""
        raise NotImplementedError

    def thaw(self, name: str) -> None:
        """Thaw the domain."""
        raise NotImplementedError

    def check_freezable(self, name: str) -> None:
        """Raise HypervisorError if not all of the domain's processes would freeze."""
        raise NotImplementedError

    def kill(self, name: str) -> bool:
        """Let the kernel kill the domain's processes. Returns False if it cannot do that."""
        return False

    def processes(self, name: str) -> frozenset[int]:
        """The processes of the domain and of all groups below it.

        Those of which the daemon cannot know the id, as they are of another PID namespace, are 0.
        """
        return frozenset(pid for parent in self._parents for pid in processes_below(parent / name))

    def delete(self, name: str) -> None:
        """Delete the domain and the groups below it. Raises BusyError if they have processes."""
        for parent in self._parents:
            for group in tree(parent / name):
                remove(group)


def groups_in(parent: Path) -> list[str]:
    """The names of the groups in a group; none if that is not there."""
    try:
        return [entry.name for entry in os.scandir(parent) if entry.is_dir()]
    except FileNotFoundError:
        return []


def processes_below(group: Path) -> set[int]:
    """The processes of a group in one tree and of all groups below it."""
    found: set[int] = set()
    for each in tree(group):
        try:
            found.update(map(int, read(each / "cgroup.procs").split()))
        except GoneError:
            continue  # it went while it was looked at
        except GroupError as error:
            if error.errno != errno.EOPNOTSUPP:
                raise
            continue  # it has threads only. The group above has their processes
    return found


def parse_key_values(text: str) -> dict[str, Any]:
    """The lines of a file such as `cgroup.events`: a key and a value each."""
    return dict(line.split() for line in text.splitlines())


def describe_processes(processes: Collection[int]) -> str:
    """Say how many processes there are, and name some of them."""
    few = ", ".join(map(str, sorted(processes)[:_MOST_SHOWN]))
    more = ", …" if len(processes) > _MOST_SHOWN else ""
    return f"{len(processes)} process{'' if len(processes) == 1 else 'es'} ({few}{more})"
