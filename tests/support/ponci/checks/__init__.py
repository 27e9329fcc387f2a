"""What ponci must do, whichever version of cgroups it has, each with real processes.

The same checks run on this machine and in a guest, whose kernel has another version. Those whose
names begin with a version are only for that one.
"""

import inspect

from tests.support.ponci.checks import (
    freezing,
    groups,
    killing,
    life,
    permissions,
    recovery,
    refusals,
    v2,
)
from tests.support.ponci.runner import Check

_MODULES = (life, refusals, freezing, killing, groups, recovery, permissions, v2)


def by_name() -> dict[str, Check]:
    """All checks, in order."""
    return {
        name: value
        for module in _MODULES
        for name, value in vars(module).items()
        if inspect.iscoroutinefunction(value)
        and value.__module__ == module.__name__
        and not name.startswith("_")
    }


def of(version: str) -> list[Check]:
    """The checks for a version of cgroups."""
    return [
        check
        for name, check in by_name().items()
        if name[:2] not in ("v1", "v2") or name[:2] == version
    ]
