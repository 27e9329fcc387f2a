"""The part of the rule that is about images of one host's disks, as a pure function.

A domain has its image wherever it is active. An image is made elsewhere only if the answer names
it, and goes only if the order says so. What a guest says of its disk is in `guest_checks.py`.
"""

from collections.abc import Iterator

from fastlib.message import Evacuate, Migrate, Task

from .outcome import Outcome, Violation
from .scenario import HOSTS


def disk_violations(outcome: Outcome) -> Iterator[Violation]:
    """The parts of the rule that are broken; the images are those in the folder of each host."""
    for name, path in outcome.local_disks.items():
        yield from _violations_of(outcome, name, path)


def _violations_of(outcome: Outcome, name: str, path: str) -> Iterator[Violation]:
    before = {host for host in HOSTS if path in outcome.before.disk_images[host]}
    after = {host for host in HOSTS if path in outcome.after.disk_images[host]}
    active = set(outcome.after.active_places(name))
    observed = f"{name!r} is active on {sorted(active)}; {path} is on {sorted(after)}"
    if not active <= after:
        yield Violation(part="an active domain has its image", observed=observed)
    if not after:
        yield Violation(part="an image is never lost", observed=observed)
    details = " ".join(str(result.details) for result in outcome.results)
    if (after - before) - active and path not in details:
        part = "an image that a migration leaves is named in the answer"
        yield Violation(part=part, observed=f"{observed}: {details}")
    if before - after and not any(map(_removes_disks, outcome.order.container.tasks)):
        part = "an image goes only if its order says so"
        yield Violation(part=part, observed=f"{observed}, was on {sorted(before)}: {details}")


def _removes_disks(task: Task) -> bool:
    if not isinstance(task, Migrate | Evacuate) or task.parameter is None:
        return False
    return task.parameter.source_disks == "remove"
