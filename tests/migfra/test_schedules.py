"""Schedules under a virtual clock: an order acts at most once, in time, and answers are true.

Hypothesis draws the orders of schedulers, faults of network and disks, and ends of programs.
"""

import gc
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.support.schedules.cluster import Cluster
from tests.support.schedules.faults import FAULTS, Fault
from tests.support.schedules.simulated_time import simulated_time
from tests.support.schedules.steps import BEGIN_BYTES, STEP_BYTES, Series, finish

STEPS = st.lists(st.binary(min_size=STEP_BYTES, max_size=STEP_BYTES), min_size=1, max_size=4)
"""The steps of a schedule."""

SERIES = st.builds(
    Series.from_bytes,
    st.binary(min_size=BEGIN_BYTES, max_size=BEGIN_BYTES),
    st.lists(STEPS, min_size=1, max_size=12),
)
"""Schedules that one cluster runs one after the other, as starting it takes longer than one."""

SOON_FOUND = {"orders_never_expire", "a_lost_fsync"}

COLLECT_EVERY = 50
"""Schedules after which the garbage of all is collected, which costs much in each of them."""


@contextmanager
def rare_collections() -> Iterator[None]:
    """Let the garbage collector run only when it is called."""
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.unfreeze()


class Search:
    """Runs drawn schedules until one violates an invariant, and counts them."""

    def __init__(self, most: int, *phases: Phase) -> None:
        """Run about `most` schedules."""
        self.count = 0
        self.found: str | None = None

        @settings(
            max_examples=max(1, most // 3),  # a series has more than three, on average
            deadline=None,
            phases=phases,
            suppress_health_check=list(HealthCheck),
            report_multiple_bugs=False,
        )
        @given(SERIES)
        def search(series: Series) -> None:
            if self.found is None and self.count >= most:
                return
            if found := "\n".join(series.run(self._add)):
                self.found = self.found or found
                raise AssertionError(f"{found}\nin the last of these schedules\n{series}")

        self._search = search

    def _add(self) -> None:
        if self.found is None:
            self.count += 1
            if self.count % COLLECT_EVERY == 0:
                gc.collect()

    def run(self) -> None:
        """Raise AssertionError for the first schedule that violates an invariant."""
        with simulated_time(), rare_collections():
            self._search()


def test_orders_act_once_in_time_or_not_at_all(
    request: pytest.FixtureRequest, figures: Callable[[object], None]
) -> None:
    if request.config.getoption("--long"):
        search = Search(20_000, Phase.generate, Phase.shrink)
    else:
        search = Search(150, Phase.generate)
    began, cpu = time.monotonic(), time.process_time()
    search.run()
    cpu, seconds = time.process_time() - cpu, time.monotonic() - began
    figures(
        f"{search.count} schedules, {search.count / seconds * 60:.0f} a minute "
        f"({search.count / cpu * 60:.0f} in a minute of one CPU)"
    )


def run(fault: Fault) -> list[str]:
    """Run the schedule that shows a fault to its end. Return its violations."""
    with simulated_time():
        cluster = Cluster(protocol=fault.protocol)
        try:
            fault.schedule(cluster)
            return finish(cluster)
        finally:
            cluster.close()


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_shown_by_its_schedule_and_only_then(name: str) -> None:
    fault = FAULTS[name]
    assert run(fault) == []
    with fault.plant():
        assert run(fault) != []


@pytest.mark.load
@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_found_by_drawn_schedules(
    request: pytest.FixtureRequest, figures: Callable[[object], None], name: str
) -> None:
    if not request.config.getoption("--long") and name not in SOON_FOUND:
        pytest.skip("only with --long: it needs hundreds of schedules")
    search = Search(20_000 if request.config.getoption("--long") else 300, Phase.generate)
    with FAULTS[name].plant(), pytest.raises(AssertionError):
        search.run()
    assert search.found is not None, "an error that no schedule explains"
    figures(f"found by schedule {search.count}")
