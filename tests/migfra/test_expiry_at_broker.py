"""Orders that expire while `migfra`, a process, is stopped or killed, with a real mosquitto."""

import signal
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from fastlib import Result, Start, Stop, TaskContainer
from fastlib.transport import Communicator
from tests.support.migfra.program import program
from tests.support.migfra.scheduler import ask, forget, result, scheduler_at
from tests.support.mosquitto import Mosquitto
from tests.support.waiting import wait_until


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
    forget(broker)
    gate = tmp_path / "gate"
    with program(tmp_path, broker.port, "limits: {containers: 1}\n", gate=gate) as migfra:
        migfra.start()
        expires = time.monotonic() + 2.5
        _send(scheduler, Start(vm_name="vm1"), 2.5)
        wait_until(lambda: migfra.done() == ["begin vm1"])
        _send(scheduler, Start(vm_name="vm2"), 2.5)
        migfra.wait_for("accepted", 2)
        assert time.monotonic() < expires, "this machine was too slow for the test"
        migfra.kill()
        time.sleep(max(0.0, expires - time.monotonic()))
        gate.touch()
        migfra.start()
        results = _results(scheduler, 2)
        assert results["vm1"].status == "success"
        assert "never begun, and never will be: the order expired" in str(results["vm2"].details)
        assert migfra.done() == ["begin vm1", "end vm1"]
