"""Fixtures for tests of programs that speak the protocol."""

from collections.abc import Callable, Iterator

import pytest


@pytest.fixture(scope="session")
def assert_round_trip() -> Callable[..., None]:
    """`fastlib.testing.assert_round_trip`: a message is equal in all its written forms."""
    from fastlib.testing import assert_round_trip as check

    return check


@pytest.fixture
def isolated_registry() -> Iterator[None]:
    """Forget, after the test, the messages, tasks and extensions that it declared.

    It is `fastlib.testing.isolated_registry` around one test.
    """
    from fastlib.testing import isolated_registry as isolated

    with isolated():
        yield
