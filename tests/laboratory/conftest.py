"""A laboratory of three hosts for the tests of a module, and one that a test brings up itself."""

from collections.abc import Iterator

import pytest

from tests.support.lab.fixtures import laboratory, require

lab = laboratory(hosts=3)


@pytest.fixture
def possible():
    """Skips the test, with the reason, where there can be no laboratory."""
    require()


def pytest_configure(config):
    config.addinivalue_line(
        "markers", "both_ways(nightly): migrates from peer to peer, and managed"
    )


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
    from tests.support.lab.fleet import fleet_of

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
