"""The input of a step of the start, and its findings."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from fastlib.codec.errors import MessageError, Problem, render_path
from fastlib.migfra.config.file import Configuration
from fastlib.migfra.config.positions import position_of
from fastlib.migfra.journal.lock import lock_of
from fastlib.migfra.service.lock import holders, lock_path

Keys = tuple[str, ...]
"""A place in the configuration: keys from the root."""
NOWHERE: Final[Keys] = ()


@dataclass(frozen=True)
class StartUp:
    """A start of the daemon that is to be checked."""

    configuration: Configuration
    file: Path
    """The configuration file."""
    log_file: Path | None = None
    """The log file; None is standard error."""

    @property
    def lock(self) -> Path:
        """The lock of this configuration on this host."""
        return lock_path(self.file, self.configuration.host)

    def running(self) -> int | None:
        """Return the process that works with this configuration or journal; None if none does.

        It is 0 if the process is not visible here, for example from a container.
        """
        held = self.held_lock()
        return None if held is None else held[1]

    def held_lock(self) -> tuple[Path, int] | None:
        """Return the lock of this configuration or journal that a process holds, and the process.

        None if no process holds one. The process is 0 as with `running`.
        """
        for lock in (self.lock, lock_of(self.configuration.journal_path())):
            process = _holder(lock)
            if process is not None:
                return lock, process
        return None

    def process_with_journal(self) -> int | None:
        """Return the process that works with this journal, like `running`.

        Its configuration may be another file.
        """
        return _holder(lock_of(self.configuration.journal_path()))


@dataclass(frozen=True)
class Finding:
    """One reason why a start would fail, or a warning."""

    keys: Keys
    """The place in the configuration; the root without one."""
    error: Exception
    severity: Literal["error", "warning"] = "error"

    def problem(self, text: str | bytes) -> Problem:
        """Return it as a problem of the configuration's text, with line and column if possible."""
        line, column = position_of(text, self.keys)
        return Problem(
            code="start",
            message=_reason(self.error),
            severity=self.severity,
            path=render_path(self.keys),
            line=line,
            column=column,
        )


def _holder(lock: Path) -> int | None:
    found = holders(lock)
    return max(*found, 0) if found else None


def _reason(error: Exception) -> str:
    """Return the text of an error, without a place that the problem has itself."""
    if isinstance(error, MessageError):
        return "; ".join(problem.message for problem in error.problems)
    return str(error)
