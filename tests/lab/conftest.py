"""A laboratory of three hosts for the tests of a module, and one that a test brings up itself."""

import pytest

from lab.fixtures import laboratory, require

lab = laboratory(hosts=3)


@pytest.fixture
def possible():
    """Skips the test, with the reason, where there can be no laboratory."""
    require()
