"""Freezing and killing by cgroup v2, on a machine whose v2 has no controller cpuset.

The real kernel runs the checks here, without a guest. Checks of CPUs are left out.
"""

from pathlib import Path

import pytest

from fastlib.migfra.hypervisors.ponci import runtime
from fastlib.migfra.hypervisors.ponci.files import make
from fastlib.migfra.hypervisors.ponci.hierarchy import CpuSets
from fastlib.migfra.hypervisors.ponci.mounts import V2Mount
from fastlib.migfra.hypervisors.ponci.v2 import V2
from tests.support.ponci import cgroup_trees
from tests.support.ponci.checks import UNIFIED, WITHOUT_CPUSET, by_name
from tests.support.ponci.runner import run_check

pytestmark = [
    pytest.mark.cgroups,
    pytest.mark.skipif(UNIFIED is None, reason="this machine has no cgroup v2 beside v1"),
]


class V2WithoutCpuset(V2):
    """Domains in cgroup v2 without their own CPUs and memory nodes."""

    def prepare(self) -> None:
        make(self.parent)

    def defect(self, name: str) -> str | None:
        kind = (self.parent / name / "cgroup.type").read_text().strip()
        threaded = f"{self.parent / name} is of the type {kind!r}"
        return None if kind.startswith("domain") else threaded

    def available(self) -> CpuSets:
        return CpuSets(frozenset({0, 1}), frozenset({0}))

    def set_cpus(self, name: str, cpus: frozenset[int]) -> None:
        pass


@pytest.mark.parametrize("name", WITHOUT_CPUSET)
def test_check_with_v2_beside_v1(monkeypatch, name):
    assert isinstance(UNIFIED, Path)
    monkeypatch.setattr(runtime, "find_hierarchy", lambda mounted, of: V2Mount(UNIFIED))
    monkeypatch.setattr(runtime, "V2", V2WithoutCpuset)
    monkeypatch.setattr(cgroup_trees, "_roots", lambda: ("v2", [UNIFIED]))
    run_check(by_name()[name])
