"""The file system of a host. Its writable folders are private, and are removed with the host."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PRIVATE = ("/etc", "/var/cache", "/var/lib", "/var/log")
"""Folders that begin as the machine's and go their own way."""
_LAYERS = Path("/run/layers")


def begin_empty(state: Path) -> None:
    """Make /run and /dev/shm empty and private. `state` stays at any place."""
    with _kept(state):
        _mount("-t", "tmpfs", "-o", "mode=755,size=256m", "run", "/run")
        _mount("-t", "tmpfs", "-o", "mode=1777,size=256m", "shm", "/dev/shm")


def make_private(state: Path) -> None:
    """Make the private folders invisible for others. `state` stays visible for all."""
    with _kept(state):
        for folder in PRIVATE:
            upper, work = (_LAYERS / folder[1:] / layer for layer in ("upper", "work"))
            upper.mkdir(parents=True)
            work.mkdir()
            options = f"lowerdir={folder},upperdir={upper},workdir={work}"
            _mount("-t", "overlay", "-o", options, "layers", folder)


def bind(source: Path, target: Path) -> None:
    """Let `target`, which is there, be `source`."""
    _mount("--bind", str(source), str(target))


@contextmanager
def _kept(folder: Path) -> Iterator[None]:
    """Let a folder be there afterwards, even if one above it was covered."""
    handle = os.open(folder, os.O_PATH | os.O_DIRECTORY)
    try:
        yield
        folder.mkdir(parents=True, exist_ok=True)
        # `-c`: the handle must not be made the path that it once stood for.
        _mount("-c", "--bind", f"/proc/self/fd/{handle}", str(folder), pass_fds=(handle,))
    finally:
        os.close(handle)


def _mount(*arguments: str, pass_fds: tuple[int, ...] = ()) -> None:
    subprocess.run(["mount", "-n", *arguments], check=True, pass_fds=pass_fds)
