"""Find out which file system a path is on."""

import os
import re
from pathlib import Path
from typing import Final

_MOUNTS: Final = "/proc/self/mountinfo"
_ESCAPED: Final = re.compile(r"\\([0-7]{3})")
WITHOUT_FILES: Final = frozenset(
    {
        *("autofs", "binfmt_misc", "bpf", "cgroup", "cgroup2", "configfs", "debugfs", "devpts"),
        *("efivarfs", "fusectl", "hugetlbfs", "mqueue", "nsfs", "proc", "pstore", "resctrl"),
        *("rpc_pipefs", "securityfs", "selinuxfs", "smackfs", "sysfs", "tracefs"),
    }
)
"""Types of file systems that keep no files: they show the kernel's own data."""


def file_system_of(path: str | Path, mounts: str | None = None) -> str:
    """Return the type of the file system of a path, such as `ext4`. Blocks.

    `mounts` is the text of `/proc/self/mountinfo`.
    """
    if mounts is None:
        mounts = Path(_MOUNTS).read_text(errors="surrogateescape")
    real = os.path.realpath(path)
    best, kind = "", ""
    for line in mounts.splitlines():
        mount, _, rest = line.partition(" - ")
        point = _ESCAPED.sub(lambda match: chr(int(match[1], 8)), mount.split(" ")[4])
        inside = real == point or real.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= len(best):
            best, kind = point, rest.split(" ")[0]
    return kind
