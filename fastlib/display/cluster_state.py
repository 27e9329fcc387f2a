"""Derive the state of a cluster from observed messages."""

from collections import deque
from datetime import datetime
from itertools import islice
from typing import Any, Final

import msgspec

from fastlib.client.observed import ObservedMessage
from fastlib.display.message_text import domain_names, domain_of, summarize_result
from fastlib.message import ResultContainer, TaskContainer
from fastlib.message.node import Presence, Progress
from fastlib.message.task import declaration_of_result
from fastlib.message.topics import parse

MAX_HOSTS: Final = 5000
"""Maximum hosts; one more drops the one that has been silent for the longest time."""
MAX_TASKS: Final = 1000
"""Maximum pending tasks; one more drops the oldest."""
MAX_RESULTS: Final = 200
"""Maximum results; one more drops the oldest."""


class HostState(msgspec.Struct):
    """The facts about a host."""

    heard: datetime
    """The time of its last message."""
    active: datetime | None = None
    """The time of its last result or progress, or of the last change of its status."""
    presence: Presence | None = None
    """Its last presence. C++ daemons publish none."""

    @property
    def is_fine(self) -> bool:
        """False if it is known to be offline or degraded."""
        presence = self.presence
        return presence is None or (presence.status == "online" and not presence.degraded)


class PendingTask(msgspec.Struct):
    """A task container without a result."""

    host: str
    id: str | None
    task: str
    names: list[str]
    since: datetime
    progress: dict[str | None, Progress] = {}
    """The last report of each domain."""


class FinishedTask(msgspec.Struct):
    """A result, or an unreadable message."""

    host: str
    id: str | None
    time: datetime
    text: str
    failed: bool


class ClusterState:
    """Hosts, pending tasks and last results; `add` updates them."""

    def __init__(self) -> None:
        self.hosts: dict[str, HostState] = {}
        self.tasks: dict[tuple[str, str | None, int], PendingTask] = {}
        self.results: deque[FinishedTask] = deque(maxlen=MAX_RESULTS)
        """Newest first."""
        self._without_id = 0

    def add(self, observed: ObservedMessage[Any]) -> None:
        """Update the state from one message."""
        message = observed.message
        if observed.is_forgotten:
            self._forget(observed.host)
            return
        if isinstance(message, TaskContainer):
            self._on_task(observed, message)
            return
        host = self._host(observed)
        if isinstance(message, Presence):
            before, host.presence = host.presence, message
            if before is not None and before.status != message.status:
                host.active = observed.time
            if message.degraded and (before is None or before.degraded != message.degraded):
                self._add_result(observed, None, f"degraded: {message.degraded}", failed=True)
            return
        host.active = observed.time
        if isinstance(message, Progress):
            self._on_progress(observed, message)
        elif isinstance(message, ResultContainer):
            self._on_result(observed, message)
        else:
            text = f"{message_kind(observed)} cannot be read: {observed.error}"
            self._add_result(observed, None, text, failed=True)

    def _forget(self, host: str) -> None:
        """Remove a host and its tasks. Its results stay until they are too old."""
        self.hosts.pop(host, None)
        for key in [key for key in self.tasks if key[0] == host]:
            del self.tasks[key]

    def _host(self, observed: ObservedMessage[Any]) -> HostState:
        """Return the facts about the host of a message that was received now."""
        known = self.hosts.get(observed.host)
        if known is None:
            if len(self.hosts) >= MAX_HOSTS:
                del self.hosts[min(self.hosts, key=lambda name: self.hosts[name].heard)]
            known = self.hosts[observed.host] = HostState(observed.time)
        known.heard = observed.time
        return known

    def _on_task(self, observed: ObservedMessage[Any], container: TaskContainer) -> None:
        names = domain_names(container)
        self._add_task(
            PendingTask(observed.host, container.id, container.task, names, observed.time)
        )

    def _add_task(self, task: PendingTask) -> None:
        # A peer may send several tasks without an id; numbers distinguish them.
        self._without_id += task.id is None
        self.tasks[task.host, task.id, 0 if task.id is not None else self._without_id] = task
        for key in list(islice(self.tasks, max(0, len(self.tasks) - MAX_TASKS))):
            del self.tasks[key]

    def _on_progress(self, observed: ObservedMessage[Any], progress: Progress) -> None:
        if progress.id is None:
            return
        key, name = (observed.host, progress.id, 0), domain_of(progress)
        if key not in self.tasks:  # sent before the first observed message
            names = [name] if name else []
            title = progress.task or ""
            self._add_task(PendingTask(observed.host, progress.id, title, names, observed.time))
        shown = self.tasks[key].progress
        if name is not None:
            shown.pop(None, None)  # the whole task has begun with its domains
        shown[name] = progress

    def _on_result(self, observed: ObservedMessage[Any], results: ResultContainer) -> None:
        if results.id is not None:
            self.tasks.pop((observed.host, results.id, 0), None)
        else:
            self._remove_oldest(observed.host, results.result)
        for result in results.results:
            text = f"{results.result}: {summarize_result(result)}"
            self._add_result(observed, results.id, text, failed=result.status != "success")

    def _remove_oldest(self, host: str, title: str) -> None:
        """Remove the oldest task without an id that the result can answer."""
        declared = declaration_of_result(title)
        for key, task in self.tasks.items():
            if key[:2] == (host, None) and declared is not None and declared.task == task.task:
                del self.tasks[key]
                return

    def _add_result(
        self, observed: ObservedMessage[Any], id: str | None, text: str, *, failed: bool
    ) -> None:
        self.results.appendleft(FinishedTask(observed.host, id, observed.time, text, failed))


def message_kind(observed: ObservedMessage[Any]) -> str:
    """Return the kind of a message by its topic: task, result, progress or presence."""
    match = parse(observed.topic)
    return "message" if match is None else match.kind.lower()
