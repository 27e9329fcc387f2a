"""Forget old orders from time to time, and count the running time by which they get old."""

import sqlite3
from typing import Final

from fastlib.clock import Clock

from . import schema
from .group_commit import GroupCommit
from .journal_file import JournalFile

TRIM_EVERY: Final = 1000
"""Confirmed containers after which the journal is trimmed."""
TRIM_BYTES: Final = 1 << 20
"""Bytes of payloads, answers and events after which the next confirmed container trims it, too."""
TRIM_SECONDS: Final = 3600.0
"""Seconds after which the journal is trimmed in any case; see `Trimming.trim_if_due`."""


class Trimming:
    """Trims the journal when it has grown, and when the last time is long ago."""

    def __init__(
        self,
        file: JournalFile,
        group_commit: GroupCommit,
        clock: Clock,
        *,
        max_age: float,
        max_size: int,
    ) -> None:
        """`max_age` is in seconds of running time, `max_size` in bytes."""
        self._file = file
        self._group_commit = group_commit
        self._clock = clock
        self._max_age = max_age
        self._max_size = max_size
        self.opened: Final = clock.monotonic()
        """Time at which the journal was opened, by the monotonic clock."""
        self._trimmed = self.opened
        """Time of the last trimming, by the same clock."""
        self.grown = 0
        """Bytes that were stored since. The journal adds to it."""
        self._confirmed = 0

    def seconds(self) -> float:
        """Total running time of this journal's daemons, in seconds, as far as it is recorded."""
        return self._file.run.seconds + self._clock.monotonic() - self.opened

    def confirm(self) -> float:
        """Count an order that is confirmed now, and trim if it is time. Return `seconds`."""
        self._confirmed += 1
        if self._confirmed % TRIM_EVERY == 0 or self.grown >= TRIM_BYTES:
            self.grown = 0
            self.trim()
        return self._file.run.seconds + self._clock.monotonic() - self.opened

    def trim_if_due(self) -> None:
        """Trim the journal if the last time is long ago."""
        if self._clock.monotonic() - self._trimmed >= TRIM_SECONDS:
            self.trim()

    def trim(self) -> None:
        """Forget confirmed orders that are too old or too many; returns at once."""
        seconds = self.seconds()
        self._trimmed = self._clock.monotonic()

        def trim(connection: sqlite3.Connection) -> None:
            schema.set_meta(connection, "seconds", seconds)
            forgotten = schema.trim(connection, seconds - self._max_age, self._max_size)
            if forgotten is not None:
                self._file.began = forgotten

        self._group_commit.submit_later(trim)
