"""Identify processes, to find the sessions of dead ones.

A process id alone is not enough, as it is given to another process some day; with the time of its
begin it is.
"""

import os
from pathlib import Path

_own: tuple[int, str] | None = None


def own_identity() -> tuple[int, str]:
    """Our process id, and when we began."""
    global _own
    pid = os.getpid()
    if _own is None or _own[0] != pid:
        _own = (pid, _birth(pid) or "")
    return _own


def is_alive(pid: int, birth: str) -> bool:
    """Tell whether that process still runs. A zombie does not."""
    return _birth(pid) == birth


def _birth(pid: int) -> str | None:
    """When a process began, in the system's ticks; None if it does not run (any more)."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = text.rpartition(")")[2].split()  # the name before it may have anything in it
    return None if fields[0] in "ZX" else fields[19]
