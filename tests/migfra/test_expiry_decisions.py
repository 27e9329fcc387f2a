"""When a task may begin: the decisions, and the objects that wait for the moment."""

import asyncio
import math
from datetime import UTC, datetime

import pytest

from fastlib import Start, TaskContainer
from fastlib.clock import SYSTEM_CLOCK, Clock
from fastlib.migfra import Context, HypervisorError, TaskCancelledError, TaskExpiredError
from fastlib.migfra.errors import UnexpectedError
from fastlib.migfra.plugin_api import expiry as decisions
from fastlib.migfra.plugin_api import retrying
from fastlib.migfra.plugin_api.cancel_scope import CancelScope
from fastlib.migfra.plugin_api.cancellation import Cancellation
from fastlib.migfra.plugin_api.expiry import Expiry
from fastlib.migfra.plugin_api.locks import NamedLocks, NamedThreadLocks
from fastlib.migfra.tasks import expiry_timer
from fastlib.migfra.tasks.expiry_timer import ExpiryTimer
from fastlib.migfra.tasks.jobs import Job
from tests.support.clock import SetClock, SettableClock, StoppedClock


@pytest.mark.parametrize(
    ("expires", "now", "expired"),
    [(None, 1e12, False), (10.0, 9.999999, False), (10.0, 10.0, True), (10.0, 10.1, True)],
)
def test_order_expires_at_its_time(expires: float | None, now: float, expired: bool) -> None:
    assert decisions.has_expired(expires, now) is expired
    assert Expiry(expires, clock=StoppedClock(now)).expired is expired


@pytest.mark.parametrize(
    ("expires", "pause", "may"), [(None, 1e9, True), (10.0, 0.9, True), (10.0, 1.0, False)]
)
def test_retry_needs_to_begin_before_the_expiry(
    expires: float | None, pause: float, may: bool
) -> None:
    assert (Expiry(expires, clock=StoppedClock(9.0)).against_retry(pause) is None) is may


@pytest.mark.parametrize(("left", "seconds"), [(-1.0, 0.0), (0.0, 0.0), (2.5, 2.5), (1e9, 60.0)])
def test_timer_looks_again_at_the_expiry_and_each_minute(left: float, seconds: float) -> None:
    assert decisions.timer_seconds(left) == seconds
    if left > 0:
        assert Expiry(10.0 + left, clock=StoppedClock(10.0)).timer_seconds() == seconds


# A clock that is set back


@pytest.mark.parametrize(
    ("looks", "latest"),
    [
        ([(10.0, 1.0)], 91.0),  # wall clock, monotonic clock
        ([(10.0, 1.0), (20.0, 11.0)], 91.0),
        ([(10.0, 1.0), (5.0, 11.0)], 91.0),  # set back
        ([(10.0, 1.0), (90.0, 11.0)], 21.0),  # set forward
        ([(10.0, 1.0), (90.0, 11.0), (22.0, 13.0)], 21.0),  # and back again
    ],
)
def test_least_time_that_was_ever_left_counts(
    looks: list[tuple[float, float]], latest: float
) -> None:
    found = math.inf
    for now, monotonic in looks:
        found = decisions.latest_begin(100.0, now, monotonic, found)
    assert found == latest


@pytest.mark.parametrize(("accepted_monotonic", "latest"), [(50.0, 80.0), (None, 230.0)])
def test_restart_gives_no_more_time_than_was_left_at_the_acceptance(
    accepted_monotonic: float | None, latest: float
) -> None:
    found = decisions.latest_begin_after_restart(1030.0, 1000.0, 200.0, accepted_monotonic)
    assert found == latest


def test_order_expires_in_time_although_the_clock_is_set_back() -> None:
    clock = SetClock()
    expiry = Expiry(clock.now() + 60, host="node01", clock=clock)
    clock.jump(-3600)
    assert not expiry.expired
    assert expiry.timer_seconds() == pytest.approx(60)
    clock.run(59)
    assert expiry.against_retry(0.5) is None
    assert expiry.against_retry(1.5) is not None
    expiry.check()
    clock.run(1.001)
    with pytest.raises(TaskExpiredError) as caught:
        expiry.begin()
    assert (
        "the order has expired, although it expires at 2027-01-15T08:01:00Z and it is "
        "2027-01-15T07:01:00.001Z at node01: that clock was set back after the order came"
    ) in str(caught.value)


def test_order_that_was_seen_to_have_little_time_gets_no_more() -> None:
    clock = SetClock()
    expiry = Expiry(clock.now() + 60, clock=clock)
    clock.jump(50)
    assert not expiry.expired
    clock.jump(-3600)
    clock.run(9)
    assert not expiry.expired
    clock.run(1.001)
    assert expiry.expired


def test_order_expires_at_once_if_the_clock_is_set_forward() -> None:
    clock = SetClock()
    expiry = Expiry(clock.now() + 60, clock=clock)
    clock.jump(60)
    assert expiry.expired


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "1970-01-01T00:00:00Z"),
        (1e300, "1e+300 s after the beginning of 1970"),
        (253402300799.0, "9999-12-31T23:59:59Z"),
    ],
)
def test_instants_are_written_as_in_messages(seconds: float, text: str) -> None:
    assert decisions.describe_instant(seconds) == text


def test_expired_task_never_begins_even_if_the_clock_is_set_back() -> None:
    clock = StoppedClock(100.0)
    expiry = Expiry(100.0, host="node01", clock=clock)
    assert expiry.expired
    clock.time = 5.0
    assert expiry.timer_seconds() is None
    with pytest.raises(TaskExpiredError, match="never begun, and never will be") as caught:
        expiry.begin()
    assert "expired at 1970-01-01T00:01:40Z, and it is 1970-01-01T00:01:40Z at node01" in str(
        caught.value
    )
    assert not expiry.begun


def test_task_that_has_begun_does_not_expire() -> None:
    clock = StoppedClock(99.0)
    expiry = Expiry(100.0, clock=clock)
    expiry.begin()
    clock.time = 200.0
    expiry.check()
    expiry.begin()
    assert expiry.timer_seconds() is None
    expiry.reset()  # it only waited
    with pytest.raises(TaskExpiredError):
        expiry.check()


def test_task_of_an_earlier_run_does_not_expire() -> None:
    expiry = Expiry(100.0, clock=StoppedClock(200.0), begun=True)
    expiry.check()
    context = Context("node01", expiry=expiry)
    with pytest.raises(TaskExpiredError):
        context.not_begun()


@pytest.mark.parametrize(
    ("now", "pause", "words"),
    [
        (99.0, 0.5, None),
        (99.0, 1.0, "the order expires at 1970-01-01T00:01:40Z, before the next try"),
        (100.0, 0.0, "the order expired at 1970-01-01T00:01:40Z, and it is"),
    ],
)
def test_reason_against_a_retry(now: float, pause: float, words: str | None) -> None:
    found = Expiry(100.0, clock=StoppedClock(now), begun=True).against_retry(pause)
    if words is None:
        assert found is None
    else:
        assert found is not None
        assert found.startswith(f"the daemon does not try it again: {words}")


@pytest.mark.parametrize("error", [HypervisorError("broken"), UnexpectedError(ValueError("x"))])
@pytest.mark.parametrize("before", [True, False])
def test_no_attempt_begins_after_the_expiry(error: Exception, before: bool) -> None:
    """Neither when the pause would be too long, nor when it took longer than it should."""
    clock = StoppedClock(90.0)
    expiry = Expiry(100.0, clock=clock, begun=True)
    attempts, paused = [], []

    async def operation(attempt: int) -> None:
        attempts.append(attempt)
        raise error

    async def sleep(seconds: float) -> None:
        paused.append(seconds)
        clock.time += 3600.0

    retry = retrying.retry(
        operation,
        retries=5,
        pauses=iter([10.0 if before else 1.0]),
        sleep=sleep,
        cancelled=lambda: False,
        before_retry=lambda *_: None,
        against_retry=expiry.against_retry,
        retry_on=(HypervisorError, UnexpectedError),
    )
    with pytest.raises(
        type(error), match=r"(broken|ValueError: x); the daemon does not try it again: the or"
    ):
        asyncio.run(retry)
    assert attempts == [0]
    assert paused == ([] if before else [1.0])


def test_evacuation_tries_no_domain_again_after_the_expiry() -> None:
    context = Context("a", expiry=Expiry(100.0, clock=StoppedClock(99.5), begun=True))

    async def attempt(number: int) -> None:
        raise HypervisorError(f"attempt {number} failed")

    with pytest.raises(HypervisorError, match="attempt 0 failed; the daemon does not try it again"):
        asyncio.run(context.retrying(attempt, retries=9, pauses=iter([1.0])))


# Waits


def _soon() -> Expiry:
    clock = SettableClock()
    return Expiry(clock.now() + 0.05, clock=clock)


def test_scope_ends_its_waits_at_the_expiry() -> None:
    async def scene() -> None:
        with CancelScope(Context("a", expiry=_soon())) as scope:
            with pytest.raises(TaskExpiredError):
                await scope.sleep(1000)
            await scope.wait_any(1000)  # ends at once from now on
            assert not scope.cancelled
            with pytest.raises(TaskExpiredError):
                await scope.begin()
        with CancelScope(Context("a", expiry=_soon())) as scope:
            await scope.wait_any(1000)
            with pytest.raises(TaskExpiredError):
                scope.check()

    asyncio.run(scene())


def test_scope_of_a_task_that_has_begun_continues() -> None:
    async def scene() -> None:
        expiry = _soon()
        with CancelScope(Context("a", expiry=expiry)) as scope:
            await scope.begin()
            await scope.sleep(0.1)
            scope.check()
        with CancelScope() as scope:
            await scope.begin()

    asyncio.run(scene())


def test_cancelled_task_says_that_it_is_cancelled() -> None:
    cancellation = Cancellation()
    cancellation.cancel()
    context = Context("a", cancellation=cancellation, expiry=Expiry(1.0))

    async def scene() -> None:
        with CancelScope(context) as scope, pytest.raises(TaskCancelledError):
            scope.check()

    asyncio.run(scene())


def test_scope_looks_again_when_the_clock_was_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """The wall clock is set forward while the timer, which counts seconds, still runs."""
    monkeypatch.setattr(decisions, "LONGEST_TIMER_SECONDS", 0.01)
    clock = SettableClock()
    expiry = Expiry(clock.now() + 1000, clock=clock)

    async def scene() -> None:
        with CancelScope(Context("a", expiry=expiry)) as scope:
            asyncio.get_running_loop().call_later(0.03, lambda: setattr(clock, "ahead", 2000.0))
            with pytest.raises(TaskExpiredError):
                await scope.sleep(600)

    asyncio.run(scene())


def test_expiry_ends_the_wait_for_a_lock() -> None:
    async def scene() -> None:
        locks = NamedLocks()
        with CancelScope() as holder, CancelScope(Context("a", expiry=_soon())) as scope:
            async with locks.hold("vm1", holder):
                with pytest.raises(TaskExpiredError):
                    async with locks.hold("vm1", scope):
                        pass
            async with locks.hold("vm1", holder):
                pass

    asyncio.run(scene())


def test_expiry_ends_the_wait_for_a_lock_in_a_thread() -> None:
    locks = NamedThreadLocks()
    with (
        locks.hold("vm1", Context("a")),
        pytest.raises(TaskExpiredError),
        locks.hold("vm1", Context("a", expiry=_soon())),
    ):
        pass
    with pytest.raises(TaskExpiredError), locks.hold("vm2", Context("a", expiry=Expiry(1.0))):
        pass
    with locks.hold("vm1", Context("a")), locks.hold("vm2", Context("a")):
        pass  # both are free again


# The timer of the queue


def _job(number: int, expires: float | None, clock: Clock = SYSTEM_CLOCK) -> Job:
    instant = None if expires is None else datetime.fromtimestamp(expires, UTC)
    container = TaskContainer(tasks=[Start(vm_name="vm1")], expires=instant)
    return Job(number, None, container, clock=clock)


def test_queue_timer_reports_jobs_in_the_order_of_their_expiries() -> None:
    async def scene() -> None:
        told: list[int | None] = []
        every = asyncio.Event()

        def tell(job: Job) -> None:
            told.append(job.number)
            if len(told) == 4:
                every.set()

        clock = SettableClock()
        timer = ExpiryTimer(clock, tell)
        now = clock.now()
        for number, seconds in enumerate([0.06, 0.02, -5.0, 0.04, 1000.0]):
            timer.add(_job(number, now + seconds))
        removed = _job(9, now + 0.03)
        timer.add(removed)
        timer.remove(removed)
        timer.remove(removed)
        timer.add(_job(10, None))
        assert len(timer) == 5
        async with asyncio.timeout(30):
            await every.wait()
        assert told == [2, 1, 3, 0]
        timer.stop()
        timer.add(_job(11, now))
        assert len(timer) == 0

    asyncio.run(scene())


def test_queue_timer_keeps_no_job_that_has_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(expiry_timer, "SPARE_ENTRIES", 10)

    async def scene() -> None:
        clock = StoppedClock(0.0)
        timer = ExpiryTimer(clock, lambda job: None)
        for number in range(1000):
            job = _job(number, 1000.0, clock)
            timer.add(job)
            timer.remove(job)
        assert len(timer) == 0
        assert len(timer._heap) <= 11
        timer.stop()

    asyncio.run(scene())


@pytest.mark.parametrize(
    ("jumps", "told"), [([-3600.0], [1]), ([1000.0, -3600.0], [1, 0, 2]), ([45.0, -3600.0], [1, 0])]
)
def test_queue_timer_measures_by_a_monotonic_clock(jumps: list[float], told: list[int]) -> None:
    """The jobs expire after 60, 30 and 90 s; the wall clock is set, 40 s pass."""

    async def scene() -> None:
        clock = SetClock()
        found: list[int | None] = []
        timer = ExpiryTimer(clock, lambda job: found.append(job.number))
        for number, seconds in enumerate([60.0, 30.0, 90.0]):
            timer.add(_job(number, clock.now() + seconds, clock))
        for jump in jumps:
            clock.jump(jump)
            timer._look()
        clock.run(40.0)
        timer._look()
        assert found == told
        assert len(timer) == 3 - len(told)
        timer.stop()

    asyncio.run(scene())
