"""What the tests of ponci need, and why they are skipped where that is missing."""

import pytest
from trees import why_not

REASONS = pytest.StashKey[set[str]]()


def pytest_configure(config):
    config.addinivalue_line("markers", "cgroups: makes cgroups on this machine")
    config.addinivalue_line("markers", "laboratory: needs the laboratory of several hosts")


def pytest_collection_modifyitems(config, items):
    """Skip what cannot run here, and keep the reason for the end of the run."""
    reasons = config.stash.setdefault(REASONS, set())
    wanting = [item for item in items if item.get_closest_marker("cgroups")]
    if wanting and (why := why_not()):
        for item in wanting:
            item.add_marker(pytest.mark.skip(reason=why))
            reasons.add(f"{item.path.name} is not run: {why}")


def pytest_terminal_summary(terminalreporter, config):
    if reasons := config.stash.get(REASONS, set()):
        terminalreporter.section("ponci is not tested in whole", sep="!")
        for reason in sorted(reasons):
            terminalreporter.line(reason)
