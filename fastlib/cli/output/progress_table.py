"""Lay out the progress of pending tasks as a table with bars; needs rich."""

import threading
from datetime import timedelta
from typing import Final

import msgspec
from rich.console import RenderableType
from rich.text import Text

from fastlib.display.message_text import domain_names, domain_of, format_phase
from fastlib.display.rich_tables import MIN_BAR_COLUMNS, Bar, Column, FittedTable, Row
from fastlib.display.text import byte_size, printable
from fastlib.message import TaskContainer
from fastlib.message.node import Progress

_COLUMNS: Final = (
    Column(""),
    Column("", shrink_to=MIN_BAR_COLUMNS),
    Column(""),
    Column("", shrink_to=0),
    Column("", shrink_to=0),
    Column(""),
)


class _Line(msgspec.Struct):
    """One domain of a task, or the whole task."""

    about: str
    id: str
    began: float
    """Monotonic time in seconds."""
    progress: Progress | None = None
    is_replaced: bool = False
    """True once the progress of the task's domains has replaced its own."""


class ProgressTable:
    """The pending tasks and their progress. Call its methods in any thread."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str | None], dict[str, _Line]] = {}
        self._lock = threading.Lock()

    def begin(self, host: str, container: TaskContainer, now: float) -> None:
        """Add a task that was sent, with a line for each domain that it names."""
        with self._lock:
            self._known[host, container.id] = {
                name: _Line(
                    f"{host}: {container.task}{f' {name}' if name else ''}", container.id or "", now
                )
                for name in domain_names(container) or [""]
            }

    def report(self, host: str, progress: Progress, now: float) -> None:
        """Show the progress of a pending task. Progress of other tasks is ignored."""
        with self._lock:
            lines = self._known.get((host, progress.id))
            if lines is None:
                return
            name = domain_of(progress) or ""
            if name not in lines:  # the task does not name its domains: an evacuation
                about = " ".join(filter(None, (f"{host}:", progress.task, name)))
                lines[name] = _Line(about, "", now)
                if name and "" in lines:
                    lines[""].is_replaced = True
            lines[name].progress = progress

    def end(self, host: str, id: str) -> None:
        """Remove a task that has ended."""
        with self._lock:
            self._known.pop((host, id), None)

    def render(self, now: float, width: int, height: int) -> RenderableType:
        """Return the table for a terminal. In a narrow terminal each id is below its task."""
        with self._lock:
            lines = [line for task in self._known.values() for line in task.values()]
            most = max(2, height - 1)
            for narrow in (False, True):
                rows = [_row(line, now, narrow=narrow) for line in lines]
                table = FittedTable(_COLUMNS, rows, width, most)
                if table.fits:
                    break
        return table.render(header=False) if rows else Text("")


def _row(line: _Line, now: float, *, narrow: bool) -> Row:
    progress = line.progress
    about = printable(line.about)
    if line.id:
        about += ("\n" if narrow else " ") + printable(f"(id {line.id})")
    elapsed = Text(str(timedelta(seconds=int(now - line.began))))
    if progress is None or line.is_replaced:
        state = "" if line.is_replaced else "sent"
        return (Text(about), Text(""), Text(state), Text(""), Text(""), elapsed)
    sent = left = ""
    if progress.transferred is not None:
        of = "" if progress.total is None else f" of {byte_size(progress.total, 0)}"
        sent = f"{byte_size(progress.transferred, 0)}{of}"
    if progress.expected is not None:
        left = f"{progress.expected:.0f} s left"
    percent = progress.percent
    return (
        Text(about),
        Text("") if percent is None else Bar(percent),
        Text(format_phase(progress)),
        Text(left),
        Text(sent),
        elapsed,
    )
