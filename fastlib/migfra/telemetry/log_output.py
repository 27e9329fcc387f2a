"""Write log lines to a file or to standard error. A failing output never fails its caller.

Lines that cannot be written are counted. The first line that can be written again is preceded by a
line with their number, the reason and the time.
"""

import errno
import logging
import os
import select
import stat
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from logging import LogRecord
from pathlib import Path
from typing import Any, Final, Protocol

from fastlib.migfra.failures import describe
from fastlib.migfra.own_files import LOG, check_own_file, open_own_file

STALL_SECONDS: Final = 0.2
"""Maximum seconds that a full pipe or terminal without a reader may delay one line."""
_FLAGS: Final = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK


class Output(Protocol):
    """A destination of lines."""

    name: str
    detour: OSError | None
    """The reason why lines go elsewhere at present, such as into the file that was moved away."""

    def write(self, line: bytes) -> None:
        """Write a line. Raises OSError or ValueError."""

    def close(self) -> None:
        """Release the output."""


class DescriptorWriter:
    """Writes whole lines to a file descriptor, with a bounded wait for a reader."""

    def __init__(self) -> None:
        self._torn = False
        self._stalled = False

    def write(self, descriptor: int, line: bytes) -> None:
        """Write a line; after a line that was cut short, begin a new one. Raises OSError."""
        is_file = stat.S_ISREG(os.fstat(descriptor).st_mode)
        rest = memoryview(b"\n" + line if self._torn else line)
        length = len(rest)
        try:
            while rest:
                if not is_file:
                    self._wait_for_reader(descriptor)
                # A pipe that is ready takes PIPE_BUF bytes without blocking.
                written = os.write(descriptor, rest if is_file else rest[: select.PIPE_BUF])
                rest = rest[written:]
        except OSError:
            self._torn = self._torn or len(rest) < length
            raise
        self._torn = False

    def _wait_for_reader(self, descriptor: int) -> None:
        poll = select.poll()
        poll.register(descriptor, select.POLLOUT)
        if not poll.poll(0 if self._stalled else STALL_SECONDS * 1000):
            self._stalled = True
            raise BlockingIOError(errno.EAGAIN, "its reader is gone")
        self._stalled = False


def check_log_file(path: Path | str) -> None:
    """Raise the OSError with which a `FileOutput` would fail. Leave no trace."""
    check_own_file(path, _FLAGS)


class FileOutput:
    """A file that is opened again when another program has moved or deleted it."""

    def __init__(self, path: Path | str) -> None:
        """Raises OSError."""
        self.name = str(path)
        self.detour: OSError | None = None
        self._path: Final = path
        self._writer = DescriptorWriter()
        self._descriptor = -1
        self._open()

    def write(self, line: bytes) -> None:
        """Write a line to the file of this name, or to the moved one if that cannot be opened."""
        if self._is_moved():
            try:
                self._open()
            except OSError as error:
                if self._descriptor < 0 or not os.fstat(self._descriptor).st_nlink:
                    raise  # the old file is deleted, so the line would be lost
                self.detour = error
        else:
            self.detour = None
        self._writer.write(self._descriptor, line)

    def _is_moved(self) -> bool:
        if self._descriptor < 0:
            return True
        try:
            return not os.path.samestat(os.lstat(self._path), os.fstat(self._descriptor))
        except OSError:
            return True

    def _open(self) -> None:
        descriptor = open_own_file(self._path, _FLAGS, LOG)
        self.close()
        self._descriptor = descriptor
        self._writer = DescriptorWriter()
        self.detour = None

    def close(self) -> None:
        """Close the file."""
        if self._descriptor >= 0:
            descriptor, self._descriptor = self._descriptor, -1
            with suppress(OSError):  # all lines were written, or counted as lost
                os.close(descriptor)


class StreamOutput:
    """A stream, usually standard error; None if the process has none."""

    def __init__(self, stream: Any, name: str = "standard error") -> None:
        self.name = name
        self.detour: OSError | None = None
        self._stream = stream
        self._writer = DescriptorWriter()

    def write(self, line: bytes) -> None:
        """Write a line, past the buffer of the stream if it has a file descriptor."""
        if self._stream is None:
            raise OSError(errno.EBADF, "it is closed")
        try:
            descriptor = self._stream.fileno()
        except (AttributeError, OSError):  # a stream in memory
            self._stream.write(line.decode())
            self._stream.flush()
        else:
            self._writer.write(descriptor, line)

    def close(self) -> None:
        """Leave the stream open: it belongs to the process."""


@dataclass
class _Fault:
    """The reason and the begin of a fault of the output."""

    reason: str
    since: float
    lost: int = 0
    elsewhere: int = 0


class LogOutput(logging.Handler):
    """Writes records to an output. No method raises an exception because of the output."""

    def __init__(self, output: Output, *, on_fault: Callable[[str], object] | None = None) -> None:
        """`on_fault` gets a text when lines begin to be lost, and at the end if they still are."""
        super().__init__()
        self.lost = 0
        """Lines that could not be written since the start."""
        self._output = output
        self._on_fault = on_fault
        self._fault: _Fault | None = None

    def emit(self, record: LogRecord) -> None:
        """Write a record, or count it as lost."""
        line = self._line(record)
        try:
            if self._fault is not None and not self._fault.elsewhere:
                # The fault may have ended: try this line, preceded by the report of lost lines.
                line_before = self._line(self._notice(self._fault))
                self._output.write(line_before + line)
            else:
                self._output.write(line)
        except Exception as error:  # the daemon continues without this line after any error
            self._lose(error)
            return
        self._follow_detour()

    def _follow_detour(self) -> None:
        detour, fault = self._output.detour, self._fault
        if detour is None:
            if fault is not None and fault.elsewhere:
                with suppress(Exception):  # the next line detects the new fault
                    self._output.write(self._line(self._notice(fault)))
            self._fault = None
        elif fault is None or not fault.elsewhere:
            self._fault = _Fault(_reason(detour), time.time(), elsewhere=1)
            self._warn(
                f"the log {self._output.name} cannot be opened: {_reason(detour)}; the daemon "
                "continues to write to the file that was moved away"
            )
        else:
            fault.elsewhere += 1

    def _line(self, record: LogRecord) -> bytes:
        try:
            text = self.format(record)
        except Exception as error:  # wrong arguments, or an object whose text cannot be made
            broken = logging.LogRecord(
                record.name, record.levelno, record.pathname, record.lineno,
                "%.200r cannot be formatted: %s", (str(record.msg), describe(error)), None,
            )  # fmt: skip
            text = self.format(broken)
        return f"{text}\n".encode("utf-8", "backslashreplace")

    def _lose(self, error: Exception) -> None:
        self.lost += 1
        if self._fault is None or self._fault.elsewhere:
            self._fault = _Fault(_reason(error), time.time())
            self._warn(
                f"the log {self._output.name} cannot be written: {_reason(error)}; lines are lost "
                "until it can be written again"
            )
        self._fault.lost += 1

    def _notice(self, fault: _Fault) -> LogRecord:
        since = datetime.fromtimestamp(fault.since, UTC).isoformat(timespec="milliseconds")
        text = f"{fault.lost} lines of the log were lost since {since}: {fault.reason}"
        if fault.elsewhere:
            text += f"; {fault.elsewhere} lines are in the file that was moved away"
        return logging.LogRecord("fastlib.migfra", logging.WARNING, __file__, 0, text, (), None)

    def handleError(self, record: LogRecord) -> None:
        """Count the record as lost."""
        error = sys.exception()
        self._lose(error if isinstance(error, Exception) else OSError("unknown"))

    def _warn(self, text: str) -> None:
        if self._on_fault is not None:
            with suppress(Exception):  # there is no other place to report it
                self._on_fault(text)

    def close(self) -> None:
        """Close the output; report lines that were lost and are not reported yet."""
        fault, self._fault = self._fault, None
        if fault is not None and fault.lost:
            self._warn(self._notice(fault).getMessage())
        self._output.close()
        super().close()


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return describe(error)
