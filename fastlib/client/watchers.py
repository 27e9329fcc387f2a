"""The watches of a client, and the messages that each one observes. No I/O."""

from typing import Any, NamedTuple, Protocol

from fastlib.message.topics import Topic

from .errors import ClientClosedError
from .observed import ObservedMessage


class Watched(NamedTuple):
    """The topics and hosts that a watcher observes."""

    topics: frozenset[Topic]
    hosts: frozenset[str] | None
    """None is all hosts."""

    def includes(self, topic: Topic, host: str) -> bool:
        """Return True if it observes the messages to a topic of a host."""
        return topic in self.topics and (self.hosts is None or host in self.hosts)


class Watcher(Protocol):
    """A consumer of observed messages."""

    def put(self, observed: Any) -> None:
        """Queue an observed message. Must not wait."""

    def end(self, error: ClientClosedError | None = None) -> None:
        """Queue the end, with the error if the communicator has failed. Must not wait."""


class Watchers:
    """Gives each observed message to its watchers. Callers hold a lock for changes."""

    def __init__(self) -> None:
        self._watched: dict[Watcher, Watched] = {}

    def add(self, watcher: Watcher, watched: Watched) -> None:
        """Give a watcher all further messages that it observes."""
        self._watched[watcher] = watched

    def remove(self, watcher: Watcher) -> None:
        """Give a watcher no more messages."""
        self._watched.pop(watcher, None)

    def remove_all(self) -> list[Watcher]:
        """Remove and return all watchers."""
        removed, self._watched = list(self._watched), {}
        return removed

    def watches(self, topic: Topic, host: str) -> bool:
        """Return True if a watcher observes the messages to a topic of a host."""
        return bool(self._of(topic, host))

    def show(self, topic: Topic, observed: ObservedMessage[Any]) -> None:
        """Give a message to the watchers of its topic and host."""
        for watcher in self._of(topic, observed.host):
            watcher.put(observed)

    def _of(self, topic: Topic, host: str) -> list[Watcher]:
        watched = list(self._watched.items())  # other threads add and remove
        return [watcher for watcher, what in watched if what.includes(topic, host)]
