"""ponci with the cgroups that this machine has."""

import pytest
from checks import of
from desk import play
from trees import Trees, why_not

CHECKS = of("v1" if why_not() else Trees("").version)

pytestmark = pytest.mark.cgroups


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_here(check):
    play(check)
