"""Show the progress of tasks on standard error: bars on a terminal, else lines.

Only fastlib's daemon reports progress. The client calls `report` in its own thread.
"""

import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from types import TracebackType
from typing import Final, Protocol, Self

from fastlib.cli.interrupts import drawing
from fastlib.display.message_text import summarize
from fastlib.display.text import word
from fastlib.extras import MissingExtraError, needs_extra
from fastlib.message import TaskContainer
from fastlib.message.node import Progress

from .terminal import is_dumb, is_terminal

LINE_PERCENT: Final = 10.0
"""Percent between two lines."""


class Display(Protocol):
    """Shows the progress of pending tasks."""

    def begin(self, host: str, container: TaskContainer) -> None:
        """Note that a task was sent."""

    def report(self, host: str, progress: Progress) -> None:
        """Show a report of progress. Called in any thread."""

    def end(self, host: str, id: str) -> None:
        """Note that a task has ended."""

    def paused(self) -> AbstractContextManager[None]:
        """Let other code print in the block."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


def make_display() -> Display:
    """Return bars if standard error is a terminal and rich is installed; otherwise lines."""
    if is_terminal(sys.stderr) and not is_dumb():
        try:
            return ProgressBars()
        except MissingExtraError:
            return ProgressLines()
    return ProgressLines()


class ProgressLines(AbstractContextManager["ProgressLines"]):
    """Prints a line for each phase, each place in the queue, and every `LINE_PERCENT`."""

    def __init__(self) -> None:
        self._shown: dict[tuple[str, str | None, str | None], tuple[str, int | None, float]] = {}

    def begin(self, host: str, container: TaskContainer) -> None:
        """Print nothing."""

    def report(self, host: str, progress: Progress) -> None:
        key = (host, progress.id, progress.vm_name)
        percent = progress.percent or 0.0
        phase, position, last = self._shown.get(key, ("", None, 0.0))
        is_same = (progress.phase, progress.position) == (phase, position)
        if is_same and percent < last + LINE_PERCENT:
            return
        self._shown[key] = (progress.phase, progress.position, percent)
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
        """Do nothing: nothing is open."""


class ProgressBars(AbstractContextManager["ProgressBars"]):
    """Shows a bar for each domain until its task ends. Raises MissingExtraError without rich."""

    def __init__(self) -> None:
        with needs_extra("the progress bar", "rich"):
            from rich.console import Console
            from rich.live import Live

            from .progress_table import ProgressTable

        self._table = ProgressTable()
        console = Console(stderr=True)
        self._live = Live(
            get_renderable=lambda: self._table.render(time.monotonic(), *console.size),
            console=console,
            transient=True,
            redirect_stdout=False,  # standard output may be another terminal
        )

    def begin(self, host: str, container: TaskContainer) -> None:
        self._table.begin(host, container, time.monotonic())
        with drawing():
            self._live.start(refresh=True)  # a second start does nothing

    def report(self, host: str, progress: Progress) -> None:
        self._table.report(host, progress, time.monotonic())

    def end(self, host: str, id: str) -> None:
        self._table.end(host, id)

    @contextmanager
    def paused(self) -> Iterator[None]:
        with drawing():
            self._live.stop()
        try:
            yield
        finally:
            with drawing():
                self._live.start(refresh=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with drawing():
            self._live.stop()
