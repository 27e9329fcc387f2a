"""Three schedulers and a daemon at a broker that restarts again and again, with broken messages.

`--long` runs it for ten minutes with a restart every 20 s. Otherwise there are three restarts.
"""

import random
import re
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from fastlib.client import MigfraClient
from fastlib.message import topics
from fastlib.transport import MqttOptions, connect
from tests.support.migfra.program import program
from tests.support.mosquitto import Mosquitto
from tests.support.waiting import wait_until

pytestmark = pytest.mark.load

CLIENTS = 3
BROKEN = 0.05
"""The part of messages that cannot be read."""
SETTINGS = ("max_queued_messages 0",)
PATIENCE = 300.0
"""Seconds until an answer that must come is given up."""
AGAIN = re.compile(r"is connected again after ([\d.]+) s")


class Scheduler(threading.Thread):
    """Starts one domain after the other, and sends something unreadable now and then."""

    def __init__(self, number: int, port: int, stop: threading.Event) -> None:
        super().__init__(name=f"scheduler {number}")
        self.started: list[str] = []
        self.longest = 0.0
        """Seconds that an answer took at most."""
        self.error: BaseException | None = None
        self._number = number
        self._options = MqttOptions(
            host="127.0.0.1", port=port, client_id=f"scheduler{number}", persistent=True
        )
        self._stop_event = stop

    def run(self) -> None:
        try:
            dice = random.Random(self._number)
            with connect(self._options) as communicator, MigfraClient(communicator) as client:
                while not self._stop_event.is_set():
                    if dice.random() < BROKEN:
                        communicator.send(b"task: [start vm", topics.TASK("node01"), 2)
                        continue
                    name = f"vm{self._number}-{len(self.started)}"
                    began = time.monotonic()
                    done = client.start("node01", name, timeout=PATIENCE).result()
                    assert done.status == "success", done
                    self.longest = max(self.longest, time.monotonic() - began)
                    self.started.append(name)
                    self._stop_event.wait(0.02)
        except BaseException as error:
            self.error = error


def resident(pid: int) -> float:
    """MiB of a process that are in memory."""
    (line,) = [x for x in Path(f"/proc/{pid}/status").read_text().splitlines() if "VmRSS" in x]
    return int(line.split()[1]) / 1024


@pytest.mark.timeout(900)
def test_broker_that_restarts_often_loses_and_duplicates_no_message(
    request: pytest.FixtureRequest, tmp_path: Path, figures: Callable[[object], None]
) -> None:
    is_long = bool(request.config.getoption("--long"))
    restarts, pause = (30, 20.0) if is_long else (3, 0.5)
    stop = threading.Event()
    broker = Mosquitto(tmp_path / "broker", persistence=True, settings=SETTINGS)
    with broker, program(tmp_path, broker.port) as migfra:
        migfra.start()
        schedulers = [Scheduler(number, broker.port, stop) for number in range(CLIENTS)]
        for scheduler in schedulers:
            scheduler.start()
        began = time.monotonic()
        memory = []
        for _ in range(restarts):
            count = sum(len(scheduler.started) for scheduler in schedulers)
            time.sleep(pause)
            # Each connection exchanges something, as the sessions of a cluster do.
            wait_until(
                lambda: (
                    sum(len(scheduler.started) for scheduler in schedulers) > count  # noqa: B023
                    or any(scheduler.error for scheduler in schedulers)
                ),
                "an answer",
                PATIENCE,
            )
            memory.append(resident(migfra.pid))
            broker.stop()
            broker.start()
        wait_until(lambda: sum("connected again" in line for line in migfra.log) >= 1, "a return")
        time.sleep(pause)
        stop.set()
        for scheduler in schedulers:
            scheduler.join(PATIENCE)
        seconds = time.monotonic() - began
        memory.append(resident(migfra.pid))
        assert [scheduler.error for scheduler in schedulers] == [None] * CLIENTS
        started = [name for scheduler in schedulers for name in scheduler.started]
        away = sum(float(found[1]) for line in migfra.log if (found := AGAIN.search(line)))
        losses = sum("trying again" in line for line in migfra.log)
        longest = max(scheduler.longest for scheduler in schedulers)
        figures(
            f"{seconds:.0f} s, {restarts} restarts, {len(started)} orders, at most {longest:.1f} s "
            f"each; the daemon was away {100 * away / seconds:.1f} % of the time; its memory was "
            f"{memory[0]:.0f} to {max(memory):.0f} MiB"
        )
        executed = Counter(line for line in migfra.done() if line.startswith("begin "))
        assert executed == Counter(f"begin {name}" for name in started)
        assert losses >= restarts
        assert not [line for line in migfra.log if "another client" in line]
        if is_long:
            assert away < 0.1 * seconds
            assert memory[-1] < 1.3 * memory[len(memory) // 4] + 5
