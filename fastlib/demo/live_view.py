"""Show the demo on a terminal with rich: hosts with their VMs, migrations, last messages."""

import time
from collections import deque
from collections.abc import Iterable
from typing import Any, Final, Literal

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from fastlib.client import ObservedMessage
from fastlib.display.message_text import format_phase
from fastlib.display.rich_tables import MIN_BAR_COLUMNS, Bar, Column, FittedTable, Row, status_text
from fastlib.display.text import byte_size, printable
from fastlib.message import Migrate, ResultContainer, TaskContainer
from fastlib.message.node import Progress
from fastlib.migfra.hypervisors.simulated import Domain, Host

from .cluster import DemoCluster
from .observer import Observer, TaskRecord
from .summary import Summary
from .text_view import introduction, is_shown, line_of, summary_lines

MAX_MESSAGES: Final = 6
"""Last messages that are shown at most."""
MAX_NAMED_VMS: Final = 8
"""VMs of a host that are shown by name at most."""
FIXED_LINES: Final = 4
"""Lines beside tables and messages: the empty lines between them, and the line of the cursor."""
MIN_TABLE_LINES: Final = 4
KIB: Final = 1024

_HOST_COLUMNS: Final = (
    Column("host"),
    Column("daemon"),
    Column("memory", shrink_to=MIN_BAR_COLUMNS),
    Column(""),
    Column("VMs", shrink_to=12),
)
_MIGRATION_COLUMNS: Final = (
    Column("migration"),
    Column("phase"),
    Column("", shrink_to=MIN_BAR_COLUMNS),
    Column("", shrink_to=0),
    Column("", shrink_to=0),
)


class LiveView:
    """Prints the steps as lines, and below them tables of the current state."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console()
        self._live = Live(
            console=self._console, auto_refresh=False, transient=True, redirect_stdout=False
        )
        self._cluster: DemoCluster
        self._observer: Observer
        self._title = ""
        self._messages: deque[Text] = deque(maxlen=MAX_MESSAGES)
        self._last_event: dict[str, float] = {}
        """The monotonic time of the last event of each host."""

    def begin(self, cluster: DemoCluster, observer: Observer) -> None:
        self._cluster, self._observer = cluster, observer
        for line in introduction(cluster):
            self._print(line, "dim")
        self._live.start()

    def step(self, number: int, of: int, title: str) -> None:
        self._title = f"[{number:2}/{of}] {title}"
        self._print(self._title, "bold")
        self.refresh()

    def say(self, text: str) -> None:
        self._print(f"        {text}", "")
        self.refresh()

    def message(self, observed: ObservedMessage[Any]) -> None:
        if not is_shown(observed):
            return
        message = observed.message
        style, bad = "dim", False
        if isinstance(message, TaskContainer):
            style = "cyan"
        elif isinstance(message, ResultContainer):
            bad = any(result.status == "error" for result in message.results)
            style = "red" if bad else "green"
        self._last_event[observed.host] = time.monotonic()
        # An error is shown in full, everything else on one line.
        overflow: Literal["fold", "ellipsis"] = "fold" if bad else "ellipsis"
        self._messages.append(Text(line_of(observed), style, no_wrap=not bad, overflow=overflow))

    def refresh(self) -> None:
        self._live.update(self._render(), refresh=True)

    def end(self, summary: Summary) -> None:
        self._live.stop()
        verdict, *lines = summary_lines(summary)
        self._print(f"\n{verdict}", "bold green" if summary.ok else "bold red")
        for line in lines:
            self._print(line, "")

    def close(self) -> None:
        self._live.stop()

    def _print(self, text: str, style: str) -> None:
        self._console.print(Text(text, style), soft_wrap=True)

    # --- the current state

    def _render(self) -> RenderableType:
        width, height = self._console.size
        running = [record for record in self._observer.tasks if not record.answers]
        messages = _last_that_fit(self._messages, width, max(MAX_MESSAGES, height // 4))
        room = height - FIXED_LINES - sum(_lines(message, width) for message in messages)
        parts: list[RenderableType] = []
        # Migrations get up to a third of the lines, hosts the rest.
        migrations = _migrations(running)
        if migrations:
            lines = max(MIN_TABLE_LINES, height // 3)
            table = FittedTable(_MIGRATION_COLUMNS, migrations, width, lines)
            room -= table.lines
            parts = [Text(""), table.render()]
        hosts = self._hosts(running, max(MIN_TABLE_LINES, room))
        table = FittedTable(_HOST_COLUMNS, hosts, width, max(MIN_TABLE_LINES, room))
        left_out = self._cluster.settings.hosts - len(hosts)
        more = [Text(f"... {left_out} more", "dim")] if left_out else []
        return Group(Text(""), table.render(), *more, *parts, Text(""), *messages)

    def _hosts(self, running: list[TaskRecord], lines: int) -> list[Row]:
        """Return the rows of all hosts; if there are too many, of the most active ones."""
        hosts = self._cluster.simulated.hosts()
        if len(hosts) > lines - 1:
            chosen = self._most_active([host.name for host in hosts], running, lines - 2)
            hosts = [host for host in hosts if host.name in chosen]
        domains: dict[str, list[Domain]] = {}
        for domain in self._cluster.simulated.domains():
            if domain.active:
                domains.setdefault(domain.host, []).append(domain)
        return [self._host(host, domains.get(host.name, [])) for host in hosts]

    def _most_active(self, hosts: list[str], running: list[TaskRecord], number: int) -> set[str]:
        """Return the hosts with migrations, then those with other tasks, then the last ones."""
        moving, busy = dict[str, int](), set[str]()
        for record in running:
            for host in _hosts_of(record):
                if record.progress:
                    moving.setdefault(host, len(moving))
                else:
                    busy.add(host)

        def rank(host: str) -> tuple[int, bool, float]:
            place = moving.get(host, len(moving))  # in the order of the migrations
            return place, host not in busy, -self._last_event.get(host, 0.0)

        return set(sorted(hosts, key=rank)[:number])

    def _host(self, host: Host, domains: list[Domain]) -> Row:
        presence = self._observer.presence.get(host.name)
        return (
            Text(host.name),
            Text("none yet", "dim") if presence is None else status_text(presence),
            Bar(100.0 * min(host.used, host.memory) / host.memory),
            Text(f"{byte_size(host.used * KIB)} of {byte_size(host.memory * KIB)}"),
            _vms(domains),
        )


def _lines(message: Text, width: int) -> int:
    return 1 if message.no_wrap else len(message.wrap(Console(width=width), width))


def _last_that_fit(messages: Iterable[Text], width: int, lines: int) -> list[Text]:
    """Return the last messages that fit in `lines` lines, and always the last one."""
    kept: list[Text] = []
    for message in reversed([*messages]):
        lines -= _lines(message, width)
        if lines < 0 and kept:
            break
        kept.insert(0, message)
    return kept


def _hosts_of(record: TaskRecord) -> list[str]:
    """Return the host of a task, and the destinations of migrations."""
    tasks = record.container.tasks
    return [record.host, *(task.destination for task in tasks if isinstance(task, Migrate))]


def _migrations(running: list[TaskRecord]) -> list[Row]:
    return [
        _migration(record, progress)
        for record in running
        for progress in record.progress.values()
        if progress.percent is not None
    ]


def _migration(record: TaskRecord, progress: Progress) -> Row:
    task = next(iter(record.container.tasks), None)
    to = f" to {task.destination}" if isinstance(task, Migrate) else ""
    sent = "" if progress.transferred is None else byte_size(progress.transferred)
    writes = "" if not progress.dirty_rate else f"writes {byte_size(progress.dirty_rate)}/s"
    return (
        Text(printable(f"{progress.vm_name} from {record.host}{to}")),
        Text(format_phase(progress)),
        Bar(progress.percent or 0.0),
        Text(sent),
        Text(writes, "dim"),
    )


def _vms(domains: list[Domain]) -> Text:
    """Return the VMs by name, or their number by state."""
    if not domains:
        return Text("none", "dim")
    if len(domains) > MAX_NAMED_VMS:
        paused = sum(domain.state == "paused" for domain in domains)
        moving = sum(domain.migrating for domain in domains)
        words = [f"{len(domains)} VMs"]
        words += [f"{moving} migrating"] if moving else []
        words += [f"{paused} paused"] if paused else []
        return Text(", ".join(words))
    text = Text()
    for domain in domains:
        style = "yellow" if domain.state == "paused" else "cyan" if domain.migrating else "green"
        state = "" if domain.state == "running" else f" {domain.state}"
        text.append(f"{domain.name} {byte_size(domain.memory * KIB)}{state}  ", style)
    return text
