"""Adapts to a daemon how the C library and Python treat memory."""

import ctypes
import gc
from typing import Final

M_MMAP_THRESHOLD: Final = -3
"""From glibc's `malloc.h`."""
LARGE_BLOCK: Final = 128 << 10
"""Bytes; larger blocks are given back as soon as they are freed. It is glibc's first value."""


YOUNG_OBJECTS: Final = 10_000
"""New containers after which Python looks for cycles. Its own value is 700."""


def collect_rarely() -> None:
    """Have Python look for cycles less often, and no more at what there is now. Call it once.

    Orders make no cycles. With Python's own values, the objects of some hundred orders under way
    are looked at again and again: 4 % of the daemon's CPU time.
    """
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS, *gc.get_threshold()[1:])


def return_large_blocks() -> bool:
    """Give each large block back when it is freed. Return False if the C library is not glibc.

    By itself, glibc keeps blocks of up to 32 MiB once one of them was freed, in each thread. A
    daemon that has got some messages of 4 MiB would so keep twice the memory that it needs.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return False
    return bool(mallopt(M_MMAP_THRESHOLD, LARGE_BLOCK))
