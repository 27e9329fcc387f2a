"""One fleet of three hosts for the tests of a worker; each test gets it without domains."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support import end_of_run
from tests.support.lab import Lab
from tests.support.lab.fleet import SHORT_WAITS, Fleet

BOTH_MODES = ["peer-to-peer", "managed"]


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        "both_modes(only_long): migrates peer-to-peer and managed; only with --long if so marked",
    )
    config.addinivalue_line("markers", "managed: migrates managed only")


@pytest.hookimpl(wrapper=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> Iterator[None]:
    """Run managed migrations last, as the daemons are restarted when the mode changes."""
    yield
    here = Path(__file__).parent
    places = [number for number, item in enumerate(items) if item.path.parent == here]
    by_mode = sorted((items[number] for number in places), key=_is_managed)
    for number, item in zip(places, by_mode, strict=True):
        items[number] = item


def _is_managed(item: pytest.Item) -> bool:
    callspec = getattr(item, "callspec", None)
    return callspec is not None and callspec.params.get("migration_mode") == BOTH_MODES[1]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Migrate peer-to-peer, and a second time managed in tests whose end may depend on it.

    Some of these do so only with --long, because each is slow.
    """
    if "migration_mode" in metafunc.fixturenames:
        marker = metafunc.definition.get_closest_marker("both_modes")
        only_long = marker is not None and marker.kwargs.get("only_long", False)
        is_long = metafunc.config.getoption("--long")
        both = marker is not None and (is_long or not only_long)
        modes = BOTH_MODES if both else BOTH_MODES[:1]
        if metafunc.definition.get_closest_marker("managed") is not None:
            modes = BOTH_MODES[1:]
        metafunc.parametrize("migration_mode", modes, scope="session")


@pytest.fixture(scope="session")
def session_fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Three hosts with daemons, for all tests."""
    with Fleet(tmp_path_factory.mktemp("fleet"), 3, SHORT_WAITS) as fleet:
        yield fleet


@pytest.fixture(scope="session")
def snapshot_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all hosts see."""
    return tmp_path_factory.mktemp("snapshots")


@pytest.fixture
def only_long(request: pytest.FixtureRequest) -> None:
    """Skip a test that is only for the nightly run."""
    if not request.config.getoption("--long"):
        pytest.skip("takes long; with --long")


@pytest.fixture
def daemon_options() -> dict[str, object]:
    """Options of the daemons besides those of `fleet`; a module may override it."""
    return {}


@pytest.fixture
def fleet(
    session_fleet: Fleet,
    migration_mode: str,
    snapshot_directory: Path,
    daemon_options: dict[str, object],
) -> Iterator[Fleet]:
    """The fleet without domains. Afterwards it is repaired, and each task has had one answer."""
    session_fleet.reset_if_needed()
    session_fleet.configure(
        {
            **SHORT_WAITS,
            "migration": migration_mode,
            "snapshot-directory": snapshot_directory,
            **daemon_options,
        }
    )
    session_fleet.observer.take()  # of tests that look at the hosts alone
    yield session_fleet
    session_fleet.reset()
    session_fleet.assert_one_answer_each()


@pytest.fixture
def lab(session_fleet: Fleet) -> Iterator[Lab]:
    """The hosts of the fleet without domains. Afterwards the fleet is repaired."""
    session_fleet.reset_if_needed()
    yield session_fleet.lab
    session_fleet.reset()


@pytest.fixture
def add_figure(request: pytest.FixtureRequest) -> Callable[[object], None]:
    """Print a measured figure at the end of the run."""
    return lambda figure: end_of_run.add_figure(request.node, "migrations between hosts", figure)
