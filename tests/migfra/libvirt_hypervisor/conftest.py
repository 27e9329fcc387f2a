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
    if importlib.util.find_spec("libvirt") is not None:
        return
    why = "libvirt-python is not installed: pip install 'fastlib[libvirt]'"
    for item in items:
        if item.path.parent == HERE and "without_libvirt" not in item.keywords:
            item.add_marker(pytest.mark.skip(reason=why))
            reasons.add(f"{item.path.name} is not run: {why}")


def pytest_configure(config):
    config.addinivalue_line(
        "markers", "both_ways(nightly): migrates from peer to peer, and managed"
    )
    config.addinivalue_line("markers", "without_libvirt: runs without libvirt-python")


def pytest_terminal_summary(terminalreporter, config):
    if reasons := config.stash.get(REASONS, set()):
        terminalreporter.section("libvirt is not tested in whole", sep="!")
        for reason in sorted(reasons):
            terminalreporter.line(reason)


BOTH_WAYS = ["peer-to-peer", "managed"]


def pytest_generate_tests(metafunc):
    """Migrations go from peer to peer; what may end otherwise if managed is tried both ways.

    Some of that only with --long, as each takes its time.
    """
    if "fleet" in metafunc.fixturenames:
        marked = metafunc.definition.get_closest_marker("both_ways")
        at_length = metafunc.config.getoption("--long")
        both = marked is not None and (at_length or not marked.kwargs.get("nightly", False))
        ways = BOTH_WAYS if both else BOTH_WAYS[:1]
        metafunc.parametrize("fleet", ways, indirect=True, scope="module")


@pytest.fixture(scope="module")
def fleet(request, tmp_path_factory) -> Iterator["object"]:
    """Two hosts with daemons, for one way of migration."""
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
