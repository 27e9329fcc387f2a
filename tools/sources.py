"""The files of this repository, also where it was unpacked from an sdist and git knows nothing."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

from .processes import ROOT

_MADE = ("__pycache__", "build", "dist", "site")
"""Names of folders that programs make. They make hidden folders, too."""


def source_files(root: Path = ROOT) -> list[str]:
    """Return the paths of all files and links, relative to the root and sorted.

    They are those that git has or would add. Without git's folder they are all files but what
    programs have made.
    """
    if (root / ".git").exists():
        command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        listed = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
        names = set(filter(None, listed.stdout.split("\0")))
    else:
        names = set(_walk(root))
    return sorted(name for name in names if os.path.lexists(root / name))


def _walk(root: Path) -> Iterator[str]:
    for folder, folders, files in os.walk(root):
        for name in list(folders):
            path = Path(folder, name)
            if path.is_symlink():
                files.append(name)
            own = not name.startswith(".") or name in (".ci", ".github")
            if path.is_symlink() or not own or name in _MADE or name.endswith(".egg-info"):
                folders.remove(name)
        for name in files:
            if not name.endswith((".pyc", ".so")) and not name.startswith(".coverage"):
                yield str(Path(folder, name).relative_to(root))
