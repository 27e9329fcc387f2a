"""Record every message of the run, over a separate connection."""

import asyncio
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from typing import Any

import msgspec

from fastlib.client import AsyncWatch, ObservedMessage
from fastlib.message import Message, Query, Result, ResultContainer, TaskContainer
from fastlib.message.node import Presence, Progress

from .errors import ScenarioError


class TaskRecord(msgspec.Struct):
    """A task container that was sent, and its answers."""

    host: str
    container: TaskContainer
    times_sent: int = 1
    answers: list[ResultContainer] = []
    progress: dict[str | None, Progress] = {}
    """The last progress of each VM, until there is an answer."""

    @property
    def is_query(self) -> bool:
        """Whether it is a query, which changes nothing and does not count as a task."""
        return isinstance(next(iter(self.container.tasks), None), Query)


class Observer:
    """Records the messages of the given hosts, and calls listeners for each."""

    def __init__(
        self, hosts: Collection[str], *listeners: Callable[[ObservedMessage[Any]], None]
    ) -> None:
        self._hosts = frozenset(hosts)
        self._listeners = listeners
        self._changed = asyncio.Condition()
        self.records: dict[tuple[str, str | None], TaskRecord] = {}
        """Task containers by host and id."""
        self.presence: dict[str, Presence] = {}
        self.messages: Counter[str] = Counter()
        """Number of messages by type."""
        self.unexpected: list[str] = []
        """Answers to unknown tasks, and unreadable messages."""

    async def run(self, watch: AsyncWatch[Message]) -> None:
        """Record messages until the watch is closed."""
        async for observed in watch:
            if observed.host not in self._hosts:
                continue  # others use the same broker
            self.record(observed)
            for listener in self._listeners:
                listener(observed)
            async with self._changed:
                self._changed.notify_all()

    def record(self, observed: ObservedMessage[Any]) -> None:
        """Record one message."""
        message = observed.message
        self.messages[type(message).__name__] += 1
        if isinstance(message, TaskContainer):
            known = self.records.get((observed.host, message.id))
            if known is None:
                self.records[observed.host, message.id] = TaskRecord(observed.host, message)
            else:
                known.times_sent += 1
        elif isinstance(message, ResultContainer):
            known = self.records.get((observed.host, message.id))
            if known is None:
                self.unexpected.append(f"{observed.host} answered {message.id}, which was not sent")
                return
            # An answer from the journal is the same, with the time of the execution.
            known.answers.append(msgspec.structs.replace(message, executed=None))
            known.progress.clear()
        elif isinstance(message, Progress):
            known = self.records.get((observed.host, message.id))
            if known is not None and not known.answers:
                known.progress[message.vm_name] = message
        elif isinstance(message, Presence):
            self.presence[observed.host] = message
        elif observed.is_forgotten:
            self.presence.pop(observed.host, None)
        else:
            self.unexpected.append(f"{observed.topic} cannot be read: {observed.error}")

    async def wait_until(
        self, condition: Callable[[], bool], description: str, timeout: float
    ) -> None:
        """Wait for a condition that depends on messages. Raises ScenarioError after `timeout`."""
        try:
            async with asyncio.timeout(timeout), self._changed:
                await self._changed.wait_for(condition)
        except TimeoutError:
            raise ScenarioError(f"waited {timeout:g} s for {description}") from None

    @property
    def tasks(self) -> list[TaskRecord]:
        """Return the records of all tasks except queries, in the order of sending."""
        return [record for record in self.records.values() if not record.is_query]

    def unanswered(self) -> list[TaskRecord]:
        """Return the records without an answer, also of queries."""
        return [record for record in self.records.values() if not record.answers]

    def violations(self) -> list[str]:
        """Return the violations of one answer for each task; a repeated answer counts once."""
        found = list(self.unexpected)
        for record in self.tasks:
            task = f"'{record.container.task}' {record.container.id} to {record.host}"
            sent, answered, different = (
                record.times_sent, len(record.answers), len(set(record.answers)),
            )  # fmt: skip
            if different != 1:
                found.append(f"{task} has {different} answers")
            elif answered > sent:
                found.append(f"{task} was sent {sent} times and answered {answered} times")
        return found

    def results(self) -> Iterable[tuple[TaskRecord, Result]]:
        """Yield the results of each task, once."""
        for record in self.tasks:
            if record.answers:
                for result in record.answers[0].results:
                    yield record, result
