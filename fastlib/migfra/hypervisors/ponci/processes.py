"""What `/proc` says of a process: whose thread it is, and why it has not ended."""

from collections import defaultdict
from collections.abc import Collection, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final

from .files import GoneError, folders_in, read

_MOST_SHOWN: Final = 8
"""At most so many processes are named by their ids."""
_KERNEL_THREAD: Final = 0x00200000
"""The flag PF_KTHREAD in `/proc/<pid>/stat`."""
_ENDED: Final = ("Z", "X")
"""The states of a thread that has ended."""
_FLAGS: Final = 6
"""Words after the state in `/proc/<pid>/stat`, until those flags."""


def processes_of(threads: Iterable[int]) -> frozenset[int]:
    """The processes of threads, without those that have ended; 0 for 0."""
    found = set()
    for thread in threads:
        if thread:
            with suppress(GoneError):
                found.add(int(_status(thread)["Tgid"]))
        else:
            found.add(0)
    return frozenset(found)


def threads_of(pid: int) -> frozenset[int]:
    """The threads of a process, also a first one that has ended before the others.

    None if the process has ended, and for 0, which stands for those of another PID namespace.
    """
    return frozenset(map(int, folders_in(Path(f"/proc/{pid}/task")))) if pid else frozenset()


def has_ended(thread: int) -> bool:
    """Tell whether a thread has ended. The first one of a process is seen until all have."""
    return _state(thread) in _ENDED


def describe_processes(processes: Collection[int]) -> str:
    """Say how many processes there are, and name some of them."""
    few = ", ".join(map(str, sorted(processes)[:_MOST_SHOWN]))
    more = ", …" if len(processes) > _MOST_SHOWN else ""
    return f"{len(processes)} process{'' if len(processes) == 1 else 'es'} ({few}{more})"


def blocked(processes: Iterable[int]) -> frozenset[int]:
    """Those with a thread in state D: it waits in the kernel, such as for a device.

    A thread that cgroup v1 has frozen shows the same state. So they must not be frozen.
    """
    return frozenset(pid for pid in processes if "D" in map(_state, threads_of(pid)))


def why_alive(processes: Collection[int]) -> str:
    """Say why processes have not ended although they were killed and are not frozen."""
    found: defaultdict[str, list[int]] = defaultdict(list)
    for pid in sorted(processes):
        found[_why_alive(pid)].append(pid)
    return "; ".join(
        f"{describe_processes(pids)} {why}" for why, pids in sorted(found.items()) if why
    )


def _why_alive(pid: int) -> str:
    """The phrase that follows the name of a process."""
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
    """The state of a thread, such as S or D; X if it is not there any more."""
    try:
        return _stat(Path(f"/proc/{thread}/stat"))[0]
    except GoneError:
        return "X"


def _stat(file: Path) -> list[str]:
    """The words of a file `stat` after the name of the program, which may have any characters."""
    return read(file).rpartition(")")[2].split()


def _status(pid: int) -> dict[str, str]:
    pairs = (line.partition(":") for line in read(Path(f"/proc/{pid}/status")).splitlines())
    return {key: value.strip() for key, _, value in pairs}
