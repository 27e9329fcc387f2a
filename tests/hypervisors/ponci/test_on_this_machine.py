"""ponci with the cgroups that this machine has."""

import pytest

from tests.support.ponci.checks import of
from tests.support.ponci.desk import play
from tests.support.ponci.trees import Trees, why_not

CHECKS = of("v1" if why_not() else Trees("").version)

pytestmark = pytest.mark.cgroups


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_here(check):
    play(check)
