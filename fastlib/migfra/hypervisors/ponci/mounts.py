"""Find the hierarchy of cgroups that the machine has, by its mounts.

cgroup v2 is one tree with all controllers, v1 has a tree for each controller or for several. A
machine may have both at the same time ("hybrid"), but a controller is in one of them only, so the
place of `cpuset` decides.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from fastlib.migfra.errors import HypervisorError

MOUNTINFO: Final = Path("/proc/self/mountinfo")


class Mount(msgspec.Struct, frozen=True):
    """A mounted tree of cgroups."""

    point: Path
    root: str
    """The group of the hierarchy that is mounted at the point. `/` is the whole hierarchy."""
    unified: bool
    """Whether it is cgroup v2."""
    writable: bool = True
    controllers: frozenset[str] = frozenset()
    """The controllers of v1. The file `cgroup.controllers` has those of v2."""


class V2Mount(msgspec.Struct, frozen=True):
    """cgroup v2 with the controller cpuset."""

    root: Path
    seen: str = "/"
    """The group of the hierarchy that is mounted at the root."""


class V1Mounts(msgspec.Struct, frozen=True):
    """cgroup v1: two trees, or the same one twice."""

    cpuset: Path
    freezer: Path
    seen: str = "/"
    """The group of the hierarchy that is mounted at the mount point of `freezer`."""


def parse_mounts(mountinfo: str) -> list[Mount]:
    """Return the trees of cgroups in the text of `/proc/self/mountinfo`.

    A tree may be mounted several times. Writable mounts come first, then those of a whole tree.
    """
    found = []
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        kind, _, options = after.split(" ", 2)
        if kind in ("cgroup", "cgroup2"):
            root, point, flags = before.split(" ")[3:6]
            found.append(
                Mount(
                    point=Path(_plain(point)),
                    root=_plain(root),
                    unified=kind == "cgroup2",
                    controllers=frozenset(options.split(",")),
                    writable="ro" not in (*flags.split(","), *options.split(",")),
                )
            )
    return sorted(found, key=lambda mount: (not mount.writable, mount.root != "/"))


def _plain(path: str) -> str:
    """Return a path without the kernel's escapes for space, tab, line end and backslash."""
    return re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), path)


def find_hierarchy(
    mounted: list[Mount], controllers: Callable[[Mount], frozenset[str]]
) -> V2Mount | V1Mounts:
    """Return the hierarchy that has `cpuset`. `controllers` returns those of a tree of v2.

    Raises HypervisorError if no hierarchy has all that a domain needs.
    """
    unified = [mount for mount in mounted if mount.unified]
    for mount in unified:
        if "cpuset" in controllers(mount):
            return V2Mount(mount.point, mount.root)
    of_v1: dict[str, Path] = {}
    seen: dict[str, str] = {}
    for mount in mounted:
        if not mount.unified:
            for controller in mount.controllers:
                of_v1.setdefault(controller, mount.point)
                seen.setdefault(controller, mount.root)
    if "cpuset" in of_v1 and "freezer" in of_v1:
        return V1Mounts(of_v1["cpuset"], of_v1["freezer"], seen["freezer"])
    if "cpuset" in of_v1 or "freezer" in of_v1:
        there, missing = sorted(("cpuset", "freezer"), key=lambda name: name not in of_v1)
        beside = of_v1[there].with_name(missing)
        raise HypervisorError(
            f"cgroup v1 has the controller {there} at {of_v1[there]}, but ponci also needs "
            f"{missing}; mount it: mkdir -p {beside} && mount -t cgroup -o {missing} {missing} "
            f"{beside}"
        )
    if unified:
        raise HypervisorError(
            f"the cgroup v2 at {unified[0].point} has no controller cpuset, and there is no cgroup "
            "v1 that has it; let the group above delegate it (in a container, give it cpuset), "
            "or boot a kernel with CONFIG_CPUSETS and without cgroup_disable=cpuset"
        )
    raise HypervisorError(
        "ponci makes domains of cgroups, but no cgroups are mounted; mount them: "
        "mount -t cgroup2 cgroup2 /sys/fs/cgroup"
    )
