"""Identify processes, to find the sessions of dead ones.

A process id alone is not enough: the system gives it to another process later. So the time of the
process's start is added.
"""

import os
from pathlib import Path

_own: tuple[int, str] | None = None


def own_identity() -> tuple[int, str]:
    """Return this process's id, and the time of its start."""
    global _own
    pid = os.getpid()
    if _own is None or _own[0] != pid:
        _own = (pid, _birth(pid) or "")
    return _own


def is_alive(pid: int, birth: str) -> bool:
    """Return whether that process still runs. A zombie does not."""
    return _birth(pid) == birth


def _birth(pid: int) -> str | None:
    """Return the start time of a process in the system's ticks. None if it does not run."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = text.rpartition(")")[2].split()  # the name before it may contain any character
    return None if fields[0] in "ZX" else fields[19]
