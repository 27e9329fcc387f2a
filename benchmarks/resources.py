"""CPU time and memory of running processes, from /proc."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final, NamedTuple

TICKS: Final = os.sysconf("SC_CLK_TCK")
"""The clock ticks of a second in /proc/PID/stat. CPU times are counted in whole ticks."""
PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")


class Usage(NamedTuple):
    """What a process has used so far."""

    cpu: float
    """Seconds of user and system time."""
    memory: int
    """Bytes in physical memory now."""


def usage_of(pids: Iterable[int]) -> Usage:
    """Return the sum over some processes."""
    cpu, memory = 0.0, 0
    for pid in pids:
        # The name of the program, in parentheses, may have spaces.
        fields = Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()
        cpu += (int(fields[11]) + int(fields[12])) / TICKS
        memory += int(fields[21]) * PAGE_BYTES
    return Usage(cpu, memory)
