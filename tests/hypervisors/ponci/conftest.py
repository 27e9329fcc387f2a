"""What the tests of ponci need, and why they are skipped where that is missing."""

from pathlib import Path

import pytest

from tests.support.ponci.trees import why_not

HERE = Path(__file__).parent
REASONS = pytest.StashKey[set[str]]()


def pytest_configure(config):
    config.addinivalue_line("markers", "cgroups: makes cgroups on this machine")


def pytest_collection_modifyitems(config, items):
    """Skip what cannot run here, and keep the reason for the end of the run."""
    own = [item for item in items if item.path.parent == HERE]
    _skip(config, [item for item in own if item.get_closest_marker("cgroups")], why_not)


def _skip(config, items, reason):
    if items and (why := reason()):
        for item in items:
            item.add_marker(pytest.mark.skip(reason=why))
            config.stash.setdefault(REASONS, set()).add(f"{item.path.name} is not run: {why}")


def pytest_terminal_summary(terminalreporter, config):
    if reasons := config.stash.get(REASONS, set()):
        terminalreporter.section("ponci is not tested in whole", sep="!")
        for reason in sorted(reasons):
            terminalreporter.line(reason)
