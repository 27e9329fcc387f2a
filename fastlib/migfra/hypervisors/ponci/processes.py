"""Read processes in `/proc`: their threads, and why they have not ended."""

from collections import defaultdict
from collections.abc import Collection, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final

from .files import GoneError, folders_in, read

_MOST_SHOWN: Final = 8
"""The most processes that an error names by their ids."""
_KERNEL_THREAD: Final = 0x00200000
"""The flag PF_KTHREAD in `/proc/<pid>/stat`."""
_ENDED: Final = ("Z", "X")
"""The states of a thread that has ended."""
_FLAGS: Final = 6
"""The index of these flags among the words from the state on in `/proc/<pid>/stat`."""


def processes_of(threads: Iterable[int]) -> frozenset[int]:
    """Return the processes of threads, without those that have ended. 0 stays 0."""
    found = set()
    for thread in threads:
        if thread:
            with suppress(GoneError):
                found.add(int(_status(thread)["Tgid"]))
        else:
            found.add(0)
    return frozenset(found)


def threads_of(pid: int) -> frozenset[int]:
    """Return the threads of a process, also a first one that has ended before the others.

    There are none if the process has ended, and for 0, a process of another PID namespace.
    """
    return frozenset(map(int, folders_in(Path(f"/proc/{pid}/task")))) if pid else frozenset()


def has_ended(thread: int) -> bool:
    """Return whether a thread has ended. The first one of a process is visible until all have."""
    return _state(thread) in _ENDED


def describe_processes(processes: Collection[int]) -> str:
    """Return the number of processes in words, with the ids of some."""
    few = ", ".join(map(str, sorted(processes)[:_MOST_SHOWN]))
    more = ", …" if len(processes) > _MOST_SHOWN else ""
    return f"{len(processes)} process{'' if len(processes) == 1 else 'es'} ({few}{more})"


def blocked(processes: Iterable[int]) -> frozenset[int]:
    """Return those with a thread in state D: it waits in the kernel, for example for a device.

    A thread that cgroup v1 has frozen has the same state. So call this for thawed processes.
    """
    return frozenset(pid for pid in processes if "D" in map(_state, threads_of(pid)))


def why_alive(processes: Collection[int]) -> str:
    """Return why processes have not ended although they were killed and are not frozen."""
    found: defaultdict[str, list[int]] = defaultdict(list)
    for pid in sorted(processes):
        found[_why_alive(pid)].append(pid)
    return "; ".join(
        f"{describe_processes(pids)} {why}" for why, pids in sorted(found.items()) if why
    )


def _why_alive(pid: int) -> str:
    """Return the phrase that follows the name of a process."""
    if pid == 0:
        return "of another PID namespace (0): end them there"
    try:
        status = _status(pid)
        flags = int(_stat(Path(f"/proc/{pid}/stat"))[_FLAGS])
    except GoneError:
        return ""
    if flags & _KERNEL_THREAD:
        return "of the kernel, which cannot be killed: move them to another group"
    if status["TracerPid"] != "0" and status["State"].startswith("t"):
        return f"held by the process {status['TracerPid']}, which traces them: end that one"
    if blocked([pid]):
        return "waiting in the kernel (state D), such as for a device or a file server: check that"
    return "not ended yet: wait for that"


def _state(thread: int) -> str:
    """Return the state of a thread, such as S or D. X if it has ended."""
    try:
        return _stat(Path(f"/proc/{thread}/stat"))[0]
    except GoneError:
        return "X"


def _stat(file: Path) -> list[str]:
    """Return the words of a file `stat` after the program's name. The name may have spaces."""
    return read(file).rpartition(")")[2].split()


def _status(pid: int) -> dict[str, str]:
    pairs = (line.partition(":") for line in read(Path(f"/proc/{pid}/status")).splitlines())
    return {key: value.strip() for key, _, value in pairs}
