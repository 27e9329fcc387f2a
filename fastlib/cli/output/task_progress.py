"""Show the progress of tasks on standard error: bars on a terminal, else lines.

Only fastlib's own daemon reports progress. The client calls `report` in a thread of its own.
"""

import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Final, Protocol, Self

from fastlib.display.message_text import domain_names, domain_of, summarize
from fastlib.display.text import byte_size, printable, word
from fastlib.extras import MissingExtraError, needs_extra
from fastlib.message import TaskContainer
from fastlib.message.node import Progress

from .terminal import is_dumb, is_terminal

if TYPE_CHECKING:
    from rich.progress import TaskID

LINE_PERCENT: Final = 10.0
"""Percent between two lines."""
TIME_WIDTH: Final = 7
"""Columns of a time such as 0:00:12."""


class Display(Protocol):
    """Shows the progress of pending tasks."""

    def begin(self, host: str, container: TaskContainer) -> None:
        """A task was sent."""

    def report(self, host: str, progress: Progress) -> None:
        """Progress has come. Called in any thread."""

    def end(self, host: str, id: str) -> None:
        """A task has ended."""

    def paused(self) -> AbstractContextManager[None]:
        """Within the block, others may print."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


def make_display() -> Display:
    """Return bars if standard error is a terminal and rich is installed, else lines."""
    if is_terminal(sys.stderr) and not is_dumb():
        try:
            return ProgressBars()
        except MissingExtraError:
            return ProgressLines()
    return ProgressLines()


class ProgressLines(AbstractContextManager["ProgressLines"]):
    """Prints a line for each phase, and for every `LINE_PERCENT` of it."""

    def __init__(self) -> None:
        self._shown: dict[tuple[str, str | None, str | None], tuple[str, float]] = {}

    def begin(self, host: str, container: TaskContainer) -> None:
        """Print nothing."""

    def report(self, host: str, progress: Progress) -> None:
        key = (host, progress.id, progress.vm_name)
        percent = progress.percent or 0.0
        phase, last = self._shown.get(key, ("", 0.0))
        if progress.phase == phase and percent < last + LINE_PERCENT:
            return
        self._shown[key] = (progress.phase, percent)
        id = "-" if progress.id is None else word(progress.id)
        print(f"{host} {id} {summarize(progress)}", file=sys.stderr, flush=True)

    def end(self, host: str, id: str) -> None:
        """Print nothing."""

    @contextmanager
    def paused(self) -> Iterator[None]:
        yield

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Nothing is open."""


class ProgressBars(AbstractContextManager["ProgressBars"]):
    """Shows a bar for each domain until its task ends. Raises MissingExtraError without rich."""

    def __init__(self) -> None:
        with needs_extra("the progress bar", "rich"):
            from rich.console import Console
            from rich.progress import BarColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
            from rich.progress import Progress as Bars
            from rich.table import Column

        self._bars = Bars(
            SpinnerColumn("line"),  # ASCII, which every terminal has
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.fields[state]}", markup=False),
            TimeElapsedColumn(Column(no_wrap=True, min_width=TIME_WIDTH)),
            console=Console(stderr=True),
            transient=True,
            redirect_stdout=False,  # standard output may be another terminal
        )
        self._known: dict[tuple[str, str | None], dict[str, TaskID]] = {}

    def begin(self, host: str, container: TaskContainer) -> None:
        bars = self._known.setdefault((host, container.id), {})
        names = domain_names(container)
        title = container.task
        for name in names or [""]:
            about = printable(f"{host}: {title}{f' {name}' if name else ''} (id {container.id})")
            bars[name] = self._bars.add_task(about, total=None, state="sent")

    def report(self, host: str, progress: Progress) -> None:
        bars = self._known.get((host, progress.id))
        if bars is None:
            return
        name = domain_of(progress) or ""
        if name not in bars:  # the task does not name its domains: an evacuation
            about = printable(" ".join(filter(None, (f"{host}:", progress.task, name))))
            bars[name] = self._bars.add_task(about, total=None, state="")
            if name and "" in bars:
                self._bars.update(bars[""], state="")  # it has begun with its domains
        total = None if progress.percent is None else 100.0
        self._bars.update(
            bars[name], total=total, completed=progress.percent, state=_state(progress)
        )

    def end(self, host: str, id: str) -> None:
        for bar in self._known.pop((host, id), {}).values():
            self._bars.remove_task(bar)

    @contextmanager
    def paused(self) -> Iterator[None]:
        self._bars.stop()
        try:
            yield
        finally:
            self._bars.start()

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bars.stop()


def _state(progress: Progress) -> str:
    """Return the text beside a bar."""
    parts = [progress.phase]
    if progress.position is not None:
        parts.append(f"place {progress.position}")
    if progress.percent is not None:
        parts.append(f"{progress.percent:.0f} %")
    if progress.transferred is not None:
        of = "" if progress.total is None else f" of {byte_size(progress.total, 0)}"
        parts.append(f"{byte_size(progress.transferred, 0)}{of}")
    if progress.expected is not None:
        parts.append(f"{progress.expected:.0f} s left")
    return printable(", ".join(parts))
