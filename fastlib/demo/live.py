"""The story on a terminal, by rich: hosts with their VMs, migrations, and the last messages."""

from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any, Final

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from fastlib.client import ObservedMessage
from fastlib.message import ResultContainer, TaskContainer
from fastlib.message.node import Progress
from fastlib.migfra.hypervisors.simulated import Domain

from .lines import in_lines, introduction, is_told
from .stage import Stage
from .summary import Summary
from .witness import Witness
from .words import on_one_line, printable, size, words_of

MESSAGES: Final = 6
"""How many of the last messages are shown."""
FEW_VMS: Final = 8
"""So many VMs of a host are shown by name."""
BAR: Final = 20
"""Columns of a bar."""
FRAME: Final = 8
"""Lines that are no rows: titles, headings, empty ones, and the cursor's."""
KIB: Final = 1024


class LiveView:
    """Steps that are done scroll by as lines; what is now stands below them."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console()
        self._live = Live(
            console=self._console, auto_refresh=False, transient=True, redirect_stdout=False
        )
        self._stage: Stage
        self._witness: Witness
        self._title = ""
        self._said = ""
        self._messages: deque[Text] = deque(maxlen=MESSAGES)

    def begin(self, stage: Stage, witness: Witness) -> None:
        self._stage, self._witness = stage, witness
        for line in introduction(stage):
            self._print(line, "dim")
        self._live.start()

    def step(self, number: int, of: int, title: str) -> None:
        self._title = f"[{number:2}/{of}] {title}"
        self._said = ""
        self._print(self._title, "bold")
        self.refresh()

    def say(self, text: str) -> None:
        self._said = text
        self._print(f"        {text}", "")
        self.refresh()

    def message(self, observed: ObservedMessage[Any]) -> None:
        if not is_told(observed):
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
        said = words_of(message) if message is None else on_one_line(message)
        self._messages.append(Text(f"{arrow} {printable(observed.host)}  {said}", style))

    def refresh(self) -> None:
        self._live.update(self._picture(), refresh=True)

    def end(self, summary: Summary) -> None:
        self._live.stop()
        verdict, *lines = in_lines(summary)
        self._print(f"\n{verdict}", "bold green" if summary.ok else "bold red")
        for line in lines:
            self._print(line, "")

    def close(self) -> None:
        self._live.stop()

    def _print(self, text: str, style: str) -> None:
        self._console.print(Text(text, style), soft_wrap=True)

    # What is now

    def _picture(self) -> RenderableType:
        height = self._console.size.height
        # The bars first, as they are what moves; what is left of the lines is for the hosts.
        bars = self._bars()[: max(2, height // 3)]
        room = height - FRAME - len(bars) - len(self._messages)
        hosts = self._hosts()
        if len(hosts) > max(3, room):
            more = len(hosts) - max(2, room - 1)
            hosts = [*hosts[:-more], (Text(f"... {more} more", "dim"),)]
        messages = list(self._messages)
        for message in messages:
            message.no_wrap, message.overflow = True, "ellipsis"
        return Group(
            Text(""),
            _table(("host", "daemon", "memory", "", "VMs"), hosts),
            Text(""),
            _table(("migration", "phase", "", "", ""), bars) if bars else Text(""),
            Text(""),
            *messages,
        )

    def _hosts(self) -> list["Row"]:
        domains: dict[str, list[Domain]] = {}
        for domain in self._stage.cluster.domains():
            if domain.active:
                domains.setdefault(domain.host, []).append(domain)
        return [
            (
                Text(host.name),
                self._daemon(host.name),
                ProgressBar(host.memory, min(host.used, host.memory), BAR // 2),
                Text(f"{size(host.used * KIB)} of {size(host.memory * KIB)}"),
                _vms(domains.get(host.name, [])),
            )
            for host in self._stage.cluster.hosts()
        ]

    def _daemon(self, host: str) -> Text:
        presence = self._witness.presence.get(host)
        if presence is None:
            return Text("none yet", "dim")
        return Text(presence.status, "green" if presence.status == "online" else "red")

    def _bars(self) -> list["Row"]:
        return [
            _bar(asked.host, progress)
            for asked in self._witness.tasks
            if not asked.answers
            for progress in asked.progress.values()
            if progress.percent is not None
        ]


Row = Sequence[RenderableType]


def _bar(host: str, progress: Progress) -> Row:
    sent = "" if progress.transferred is None else size(progress.transferred)
    rate = progress.dirty_rate
    writes = "" if not rate else f"writes {size(rate)}/s"
    return (
        Text(printable(f"{progress.vm_name} from {host}")),
        Text(printable(progress.phase)),
        ProgressBar(100.0, progress.percent or 0.0, BAR),
        Text(f"{progress.percent or 0.0:3.0f} %  {sent}"),
        Text(writes, "dim"),
    )


def _vms(domains: list[Domain]) -> Text:
    """The VMs by name, or how many of them do what."""
    if not domains:
        return Text("none", "dim")
    if len(domains) > FEW_VMS:
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
        text.append(f"{domain.name} {size(domain.memory * KIB)}{state}  ", style)
    return text


def _table(columns: Iterable[str], rows: Sequence[Row]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in columns:
        table.add_column(column, no_wrap=True, overflow="ellipsis")
    for row in rows:
        table.add_row(*row)
    return table
