"""What is known of a cluster from the messages that passed: for a view of it."""

from collections import deque
from datetime import datetime
from itertools import islice
from typing import Any, Final

import msgspec

from fastlib.client.observed import ObservedMessage
from fastlib.message import ResultContainer, TaskContainer
from fastlib.message.node import Presence, Progress
from fastlib.message.task import declaration_of_result
from fastlib.message.topics import parse

from .phrases import names_of, phrase_of_result

MAX_TASKS: Final = 1000
"""Tasks that are kept without an answer; beyond that the oldest is forgotten."""
MAX_RESULTS: Final = 200


class UnderWay(msgspec.Struct):
    """A task container that is not answered yet."""

    host: str
    id: str | None
    task: str
    names: list[str]
    since: datetime
    progress: dict[str | None, Progress] = {}
    """The last report of each domain."""


class Ended(msgspec.Struct):
    """A result, or what came in its place."""

    host: str
    id: str | None
    time: datetime
    text: str
    failed: bool


class Cluster:
    """Hosts, tasks under way and last results, kept up by `see`."""

    def __init__(self) -> None:
        self.hosts: dict[str, tuple[Presence | None, datetime]] = {}
        """What each host's daemon said of itself, if ever, and when it was last heard of."""
        self.tasks: dict[tuple[str, str | None, int], UnderWay] = {}
        self.results: deque[Ended] = deque(maxlen=MAX_RESULTS)
        """The newest first."""
        self._nameless = 0

    def see(self, observed: ObservedMessage[Any]) -> None:
        """One message more."""
        message = observed.message
        if isinstance(message, TaskContainer):
            self._task(observed, message)
            return
        known, _ = self.hosts.get(observed.host, (None, None))
        self.hosts[observed.host] = known, observed.time
        if isinstance(message, Presence):
            self.hosts[observed.host] = message, observed.time
        elif isinstance(message, Progress):
            self._progress(observed, message)
        elif isinstance(message, ResultContainer):
            self._result(observed, message)
        else:
            self._end(observed, None, f"{kind_of(observed)} cannot be read: {observed.error}", True)

    def _task(self, observed: ObservedMessage[Any], container: TaskContainer) -> None:
        names = names_of(container)
        self._add(UnderWay(observed.host, container.id, container.task, names, observed.time))

    def _add(self, task: UnderWay) -> None:
        # Those without an id are told apart by numbers, as a peer may send several.
        self._nameless += task.id is None
        self.tasks[task.host, task.id, 0 if task.id is not None else self._nameless] = task
        for key in list(islice(self.tasks, max(0, len(self.tasks) - MAX_TASKS))):
            del self.tasks[key]

    def _progress(self, observed: ObservedMessage[Any], progress: Progress) -> None:
        if progress.id is None:
            return
        key = (observed.host, progress.id, 0)
        if key not in self.tasks:  # it began before we looked
            names = [progress.vm_name] if progress.vm_name else []
            title = progress.task or ""
            self._add(UnderWay(observed.host, progress.id, title, names, observed.time))
        self.tasks[key].progress[progress.vm_name] = progress

    def _result(self, observed: ObservedMessage[Any], results: ResultContainer) -> None:
        if results.id is not None:
            self.tasks.pop((observed.host, results.id, 0), None)
        else:
            self._answered(observed.host, results.result)
        for result in results.results:
            text = f"{results.result}: {phrase_of_result(result)}"
            self._end(observed, results.id, text, result.status != "success")

    def _answered(self, host: str, title: str) -> None:
        """An answer without an id is to the oldest such task."""
        declared = declaration_of_result(title)
        for key, task in self.tasks.items():
            if key[:2] == (host, None) and declared is not None and declared.task == task.task:
                del self.tasks[key]
                return

    def _end(self, observed: ObservedMessage[Any], id: str | None, text: str, failed: bool) -> None:
        self.results.appendleft(Ended(observed.host, id, observed.time, text, failed))


def kind_of(observed: ObservedMessage[Any]) -> str:
    """Which kind of message it is, by its topic: task, result, progress or presence."""
    match = parse(observed.topic)
    return "message" if match is None else match.kind.lower()
