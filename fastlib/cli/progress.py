"""What is shown while results are waited for: bars on a terminal, else lines, on standard error.

Only fastlib's own daemon reports progress. The reports come in a thread of the client.
"""

import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Final, Protocol, Self

from fastlib.extras import MissingExtraError, needs_extra
from fastlib.message import TaskContainer
from fastlib.message.node import Progress

from .phrases import names_of, phrase
from .terminal import is_plain, is_terminal, printable

if TYPE_CHECKING:
    from rich.progress import TaskID

STEP: Final = 10.0
"""Percents between two lines."""


class Display(Protocol):
    """What is shown of tasks under way."""

    def begin(self, host: str, container: TaskContainer) -> None:
        """A task is sent."""

    def report(self, host: str, progress: Progress) -> None:
        """How far one is. Called in any thread."""

    def end(self, host: str, id: str) -> None:
        """A task is answered, or given up."""

    def aside(self) -> AbstractContextManager[None]:
        """Within it, others may print."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


def make_display() -> Display:
    """Bars if a person looks at standard error and rich is installed, else lines."""
    if is_terminal(sys.stderr) and not is_plain():
        try:
            return RichBars()
        except MissingExtraError:
            return Lines()
    return Lines()


class Lines(AbstractContextManager["Lines"]):
    """A line for each phase, and for every ten percent of it."""

    def __init__(self) -> None:
        self._shown: dict[tuple[str, str | None, str | None], tuple[str, float]] = {}

    def begin(self, host: str, container: TaskContainer) -> None:
        """Nothing to say yet."""

    def report(self, host: str, progress: Progress) -> None:
        key = (host, progress.id, progress.vm_name)
        percent = progress.percent or 0.0
        phase, last = self._shown.get(key, ("", 0.0))
        if progress.phase == phase and percent < last + STEP:
            return
        self._shown[key] = (progress.phase, percent)
        print(printable(f"{host} {progress.id} {phrase(progress)}"), file=sys.stderr, flush=True)

    def end(self, host: str, id: str) -> None:
        """The result is what is said."""

    @contextmanager
    def aside(self) -> Iterator[None]:
        yield

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Nothing to tidy up."""


class RichBars(AbstractContextManager["RichBars"]):
    """A bar for each domain, gone when it ends. Raises MissingExtraError without rich."""

    def __init__(self) -> None:
        with needs_extra("the progress bar", "rich"):
            from rich.console import Console
            from rich.progress import BarColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
            from rich.progress import Progress as Bars

        self._bars = Bars(
            SpinnerColumn("line"),  # ASCII, which every terminal has
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.fields[state]}", markup=False),
            TimeElapsedColumn(),
            console=Console(stderr=True),
            transient=True,
            redirect_stdout=False,  # it need not be the same terminal
        )
        self._known: dict[tuple[str, str | None], dict[str, TaskID]] = {}

    def begin(self, host: str, container: TaskContainer) -> None:
        bars = self._known.setdefault((host, container.id), {})
        names = names_of(container)
        title = container.task
        for name in names or [""]:
            about = printable(f"{host}: {title}{f' {name}' if name else ''} (id {container.id})")
            bars[name] = self._bars.add_task(about, total=None, state="sent")

    def report(self, host: str, progress: Progress) -> None:
        bars = self._known.get((host, progress.id))
        if bars is None:
            return
        name = progress.vm_name or ""
        if name not in bars:  # one of several that nobody named, as in an evacuation
            about = printable(" ".join(filter(None, (f"{host}:", progress.task, name))))
            bars[name] = self._bars.add_task(about, total=None, state="")
        total = None if progress.percent is None else 100.0
        self._bars.update(
            bars[name], total=total, completed=progress.percent, state=_state(progress)
        )

    def end(self, host: str, id: str) -> None:
        for bar in self._known.pop((host, id), {}).values():
            self._bars.remove_task(bar)

    @contextmanager
    def aside(self) -> Iterator[None]:
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
    """What does not fit into a bar."""
    parts = [progress.phase]
    if progress.percent is not None:
        parts.append(f"{progress.percent:.0f} %")
    if progress.transferred is not None:
        of = "" if progress.total is None else f" of {_bytes(progress.total)}"
        parts.append(f"{_bytes(progress.transferred)}{of}")
    if progress.expected is not None:
        parts.append(f"{progress.expected:.0f} s left")
    return printable(", ".join(parts))


def _bytes(number: int) -> str:
    """Bytes in the unit that suits them."""
    value = float(number)
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:.0f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"
