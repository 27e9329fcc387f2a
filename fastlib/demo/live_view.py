"""Show the demo on a terminal with rich: hosts with their VMs, migrations, last messages."""

from collections import deque
from typing import Any, Final

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.text import Text

from fastlib.client import ObservedMessage
from fastlib.display.message_text import flow_yaml, summarize_briefly
from fastlib.display.rich_tables import Row, cut_rows, make_table, status_text
from fastlib.display.text import byte_size, printable
from fastlib.message import ResultContainer, TaskContainer
from fastlib.message.node import Progress
from fastlib.migfra.hypervisors.simulated import Domain

from .cluster import DemoCluster
from .observer import Observer
from .summary import Summary
from .text_view import introduction, is_shown, summary_lines

MAX_MESSAGES: Final = 6
"""Last messages that are shown at most."""
MAX_NAMED_VMS: Final = 8
"""VMs of a host that are shown by name at most."""
BAR_COLUMNS: Final = 20
FIXED_LINES: Final = 8
"""Lines beside rows: titles, column names, empty lines, and the line of the cursor."""
KIB: Final = 1024


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
        message, style = observed.message, ""
        if isinstance(message, TaskContainer):
            arrow, style = "->", "cyan"
        elif isinstance(message, ResultContainer):
            arrow = "<-"
            bad = any(result.status == "error" for result in message.results)
            style = "red" if bad else "green"
        else:
            arrow, style = "  ", "dim"
        said = summarize_briefly(None) if message is None else flow_yaml(message)
        self._messages.append(Text(f"{arrow} {printable(observed.host)}  {said}", style))

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
        height = self._console.size.height
        # Migrations get up to a third of the lines, hosts the rest.
        bars = self._bars()[: max(2, height // 3)]
        room = height - FIXED_LINES - len(bars) - len(self._messages)
        hosts = cut_rows(self._hosts(), max(3, room))
        messages = list(self._messages)
        for message in messages:
            message.no_wrap, message.overflow = True, "ellipsis"
        return Group(
            Text(""),
            make_table(("host", "daemon", "memory", "", "VMs"), hosts),
            Text(""),
            make_table(("migration", "phase", "", "", ""), bars) if bars else Text(""),
            Text(""),
            *messages,
        )

    def _hosts(self) -> list[Row]:
        domains: dict[str, list[Domain]] = {}
        for domain in self._cluster.simulated.domains():
            if domain.active:
                domains.setdefault(domain.host, []).append(domain)
        return [
            (
                Text(host.name),
                self._daemon(host.name),
                ProgressBar(host.memory, min(host.used, host.memory), BAR_COLUMNS // 2),
                Text(f"{byte_size(host.used * KIB)} of {byte_size(host.memory * KIB)}"),
                _vms(domains.get(host.name, [])),
            )
            for host in self._cluster.simulated.hosts()
        ]

    def _daemon(self, host: str) -> Text:
        presence = self._observer.presence.get(host)
        if presence is None:
            return Text("none yet", "dim")
        return status_text(presence)

    def _bars(self) -> list[Row]:
        return [
            _bar(record.host, progress)
            for record in self._observer.tasks
            if not record.answers
            for progress in record.progress.values()
            if progress.percent is not None
        ]


def _bar(host: str, progress: Progress) -> Row:
    sent = "" if progress.transferred is None else byte_size(progress.transferred)
    rate = progress.dirty_rate
    writes = "" if not rate else f"writes {byte_size(rate)}/s"
    return (
        Text(printable(f"{progress.vm_name} from {host}")),
        Text(printable(progress.phase)),
        ProgressBar(100.0, progress.percent or 0.0, BAR_COLUMNS),
        Text(f"{progress.percent or 0.0:3.0f} %  {sent}"),
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
