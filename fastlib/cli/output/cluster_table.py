"""Show the state of a cluster as live tables; needs rich."""

import sys
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from types import TracebackType
from typing import Final, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.text import Text

from fastlib.display.message_text import format_phase
from fastlib.display.rich_tables import Row, cut_rows, make_table, status_text
from fastlib.display.text import printable

from .cluster_state import ClusterState, PendingTask
from .terminal import is_terminal

FIXED_LINES: Final = 10
"""Lines beside rows: of each table its title, columns and an empty line; and the cursor's line."""


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
        height = self._console.size.height
        self._live.update(render(self.state, now, height), refresh=True)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._live.stop()


def render(state: ClusterState, now: datetime, height: int) -> RenderableType:
    """Return the tables, cut to `height` lines."""
    room = max(6, height - FIXED_LINES)
    hosts = _hosts(state, now)
    tasks = [row for task in state.tasks.values() for row in _rows(task, now)]
    results = _results(state)
    most_hosts = min(len(hosts), max(room // 3, room - len(tasks) - len(results)))
    most_tasks = min(len(tasks), max(room // 3, room - most_hosts - len(results)))
    return Group(
        *_table("hosts", ("host", "daemon", "hypervisor", "version", "heard"), hosts, most_hosts),
        *_table("under way", ("host", "id", "task", "state", "", "for"), tasks, most_tasks),
        *_table(
            "last results",
            ("time", "host", "id", "result"),
            results,
            room - max(1, most_hosts) - max(1, most_tasks),
        ),
    )


def _table(
    title: str, columns: Iterable[str], rows: Sequence[Row], most: int
) -> Iterable[RenderableType]:
    most = max(1, most)
    count = f" ({len(rows)})" if len(rows) > most else ""
    yield Text(f"{title}{count}", "bold")
    yield make_table(columns, cut_rows(rows, most) or [(Text("none yet", "dim"),)])
    yield Text("")


def _hosts(state: ClusterState, now: datetime) -> list[Row]:
    rows: list[Row] = []
    for host, (presence, heard) in sorted(state.hosts.items()):
        if presence is None:  # C++ daemons publish no presence
            status, hypervisor, version = Text("unknown", "dim"), "", ""
        else:
            status = status_text(presence)
            hypervisor, version = presence.hypervisor or "", presence.version or ""
        rows.append((_text(host), status, _text(hypervisor), _text(version), _age(heard, now)))
    return rows


def _rows(task: PendingTask, now: datetime) -> list[Row]:
    """Return one row for the task, or one for each domain with progress."""
    duration = _duration(task.since, now)
    host, id = _text(task.host), _text(task.id or "")
    if not task.progress:
        about = f"{task.task} {', '.join(task.names)}"
        return [(host, id, _text(about), Text("sent", "dim"), "", duration)]
    return [
        (
            host,
            id,
            _text(f"{task.task} {name or ''}"),
            _text(format_phase(progress)),
            "" if progress.percent is None else ProgressBar(100.0, progress.percent, 20),
            duration,
        )
        for name, progress in task.progress.items()
    ]


def _results(state: ClusterState) -> list[Row]:
    return [
        (
            Text(f"{ended.time:%H:%M:%S}", "dim"),
            _text(ended.host),
            _text(ended.id or ""),
            Text(printable(ended.text), "red" if ended.failed else "green"),
        )
        for ended in state.results
    ]


def _text(text: str) -> Text:
    """Return text from a message without characters that control the terminal."""
    return Text(printable(text))


def _age(time: datetime, now: datetime) -> Text:
    return _duration(time, now).append(" ago")


def _duration(time: datetime, now: datetime) -> Text:
    seconds = max(0, round((now - time).total_seconds()))
    return Text(str(timedelta(seconds=seconds)))
