"""Adapt the memory management of the C library and of Python to a daemon."""

import ctypes
import gc
from typing import Final

M_MMAP_THRESHOLD: Final = -3
"""From glibc's `malloc.h`."""
LARGE_BLOCK: Final = 128 << 10
"""Bytes above which a freed block is returned to the system. It is glibc's initial value."""


YOUNG_OBJECTS: Final = 10_000
"""New containers after which Python looks for cycles. Its own value is 700."""


def collect_rarely() -> None:
    """Let Python search for cycles less often, and not in the present objects. Call it once.

    Orders leave no cycles. With Python's default values, the objects of some hundred running orders
    are searched repeatedly, which takes 4 % of the daemon's CPU time.
    """
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS, *gc.get_threshold()[1:])


def return_large_blocks() -> bool:
    """Return each large block to the system when it is freed. Return False without glibc.

    By default, glibc keeps blocks of up to 32 MiB after one of them was freed, in each thread. A
    daemon would keep twice the memory that it needs after some messages of 4 MiB.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return False
    return bool(mallopt(M_MMAP_THRESHOLD, LARGE_BLOCK))
