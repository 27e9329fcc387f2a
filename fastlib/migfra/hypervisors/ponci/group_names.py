"""Check names of groups: the kernel uses some names for its own files."""

from typing import Final

from fastlib.migfra.errors import HypervisorError

_CONTROLLERS: Final = frozenset(
    {
        *("cgroup", "cpuset", "freezer", "cpu", "cpuacct", "memory", "io", "blkio", "pids"),
        *("devices", "hugetlb", "rdma", "dmem", "misc", "net_cls", "net_prio", "perf_event"),
        *("irq", "debug"),
    }
)
"""Prefixes of the kernel's files, such as `cpuset.cpus`. Later kernels have more such files."""
_FILES: Final = frozenset({"tasks", "notify_on_release", "release_agent"})


def check_group(name: str) -> str:
    """Return the name. Raises HypervisorError if a file of the kernel may have it."""
    controller, dot, _ = name.partition(".")
    if name in _FILES or (dot and controller in _CONTROLLERS):
        raise HypervisorError(
            f"{name!r} cannot be the name of a cgroup: the kernel has files with such names in "
            "each group; choose another, such as with a dash for the dot"
        )
    return name
