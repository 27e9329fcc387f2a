"""Starting a process in the namespaces of another."""

import ctypes
import os
import subprocess
from collections.abc import Mapping, Sequence
from typing import Any

_CLONE_NEWPID = 0x20000000
_libc = ctypes.CDLL(None, use_errno=True)
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """The caller's own, with the folders where the programs of root are."""
    own = dict(os.environ)
    own["PATH"] = f"{own['PATH']}:{_PATH}" if own.get("PATH") else _PATH
    return own | dict(more or {})


def popen(
    pid: int,
    argv: Sequence[object],
    *,
    env: Mapping[str, str] | None = None,
    cwd: str | os.PathLike[str] | None = None,
    **options: Any,
) -> subprocess.Popen[Any]:
    """Start a program where process `pid` is: in its mounts, network, names and processes.

    It is a child of the caller, so its id, signals to it and its exit status are its own. `env` is
    added to the caller's environment; `cwd` is a folder as it is seen there.
    """
    # A PID namespace is entered by children only, and this thread's next child is this one.
    theirs = os.open(f"/proc/{pid}/ns/pid", os.O_RDONLY)
    ours = os.open("/proc/self/ns/pid", os.O_RDONLY)
    enter = [f"--{kind}=/proc/{pid}/ns/{name}" for kind, name in _KINDS]
    folder = f"--chdir={os.fspath(cwd if cwd is not None else os.getcwd())}"
    command = ["nsenter", *enter, "--", "env", folder, "--", *map(str, argv)]
    try:
        _children_into(theirs)
        return subprocess.Popen(command, env=environment(env), **options)
    finally:
        _children_into(ours)
        os.close(theirs)
        os.close(ours)


_KINDS = (("mount", "mnt"), ("uts", "uts"), ("net", "net"))


def _children_into(namespace: int) -> None:
    if _libc.setns(namespace, _CLONE_NEWPID) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"cannot enter a PID namespace: {os.strerror(number)}")
