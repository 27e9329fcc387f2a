"""Log lines: text or JSON, each with its host, and the id and domain of its task."""

import json
import logging
import sys
import warnings
from contextvars import Context, ContextVar, copy_context
from datetime import UTC, datetime
from logging import Logger, LoggerAdapter, LogRecord
from pathlib import Path
from textwrap import indent
from typing import Any, Final, Literal, TextIO

import msgspec

from fastlib.codec.printable import escape_json, printable, word
from fastlib.migfra.service.standard_streams import print_safely

from .log_output import FileOutput, LogOutput, Output, StreamOutput, check_log_file
from .safe_logger import SafeLogger, protect_loggers

log = logging.getLogger("fastlib.migfra")

LONGEST: Final = 200
"""Maximum characters of an id or a domain's name that a line shows."""


class About(msgspec.Struct, frozen=True, gc=False):
    """The task and the domain of a log line."""

    id: str | None
    vm_name: str | None


about: ContextVar[About | None] = ContextVar("about", default=None)
"""The task that runs here. All log lines of this thread or coroutine are about it."""
host: ContextVar[str | None] = ContextVar("host", default=None)
"""The host of the daemon that runs here, because one process can have several daemons."""


def context_without_task() -> Context:
    """Return a context for work of the daemon itself. Its lines have the host and no task."""
    context = copy_context()
    context.run(about.set, None)
    return context


def task_log(logger: Logger, id: str | None, vm_name: str | None) -> LoggerAdapter[Logger]:
    """A logger whose lines are about a task."""
    return LoggerAdapter(logger, {"about": About(id, vm_name)})


def _about(record: LogRecord) -> About:
    found, current = getattr(record, "about", None), about.get()
    if not isinstance(found, About):
        found = current or About(None, None)
    elif found.vm_name is None and current is not None and current.id == found.id:
        found = current  # one domain of a task with several
    return About(_bounded(found.id), _bounded(found.vm_name))


def _bounded(text: str | None) -> str | None:
    """Shorten a field that is part of every line, because it could have megabytes."""
    if text is None or len(text) <= LONGEST:
        return text
    return f"{text[:LONGEST]}…"


class _HostFormatter(logging.Formatter):
    """Has the host of lines that no daemon's task logs, such as those of network threads."""

    def __init__(self, host: str | None = None) -> None:
        super().__init__()
        self._host = host

    def host(self) -> str | None:
        """Return the host of the line that is formatted."""
        return host.get() or self._host


class TextFormatter(_HostFormatter):
    """Format `2026-01-31T12:00:00.123+00:00 INFO [host id vm] message`, `-` for a missing part.

    A host, an id or a domain's name that could be taken for several fields is in double quotes.
    """

    def format(self, record: LogRecord) -> str:
        subject_of = _about(record)
        parts = (self.host(), subject_of.id, subject_of.vm_name)
        subject = " ".join("-" if part is None else word(part) for part in parts)
        text = f"{_time(record)} {record.levelname} [{subject}] {printable(_message(record))}"
        if record.exc_info:
            lines = self.formatException(record.exc_info).split("\n")
            text += "\n" + indent("\n".join(map(printable, lines)), "  ")
        return text


class JsonFormatter(_HostFormatter):
    """Format one object a line: time, level, logger, host, id, vm-name, message, traceback."""

    def format(self, record: LogRecord) -> str:
        subject = _about(record)
        line: dict[str, Any] = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "host": self.host(),
            "id": subject.id,
            "vm-name": subject.vm_name,
            "message": _message(record),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return escape_json(json.dumps(line))


def _time(record: LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")


def _message(record: LogRecord) -> str:
    return record.getMessage()


def set_up(
    level: str,
    style: Literal["text", "json"],
    file: Path | str | None = None,
    host: str | None = None,
) -> LogOutput:
    """Log to a file, opened again when it was moved away, or to standard error. Raises OSError.

    From then on, no fault of the log reaches its callers: neither of the file, nor of standard
    error, nor of handlers that other packages add. `host` is named in each line. Python's own
    warnings, such as that a hypervisor does not await a coroutine, are lines of the log, too.
    """
    output: Output = StreamOutput(sys.stderr) if file is None else _open(file)
    handler = LogOutput(output, on_fault=None if file is None else print_safely)
    handler.setFormatter(TextFormatter(host) if style == "text" else JsonFormatter(host))
    logging.basicConfig(handlers=[handler], force=True)
    logging.setLoggerClass(SafeLogger)
    protect_loggers()
    warnings.showwarning = _log_warning
    set_level(level)
    return handler


def _log_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Log the warnings of Python; a daemon in the background has no standard error for them."""
    log.warning("%s:%d: %s: %s", filename, lineno, category.__name__, message)


def _open(file: Path | str) -> FileOutput:
    try:
        return FileOutput(file)
    except OSError as error:
        raise _cannot_be_opened(file, error) from error


def check_log(file: Path | str) -> None:
    """Raise the OSError with which `set_up` would fail. Leave no trace."""
    try:
        check_log_file(file)
    except OSError as error:
        raise _cannot_be_opened(file, error) from error


def _cannot_be_opened(file: Path | str, error: OSError) -> OSError:
    remedy = (
        "give the name of a file in it"
        if isinstance(error, IsADirectoryError)
        else "its directory must exist, and the user of migfra must have permission to write there"
    )
    return OSError(f"the log {file} cannot be opened: {error.strerror or error}; {remedy}")


def set_level(level: str) -> None:
    """Set the lowest severity that is logged: `debug`, `info`, `warning` or `error`."""
    logging.getLogger().setLevel(level.upper())
