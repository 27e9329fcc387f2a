"""Check during the whole run that every VM is on exactly one host."""

import time
from collections import Counter
from typing import Any, Final

from fastlib.client import ObservedMessage
from fastlib.migfra.hypervisors.simulated import Cluster

MAX_PROBLEMS: Final = 20
MAX_TIME_SHARE: Final = 0.2
"""Share of the running time that the checks may take."""


class InvariantChecker:
    """Checks the simulated cluster after messages, for at most `MAX_TIME_SHARE` of the time."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._next_check = 0.0
        self.running: set[str] = set()
        """The VMs that must be on a host; the scenario updates this set."""
        self.checks = 0
        self.problems: list[str] = []

    def on_message(self, _: ObservedMessage[Any]) -> None:
        """Check the cluster, unless the last check was too recent."""
        began = time.monotonic()
        if began >= self._next_check:
            self.check()
            ended = time.monotonic()
            self._next_check = ended + (ended - began) / MAX_TIME_SHARE

    def check(self) -> None:
        """Check the cluster now, and append new problems to `problems`."""
        self.checks += 1
        found = self._cluster.problems()
        hosts = Counter(domain.name for domain in self._cluster.domains() if domain.active)
        found += [
            f"{name} is on {hosts[name]} hosts" for name in sorted(self.running) if hosts[name] != 1
        ]
        room = MAX_PROBLEMS - len(self.problems)
        self.problems += [problem for problem in found if problem not in self.problems][:room]
