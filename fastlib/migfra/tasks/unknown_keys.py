"""Log the unknown keys of orders, which the daemon ignores like every peer."""

import re
from collections.abc import Iterable
from logging import getLogger
from typing import Final

from fastlib.codec.errors import Problem
from fastlib.message import TaskContainer
from fastlib.migfra.telemetry.logs import About, about

log = getLogger("fastlib.migfra")

MOST_KEYS: Final = 1000
"""Number of keys that one run logs. A sender with new keys in each message does not fill the log.
"""
LONGEST_PATH: Final = 200
"""Characters of a key's path that are logged."""


class UnknownKeyLog:
    """Warns of each unknown key once in a run, so a sender that always has it is logged once."""

    def __init__(self) -> None:
        self._logged: set[tuple[str, str]] = set()
        """Titles of tasks, and paths of keys without the numbers of members."""

    def report(self, container: TaskContainer, problems: Iterable[Problem]) -> None:
        """Log the problems that no earlier order had."""
        for problem in problems:
            key = container.declaration.task, re.sub(r"\[\d+\]", "[]", problem.path)[:LONGEST_PATH]
            if key in self._logged or len(self._logged) >= MOST_KEYS:
                continue
            self._logged.add(key)
            text = str(problem)
            if len(problem.path) > LONGEST_PATH:
                text = f"line {problem.line}, column {problem.column}: {problem.message}"
            token = about.set(About(container.id, None))
            log.warning("%s has a key without an effect: %s", container.declaration.task, text)
            about.reset(token)
