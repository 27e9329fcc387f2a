"""Requirements on ponci with each version of cgroups, with real processes.

The same checks run on this machine and in a guest, whose kernel has another version. Those whose
names begin with a version are only for that one.
"""

import inspect

from tests.support.ponci.cgroup_trees import CgroupTrees, why_not
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

UNIFIED = None if why_not() or CgroupTrees("").version == "v2" else CgroupTrees("").unified
"""Where this machine has a v2 without the controller cpuset beside v1; None if it has none."""
WITHOUT_CPUSET = (
    "suspend_times_out_and_thaws",
    "frozen_group_above_is_reported",
    "frozen_groups_in_a_domain_are_thawed",
    "group_that_freezes_in_a_domain_is_reported",
    "force_kills_all_processes_of_a_domain",
    "force_kills_frozen_groups_in_a_domain",
    "zombies_do_not_count",
    "recover_finishes_interrupted_suspend",
    "recover_finishes_interrupted_stop",
    "v2_force_kills_while_a_group_above_is_frozen",
    "v2_threads_of_a_domain_are_found",
    "v2_threaded_domain_is_reported",
)
"""The names of checks that v2 passes without that controller."""


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
