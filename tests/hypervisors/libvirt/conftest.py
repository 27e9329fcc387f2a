"""What the tests of libvirt need, and why they are skipped where that is missing."""

import importlib.util
from pathlib import Path

import pytest

REASONS = pytest.StashKey[set[str]]()
HERE = Path(__file__).parent


def pytest_collection_modifyitems(config, items):
    """Skip what cannot run here, and keep the reason for the end of the run."""
    reasons = config.stash.setdefault(REASONS, set())
    if importlib.util.find_spec("libvirt") is not None:
        return
    why = "libvirt-python is not installed: pip install 'fastlib[libvirt]'"
    for item in items:
        if item.path.parent == HERE and "without_libvirt" not in item.keywords:
            item.add_marker(pytest.mark.skip(reason=why))
            reasons.add(f"{item.path.name} is not run: {why}")


def pytest_configure(config):
    config.addinivalue_line("markers", "without_libvirt: runs without libvirt-python")


def pytest_terminal_summary(terminalreporter, config):
    if reasons := config.stash.get(REASONS, set()):
        terminalreporter.section("libvirt is not tested in whole", sep="!")
        for reason in sorted(reasons):
            terminalreporter.line(reason)
