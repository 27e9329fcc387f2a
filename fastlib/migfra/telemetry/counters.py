"""The numbers of a daemon: counters and measured values. `metrics` exports them."""

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

BOUNDS: Final = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0)
"""Upper bounds in seconds of the classes of durations."""


@dataclass(frozen=True)
class Gauge:
    """A number that is read when the metrics are requested."""

    name: str
    meaning: str
    read: Callable[[], float]
    only_grows: bool = False
    """True for a number that is counted elsewhere."""


class Durations:
    """Histogram of the durations of tasks."""

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS) + 1)
        self.total = 0.0

    def add(self, seconds: float) -> None:
        self.counts[bisect_left(BOUNDS, seconds)] += 1
        self.total += seconds


class Counters:
    """The counters of the daemon since its start."""

    def __init__(self) -> None:
        self.ended: Counter[tuple[str, str]] = Counter()
        """Results by the task's title and the outcome: success, error or cancelled."""
        self.durations: dict[str, Durations] = {}
        """By the task's title."""
        self.messages: Counter[str] = Counter()
        """Received messages by kind: accepted, repeated, refused, unreadable, query or retained."""
        self.retries = 0
        self.migrated_bytes = 0

    def count(self, title: str, outcome: str, seconds: float) -> None:
        """Count a member that has ended."""
        self.ended[title, outcome] += 1
        durations = self.durations.get(title)
        if durations is None:
            durations = self.durations[title] = Durations()
        durations.add(seconds)
