"""Detect a journal that was replaced by an older copy of itself while no daemon ran.

Such a copy does not have the orders that came after it was made. So a small file beside the journal
has the journal's last position. It is not synchronized to the disk: after a power failure it may be
behind the journal, but never ahead of it.
"""

import os
from logging import getLogger
from pathlib import Path
from typing import Final

import msgspec

log = getLogger("fastlib.migfra")

SUFFIX: Final = ".position"
SIZE: Final = 128
"""Bytes of the file. It is overwritten in one piece."""


class Position(msgspec.Struct, frozen=True):
    """The position of a journal."""

    identity: str
    """The random text that was made with the journal."""
    run: int
    """The number of the run of the daemon."""
    order: int
    """The number of the newest order, 0 before the first one."""


def is_older_copy(written: Position | None, run: int, found: Position) -> bool:
    """Return whether a journal, in which the run `run` begins, is older than `written`.

    `found` is the position from the journal itself. Another journal at this place is not a copy.
    """
    if written is None or written.identity != found.identity:
        return False
    return written.run >= run or written.order > found.order


class PositionFile:
    """The file beside a journal."""

    def __init__(self, journal: Path | str) -> None:
        """Open or make the file. Raises OSError."""
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        self._descriptor = os.open(f"{journal}{SUFFIX}", flags, 0o600)
        self._complained = False

    def read(self) -> Position | None:
        """Return the position that was written last; None without one, or if it cannot be read."""
        try:
            return msgspec.json.decode(os.pread(self._descriptor, SIZE, 0), type=Position)
        except (OSError, msgspec.DecodeError):
            return None

    def write(self, position: Position) -> None:
        """Write the position of the journal. Log an error: the journal itself works without it."""
        try:
            os.pwrite(self._descriptor, msgspec.json.encode(position).ljust(SIZE), 0)
        except OSError as error:
            if not self._complained:
                self._complained = True
                log.warning(
                    "the daemon cannot detect an older copy of the journal, because the file "
                    "beside it cannot be written: %s",
                    error,
                )

    def close(self) -> None:
        """Close the file, once."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)
