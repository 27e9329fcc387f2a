"""Log the parts of orders that the daemon ignores like every peer: unknown keys, more documents."""

import re
from collections.abc import Iterable
from logging import getLogger
from typing import Final

from fastlib.codec.errors import Problem
from fastlib.codec.further_documents import FURTHER_DOCUMENT
from fastlib.message import TaskContainer
from fastlib.migfra.telemetry.logs import About, about

log = getLogger("fastlib.migfra")

MOST_KEYS: Final = 1000
"""Number of keys that one run logs. A sender with new keys in each message does not fill the log.
"""
LONGEST_PATH: Final = 200
"""Characters of a key's path that are logged."""


class IgnoredPartsLog:
    """Warns of each unknown key once in a run, so a sender that always has it is logged once.

    It warns of each further document, because an order may be lost.
    """

    def __init__(self) -> None:
        self._logged: set[tuple[str, str]] = set()
        """Titles of tasks, and paths of keys without the numbers of members."""

    def report(self, container: TaskContainer, problems: Iterable[Problem]) -> None:
        """Log the problems, without unknown keys that an earlier order had."""
        task = container.declaration.task
        token = about.set(About(container.id, None))
        for problem in problems:
            if problem.code == FURTHER_DOCUMENT:
                log.warning("the message of %s has more than one document: %s", task, problem)
            elif self._is_new(task, problem):
                log.warning("%s has a key without an effect: %s", task, _text(problem))
        about.reset(token)

    def _is_new(self, task: str, problem: Problem) -> bool:
        key = task, re.sub(r"\[\d+\]", "[]", problem.path)[:LONGEST_PATH]
        if key in self._logged or len(self._logged) >= MOST_KEYS:
            return False
        self._logged.add(key)
        return True


def _text(problem: Problem) -> str:
    if len(problem.path) > LONGEST_PATH:
        return f"line {problem.line}, column {problem.column}: {problem.message}"
    return str(problem)
