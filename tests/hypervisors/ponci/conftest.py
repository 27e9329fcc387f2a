"""Skip the tests that make cgroups, with the reason, if this machine does not permit cgroups."""

from pathlib import Path

import pytest

from tests.support import end_of_run
from tests.support.ponci.cgroup_trees import why_not
from tests.support.ponci.parent_groups import clear_left_groups

HERE = Path(__file__).parent


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "cgroups: makes cgroups on this machine")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    own = [item for item in items if item.path.parent == HERE]
    found = [item for item in own if item.get_closest_marker("cgroups")]
    if found and (why := why_not()):
        end_of_run.skip(found, "ponci is not tested completely", why)
    elif found:
        clear_left_groups()
