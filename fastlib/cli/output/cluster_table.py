"""Show the state of a cluster as live tables; needs rich."""

import sys
from collections.abc import Sequence
from datetime import datetime, timedelta
from types import TracebackType
from typing import Final, Self, TypeAlias

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from fastlib.cli.interrupts import drawing
from fastlib.display.cluster_state import ClusterState, FinishedTask, HostState, PendingTask
from fastlib.display.message_text import format_phase
from fastlib.display.rich_tables import (
    MIN_BAR_COLUMNS,
    Bar,
    Cell,
    Column,
    FittedTable,
    Row,
    Stacked,
    status_text,
)
from fastlib.display.text import join_names, local_clock, natural_key, printable
from fastlib.message.node import Progress

from .terminal import is_terminal

FIXED_LINES: Final = 6
"""Lines besides tables: their titles, the empty lines between them, and the cursor's line."""
MIN_TABLE_LINES: Final = 3
MIN_TEXT_COLUMNS: Final = 32
"""Width below which no result shrinks; it continues on further lines."""

_Table: TypeAlias = tuple[Sequence[Column], Sequence[Row]]

_HOST_COLUMNS: Final = (
    Column("host"),
    Column("daemon"),
    Column("hypervisor", shrink_to=6),
    Column("version", shrink_to=0),
    Column("heard"),
)
_TASK_COLUMNS: Final = (
    Column("host"),
    Column("id"),
    Column("task", shrink_to=22),
    Column("state"),
    Column("", shrink_to=MIN_BAR_COLUMNS),
    Column("for"),
)
_NARROW_TASK_COLUMNS: Final = (
    Column("host"),
    Column("task and id", shrink_to=26),
    Column("state"),
    Column("", shrink_to=MIN_BAR_COLUMNS),
    Column("for"),
)
_RESULT_COLUMNS: Final = (
    Column("time"),
    Column("host"),
    Column("id"),
    Column("result", shrink_to=MIN_TEXT_COLUMNS, wraps=True),
)
_NARROW_RESULT_COLUMNS: Final = (
    Column("time"),
    Column("host"),
    Column("result and id", shrink_to=MIN_TEXT_COLUMNS, wraps=True),
)


class ClusterTable:
    """Shows a cluster within its `with` block; the last state stays on the terminal."""

    def __init__(self, state: ClusterState) -> None:
        self.state = state
        self._console = Console()
        self._live = Live(
            console=self._console,
            auto_refresh=False,
            redirect_stdout=False,
            redirect_stderr=is_terminal(sys.stderr),
        )

    def show(self) -> None:
        """Show the current state."""
        now = datetime.now().astimezone()
        width, height = self._console.size
        with drawing():
            self._live.start()  # within the block whose end stops it; a second start does nothing
            self._live.update(render(self.state, now, height, width), refresh=True)

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


def render(state: ClusterState, now: datetime, height: int, width: int) -> RenderableType:
    """Return the tables, cut to `height` lines and `width` columns."""
    room = max(3 * MIN_TABLE_LINES, height - FIXED_LINES)
    titles = ("hosts", "running and queued", "last results")
    contents = (_hosts(state, now), _tasks(state, now, room, width), _results(state, room, width))
    lines = _share_lines(
        [FittedTable(columns, rows, width, room).lines for columns, rows in contents], room
    )
    parts: list[RenderableType] = []
    for title, (columns, rows), own in zip(titles, contents, lines, strict=True):
        table = FittedTable(columns, rows, width, own)
        count = f" ({len(rows)})" if table.left_out else ""
        shown = table.render() if rows else Text("none yet", "dim")
        parts += [Text(f"{title}{count}", "bold"), shown, Text("")]
    return Group(*parts[:-1])


def _share_lines(wanted: Sequence[int], room: int) -> list[int]:
    """Return the lines of each table: at least a third if it needs that, and unused ones."""
    lines = [min(own, room // 3) for own in wanted]
    rest = room - sum(lines)
    for index in (1, 2, 0):  # tasks and results before hosts
        more = min(rest, wanted[index] - lines[index])
        lines[index] += more
        rest -= more
    return lines


# --- hosts


def _hosts(state: ClusterState, now: datetime) -> _Table:
    """Return all hosts: those with tasks, those that are not online, then the last active ones."""
    busy = {task.host for task in state.tasks.values()}

    def rank(item: tuple[str, HostState]) -> tuple[object, ...]:
        host, known = item
        active = 0.0 if known.active is None else known.active.timestamp()
        return host not in busy, known.is_fine, -active, natural_key(host)

    return _HOST_COLUMNS, [
        _host(host, known, now) for host, known in sorted(state.hosts.items(), key=rank)
    ]


def _host(host: str, known: HostState, now: datetime) -> Row:
    presence = known.presence
    if presence is None:  # C++ daemons publish no presence
        status, hypervisor, version = Text("unknown", "dim"), "", ""
    else:
        status = status_text(presence)
        hypervisor, version = presence.hypervisor or "", presence.version or ""
    if presence is not None and presence.status == "offline" and presence.time is not None:
        heard = Text(f"since {local_clock(presence.time, now)}")
    else:
        heard = _duration(known.heard, now).append(" ago")
    return (_text(host), status, _text(hypervisor), _text(version), heard)


# --- tasks


def _tasks(state: ClusterState, now: datetime, room: int, width: int) -> _Table:
    """Return the tasks, moving ones first. In a narrow terminal the id is below the task."""
    tasks = [
        (task, name, progress)
        for task in state.tasks.values()
        for name, progress in (task.progress.items() or [(None, None)])
    ]
    tasks.sort(key=lambda item: _phase_rank(item[2]))
    for columns, id_below in ((_TASK_COLUMNS, False), (_NARROW_TASK_COLUMNS, True)):
        rows = [_task(*item, now, id_below=id_below) for item in tasks]
        if FittedTable(columns, rows, width, room).fits:
            break
    return columns, rows


def _phase_rank(progress: Progress | None) -> int:
    if progress is None:
        return 2
    return 1 if progress.percent is None else 0


def _task(
    task: PendingTask,
    name: str | None,
    progress: Progress | None,
    now: datetime,
    *,
    id_below: bool,
) -> Row:
    """Return the row of a task, or of one of its domains, if that has progress."""
    if progress is None:
        about, state, bar = f"{task.task} {join_names(task.names)}", Text("sent", "dim"), None
    else:
        about, state = f"{task.task} {name or ''}", _text(format_phase(progress))
        bar = progress.percent
    return (
        _text(task.host),
        *_with_id(_text(about.rstrip()), task.id, below=id_below),
        state,
        Text("") if bar is None else Bar(bar),
        _duration(task.since, now),
    )


# --- results


def _results(state: ClusterState, room: int, width: int) -> _Table:
    """Return the last results. In a narrow terminal the id is below the result."""
    for columns, id_below in ((_RESULT_COLUMNS, False), (_NARROW_RESULT_COLUMNS, True)):
        rows = [_result(ended, id_below=id_below) for ended in state.results]
        if FittedTable(columns, rows, width, room).fits:
            break
    return columns, rows


def _result(ended: FinishedTask, *, id_below: bool) -> Row:
    text = Text(printable(ended.text), "red" if ended.failed else "green")
    return (
        Text(f"{ended.time:%H:%M:%S}", "dim"),
        _text(ended.host),
        *_with_id(text, ended.id, below=id_below),
    )


# --- cells


def _with_id(text: Text, id: str | None, *, below: bool) -> tuple[Cell, ...]:
    """Return the cells of an id and of a text, or one cell with the id below the text."""
    if not below:
        return _text(id or ""), text
    return (Stacked(text, Text(printable(id), "dim")) if id else text,)


def _text(text: str) -> Text:
    """Return text from a message without characters that control the terminal."""
    return Text(printable(text))


def _duration(time: datetime, now: datetime) -> Text:
    seconds = max(0, round((now - time).total_seconds()))
    return Text(str(timedelta(seconds=seconds)))
