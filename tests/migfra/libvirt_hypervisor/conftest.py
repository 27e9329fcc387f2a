"""What the tests of libvirt need, and why they are skipped where that is missing."""

import importlib.util
from collections.abc import Iterator
from pathlib import Path

import pytest

REASONS = pytest.StashKey[set[str]]()
HERE = Path(__file__).parent


def pytest_collection_modifyitems(config, items):
    """Skip what cannot run here, and keep the reason for the end of the run."""
    reasons = config.stash.setdefault(REASONS, set())
    if importlib.util.find_spec("libvirt") is None:
        absent = "libvirt-python is not installed: pip install 'fastlib[libvirt]'"
        _skip([item for item in items if item.path.parent == HERE], absent, reasons)
        return
    in_laboratory = [item for item in items if item.get_closest_marker("laboratory")]
    if in_laboratory and (why := _no_laboratory()):
        _skip(in_laboratory, why, reasons)


def _no_laboratory() -> str | None:
    from lab import requirements

    return "; ".join(requirements.missing()) or None


def _skip(items, why, reasons):
    for item in items:
        if "without_libvirt" not in item.keywords:
            item.add_marker(pytest.mark.skip(reason=why))
            reasons.add(f"{item.path.name} is not run: {why}")


def pytest_configure(config):
    config.addinivalue_line("markers", "laboratory: needs the laboratory of several hosts")
    config.addinivalue_line("markers", "without_libvirt: runs without libvirt-python")


def pytest_terminal_summary(terminalreporter, config):
    if reasons := config.stash.get(REASONS, set()):
        terminalreporter.section("libvirt is not tested in whole", sep="!")
        for reason in sorted(reasons):
            terminalreporter.line(reason)


@pytest.fixture(scope="module", params=["peer-to-peer", "managed"])
def fleet(request, tmp_path_factory) -> Iterator["object"]:
    """Two hosts with daemons, once for each way of migration."""
    from lab.fleet import fleet_of

    directory = tmp_path_factory.mktemp("fleet")
    shared = directory / "shared"
    shared.mkdir()
    options = f"migration: {request.param}, snapshot-directory: {shared}"
    with fleet_of(directory, 2, options) as fleet:
        fleet.mode = request.param
        yield fleet


@pytest.fixture
def clean(fleet):
    """The fleet without any domains. Afterwards no task has been answered twice."""
    fleet.clear()
    yield fleet
    fleet.clear()
    fleet.answered_once()
