"""Orders that expire while `migfra`, a process, is stopped or killed, with a real mosquitto."""

import signal
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from fastlib import Result, Start, Stop, TaskContainer
from fastlib.transport import Communicator
from tests.support.migfra.program import Program, program
from tests.support.migfra.scheduler import ask, forget, result, scheduler_at
from tests.support.mosquitto import Mosquitto
from tests.support.waiting import wait_until

ONE_AT_A_TIME = "limits: {containers: 1}\n"


@pytest.fixture
def scheduler(broker: Mosquitto) -> Iterator[Communicator]:
    with scheduler_at(broker) as scheduler:
        yield scheduler


def _send(scheduler: Communicator, task: Start | Stop, seconds: float | None) -> None:
    """Send an order that expires in a number of seconds, or that does not expire for None."""
    instant = None if seconds is None else datetime.now(UTC) + timedelta(seconds=seconds)
    ask(scheduler, TaskContainer(tasks=[task], id=task.vm_name, expires=instant))


def _results(scheduler: Communicator, count: int) -> dict[str | None, Result]:
    return {(answer := result(scheduler)).id: answer.results[0] for _ in range(count)}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_order_that_expired_while_the_daemon_was_away_is_refused(
    tmp_path: Path, broker: Mosquitto, scheduler: Communicator, number: signal.Signals
) -> None:
    forget(broker)
    with program(tmp_path, broker.port) as migfra:
        migfra.start()
        migfra.send(number)
        migfra.wait()
        _send(scheduler, Stop(vm_name="vm1"), 0.01)
        _send(scheduler, Stop(vm_name="vm2"), 3600)
        _send(scheduler, Stop(vm_name="vm3"), None)
        time.sleep(0.02)
        migfra.start()
        results = _results(scheduler, 3)
        assert "never begun, and never will be: the order expired" in str(results["vm1"].details)
        assert {results["vm2"].status, results["vm3"].status} == {"success"}
        assert sorted(line for line in migfra.done() if "begin" in line) == [
            "begin vm2",
            "begin vm3",
        ]


def test_order_that_expired_in_the_journal_is_not_begun_after_a_kill(
    tmp_path: Path, broker: Mosquitto, scheduler: Communicator
) -> None:
    """The one that had begun is recovered, although it has expired as well."""
    for seconds in (2.5, 10, 40):  # on a busy machine the orders may expire on their way
        folder = tmp_path / f"{seconds}"
        folder.mkdir()
        first, second = f"first-{seconds}", f"second-{seconds}"
        forget(broker)
        with program(folder, broker.port, ONE_AT_A_TIME, gate=folder / "gate") as migfra:
            migfra.start()
            if not _accepts_in_time(migfra, scheduler, [first, second], seconds):
                migfra.kill()
                continue
            migfra.kill()
            time.sleep(seconds)  # both have expired then
            (folder / "gate").touch()
            migfra.start()
            results: dict[str | None, Result] = {}
            while not results.keys() >= {first, second}:  # there may be those of earlier turns
                results |= _results(scheduler, 1)
            assert results[first].status == "success"
            details = str(results[second].details)
            assert "never begun, and never will be: the order expired" in details
            assert migfra.done() == [f"begin {first}", f"end {first}"]
            return
    pytest.fail("the orders have expired on their way each time")


def _accepts_in_time(
    migfra: Program, scheduler: Communicator, names: Sequence[str], seconds: float
) -> bool:
    """Send two orders. Return whether one has begun and the other waits before they expire."""
    expires = time.monotonic() + seconds

    def in_time(condition: Callable[[], bool]) -> bool:
        wait_until(lambda: condition() or time.monotonic() > expires)
        return time.monotonic() < expires

    _send(scheduler, Start(vm_name=names[0]), seconds)
    if not in_time(lambda: migfra.done() == [f"begin {names[0]}"]):
        return False
    _send(scheduler, Start(vm_name=names[1]), seconds)
    return in_time(lambda: sum("accepted" in line for line in migfra.log) == 2)
