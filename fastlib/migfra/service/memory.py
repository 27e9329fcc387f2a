"""Lets the C library give the memory of large messages back to the system."""

import ctypes
from typing import Final

M_MMAP_THRESHOLD: Final = -3
"""From glibc's `malloc.h`."""
LARGE_BLOCK: Final = 128 << 10
"""Bytes; larger blocks are given back as soon as they are freed. It is glibc's first value."""


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
