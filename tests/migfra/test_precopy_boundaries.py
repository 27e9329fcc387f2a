"""Boundaries of pre-copy, each found by a mutant that no other test noticed."""

from typing import Any

import pytest

from fastlib import MigrateParameter
from fastlib.migfra.virt.precopy import (
    DEFAULT_STALL,
    MIB,
    Abort,
    Decision,
    GoOn,
    MigrationStatistics,
    Options,
    RaiseDowntime,
    Throttle,
    Workload,
    decide,
    describe,
    finishes,
    predict,
)


def decision_on(options: Options, elapsed: float = 1.0, **changed: Any) -> Decision:
    """Decide about a guest that writes as fast as the link sends, with 1000 bytes left."""
    fields = {"remaining": 1000.0, "bandwidth": 1000.0, "dirty_rate": 1000.0, "iteration": 2}
    return decide(MigrationStatistics(**(fields | changed)), options, elapsed)


def test_guest_writes_to_its_working_set_at_most() -> None:
    guest = Workload(memory=1000, dirty_rate=100, working_set=50)
    assert guest.dirtied(10) == 50
    assert guest.dirtied(0.1) == 10
    assert Workload(memory=1000, dirty_rate=100).dirtied(20) == 1000


def test_prediction_ends_with_second_round_when_rounds_do_not_shrink() -> None:
    prediction = predict(Workload(memory=1000, dirty_rate=200), bandwidth=100)
    assert not prediction.converges
    assert (prediction.rounds, prediction.transferred) == (2, 3000)


def test_rest_finishes_when_it_takes_exactly_the_downtime() -> None:
    assert finishes(100, 100, 1)
    assert not finishes(101, 100, 1)


def test_options_of_empty_parameter_are_the_defaults() -> None:
    assert Options.of(None) == Options.of(MigrateParameter()) == Options()
    assert Options().stall == DEFAULT_STALL


def test_options_of_parameter_are_in_seconds() -> None:
    parameter = MigrateParameter(
        max_downtime=500, timeout=7, on_timeout="pause", auto_converge=True
    )
    expected = Options(
        max_downtime=0.5, timeout=7.0, on_timeout="pause", auto_converge=True, stall=9.0
    )
    assert Options.of(parameter, stall=9.0) == expected
    assert Options.of(None, stall=9.0) == Options(stall=9.0)


def test_migration_is_aborted_when_it_stalls_exactly_as_long_as_allowed() -> None:
    assert decision_on(Options(stall=5.0), stalled=5.0) == Abort("nothing has moved for 5 s")
    assert decision_on(Options(stall=5.0), stalled=4.9) == GoOn()


def test_throttle_begins_in_second_round() -> None:
    assert decision_on(Options(auto_converge=True), iteration=1) == GoOn()
    assert decision_on(Options(auto_converge=True), iteration=2) == Throttle(0.2)


def test_throttle_begins_at_any_bandwidth_above_zero() -> None:
    options = Options(auto_converge=True)
    assert decision_on(options, bandwidth=1.0, dirty_rate=1.0) == Throttle(0.2)
    assert decision_on(options, bandwidth=0.0, dirty_rate=1.0) == GoOn()


def test_throttle_begins_at_the_limit_of_slow_convergence() -> None:
    options = Options(auto_converge=True)
    assert decision_on(options, dirty_rate=800.0) == Throttle(0.2)
    assert decision_on(options, dirty_rate=799.0) == GoOn()


def test_downtime_is_raised_only_where_it_does_not_suffice() -> None:
    options = Options(max_downtime=5.0)
    assert decision_on(options, downtime=1.0) == GoOn()
    assert decision_on(options, downtime=0.9) == RaiseDowntime(1.1)


def test_downtime_is_raised_to_exactly_the_longest_allowed() -> None:
    assert decision_on(Options(max_downtime=1.0)) == RaiseDowntime(1.0)
    assert decision_on(Options(max_downtime=0.99)) == GoOn()


@pytest.mark.parametrize(
    ("rate", "words"),
    [
        (0.0, "(3 MiB remain)"),
        (1.0, "(3 MiB remain, the guest writes 0 MiB/s)"),
        (2.0 * MIB, "(3 MiB remain, the guest writes 2 MiB/s)"),
    ],
)
def test_abort_reports_rate_of_guest_that_writes(rate: float, words: str) -> None:
    decided = decision_on(Options(timeout=1.0), remaining=3.0 * MIB, dirty_rate=rate)
    assert decided == Abort(f"not finished within the timeout of 1 s {words}")


def test_description_gives_downtime_in_milliseconds() -> None:
    assert describe(RaiseDowntime(2.0)) == "raise the downtime to 2000 ms"
