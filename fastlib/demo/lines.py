"""The story as plain lines, one for each thing that happens."""

from collections import Counter
from collections.abc import Callable
from typing import Any, Final

from fastlib.client import ObservedMessage
from fastlib.message import Query, ResultContainer, TaskContainer
from fastlib.message.node import Presence, Progress

from .stage import Stage
from .summary import Summary
from .witness import Witness
from .words import count, duration, size, words_of

MANY: Final = 3
"""So often something is not told any more."""
MOST_MESSAGES: Final = 16
"""Lines of messages in a step; what is more is counted."""


class Lines:
    """Says everything but progress and queries, of which there are too many for lines."""

    def __init__(self, write: Callable[[str], object]) -> None:
        """`write` gets each line, without its end."""
        self._write = write
        self._shown = 0
        self._seen: Counter[tuple[str, str, str | None]] = Counter()
        self._last: dict[str, str] = {}
        """What the daemon of each host said last of itself."""

    def begin(self, stage: Stage, witness: Witness) -> None:
        for line in introduction(stage):
            self._write(line)

    def step(self, number: int, of: int, title: str) -> None:
        self._end_step()
        self._write(f"\n[{number:2}/{of}] {title}")

    def say(self, text: str) -> None:
        self._write(f"    {text}")

    def message(self, observed: ObservedMessage[Any]) -> None:
        if not is_told(observed):
            return
        times = self._times(observed)
        if times >= MANY:
            return
        self._shown += 1
        if self._shown <= MOST_MESSAGES:
            self._write(f"    {line_of(observed)}{' (again)' if times == 2 else ''}")

    def _times(self, observed: ObservedMessage[Any]) -> int:
        """How often this was said, as a client asks again whenever a daemon says that it is there.

        A daemon that says so twice says nothing new, which is more than often enough.
        """
        message, host = observed.message, observed.host
        if isinstance(message, Presence):
            before, self._last[host] = self._last.get(host), message.status
            return 1 if before != message.status else MANY
        if message is None:
            return 1
        key = (host, type(message).__name__, message.id)
        self._seen[key] += 1
        return self._seen[key]

    def refresh(self) -> None:
        """Lines stay as they are."""

    def end(self, summary: Summary) -> None:
        self._end_step()
        self._write("")
        for line in in_lines(summary):
            self._write(line)

    def _end_step(self) -> None:
        more = self._shown - MOST_MESSAGES
        self._shown = 0
        if more > 0:
            self._write(f"    ... and {count(more, 'message')} more")

    def close(self) -> None:
        """Nothing to tidy up."""


def is_told(observed: ObservedMessage[Any]) -> bool:
    """Whether a message is a line: progress and queries are not."""
    message = observed.message
    if isinstance(message, TaskContainer):
        return not isinstance(next(iter(message.tasks), None), Query)
    if isinstance(message, ResultContainer):
        return message.result != Query.declaration.result
    return not isinstance(message, Progress)


def line_of(observed: ObservedMessage[Any]) -> str:
    """To whom, from whom, and what."""
    message = observed.message
    if isinstance(message, TaskContainer):
        return f"-> {observed.host}  {words_of(message)}"
    if isinstance(message, ResultContainer):
        return f"<- {observed.host}  {words_of(message)}"
    return f"   {observed.host}  {words_of(message)}"


def introduction(stage: Stage) -> list[str]:
    """Where the story takes place."""
    settings = stage.settings
    lines = [
        f"{count(settings.hosts, 'simulated host')}, {count(settings.vms, 'VM')}; time passes "
        f"{settings.speed:g} times as fast; seed {settings.seed}"
    ]
    if settings.broker is None:
        lines.append("the broker is in this process; -> is a task, <- its result")
    else:
        lines.append(
            f"over the broker at {settings.broker.host}; the hosts are {stage.hosts[0]} to "
            f"{stage.hosts[-1]}, as no real one is called; -> is a task, <- its result"
        )
    return lines


def in_lines(summary: Summary) -> list[str]:
    """The summary for people."""
    results = ", ".join(f"{number} {status}" for status, number in summary.results.items())
    downtime = duration(summary.longest_downtime)
    rows = [
        ("time", f"{summary.seconds:.1f} s; {summary.cluster_seconds:.1f} s in the cluster"),
        (
            "tasks",
            f"{summary.tasks:,} in {count(summary.containers, 'message')}, "
            f"{summary.repeated} of which sent again",
        ),
        ("results", f"{results or 'none'}"),
        (
            "migrations",
            f"{count(summary.migrations, 'VM')} moved, {summary.interrupted} stayed in place",
        ),
        ("moved", size(summary.bytes_moved)),
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
            ("hosts", f"each VM was on exactly one, looked at {summary.looks:,} times"),
            ("answers", "each task has exactly one, and none was executed twice"),
        ]
    verdict = "the story went as told" if summary.ok else "the story did NOT go as told"
    return [
        verdict,
        *(f"  {name:11} {text}" for name, text in rows),
        *(f"  problem     {problem}" for problem in summary.problems),
    ]
