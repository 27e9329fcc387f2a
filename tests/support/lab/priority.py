"""Let a process or this thread go before all others on a busy machine, if the machine allows it."""

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from .process_table import Process

_NICENESS = -15
_SWITCH_SECONDS = 0.0002
"""The longest time for which another thread of this process keeps the interpreter."""


def prefer(process: Process) -> None:
    """Let all threads of a process go before those of usual priority from now on.

    Nothing happens if the process has ended. The kernel may schedule sessions as groups, and then
    compares the niceness of threads only within each group.
    """
    with contextlib.suppress(OSError):
        Path(f"/proc/{process.pid}/autogroup").write_text(str(_NICENESS))
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for thread in Path(f"/proc/{process.pid}/task").iterdir():
            with contextlib.suppress(PermissionError, ProcessLookupError):
                os.setpriority(os.PRIO_PROCESS, int(thread.name), _NICENESS)


@contextlib.contextmanager
def hurry() -> Iterator[None]:
    """Let this thread go before all others."""
    before = os.sched_getscheduler(0), os.sched_getparam(0), sys.getswitchinterval()
    sys.setswitchinterval(_SWITCH_SECONDS)
    with contextlib.suppress(PermissionError):
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    try:
        yield
    finally:
        os.sched_setscheduler(0, *before[:2])
        sys.setswitchinterval(before[2])
