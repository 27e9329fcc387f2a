"""Laboratories for tests: `lab = laboratory(hosts=2)` in a test module, or in a conftest."""

from collections.abc import Callable, Iterator

import pytest

from . import Lab, missing


def require() -> None:
    """Skip the test with the reason if there can be no laboratory on this machine."""
    if absent := missing():
        pytest.skip("NO LABORATORY ON THIS MACHINE: " + "; ".join(absent))


def laboratory(hosts: int = 2) -> Callable[[], Iterator[Lab]]:
    """A fixture for a whole module: a laboratory that is up, and gone afterwards."""

    @pytest.fixture(scope="module")
    def lab() -> Iterator[Lab]:
        require()
        with Lab(hosts) as made:
            yield made

    return lab
