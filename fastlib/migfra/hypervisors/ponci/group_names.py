"""Check names of groups: the kernel has some of them for its own files."""

from typing import Final

from fastlib.migfra.errors import HypervisorError

_CONTROLLERS: Final = frozenset(
    {
        *("cgroup", "cpuset", "freezer", "cpu", "cpuacct", "memory", "io", "blkio", "pids"),
        *("devices", "hugetlb", "rdma", "dmem", "misc", "net_cls", "net_prio", "perf_event"),
        *("irq", "debug"),
    }
)
"""Files are named after them, such as `cpuset.cpus`; later kernels have more of these files."""
_FILES: Final = frozenset({"tasks", "notify_on_release", "release_agent"})


def check_group(name: str) -> str:
    """The name itself if no file of the kernel's can have it. Raises HypervisorError."""
    controller, dot, _ = name.partition(".")
    if name in _FILES or (dot and controller in _CONTROLLERS):
        raise HypervisorError(
            f"{name!r} cannot be the name of a cgroup: the kernel has files of such names in each "
            "group; choose another, such as with a dash for the dot"
        )
    return name
