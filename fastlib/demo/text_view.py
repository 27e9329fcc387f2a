"""Show the demo as lines of text."""

from collections import Counter
from collections.abc import Callable
from typing import Any, Final

from fastlib.client import ObservedMessage
from fastlib.display.message_text import summarize_briefly
from fastlib.display.text import byte_size, duration, plural, printable
from fastlib.message import Query, ResultContainer, TaskContainer
from fastlib.message.node import Presence, Progress

from .cluster import DemoCluster
from .observer import Observer
from .summary import Summary

MAX_REPEATS: Final = 2
"""Lines for the same message at most."""
MAX_MESSAGES: Final = 16
"""Lines of messages in a step at most; the others are counted."""


class TextView:
    """Writes steps and messages, except progress and queries, which are too many."""

    def __init__(self, write: Callable[[str], object]) -> None:
        """`write` gets each line, without its end."""
        self._write = write
        self._shown = 0
        self._seen: Counter[tuple[str, str, str | None]] = Counter()
        self._last: dict[str, str] = {}
        """The last status of each host."""

    def begin(self, cluster: DemoCluster, observer: Observer) -> None:
        for line in introduction(cluster):
            self._write(line)

    def step(self, number: int, of: int, title: str) -> None:
        self._end_step()
        self._write(f"\n[{number:2}/{of}] {title}")

    def say(self, text: str) -> None:
        self._write(f"    {text}")

    def message(self, observed: ObservedMessage[Any]) -> None:
        if not is_shown(observed):
            return
        times = self._count(observed)
        if times > MAX_REPEATS:
            return
        self._shown += 1
        if self._shown <= MAX_MESSAGES:
            self._write(f"    {line_of(observed)}{' (again)' if times == 2 else ''}")

    def _count(self, observed: ObservedMessage[Any]) -> int:
        """Return the number of times that this message has come.

        A client repeats tasks after each presence. A presence with an unchanged status counts as a
        repetition, too.
        """
        message, host = observed.message, observed.host
        if isinstance(message, Presence):
            before, self._last[host] = self._last.get(host), message.status
            return 1 if before != message.status else MAX_REPEATS + 1
        if message is None:
            return 1
        key = (host, type(message).__name__, message.id)
        self._seen[key] += 1
        return self._seen[key]

    def refresh(self) -> None:
        """Written lines need no refresh."""

    def end(self, summary: Summary) -> None:
        self._end_step()
        self._write("")
        for line in summary_lines(summary):
            self._write(line)

    def _end_step(self) -> None:
        more = self._shown - MAX_MESSAGES
        self._shown = 0
        if more > 0:
            self._write(f"    ... and {plural(more, 'message')} more")

    def close(self) -> None:
        """Nothing is open."""


def is_shown(observed: ObservedMessage[Any]) -> bool:
    """Return whether a view shows the message: all but progress, queries and deleted presences."""
    message = observed.message
    if observed.is_forgotten:
        return False
    if isinstance(message, TaskContainer):
        return not isinstance(next(iter(message.tasks), None), Query)
    if isinstance(message, ResultContainer):
        return message.result != Query.declaration.result
    return not isinstance(message, Progress)


def line_of(observed: ObservedMessage[Any]) -> str:
    """Return the direction, the host and a summary."""
    message, host = observed.message, printable(observed.host)
    if isinstance(message, TaskContainer):
        return f"-> {host}  {summarize_briefly(message)}"
    if isinstance(message, ResultContainer):
        return f"<- {host}  {summarize_briefly(message)}"
    return f"   {host}  {summarize_briefly(message)}"


def introduction(cluster: DemoCluster) -> list[str]:
    """Return lines about the cluster and the broker."""
    settings = cluster.settings
    lines = [
        f"{plural(settings.hosts, 'simulated host')}, {plural(settings.vms, 'VM')}; time passes "
        f"{settings.speed:g} times as fast; seed {settings.seed}"
    ]
    if settings.broker is None:
        lines.append("the broker is in this process; -> is a task, <- its result")
    else:
        place = " or ".join(host for host, _ in settings.broker.brokers)
        lines.append(
            f"the broker is at {place}; the hosts are {cluster.hosts[0]} to "
            f"{cluster.hosts[-1]}; -> is a task, <- its result"
        )
    return lines


def summary_lines(summary: Summary) -> list[str]:
    """Return the summary for people; the first line says whether the demo passed."""
    results = ", ".join(f"{number} {status}" for status, number in summary.results.items())
    downtime = duration(summary.longest_downtime)
    rows = [
        ("time", f"{summary.seconds:.1f} s; {summary.cluster_seconds:.1f} s in the cluster"),
        (
            "tasks",
            f"{summary.tasks:,} in {plural(summary.containers, 'message')}, "
            f"{summary.repeated} sent again",
        ),
        ("results", f"{results or 'none'}"),
        (
            "migrations",
            f"{plural(summary.migrations, 'VM')} moved, {summary.interrupted} stayed in place",
        ),
        ("moved", byte_size(summary.bytes_moved)),
        (
            "downtime",
            f"{downtime} at most, of {summary.longest_downtime_vm}"
            if summary.longest_downtime_vm
            else "none",
        ),
        ("messages", f"{sum(summary.messages.values()):,}"),
    ]
    if summary.ok:
        rows += [
            ("hosts", f"each VM was on exactly one host in {plural(summary.checks, 'check')}"),
            ("answers", "each task has exactly one result, and none was executed twice"),
        ]
    verdict = "the demo passed" if summary.ok else "the demo FAILED"
    return [
        verdict,
        *(f"  {name:11} {text}" for name, text in rows),
        *(f"  problem     {printable(problem)}" for problem in summary.problems),
    ]
