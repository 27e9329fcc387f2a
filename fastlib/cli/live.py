"""The live table of `fastlib watch`, by rich."""

import sys
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from types import TracebackType
from typing import Final, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from .cluster import Cluster, UnderWay
from .phrases import phrase_of_progress
from .terminal import is_terminal, printable

FRAME: Final = 10
"""Lines of a view that are no rows: of each table its heading, its columns and what follows; and
the cursor's."""


class View:
    """Shows a cluster until the end of its `with` block; the last state stays on the terminal."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self._console = Console()
        self._live = Live(
            console=self._console,
            auto_refresh=False,
            redirect_stdout=False,
            redirect_stderr=is_terminal(sys.stderr),
        )

    def show(self) -> None:
        """Shows the cluster as it is now."""
        now = datetime.now().astimezone()
        height = self._console.size.height
        self._live.update(render(self.cluster, now, height), refresh=True)

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


def render(cluster: Cluster, now: datetime, height: int) -> RenderableType:
    """The tables, not more lines than the terminal has."""
    room = max(6, height - FRAME)
    hosts = _hosts(cluster, now)
    tasks = [row for task in cluster.tasks.values() for row in _rows(task, now)]
    results = _results(cluster)
    most_hosts = min(len(hosts), max(room // 3, room - len(tasks) - len(results)))
    most_tasks = min(len(tasks), max(room // 3, room - most_hosts - len(results)))
    return Group(
        *_table("hosts", ("host", "daemon", "hypervisor", "version", "heard"), hosts, most_hosts),
        *_table("under way", ("host", "id", "task", "state", "", "since"), tasks, most_tasks),
        *_table(
            "last results",
            ("time", "host", "id", "result"),
            results,
            room - max(1, most_hosts) - max(1, most_tasks),
        ),
    )


Row = Sequence[RenderableType]


def _table(
    title: str, columns: Iterable[str], rows: Sequence[Row], most: int
) -> Iterable[RenderableType]:
    most = max(1, most)
    shown = rows if len(rows) <= most else rows[: most - 1]
    count = f" ({len(rows)})" if len(shown) < len(rows) else ""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in columns:
        table.add_column(column, no_wrap=True, overflow="ellipsis")
    for row in shown:
        table.add_row(*row)
    if len(shown) < len(rows):
        table.add_row(Text(f"... {len(rows) - len(shown)} more", "dim"))
    elif not rows:
        table.add_row(Text("none yet", "dim"))
    yield Text(f"{title}{count}", "bold")
    yield table
    yield Text("")


def _hosts(cluster: Cluster, now: datetime) -> list[Row]:
    rows: list[Row] = []
    for host, (presence, heard) in sorted(cluster.hosts.items()):
        if presence is None:  # a C++ daemon says nothing of itself
            status, hypervisor, version = Text("unknown", "dim"), "", ""
        else:
            style = "green" if presence.status == "online" else "red"
            status = Text(presence.status, style)
            hypervisor, version = presence.hypervisor or "", presence.version or ""
        rows.append((_text(host), status, _text(hypervisor), _text(version), _age(heard, now)))
    return rows


def _rows(task: UnderWay, now: datetime) -> list[Row]:
    """A row for the task, or one for each of its domains that there are reports of."""
    age = _age(task.since, now)
    host, id = _text(task.host), _text(task.id or "")
    if not task.progress:
        about = f"{task.task} {', '.join(task.names)}"
        return [(host, id, _text(about), Text("sent", "dim"), "", age)]
    return [
        (
            host,
            id,
            _text(f"{task.task} {name or ''}"),
            _text(phrase_of_progress(progress)),
            "" if progress.percent is None else ProgressBar(100.0, progress.percent, 20),
            age,
        )
        for name, progress in task.progress.items()
    ]


def _results(cluster: Cluster) -> list[Row]:
    return [
        (
            Text(f"{ended.time:%H:%M:%S}", "dim"),
            _text(ended.host),
            _text(ended.id or ""),
            Text(printable(ended.text), "red" if ended.failed else "green"),
        )
        for ended in cluster.results
    ]


def _text(text: str) -> Text:
    """What travelled, as a terminal may have it."""
    return Text(printable(text))


def _age(time: datetime, now: datetime) -> Text:
    seconds = max(0, round((now - time).total_seconds()))
    return Text(f"{timedelta(seconds=seconds)} ago")
