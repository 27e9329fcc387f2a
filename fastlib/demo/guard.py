"""Looks all the time whether every VM is on exactly one host."""

import time
from collections import Counter
from typing import Any, Final

from fastlib.client import ObservedMessage
from fastlib.migfra.hypervisors.simulated import Cluster

MOST_PROBLEMS: Final = 20
SHARE: Final = 0.2
"""Of the time, that looking may take."""


class Guard:
    """Looks at the cluster whenever a message passes, but for a small part of the time."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._next = 0.0
        self.up: set[str] = set()
        """The VMs that must be on a host now; the story says so."""
        self.looks = 0
        self.problems: list[str] = []

    def see(self, _: ObservedMessage[Any]) -> None:
        """Something has happened."""
        began = time.monotonic()
        if began >= self._next:
            self.look()
            ended = time.monotonic()
            self._next = ended + (ended - began) / SHARE

    def look(self) -> None:
        """Note what is wrong now, if anything."""
        self.looks += 1
        found = self._cluster.problems()
        places = Counter(domain.name for domain in self._cluster.domains() if domain.active)
        found += [
            f"{name} is on {places[name]} hosts" for name in sorted(self.up) if places[name] != 1
        ]
        room = MOST_PROBLEMS - len(self.problems)
        self.problems += [problem for problem in found if problem not in self.problems][:room]
