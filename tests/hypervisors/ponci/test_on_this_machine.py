"""ponci with the cgroups that this machine has."""

import pytest

from tests.support.ponci.cgroup_trees import CgroupTrees, why_not
from tests.support.ponci.checks import of
from tests.support.ponci.runner import run_check

CHECKS = of("v1" if why_not() else CgroupTrees("").version)

pytestmark = pytest.mark.cgroups


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_check_on_this_machine(check):
    run_check(check)
