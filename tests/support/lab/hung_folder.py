"""A folder of a host whose file system never answers, like that of a dead file server.

It is a FUSE file system whose program reads no request. A program that opens the folder waits in
the kernel until the file system ends. It can be killed.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from .host import Host

_PROGRAM = """
import ctypes, os, sys
file = os.open("/dev/fuse", os.O_RDWR)
options = f"fd={file},rootmode=40000,user_id=0,group_id=0".encode()
libc = ctypes.CDLL(None, use_errno=True)
if libc.mount(b"hung", sys.argv[1].encode(), b"fuse", 0, options) != 0:
    raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
print("mounted", flush=True)
sys.stdin.read()
"""


@contextmanager
def hung_folder(host: Host, folder: Path) -> Iterator[None]:
    """Let a folder of a host hang, until the end of the block."""
    pipe = subprocess.PIPE
    with host.popen(
        [sys.executable, "-c", _PROGRAM, folder], stdin=pipe, stdout=pipe, text=True
    ) as program:
        try:
            assert program.stdout is not None
            assert program.stdout.readline() == "mounted\n"
            yield
        finally:
            # The end of the program ends the file system. Then all waiting calls get an error.
            program.communicate()
            host.run(["umount", "--lazy", folder], check=False)
