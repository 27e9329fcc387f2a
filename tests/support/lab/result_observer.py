"""Record all results of daemons, for all schedulers, and how often each was requested."""

import threading
from collections import Counter
from typing import Self

from fastlib import ResultContainer, TaskContainer
from fastlib.client import MigfraClient

_END_LIMIT = 60.0  # seconds


class ResultObserver:
    """Collects results by the id of their task; a context manager."""

    def __init__(self, broker: object) -> None:
        self._client = MigfraClient.connect(f"mqtt://{broker}")
        self._watch = self._client.watch(tasks=True)
        self._changed = threading.Condition()
        self._seen: dict[str, list[ResultContainer]] = {}
        self._requests: Counter[str] = Counter()
        self._thread = threading.Thread(target=self._record)
        self._thread.start()

    def _record(self) -> None:
        for observed in self._watch:
            message = observed.message
            if isinstance(message, ResultContainer) and message.id is not None:
                with self._changed:
                    self._seen.setdefault(message.id, []).append(message)
                    self._changed.notify_all()
            elif isinstance(message, TaskContainer) and message.id is not None:
                with self._changed:
                    self._requests[message.id] += 1

    def has_seen(self, id: str, timeout: float) -> bool:
        """Return whether a result with that id comes within `timeout` seconds, or has come."""
        with self._changed:
            return self._changed.wait_for(lambda: id in self._seen, timeout)

    def requests(self, id: str) -> int:
        """Return how often a client has sent the container with that id."""
        with self._changed:
            return self._requests[id]

    def take(self) -> dict[str, list[ResultContainer]]:
        """Return the results since the last call, by id."""
        with self._changed:
            taken, self._seen = self._seen, {}
        return taken

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()
        self._thread.join(_END_LIMIT)
