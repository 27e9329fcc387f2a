"""Real processes for domains, and their state as seen from outside."""

import fcntl
import mmap
import os
import socket
import struct
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar, Self

PYTHON = [sys.executable, "-I", "-S", "-c"]
_COUNTER = """
import mmap, sys, time
with open(sys.argv[1], "r+b") as file:
    shared = mmap.mmap(file.fileno(), 8)
number = 0
while True:
    number += 1
    shared[:8] = number.to_bytes(8, "little")
    time.sleep(0.01)
"""
_FORKER = """
import os, sys
sys.stdin.read(1)
while True:
    if os.fork() != 0:
        os._exit(0)
"""
_REMOVER = """
import os, sys
while True:
    for path in sys.argv[1:]:
        try:
            os.rmdir(path)
        except OSError:
            pass
"""
_LEADERLESS = """
import ctypes, threading, time
threading.Thread(target=time.sleep, args=[3600]).start()
ctypes.CDLL(None).pthread_exit(None)
"""
_STUCK = """
import ctypes, fcntl, mmap, os, signal, socket, struct, sys
libc = ctypes.CDLL(None, use_errno=True)
def checked(result):
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result
faults = checked(libc.syscall(323, os.O_CLOEXEC | os.O_NONBLOCK))  # userfaultfd
fcntl.ioctl(faults, 0xC018AA3F, bytearray(struct.pack("QQQ", 0xAA, 0, 0)))
page = mmap.mmap(-1, 4096)
address = ctypes.addressof(ctypes.c_char.from_buffer(page))
fcntl.ioctl(faults, 0xC020AA00, bytearray(struct.pack("QQQQ", address, 4096, 1, 0)))
with socket.socket(fileno=int(sys.argv[1])) as parent:
    socket.send_fds(parent, [struct.pack("Q", address)], [faults])
    parent.recv(1)
target = ctypes.create_string_buffer(1)
class Piece(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("length", ctypes.c_size_t)]
here, there = Piece(ctypes.addressof(target), 1), Piece(address, 1)
libc.process_vm_readv(os.getpid(), ctypes.byref(here), 1, ctypes.byref(there), 1, 0)
while True:
    signal.pause()
"""


class Workload:
    """A process that ends with the block."""

    _killed: ClassVar[list[subprocess.Popen[bytes]]] = []
    """Processes of failed blocks that nobody has waited for."""

    def __init__(self, *arguments: object, pass_fds: tuple[int, ...] = ()) -> None:
        self.process = subprocess.Popen(
            [*PYTHON, *map(str, arguments)], pass_fds=pass_fds, stdin=subprocess.PIPE
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self.process.kill()
        assert self.process.stdin is not None
        self.process.stdin.close()
        if kind is None:
            self.process.wait()
        else:  # it may be frozen, and does not end before its group is cleared
            self._killed.append(self.process)

    @classmethod
    def wait_for_killed(cls) -> None:
        """Wait for the processes of failed blocks, once their groups are cleared."""
        while cls._killed:
            cls._killed.pop().wait()

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def runs(self) -> bool:
        return self.process.poll() is None

    def allowed(self, what: str) -> str:
        """`Cpus` or `Mems`: the numbers that the kernel allows the process."""
        return status(self.pid, f"{what}_allowed_list")


class Counter(Workload):
    """A process that counts a hundred times a second, in a file. An emulated guest is slow."""

    def __init__(self, directory: Path) -> None:
        file = directory / f"counter-{os.urandom(4).hex()}"
        file.write_bytes(bytes(8))
        super().__init__(_COUNTER, file)
        with file.open("r+b") as opened:
            self._shared = mmap.mmap(opened.fileno(), 8)

    @property
    def count(self) -> int:
        return int.from_bytes(self._shared[:8], "little")


class ForkingProcess(Workload):
    """A process that forks again and again. Only its newest child runs."""

    def __init__(self) -> None:
        super().__init__(_FORKER)

    def begin(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(b"!")
        self.process.stdin.close()
        self.process.wait()


class LeaderlessProcess(Workload):
    """A process whose first thread has ended; another thread continues."""

    def __init__(self) -> None:
        super().__init__(_LEADERLESS)
        while not status(self.pid, "State").startswith("Z"):
            os.sched_yield()


class Remover(Workload):
    """A process that removes groups whenever they are empty."""

    def __init__(self, groups: Iterable[Path]) -> None:
        super().__init__(_REMOVER, *groups)


class Stuck(Workload):
    """A process that waits in the kernel for a page that does not come, so it cannot freeze.

    It is in the state D, as one that waits for a file server that is away, until `release`.
    """

    def __init__(self) -> None:
        self._ours, theirs = socket.socketpair()
        with theirs:
            super().__init__(_STUCK, theirs.fileno(), pass_fds=(theirs.fileno(),))
        address, (self._faults,), _, _ = socket.recv_fds(self._ours, 8, 1)
        (self._address,) = struct.unpack("Q", address)

    def __exit__(self, kind: object, *_: object) -> None:
        os.close(self._faults)
        self._ours.close()
        super().__exit__(kind)

    def wait(self) -> None:
        """Let it wait for the page."""
        self._ours.send(b"!")

    @property
    def is_stuck(self) -> bool:
        return status(self.pid, "State").startswith("D")

    def release(self) -> None:
        """Bring the page."""
        fcntl.ioctl(
            self._faults, 0xC020AA04, bytearray(struct.pack("QQQq", self._address, 4096, 0, 0))
        )


def status(pid: int, key: str) -> str:
    """A line of `/proc/<pid>/status`."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == key:
            return value.strip()
    raise KeyError(key)
