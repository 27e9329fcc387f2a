"""The steps of a start, in one list.

Each step finds the reasons why its part would fail, and leaves no trace. A start executes all steps
before it begins, so it reports all reasons at once. `migfra --check` executes the same steps. A
start does not check the hypervisor in advance, because it opens it next.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from .broker import check_broker
from .files import check_journal_file, check_lock, check_log_file
from .findings import Finding, StartUp
from .parts import check_hypervisor, check_metrics
from .secret_files import check_secret_files


@dataclass(frozen=True)
class Step:
    """A part of the start."""

    name: str
    find: Callable[[StartUp], Iterable[Finding]]
    """Yields the reasons why the part would fail."""
    before_start: bool = True
    """False if the start finds the reasons itself during the step, or if they only are warnings."""


STEPS: Final = (
    Step("lock", check_lock, before_start=False),
    Step("log", check_log_file),
    Step("broker", check_broker),
    Step("secret files", check_secret_files, before_start=False),
    Step("journal", check_journal_file),
    Step("metrics", check_metrics),
    Step("hypervisor", check_hypervisor, before_start=False),
)
"""All steps of a start."""


def find_problems(start: StartUp, *, only_before_start: bool = False) -> Iterator[Finding]:
    """Yield the reasons why a start would fail.

    With `only_before_start`, leave out the steps whose reasons the start finds itself.
    """
    for step in STEPS:
        if step.before_start or not only_before_start:
            yield from step.find(start)
