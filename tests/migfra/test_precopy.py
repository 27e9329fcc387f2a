"""The model of pre-copy and the decisions: examples, and properties for any guest and link."""

import math
from itertools import islice

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from fastlib import MigrateParameter
from fastlib.migfra.virt.precopy import (
    DEFAULT_DOWNTIME,
    DEFAULT_STALL,
    LARGEST_THROTTLE,
    MIB,
    Abort,
    GoOn,
    MigrationStatistics,
    Options,
    Pause,
    RaiseDowntime,
    SwitchToPostCopy,
    Throttle,
    Workload,
    decide,
    describe,
    expected_seconds,
    finishes,
    predict,
    rounds,
    seconds_left,
)
from tests.support.strategies import examples

amounts = st.just(0.0) | st.floats(1, 2.0**40)
"""A part of a byte has no meaning, and the smallest numbers have no precision."""
rates = st.floats(1, 2.0**36)
downtimes = st.floats(0.001, 10)
workloads = st.builds(
    Workload, memory=amounts, dirty_rate=st.floats(0, 2.0**36), working_set=st.none() | amounts
)
factors = st.floats(1, 2.0**20)
sizes = st.floats(1.001, 2.0**20)
"""Memory in parts of what fits into the pause."""
TOLERANCE = 1 + 1e-9
SOME = examples(25, 1000)
"""A prediction may take 10,000 rounds."""


def test_idle_guest_takes_one_round():
    prediction = predict(Workload(memory=1000), bandwidth=100)
    assert prediction.converges
    assert (prediction.rounds, prediction.transferred) == (1, 1000)
    assert (prediction.seconds, prediction.downtime) == (10, 0)


def test_rounds_shrink_by_the_ratio_of_the_rates():
    played = list(islice(rounds(Workload(memory=1000, dirty_rate=50), bandwidth=100), 4))
    assert [part.sent for part in played] == [1000, 500, 250, 125]
    prediction = predict(Workload(memory=1000, dirty_rate=50), bandwidth=100, max_downtime=1)
    assert prediction.rounds == 4
    assert prediction.transferred == 1000 + 500 + 250 + 125 + 62.5
    assert prediction.downtime == 0.625


def test_throttle_makes_a_guest_converge():
    workload = Workload(memory=1000, dirty_rate=200)
    assert not predict(workload, bandwidth=100).converges
    assert predict(workload, bandwidth=100, throttle=0.75).converges


def test_bandwidth_must_be_positive():
    with pytest.raises(ValueError, match="bandwidth must be more than 0"):
        next(rounds(Workload(memory=1), 0))


@SOME
@given(workloads, rates, downtimes)
def test_all_memory_is_sent(workload, bandwidth, downtime):
    prediction = predict(workload, bandwidth, downtime)
    assert prediction.transferred >= workload.memory
    assert prediction.seconds >= prediction.downtime
    assert math.isclose(prediction.seconds, prediction.transferred / bandwidth, rel_tol=1e-6)
    if prediction.converges:
        assert prediction.downtime <= downtime * TOLERANCE


@SOME
@given(rates, downtimes, factors, sizes, st.none() | sizes)
def test_guest_faster_than_the_link_does_not_converge(bandwidth, downtime, factor, size, part):
    fits = bandwidth * downtime
    workload = Workload(
        memory=fits * size,
        dirty_rate=bandwidth * factor,
        working_set=None if part is None else fits * part,
    )
    assert not predict(workload, bandwidth, downtime).converges


@SOME
@given(amounts, st.floats(0, 0.99), st.none() | amounts, rates, downtimes)
def test_guest_slower_than_the_link_converges(memory, factor, working_set, bandwidth, downtime):
    workload = Workload(memory=memory, dirty_rate=bandwidth * factor, working_set=working_set)
    assert predict(workload, bandwidth, downtime).converges


@SOME
@given(workloads, rates, downtimes, st.floats(1, 10))
def test_busier_guest_costs_more(workload, bandwidth, downtime, factor):
    busier = Workload(
        memory=workload.memory,
        dirty_rate=workload.dirty_rate * factor,
        working_set=workload.working_set,
    )
    calm, busy = predict(workload, bandwidth, downtime), predict(busier, bandwidth, downtime)
    assume(busy.converges)
    assert calm.converges
    assert calm.transferred <= busy.transferred * TOLERANCE


@SOME
@given(workloads, rates, downtimes, st.floats(1, 10))
def test_faster_link_costs_less(workload, bandwidth, downtime, factor):
    slow = predict(workload, bandwidth, downtime)
    assume(slow.converges)
    fast = predict(workload, bandwidth * factor, downtime)
    assert fast.converges
    assert fast.transferred <= slow.transferred * TOLERANCE
    assert fast.seconds <= slow.seconds * TOLERANCE


@SOME
@given(workloads, st.floats(0, 1000), st.floats(0, 1))
def test_dirtied_memory_is_bounded_by_the_memory(workload, seconds, throttle):
    written = workload.dirtied(seconds, throttle)
    assert 0 <= written <= workload.memory
    assert written <= workload.dirtied(seconds + 1, throttle)
    assert written <= workload.dirtied(seconds)


@SOME
@given(amounts, st.floats(0, 2.0**36), rates)
def test_expected_seconds_is_an_upper_bound(remaining, dirty_rate, bandwidth):
    seconds = expected_seconds(remaining, dirty_rate, bandwidth)
    if remaining == 0:
        assert seconds == 0
    elif dirty_rate >= bandwidth:
        assert seconds is None
    else:
        assert seconds is not None
        assert seconds >= remaining / bandwidth


@SOME
@given(workloads, rates, downtimes)
def test_migration_does_not_take_longer_than_expected(workload, bandwidth, downtime):
    expected = expected_seconds(workload.memory, workload.dirty_rate, bandwidth)
    prediction = predict(workload, bandwidth, downtime)
    assume(expected is not None and prediction.converges)
    assert prediction.seconds <= expected * TOLERANCE


@SOME
@given(workloads, rates, downtimes, st.floats(0, 0.99), st.floats(0, 1))
def test_seconds_left_are_those_of_the_prediction(workload, bandwidth, downtime, throttle, part):
    """At the begin, and less what has passed in the middle of the first round."""
    prediction = predict(workload, bandwidth, downtime, throttle)
    passed = part * workload.memory / bandwidth
    unsent = workload.memory - passed * bandwidth
    left = seconds_left(workload, unsent, passed, bandwidth, downtime, throttle)
    if left is None:
        assert not prediction.converges
    else:
        assume(prediction.converges)  # rates that are almost equal are rounded
        assert passed + left == pytest.approx(prediction.seconds, rel=1e-6)


@pytest.mark.parametrize("bandwidth", [0, -1])
def test_end_of_a_migration_that_does_not_move_is_unknown(bandwidth):
    assert seconds_left(Workload(memory=1), 1, 0, bandwidth) is None


def test_seconds_left_in_later_rounds():
    workload = Workload(memory=1000, dirty_rate=50, working_set=30)
    # The round has written 30 in its 4 s so far, and writes no other memory: 0.3 s of downtime.
    assert seconds_left(workload, 100, 4, 100) == 1 + 0.3
    # A longer round is necessary for the shorter downtime, and it does not converge further.
    assert seconds_left(workload, 100, 4, 100, downtime=0.1) == 1 + 0.3 + 0.15 + 0.075
    assert seconds_left(Workload(memory=1000, dirty_rate=100), 100, 4, 100) is None
    assert seconds_left(Workload(memory=1000, dirty_rate=100), 100, 0, 100, throttle=0.9) == 1.1


# Decisions

BUSY = MigrationStatistics(
    remaining=500 * MIB, bandwidth=100 * MIB, dirty_rate=200 * MIB, iteration=3
)


def with_(**changes):
    return MigrationStatistics(
        **{name: getattr(BUSY, name) for name in BUSY.__struct_fields__} | changes
    )


def test_options_come_from_the_task():
    assert Options.of(None) == Options()
    parameter = MigrateParameter(
        max_downtime=50, timeout=60, on_timeout="post-copy", auto_converge=True
    )
    options = Options.of(parameter)
    assert options == Options(
        max_downtime=0.05, timeout=60, on_timeout="post-copy", auto_converge=True
    )
    assert options.first_downtime == 0.05
    assert Options(max_downtime=9.0).first_downtime == Options().first_downtime == DEFAULT_DOWNTIME


@pytest.mark.parametrize(
    ("statistics", "options", "elapsed", "expected"),
    [
        (BUSY, Options(), 1e9, GoOn()),
        (BUSY, Options(timeout=60), 59, GoOn()),
        (BUSY, Options(timeout=60, on_timeout="pause"), 60, Pause()),
        (BUSY, Options(timeout=60, on_timeout="post-copy"), 60, SwitchToPostCopy()),
        (with_(paused=True), Options(timeout=60, on_timeout="pause"), 60, GoOn()),
        (with_(post_copy=True, stalled=99.0), Options(timeout=60), 60, GoOn()),
        (with_(remaining=MIB, paused=True), Options(timeout=60), 60, GoOn()),
        (BUSY, Options(max_downtime=6), 1, RaiseDowntime(5.5)),
        (BUSY, Options(max_downtime=5.2), 1, RaiseDowntime(5.2)),
        (BUSY, Options(max_downtime=4), 1, GoOn()),
        (with_(downtime=5.5), Options(max_downtime=6), 1, GoOn()),
        (with_(iteration=1), Options(max_downtime=6, auto_converge=True), 1, GoOn()),
        (with_(dirty_rate=MIB), Options(max_downtime=6, auto_converge=True), 1, GoOn()),
        (BUSY, Options(auto_converge=True), 1, Throttle(0.2)),
        (BUSY, Options(max_downtime=1, auto_converge=True), 1, Throttle(0.2)),
        (with_(throttle=0.95, throttled_in=2), Options(auto_converge=True), 1, Throttle(0.99)),
        (with_(throttle=0.99, throttled_in=2), Options(auto_converge=True), 1, GoOn()),
        (with_(throttle=0.2, throttled_in=3), Options(auto_converge=True), 1, GoOn()),
        (with_(bandwidth=0.0), Options(auto_converge=True, max_downtime=6), 1, GoOn()),
    ],
)
def test_decision_depends_on_statistics_and_options(statistics, options, elapsed, expected):
    assert decide(statistics, options, elapsed) == expected


def test_abort_gives_its_reason():
    assert decide(BUSY, Options(timeout=60), 60) == Abort(
        "not finished within the timeout of 60 s (500 MiB remain, the guest writes 200 MiB/s)"
    )
    warm = with_(paused=True, dirty_rate=0.0)
    assert decide(warm, Options(timeout=60), 60) == Abort(
        "not finished within the timeout of 60 s (500 MiB remain)"
    )
    assert decide(with_(stalled=31.0), Options(), 1) == Abort("nothing has moved for 31 s")


@pytest.mark.parametrize(
    ("decision", "words"),
    [
        (GoOn(), "go on"),
        (Pause(), "pause the guest"),
        (SwitchToPostCopy(), "switch to post-copy"),
        (RaiseDowntime(0.25), "raise the downtime to 250 ms"),
        (Throttle(0.3), "throttle the guest by 30%"),
        (Abort("too slow"), "abort: too slow"),
    ],
)
def test_decision_is_described_in_words(decision, words):
    assert describe(decision) == words


some_statistics = st.builds(
    MigrationStatistics,
    remaining=amounts,
    bandwidth=st.floats(0, 2.0**36),
    dirty_rate=st.floats(0, 2.0**36),
    iteration=st.integers(1, 50),
    downtime=downtimes,
    throttle=st.floats(0, LARGEST_THROTTLE),
    throttled_in=st.integers(0, 50),
    stalled=st.floats(0, 100),
    paused=st.booleans(),
    post_copy=st.booleans(),
)
some_options = st.builds(
    Options,
    max_downtime=st.none() | downtimes,
    timeout=st.none() | st.floats(0, 100),
    on_timeout=st.sampled_from(["abort", "pause", "post-copy"]),
    auto_converge=st.booleans(),
)


@SOME
@given(some_statistics, some_options, st.floats(0, 200))
def test_decision_stays_within_the_options(statistics, options, elapsed):
    decision = decide(statistics, options, elapsed)
    if isinstance(decision, RaiseDowntime):
        assert options.max_downtime is not None
        assert statistics.downtime < decision.seconds <= options.max_downtime
        assert finishes(statistics.remaining, statistics.bandwidth, decision.seconds * TOLERANCE)
    if isinstance(decision, Throttle):
        assert options.auto_converge
        assert statistics.throttle < decision.part <= LARGEST_THROTTLE
    if isinstance(decision, Pause | SwitchToPostCopy):
        assert options.timeout is not None
        assert elapsed >= options.timeout
    if isinstance(decision, Pause):
        assert not statistics.paused
    if statistics.post_copy:
        assert decision == GoOn()


@SOME
@given(some_statistics, some_options, st.floats(0, 200))
def test_followed_decision_is_not_repeated(statistics, options, elapsed):
    """So that asking again and again ends."""
    decision = decide(statistics, options, elapsed)
    fields = {name: getattr(statistics, name) for name in statistics.__struct_fields__}
    match decision:
        case RaiseDowntime(seconds):
            fields["downtime"] = seconds
        case Throttle(part):
            fields |= {"throttle": part, "throttled_in": statistics.iteration}
        case Pause():
            fields["paused"] = True
        case SwitchToPostCopy():
            fields["post_copy"] = True
        case _:
            return
    assert decide(MigrationStatistics(**fields), options, elapsed) != decision


# Exact boundaries and defaults


def test_default_values():
    assert (DEFAULT_DOWNTIME, DEFAULT_STALL, LARGEST_THROTTLE, MIB) == (0.3, 30.0, 0.99, 1 << 20)
    assert Workload(memory=7).dirty_rate == 0.0
    assert Workload(memory=7).working_set is None
    options = Options()
    assert (options.max_downtime, options.timeout, options.on_timeout) == (None, None, "abort")
    assert (options.auto_converge, options.stall, options.first_downtime) == (False, 30.0, 0.3)
    statistics = MigrationStatistics(remaining=1, bandwidth=2)
    assert (statistics.dirty_rate, statistics.iteration, statistics.downtime) == (0.0, 1, 0.3)
    assert (statistics.throttle, statistics.throttled_in, statistics.stalled) == (0.0, 0, 0.0)
    assert (statistics.paused, statistics.post_copy) == (False, False)


def test_options_of_a_task_without_values_are_the_defaults():
    assert Options.of(MigrateParameter()) == Options()
    assert Options.of(None, stall=5.0) == Options(stall=5.0)
    assert Options.of(MigrateParameter(timeout=3), stall=5.0) == Options(timeout=3.0, stall=5.0)
    assert isinstance(Options.of(MigrateParameter(timeout=3)).timeout, float)
    assert Options(max_downtime=0.3).first_downtime == 0.3
    assert Options(max_downtime=0.25).first_downtime == 0.25


@pytest.mark.parametrize("bandwidth", [0, -1, -0.5, math.nan])
def test_bandwidth_that_is_not_positive_is_an_error(bandwidth):
    with pytest.raises(ValueError, match=r"^a bandwidth must be more than 0 bytes a second, not "):
        next(rounds(Workload(memory=1), bandwidth))
    with pytest.raises(ValueError, match="bandwidth"):
        predict(Workload(memory=1), bandwidth)


def test_round_has_its_amounts():
    first, second = islice(rounds(Workload(memory=600, dirty_rate=100), 200, throttle=0.5), 2)
    assert (first.sent, first.seconds, first.dirtied) == (600, 3, 150)
    assert (second.sent, second.seconds, second.dirtied) == (150, 0.75, 37.5)


def test_dirtied_memory_is_bounded_by_the_working_set():
    workload = Workload(memory=100, dirty_rate=10, working_set=30)
    assert [workload.dirtied(seconds) for seconds in (0, 1, 3, 4)] == [0, 10, 30, 30]
    assert workload.dirtied(2, throttle=0.25) == 15
    assert Workload(memory=100, dirty_rate=10, working_set=300).dirtied(50) == 100
    assert Workload(memory=100, dirty_rate=10, working_set=0).dirtied(50) == 0


def test_prediction_ends_when_the_rounds_no_longer_shrink():
    busy = predict(Workload(memory=100, dirty_rate=200), bandwidth=100, max_downtime=0.5)
    assert (busy.converges, busy.rounds, busy.transferred) == (False, 2, 300)
    assert (busy.seconds, busy.downtime) == (3, 1)
    growing = Workload(memory=100, dirty_rate=100, working_set=50)
    prediction = predict(growing, bandwidth=100, max_downtime=0.25)
    assert (prediction.converges, prediction.rounds, prediction.transferred) == (False, 2, 200)


def test_prediction_ends_after_ten_thousand_rounds():
    slow = Workload(memory=1e9, dirty_rate=(1 - 1e-9) * 100)
    prediction = predict(slow, bandwidth=100, max_downtime=0.001)
    assert (prediction.converges, prediction.rounds) == (False, 10_000)


def test_prediction_uses_the_default_downtime_without_a_throttle():
    workload = Workload(memory=1000, dirty_rate=30)
    assert predict(workload, bandwidth=100) == predict(
        workload, bandwidth=100, max_downtime=0.3, throttle=0.0
    )
    # The first round leaves 300, which takes 3 s; the second 90, the third 27, within 0.3 s.
    assert predict(workload, bandwidth=100).rounds == 3


def test_rest_finishes_within_exactly_the_downtime():
    assert finishes(30, 100, 0.3)
    assert not finishes(30.001, 100, 0.3)
    assert finishes(0, 100, 0)


@pytest.mark.parametrize(
    ("remaining", "dirty_rate", "bandwidth", "expected"),
    [
        (0, 5, 1, 0.0),
        (-1, 5, 1, 0.0),
        (1, 0, 10, 0.1),
        (10, 5, 5, None),
        (10, 4, 5, 10),
        (10, 6, 5, None),
        (10, 0, 0, None),
        (10, -1, 0, None),
        (10, -2, -1, None),
        (10, 0, 0.5, 20),
    ],
)
def test_expected_seconds_at_the_boundaries(remaining, dirty_rate, bandwidth, expected):
    assert expected_seconds(remaining, dirty_rate, bandwidth) == expected


RATE = 100.0
HELP = Options(auto_converge=True)


def busy(**changes):
    """A guest that writes at 80 % of the link's rate, in the second round."""
    fields = {"remaining": 500.0, "bandwidth": RATE, "dirty_rate": 0.8 * RATE, "iteration": 2}
    return MigrationStatistics(**(fields | changes))


@pytest.mark.parametrize(
    ("statistics", "options", "elapsed", "expected"),
    [
        # The whole memory must have been sent once.
        (busy(), HELP, 0, Throttle(0.2)),
        (busy(iteration=1), HELP, 0, GoOn()),
        # A guest that writes at 80 % of the rate, or more, needs help.
        (busy(dirty_rate=79.9), HELP, 0, GoOn()),
        (busy(paused=True), HELP, 0, GoOn()),
        (busy(bandwidth=0.5, dirty_rate=1), HELP, 0, Throttle(0.2)),
        (busy(bandwidth=0.0), HELP, 0, GoOn()),
        # One step of the throttle in a round, up to 99 %.
        (busy(throttled_in=1), HELP, 0, Throttle(0.2)),
        (busy(throttled_in=2), HELP, 0, GoOn()),
        (busy(throttled_in=3), HELP, 0, GoOn()),
        (busy(throttle=0.2, throttled_in=1), HELP, 0, Throttle(0.2 + 0.1)),
        (busy(throttle=0.01, throttled_in=1), HELP, 0, Throttle(0.01 + 0.1)),
        (busy(throttle=0.989, throttled_in=1), HELP, 0, Throttle(0.99)),
        (busy(throttle=0.99, throttled_in=1), HELP, 0, GoOn()),
        (busy(), Options(), 0, GoOn()),
        # A downtime is raised only if the rest fits into the largest one.
        (busy(), Options(max_downtime=5.0), 0, RaiseDowntime(5.0)),
        (busy(), Options(max_downtime=4.999), 0, GoOn()),
        (busy(), Options(max_downtime=5.5), 0, RaiseDowntime(5.5)),
        (busy(), Options(max_downtime=9.0), 0, RaiseDowntime(5.0 * 1.1)),
        (busy(downtime=5.0), Options(max_downtime=9.0), 0, GoOn()),
        (busy(downtime=4.999), Options(max_downtime=9.0), 0, RaiseDowntime(5.0 * 1.1)),
        (busy(downtime=5.0), Options(max_downtime=9.0, auto_converge=True), 0, Throttle(0.2)),
        # The timeout begins exactly then.
        (busy(), Options(timeout=60, on_timeout="pause"), 59.999, GoOn()),
        (busy(), Options(timeout=60, on_timeout="pause"), 60, Pause()),
        (busy(paused=True), Options(timeout=60, on_timeout="pause"), 60, GoOn()),
        (busy(paused=True), Options(timeout=60, on_timeout="post-copy"), 60, SwitchToPostCopy()),
        (busy(paused=True, downtime=5.0), Options(timeout=60, on_timeout="post-copy"), 60, GoOn()),
        (busy(downtime=5.0), Options(timeout=60, on_timeout="post-copy"), 60, SwitchToPostCopy()),
        (busy(), Options(timeout=0, on_timeout="pause"), 0, Pause()),
        # A stall is exactly as long as the option says.
        (busy(stalled=29.999), Options(), 0, GoOn()),
        (busy(stalled=30.0), Options(), 0, Abort("nothing has moved for 30 s")),
        (busy(stalled=5.0), Options(stall=5.0), 0, Abort("nothing has moved for 5 s")),
        (busy(stalled=99.0, post_copy=True), Options(), 0, GoOn()),
    ],
)
def test_decision_at_the_boundaries(statistics, options, elapsed, expected):
    assert decide(statistics, options, elapsed) == expected


def test_abort_rounds_its_amounts():
    slow = busy(remaining=1.6 * MIB, dirty_rate=0.4)
    assert decide(slow, Options(timeout=0.5), 1) == Abort(
        "not finished within the timeout of 0.5 s (2 MiB remain, the guest writes 0 MiB/s)"
    )
    fast = busy(dirty_rate=2.0 * MIB, remaining=0.0)
    assert decide(fast, Options(timeout=90), 90) == Abort(
        "not finished within the timeout of 90 s (0 MiB remain, the guest writes 2 MiB/s)"
    )
