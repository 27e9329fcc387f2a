"""Options, markers and profiles of all tests: `--long`, `--tier`, and the markers of slow tests.

Tests that this machine cannot run are skipped, and the end of the run prints the reason.
"""

import gc
import random
import re
import sys
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from tests.support import end_of_run
from tests.support.global_state import GlobalState
from tests.support.processes import give_children_default_signals, name_processes_left_behind

SLOW_MARKERS = {
    "laboratory": "needs several libvirt hosts (tests/support/lab/README.md)",
    "guest": "boots an emulated machine",
    "browser": "drives a real Chromium (apt-get install chromium chromium-driver)",
    "packaging": "makes a fresh virtual environment, or builds a wheel",
    "load": "takes seconds: sends many messages, starts many programs, waits, or reads very much",
}
"""Tests with one of these markers are outside of the fast tier."""
TIMEOUT_SECONDS = {"laboratory": 900, "guest": 1800, "browser": 900, "packaging": 900, "load": 900}
"""The longest time of a slow test, set-up included; `pytest.mark.timeout` of a test goes before."""

LONGEST_FILES = [
    # slow tier
    "laboratory/test_post_copy.py",
    "laboratory/test_disk_faults.py",
    "laboratory/test_faults.py",
    "laboratory/test_silent_destination.py",
    "repository/test_extending.py",
    "laboratory/test_tasks.py",
    "laboratory/test_combinations.py",
    "laboratory/test_disk_copies.py",
    "laboratory/test_new_disks.py",
    "laboratory/test_encryption.py",
    "laboratory/test_ponci_guest.py",
    "laboratory/test_odd_images.py",
    "laboratory/test_lab.py",
    "migfra/test_memory.py",
    "laboratory/test_series.py",
    "laboratory/test_evacuation.py",
    "laboratory/test_every_legal_order.py",
    "laboratory/test_saved_images.py",
    "laboratory/test_room.py",
    "laboratory/test_numa.py",
    "migfra/test_load.py",
    "testing/test_conformance_cpp_peer.py",
    "migfra/test_hostile_payloads.py",
    "dashboard/test_browser.py",
    "brokers/test_matrix.py",
    "repository/test_benchmarks.py",
    # both tiers
    "testing/test_conformance_command.py",
    "schema/test_compat.py",
    "testing/test_strategies.py",
    "repository/test_docs.py",
    # fast tier, first those that wait most
    "client/test_unanswered.py",
    "migfra/test_client_at_broker.py",
    "migfra/test_program.py",
    "transport/test_closing.py",
    "transport/test_large_messages.py",
    "transport/test_mqtt.py",
    "migfra/test_outputs.py",
    "migfra/test_cpp_sender.py",
    "migfra/test_history_at_broker.py",
    "migfra/test_frozen_daemon.py",
    "migfra/test_kill.py",
    "demo/test_demo_command.py",
    "demo/test_demo_scenario.py",
    "hypervisors/ponci/test_on_this_machine.py",
    "hypervisors/ponci/test_killed_daemon.py",
    "schema/test_generated.py",
    "schema/test_strict_form.py",
    "schema/test_instances.py",
    "codec/test_hostile.py",
    "migfra/test_schedules.py",
    "message/test_round_trip.py",
    "testing/test_conformance_wrong_peers.py",
    "testing/test_conformance_ourselves.py",
    "testing/test_assert_round_trip.py",
    "schema/test_compat_command.py",
    "schema/test_schema_command.py",
    "schema/test_third_party.py",
    "schema/test_examples.py",
    "message/test_vectors.py",
    "migfra/test_journal.py",
    "migfra/test_access_list.py",
    "migfra/test_migration_queue.py",
    "migfra/test_weak_broker.py",
    "cli/test_send_wait.py",
    "cli/test_send.py",
    "transport/test_communicator.py",
    "repository/test_workers.py",
]
"""Parallel workers start with these, so that none is left with a long file at the end."""

NOT_MEASURED = {"demo", "repository", "schema", "testing"}
"""Folders whose tests run without coverage, which would double their time.

They go through the packages with a floor once more, but test others.
"""

# A generated message may have a thousand lines: no deadline, no complaint of slow generation.
_SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example]

settings.register_profile(
    "everyday",
    deadline=None,
    derandomize=True,  # each run has the same examples: a failure comes from the change
    suppress_health_check=_SLOW,
)
settings.register_profile(
    "nightly",
    deadline=None,
    print_blob=True,
    suppress_health_check=_SLOW,
)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--long",
        action="store_true",
        help="run the long series in full: 100,000 generated texts, the largest hostile inputs",
    )
    parser.addoption(
        "--tier",
        choices=["fast", "slow", "all"],
        default="all",
        help=f"fast: tests without the markers {', '.join(SLOW_MARKERS)}; slow: tests with one",
    )
    parser.addoption(
        "--write-pictures",
        action="store_true",
        help="store the frames of the live views and the screenshots of the docs, which show what "
        "the programs look like, instead of comparing with the stored ones",
    )
    parser.addoption(
        "--compare-state",
        action="store_true",
        help="fail the last test of a file if the tests of the file have left the state of the "
        "process changed: environment, signal handlers, loggers, registry, modules of fastlib",
    )
    parser.addoption(
        "--shuffle", type=int, metavar="SEED", help="run the tests in the random order of this seed"
    )


def pytest_configure(config: pytest.Config) -> None:
    if hasattr(config, "workerinput") or not getattr(config.option, "numprocesses", None):
        # The controller of parallel workers runs no test, and its workers do this themselves.
        give_children_default_signals()
        name_processes_left_behind()
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(_FailurePrinter(config), "failure-printer")
    for name, description in SLOW_MARKERS.items():
        config.addinivalue_line("markers", f"{name}: {description}")
    if not config.getoption("hypothesis_profile", None):
        settings.load_profile("nightly" if config.getoption("--long") else "everyday")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Import no file without a marker of slow tests in the workers of the slow tier."""
    if config.getoption("--tier") != "slow" or not collection_path.name.startswith("test_"):
        return None
    return None if _names_slow_marker(collection_path) else True


def _names_slow_marker(path: Path) -> bool:
    return re.search(rf"\bmark\.({'|'.join(SLOW_MARKERS)})\b", path.read_text()) is not None


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Import the tests without looking for cyclic garbage, which takes a fifth of the time."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()  # what is imported stays
        gc.enable()


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect the other tier; skip laboratory tests on a machine that cannot run them."""
    tier = config.getoption("--tier")
    if tier != "all":
        kept, others = [], []
        for item in items:
            slow = any(marker.name in SLOW_MARKERS for marker in item.iter_markers())
            (kept if slow == (tier == "slow") else others).append(item)
            if slow and tier == "fast" and not _names_slow_marker(item.path):
                raise pytest.UsageError(
                    f"{item.nodeid} is slow, but --tier=slow does not read its file: the file "
                    f"must contain pytest.mark.NAME, with one of the names {[*SLOW_MARKERS]}"
                )
        items[:] = kept
        config.hook.pytest_deselected(items=others)
    for item in items:
        names = {marker.name for marker in item.iter_markers()}
        limits = [TIMEOUT_SECONDS[name] for name in SLOW_MARKERS if name in names]
        if limits and not item.get_closest_marker("timeout") and not config.getoption("--long"):
            item.add_marker(pytest.mark.timeout(max(limits)))
    _skip_without_laboratory([item for item in items if item.get_closest_marker("laboratory")])
    _skip_without_browser([item for item in items if item.get_closest_marker("browser")])
    if (seed := config.getoption("--shuffle")) is not None:
        _shuffle(items, random.Random(seed))
    elif hasattr(config, "workerinput"):
        _start_with_longest(items)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> object:
    """Keep a file in one parallel worker: fixtures of a file, and booted guests, are made once."""
    from xdist.scheduler import LoadGroupScheduling

    class FileScheduling(LoadGroupScheduling):
        def _split_scope(self, nodeid: str) -> str:
            group = super()._split_scope(nodeid)
            return nodeid.partition("::")[0] if group == nodeid else group

        def mark_test_complete(self, node: Any, item_index: int, duration: float = 0) -> None:
            """Forget completed groups: after each test, xdist counts all tests of a worker."""
            nodeid = self.registered_collections[node][item_index]
            work, scope = self.assigned_work[node], self._split_scope(nodeid)
            super().mark_test_complete(node, item_index, duration)
            if all(work[scope].values()):
                del work[scope]

    config.option.loadscopereorder = False  # the order of `_start_with_longest`
    return FileScheduling(config, log)


def _start_with_longest(items: list[pytest.Item]) -> None:
    tests = Path(__file__).parent
    place = {tests / name: number for number, name in enumerate(LONGEST_FILES)}
    items.sort(key=lambda item: place.get(item.path, len(place)))


def _shuffle(items: list[pytest.Item], source: random.Random) -> None:
    """Change the order of the files, and of the tests in each; a file stays together."""
    files = sorted({item.path for item in items})
    source.shuffle(files)
    place = {path: number for number, path in enumerate(files)}
    source.shuffle(items)
    items.sort(key=lambda item: place[item.path])


def _skip_without_laboratory(items: list[pytest.Item]) -> None:
    if not items:
        return
    from tests.support.lab import requirements

    if why := "; ".join(requirements.missing()):
        title = "migrations between real hosts are not tested"
        end_of_run.skip(items, title, f"no laboratory on this machine: {why}")


def _skip_without_browser(items: list[pytest.Item]) -> None:
    if not items:
        return
    from tests.support.dashboard import browser

    if why := browser.missing():
        end_of_run.skip(items, "the dashboard is not tested in a browser", why)


_STATE = pytest.StashKey[GlobalState]()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, object, object]:
    """Keep the state of the process from before the first test of a file."""
    if item.config.getoption("--compare-state") and _STATE not in item.session.stash:
        item.session.stash[_STATE] = GlobalState()
    return (yield)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_teardown(
    item: pytest.Item, nextitem: pytest.Item | None
) -> Generator[None, object, object]:
    """Fail the last test of a file if its tests have changed the state."""
    result = yield
    if _STATE in item.session.stash and (nextitem is None or nextitem.path != item.path):
        before = item.session.stash[_STATE]
        del item.session.stash[_STATE]
        if changes := before.changes(GlobalState()):
            pytest.fail(
                f"a test of {item.path.name} must leave this as it was:\n" + "\n".join(changes),
                pytrace=False,
            )
    return result


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Stop the measurement of coverage, if there is one, for the tests in some folders."""
    running = sys.modules.get("coverage") and sys.modules["coverage"].Coverage.current()
    folder = item.path.relative_to(Path(__file__).parent).parts[0]
    if not running or folder not in NOT_MEASURED:
        return (yield)
    running.stop()
    try:
        return (yield)
    finally:
        running.start()


class _FailurePrinter:
    """Print the name of each test that fails at once, as a run may take long or be stopped."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        reporter = self._config.pluginmanager.get_plugin("terminalreporter")
        if report.failed and reporter is not None:
            reporter.ensure_newline()
            reporter.write_line(f"FAILED so far: {report.nodeid} ({report.when})")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    end_of_run.print_sections(terminalreporter)


@pytest.fixture
def figures(request: pytest.FixtureRequest) -> Callable[[object], None]:
    """Keep a measured figure, which the end of the run prints."""
    title = f"measured by {request.path.parent.relative_to(request.config.rootpath)}"
    return lambda figure: end_of_run.add_figure(request.node, title, figure)
