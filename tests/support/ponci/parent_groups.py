"""The parent groups of the checks. The next run clears those that a killed run has left."""

import fcntl
import os
import re
import tempfile
from pathlib import Path

from .cgroup_trees import CgroupTrees

_NAME = re.compile(r"fastlib-test-(\d+)-\w+")


def parent_name(suffix: str, *, pid: int | None = None) -> str:
    """Return the name of a parent group of this process, or of another one."""
    return f"fastlib-test-{os.getpid() if pid is None else pid}-{suffix}"


def clear_left_groups() -> list[str]:
    """End the processes in the groups of processes that no longer run, and remove the groups.

    The process of a killed run cannot do that. A frozen process stays for ever. Returns the names.
    """
    with open(Path(tempfile.gettempdir(), f"fastlib-test-groups-{os.getuid()}.lock"), "a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # the parallel workers of a run begin together
        left = [name for name in _names() if _is_left(name)]
        for name in left:
            CgroupTrees(name).clear()
    return left


def _names() -> list[str]:
    roots = CgroupTrees("").roots
    return sorted({path.name for root in roots for path in root.glob("fastlib-test-*")})


def _is_left(name: str) -> bool:
    found = _NAME.fullmatch(name)
    return found is not None and not Path("/proc", found[1]).exists()
