"""What is run: `--long` for the nightly series, by default the short ones; `--lab` with the
laboratory."""

from datetime import timedelta

import pytest
from hypothesis import HealthCheck, settings

# One example may have a message of a thousand lines, so no deadline and no word on slow generation.
_SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example]

settings.register_profile(
    "everyday",
    deadline=None,
    derandomize=True,  # the same examples each time, so that a failure is the change's doing
    suppress_health_check=_SLOW,
)
settings.register_profile(
    "nightly",
    deadline=None,
    print_blob=True,
    suppress_health_check=_SLOW,
)
LONGEST = timedelta(minutes=5)


def pytest_addoption(parser):
    parser.addoption(
        "--long",
        action="store_true",
        help="run the long series in full: 100,000 texts on both roads, the largest hostile inputs",
    )
    parser.addoption(
        "--lab",
        action="store_true",
        help="run what needs the laboratory of several libvirt hosts (tests/lab/README.md)",
    )


LABORATORY = "it needs the laboratory of several hosts: tests/run --lab"


def pytest_collection_modifyitems(config, items):
    if config.getoption("--lab"):
        return
    for item in items:
        if item.path.parent.name == "lab" or item.get_closest_marker("laboratory"):
            item.add_marker(pytest.mark.skip(reason=LABORATORY))


def pytest_configure(config):
    if not config.getoption("hypothesis_profile", None):
        settings.load_profile("nightly" if config.getoption("--long") else "everyday")
