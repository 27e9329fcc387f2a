"""What is run: `--long` for the nightly series, by default the short ones.

What cannot be run on this machine is skipped, and the end of the run says why.
"""

from datetime import timedelta

import pytest
from hypothesis import HealthCheck, settings

from tests.support.processes import give_children_default_signals

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


REASONS = pytest.StashKey[set[str]]()


def pytest_collection_modifyitems(config, items):
    """Skip what needs the laboratory where there can be none."""
    found = [item for item in items if item.get_closest_marker("laboratory")]
    if not found:
        return
    from tests.support.lab import requirements

    if why := "; ".join(requirements.missing()):
        reasons = config.stash.setdefault(REASONS, set())
        for item in found:
            item.add_marker(pytest.mark.skip(reason=f"no laboratory on this machine: {why}"))
            reasons.add(f"{item.path.name} is not run, no laboratory on this machine: {why}")


def pytest_terminal_summary(terminalreporter, config):
    if reasons := config.stash.get(REASONS, set()):
        terminalreporter.section("migrations between real hosts are not tested", sep="!")
        for reason in sorted(reasons):
            terminalreporter.line(reason)


def pytest_configure(config):
    if hasattr(config, "workerinput") or not getattr(config.option, "numprocesses", None):
        # The controller of parallel workers runs no test, and its workers do this themselves.
        give_children_default_signals()
    config.addinivalue_line(
        "markers", "laboratory: needs several libvirt hosts (tests/support/lab/README.md)"
    )
    if not config.getoption("hypothesis_profile", None):
        settings.load_profile("nightly" if config.getoption("--long") else "everyday")
