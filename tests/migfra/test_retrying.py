"""`Context.retrying` and `Context.sleep`, as a hypervisor uses them."""

import asyncio
import logging
from itertools import count
from typing import Any

import pytest

from fastlib.migfra import (
    Context,
    DaemonServices,
    FinalError,
    HypervisorError,
    TaskCancelledError,
    UnsupportedError,
)
from fastlib.migfra.plugin_api import retrying
from fastlib.migfra.plugin_api.cancellation import Cancellation


class Operation:
    """Raises its errors in turn, and then succeeds."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.attempts: list[int] = []

    async def __call__(self, attempt: int) -> str:
        self.attempts.append(attempt)
        if self.errors:
            raise self.errors.pop(0)
        return "done"


class Pauses:
    """A sleep that takes no time."""

    def __init__(self) -> None:
        self.slept: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)


def retry(context: Context, operation: Operation, retries: int | None, **more: Any) -> Any:
    return asyncio.run(context.retrying(operation, retries=retries, **more))


@pytest.mark.parametrize(("failures", "retries"), [(0, None), (0, 0), (1, 1), (2, 3)])
def test_operation_is_repeated_until_it_succeeds(
    failures: int, retries: int | None, caplog: pytest.LogCaptureFixture
) -> None:
    phases: list[tuple[str, str | None]] = []
    told: list[tuple[str, str | None]] = []
    services = DaemonServices(
        report=lambda facts: phases.append((facts.phase, facts.vm_name)),
        retried=lambda text, vm_name: told.append((text, vm_name)),
        pauses=lambda: count(1.0),
    )
    operation, pauses = Operation(*[HypervisorError("busy")] * failures), Pauses()
    outcome = retry(
        Context("a", services=services), operation, retries, vm_name="vm1", sleep=pauses.sleep
    )
    assert outcome == ("done", failures)
    assert operation.attempts == list(range(failures + 1))
    assert pauses.slept == [float(n + 1) for n in range(failures)]
    assert phases == [("retry", "vm1")] * failures
    texts = [f"retry {n + 1} of {retries} in {n + 1:.1f} s: busy" for n in range(failures)]
    assert told == [(text, "vm1") for text in texts]
    assert caplog.records == []
    operation = Operation(*[HypervisorError("busy")] * failures)
    retry(Context("a"), operation, retries, sleep=pauses.sleep, pauses=count(1.0))
    assert [record.getMessage() for record in caplog.records] == texts
    assert {record.levelno for record in caplog.records} <= {logging.WARNING}


@pytest.mark.parametrize("retries", [None, 0, 2])
def test_last_error_is_raised_when_no_retry_is_left(retries: int | None) -> None:
    errors = [HypervisorError(str(n)) for n in range(9)]
    operation, pauses = Operation(*errors), Pauses()
    with pytest.raises(HypervisorError, match=f"^{retries or 0}$"):
        retry(Context("a"), operation, retries, sleep=pauses.sleep)
    assert len(pauses.slept) == (retries or 0)


@pytest.mark.parametrize(
    "error",
    [FinalError("half"), UnsupportedError("a", "b"), TaskCancelledError(), ValueError("mistake")],
)
def test_error_that_must_not_be_retried_is_raised_at_once(error: Exception) -> None:
    operation = Operation(error)
    with pytest.raises(type(error)):
        retry(Context("a"), operation, 5)
    assert operation.attempts == [0]


def test_cancelled_task_is_not_retried() -> None:
    cancellation = Cancellation()
    cancellation.cancel()
    operation = Operation(HypervisorError("busy"))
    with pytest.raises(HypervisorError, match="busy"):
        retry(Context("a", cancellation=cancellation), operation, 5)
    assert operation.attempts == [0]


def test_cancellation_ends_the_pause() -> None:
    cancellation = Cancellation()

    async def main() -> None:
        context = Context("a", cancellation=cancellation)
        operation = Operation(HypervisorError("busy"))
        retried = asyncio.create_task(context.retrying(operation, retries=1, pauses=iter([1000.0])))
        while not operation.attempts:
            await asyncio.sleep(0)
        cancellation.cancel()
        with pytest.raises(TaskCancelledError):
            await retried
        assert operation.attempts == [0]

    asyncio.run(main())


def test_sleep_ends_after_its_time_or_with_the_task() -> None:
    cancellation = Cancellation()

    async def main() -> None:
        context = Context("a", cancellation=cancellation)
        await context.sleep(0.001)
        sleeping = asyncio.create_task(context.sleep(1000))
        await asyncio.sleep(0)
        cancellation.cancel()
        with pytest.raises(TaskCancelledError):
            await sleeping
        with pytest.raises(TaskCancelledError):
            await context.sleep(0)

    asyncio.run(main())


def test_pauses_double_up_to_the_longest() -> None:
    series = retrying.pauses(1.0, 5.0)
    for exact in (1.0, 2.0, 4.0, 5.0, 5.0):
        assert exact * 2 / 3 <= next(series) <= exact
    assert 2 / 3 <= next(retrying.pauses()) <= 1
    assert retrying.DEFAULT_PAUSES == (1.0, 60.0)
