"""The groups that a killed run has left, with the frozen processes in them."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.ponci.cgroup_trees import CgroupTrees
from tests.support.ponci.parent_groups import clear_left_groups, parent_name
from tests.support.ponci.workload import Counter

pytestmark = pytest.mark.cgroups


def pid_of_ended_process() -> int:
    pid = os.posix_spawn("/bin/true", ["true"], {})
    os.waitpid(pid, 0)
    return pid


@contextmanager
def frozen_in(parent: str, directory: Path) -> Iterator[Counter]:
    """A process that is frozen in a domain of a parent group."""
    trees = CgroupTrees(parent)
    try:
        with Counter(directory) as counter:
            for name in ("", "vm1"):
                trees.make(name)
            trees.join(counter.pid, "vm1")
            trees.freeze("vm1", True)
            try:
                yield counter
            finally:
                trees.clear()
    finally:
        trees.clear()


def test_groups_of_a_killed_run_are_cleared_and_those_of_this_run_stay(tmp_path):
    left, ours = parent_name("left", pid=pid_of_ended_process()), parent_name("left")
    with frozen_in(left, tmp_path) as frozen, frozen_in(ours, tmp_path) as other:
        assert left in clear_left_groups()
        frozen.process.wait()
        assert not CgroupTrees(left).exists("")
        assert other.runs
        assert CgroupTrees(ours).exists("vm1")
