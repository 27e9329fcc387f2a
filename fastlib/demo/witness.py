"""What was really said: sees every message of the story, with a connection of its own."""

import asyncio
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from typing import Any, Final

import msgspec

from fastlib.client import AsyncWatch, ObservedMessage
from fastlib.message import Message, Query, Result, ResultContainer, TaskContainer
from fastlib.message.node import Presence, Progress

from .errors import StoryError

NOBODY: Final = ("", "n/a")
"""What stands for the name of a domain where there is none."""


class Asked(msgspec.Struct):
    """A task container that was sent, and what was answered."""

    host: str
    container: TaskContainer
    times: int = 1
    """How often it was sent."""
    answers: list[ResultContainer] = []
    progress: dict[str | None, Progress] = {}
    """The last report of each VM, until there is an answer."""

    @property
    def is_query(self) -> bool:
        """A query changes nothing, and is no task of the story."""
        return isinstance(next(iter(self.container.tasks), None), Query)


class Witness:
    """Counts what it sees of the given hosts, and tells those who listen."""

    def __init__(
        self, hosts: Collection[str], *listeners: Callable[[ObservedMessage[Any]], None]
    ) -> None:
        self._hosts = frozenset(hosts)
        self._listeners = listeners
        self._news = asyncio.Condition()
        self.asked: dict[tuple[str, str | None], Asked] = {}
        self.presence: dict[str, Presence] = {}
        self.messages: Counter[str] = Counter()
        """How many of each type."""
        self.strange: list[str] = []
        """What nobody should have said."""

    async def run(self, watch: AsyncWatch[Message]) -> None:
        """See what passes until the watch is closed."""
        async for observed in watch:
            if observed.host not in self._hosts:
                continue  # others use the same broker
            self._see(observed)
            for listener in self._listeners:
                listener(observed)
            async with self._news:
                self._news.notify_all()

    def _see(self, observed: ObservedMessage[Any]) -> None:
        message = observed.message
        self.messages[type(message).__name__] += 1
        if isinstance(message, TaskContainer):
            known = self.asked.get((observed.host, message.id))
            if known is None:
                self.asked[observed.host, message.id] = Asked(observed.host, message)
            else:
                known.times += 1
        elif isinstance(message, ResultContainer):
            asked = self.asked.get((observed.host, message.id))
            if asked is None:
                self.strange.append(f"{observed.host} answered {message.id}, which nobody sent")
                return
            asked.answers.append(message)
            asked.progress.clear()
        elif isinstance(message, Progress):
            asked = self.asked.get((observed.host, message.id))
            if asked is not None and not asked.answers:
                asked.progress[message.vm_name] = message
        elif isinstance(message, Presence):
            self.presence[observed.host] = message
        else:
            self.strange.append(f"{observed.topic} cannot be read: {observed.error}")

    async def until(self, condition: Callable[[], bool], what: str, patience: float) -> None:
        """Wait until a condition holds that depends on messages. Raises StoryError."""
        try:
            async with asyncio.timeout(patience), self._news:
                await self._news.wait_for(condition)
        except TimeoutError:
            raise StoryError(f"waited {patience:g} s for {what}") from None

    @property
    def tasks(self) -> list[Asked]:
        """The tasks of the story, in their order; queries are none."""
        return [asked for asked in self.asked.values() if not asked.is_query]

    def unanswered(self) -> list[Asked]:
        """What has no answer yet, queries as well."""
        return [asked for asked in self.asked.values() if not asked.answers]

    def disagreements(self) -> list[str]:
        """Tasks that have not exactly one answer; the same one again is the same answer."""
        found = list(self.strange)
        for asked in self.tasks:
            container = asked.container
            what = f"'{container.task}' {container.id} to {asked.host}"
            different = len(set(asked.answers))
            if different != 1:
                found.append(f"{what} has {different} answers")
            elif len(asked.answers) > asked.times:
                found.append(
                    f"{what} was sent {asked.times} times and answered {len(asked.answers)} times"
                )
        return found

    def results(self) -> Iterable[tuple[Asked, Result]]:
        """Each task's results, once."""
        for asked in self.tasks:
            if asked.answers:
                for result in asked.answers[0].results:
                    yield asked, result
