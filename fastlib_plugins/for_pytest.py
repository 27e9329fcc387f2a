"""Fixtures for tests of programs that speak the protocol."""

from collections.abc import Callable

import pytest


@pytest.fixture(scope="session")
def assert_round_trip() -> Callable[..., None]:
    """`fastlib.testing.assert_round_trip`: a message comes back from whatever it is written as."""
    from fastlib.testing import assert_round_trip as check

    return check
