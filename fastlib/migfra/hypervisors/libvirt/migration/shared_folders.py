"""Find out whether two hosts share a folder: one makes a file in it, and the other must see it.

The same path may lead to different files on both hosts, for example to a disk and to an older copy
of it. Names, sizes and types of file systems do not prove that files are the same.
"""

import os
import posixpath
import re
import secrets
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

from fastlib.migfra.file_systems import file_system_of

_LEAST_BYTES: Final = 512
_MOST_HOPS: Final = 40
"""The longest chain of symbolic links. It is the kernel's limit."""
PREFIX: Final = ".fastlib-check-"
"""Prefix of the names of temporary files."""
_REST: Final = re.compile("(?P<process>[0-9]+)-[0-9a-f]+")
"""The rest of such a name, after the prefix and the host."""
_NETWORK: Final = frozenset(
    {
        *("nfs", "nfs4", "cifs", "smb3", "ceph", "gfs2", "ocfs2", "gpfs", "lustre", "afs"),
        *("glusterfs", "fuse.glusterfs", "fuse.ceph", "fuse.mfs", "beegfs", "pvfs2", "acfs"),
    }
)


class Marker(msgspec.Struct, frozen=True):
    """A temporary file."""

    path: str
    size: int
    """Size in bytes. It distinguishes the file from one that another process made."""


def folders_of(path: str) -> list[str]:
    """Return the folders that lead to a file on this host: its own, and those of symbolic links."""
    folders = []
    for _ in range(_MOST_HOPS):
        folders.append(posixpath.dirname(path))
        try:
            target = os.readlink(path)
        except OSError:
            break  # it is not a link, or it is missing; then the check of the hosts reports it
        path = posixpath.join(posixpath.dirname(path), target)
    return list(dict.fromkeys(folders))


def make_markers(host: str, folders: Iterable[str]) -> dict[str, Marker]:
    """Make a file in each folder. Blocks. Leaves out folders in which this process cannot write.

    `host` is this host. Removes the files of an earlier process of this host that was killed.
    """
    made = {}
    begin = f"{PREFIX}{host}-"
    for folder in folders:
        _remove_left(folder, begin)
        path = posixpath.join(folder, f"{begin}{os.getpid()}-{secrets.token_hex(8)}")
        size = _LEAST_BYTES + secrets.randbelow(_LEAST_BYTES)
        with suppress(OSError):
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
            made[folder] = Marker(path, size)
            with open(descriptor, "wb") as file:
                file.write(bytes(size))
    return made


def _remove_left(folder: str, begin: str) -> None:
    """Remove the files of this host's earlier processes.

    The name of another host may begin with that of this one, such as `node01` and `node01-2`.
    """
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if not entry.name.startswith(begin):
                continue
            found = _REST.fullmatch(entry.name.removeprefix(begin))
            if found is not None and int(found["process"]) != os.getpid():
                os.unlink(entry.path)


def remove_markers(made: Iterable[Marker]) -> list[str]:
    """Remove the files again. Blocks. Returns what could not be removed, with the reason."""
    problems = []
    for marker in made:
        try:
            Path(marker.path).unlink(missing_ok=True)
        except OSError as error:
            problems.append(f"{marker.path} is no longer needed; remove it ({error.strerror})")
    return problems


def is_network_file_system(path: str, mounts: str | None = None) -> bool:
    """Return whether a path is on a network file system. Blocks.

    `mounts` is the text of `/proc/self/mountinfo`.
    """
    return file_system_of(path, mounts) in _NETWORK
