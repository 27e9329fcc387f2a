"""`kill -9` at random moments under a stream of tasks: none is lost, none is executed twice.

It kills three times, with `--long` 200 times.
"""

import random
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from fastlib import ResultContainer, Start, Stop, TaskContainer
from fastlib.message import topics
from fastlib.transport import Communicator, MqttOptions, WaitTimeoutError, connect
from tests.support.migfra.program import program
from tests.support.mosquitto import PATIENCE, Mosquitto

SEED = 4
MEMBERS = (1, 1, 1, 3)
"""How many members containers have, in turn."""


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    with Mosquitto(tmp_path / "broker", settings=("max_queued_messages 0",)) as broker:
        yield broker


class Stream:
    """A scheduler that sends containers without a pause and collects the answers."""

    def __init__(self, communicator: Communicator) -> None:
        self._communicator = communicator
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._send, daemon=True)
        self.sent: dict[str, tuple[str, ...]] = {}
        """Domains by the containers' ids."""
        self.answers: defaultdict[str, Counter[str]] = defaultdict(Counter)
        """Answers, and how often each came, by id."""

    def start(self) -> None:
        self._thread.start()

    def _send(self) -> None:
        number = 0
        while not self._end.wait(0.01):
            names = tuple(f"vm{number}-{i}" for i in range(MEMBERS[number % len(MEMBERS)]))
            kind = Start if number % 2 else Stop
            container = TaskContainer(
                tasks=[kind(vm_name=name) for name in names],
                id=f"t{number}",
                concurrent_execution=number % 5 != 0,
            )
            self.sent[f"t{number}"] = names
            payload = container.to_yaml().encode()
            self._communicator.send(payload, topics.TASK("node01"), qos=2)
            number += 1

    def end(self) -> None:
        self._end.set()
        self._thread.join(PATIENCE)

    def collect(self, timeout: float | None) -> bool:
        """One answer; False if none comes in time."""
        try:
            message = self._communicator.receive(topics.RESULT("node01"), timeout=timeout)
        except WaitTimeoutError:
            return False
        answer = ResultContainer.from_yaml(message.payload)
        assert answer.id is not None
        self.answers[answer.id][msgspec.structs.replace(answer, executed=None).to_yaml()] += 1
        assert [result.vm_name for result in answer.results] == list(self.sent[answer.id])
        assert {result.status for result in answer.results} == {"success"}, answer
        return True


def test_kills_lose_and_repeat_no_task(
    tmp_path: Path,
    broker: Mosquitto,
    request: pytest.FixtureRequest,
    figures: Callable[[object], None],
) -> None:
    figures(kill(tmp_path, broker, 200 if request.config.getoption("--long") else 3))


def kill(tmp_path: Path, broker: Mosquitto, kills: int) -> str:
    """Kill the daemon under a stream of tasks, and check its answers. Return the counts."""
    dice = random.Random(SEED)
    options = MqttOptions(
        host="127.0.0.1", port=broker.port, client_id="scheduler", persistent=True
    )
    with (
        connect(options) as communicator,
        program(tmp_path, broker.port, pause=0.02) as migfra,
    ):
        communicator.subscribe(topics.RESULT("node01"))
        stream = Stream(communicator)
        migfra.start()  # from now on the broker keeps its tasks
        stream.start()
        for _ in range(kills):
            time.sleep(dice.uniform(0.0, 0.6))  # the moment is the matter of this test
            migfra.kill()
            migfra.start(ready=dice.random() < 0.7)  # else perhaps killed before it works
        stream.end()
        while len(stream.answers) < len(stream.sent):
            assert stream.collect(PATIENCE), set(stream.sent) - set(stream.answers)
        migfra.wait_for("works on node01")
        assert migfra.terminate() == 0
        while stream.collect(0.2):  # what came twice, if anything
            pass
    done = Counter(migfra.done())
    names = [name for names in stream.sent.values() for name in names]
    assert {name for name in names if done[f"begin {name}"] != 1} == set(), "not begun once"
    assert {name for name in names if done[f"end {name}"] != 1} == set(), "not ended once"
    # An answer may be sent again if the daemon is killed before the broker has confirmed it. It is
    # the same, with `executed` if the daemon was killed before the broker had the acknowledgement
    # of the order, so that the broker repeated the order.
    differing = {id: texts for id, texts in stream.answers.items() if len(texts) > 1}
    assert differing == {}
    repeated = sum(sum(texts.values()) - 1 for texts in stream.answers.values())
    return f"{kills} kills, {len(stream.sent)} containers, {repeated} answers sent again"
