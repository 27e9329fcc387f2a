"""Attacks on the memory of a real daemon at a real mosquitto. It stays below 256 MiB throughout.

The daemon is killed and started again in between, and honest orders are answered after each attack.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fastlib import ResultContainer, Start, Stop, TaskContainer
from fastlib.message import topics
from fastlib.transport import Communicator, connect
from tests.migfra.test_load import HOST, UNBOUNDED, at
from tests.support.migfra.program import Program, program
from tests.support.mosquitto import Mosquitto

pytestmark = [pytest.mark.load, pytest.mark.timeout(3600)]

Figures = Callable[[object], None]

LARGEST = 4 << 20
"""Bytes; `limits.payload` by default."""
BOUND = 256
"""MiB."""
SHORT, LONG = (3, 300), (60, 2000)
"""Containers that wait in the journal, and members of each; the long ones would take 200 MiB."""
ANSWER_PATIENCE = 900.0
"""Seconds until an answer that must come is given up."""


@pytest.fixture
def is_long(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("--long"))


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    with Mosquitto(tmp_path / "broker", settings=UNBOUNDED) as broker:
        yield broker


def most_resident(pid: int) -> float:
    """MiB of a process that were in memory at its largest."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    raise ValueError(f"the process {pid} has no memory")


class Attacker:
    """Sends orders, honest ones too, and collects the answers by id."""

    def __init__(self, communicator: Communicator, migfra: Program) -> None:
        self._communicator = communicator
        self._migfra = migfra
        self._number = 0
        self.figures: dict[str, float] = {}
        self.answered: set[str] = set()
        self.without_room = 0
        """Answers that say that there is no room."""
        communicator.subscribe(topics.RESULT(HOST))

    def send(self, payload: bytes | str, qos: int = 1) -> None:
        payload = payload.encode() if isinstance(payload, str) else payload
        self._communicator.send(payload, topics.TASK(HOST), qos, timeout=ANSWER_PATIENCE)

    def answers(self, count: int) -> list[ResultContainer]:
        """The next answers."""
        found = []
        for _ in range(count):
            message = self._communicator.receive(topics.RESULT(HOST), ANSWER_PATIENCE)
            answer = ResultContainer.from_yaml(message.payload)
            self.answered.add(str(answer.id))
            self.without_room += "the daemon has too many orders" in str(answer.results[0].details)
            found.append(answer)
        return found

    def refusals(self, count: int) -> set[str]:
        """The reasons of the next answers, which are all errors."""
        results = [answer.results[0] for answer in self.answers(count)]
        assert {result.status for result in results} == {"error"}
        return {str(result.details) for result in results}

    def wait_for(self, *ids: str) -> None:
        """Take answers until each of these ids has had one."""
        while not self.answered.issuperset(ids):
            self.answers(1)

    def honest(self) -> None:
        """Execute an order, and wait for its answer among other answers."""
        self._number += 1
        id = f"honest {self._number}"
        self.send(TaskContainer(tasks=[Stop(vm_name="good")], id=id).to_yaml())
        while True:
            (answer,) = self.answers(1)
            if answer.id == id:
                assert answer.results[0].status == "success"
                return

    def check(self, attack: str) -> None:
        self.figures[attack] = memory = most_resident(self._migfra.pid)
        assert memory < BOUND, self.figures


def test_memory_stays_below_its_bound_under_attack(
    tmp_path: Path, broker: Mosquitto, is_long: bool, figures: Figures
) -> None:
    gate = tmp_path / "gate"
    with program(tmp_path, broker.port, gate=gate) as migfra:
        migfra.start()
        with connect(at(broker.port)) as communicator:
            attacker = Attacker(communicator, migfra)
            attacker.honest()
            attacker.check("none")
            _attack_the_reader(attacker)
            _attack_the_queries(attacker)
            _attack_with_large_packets(attacker)
            ids = _fill_the_journal(attacker, LONG if is_long else SHORT)
            attacker.wait_for("asked")
            attacker.check("a full journal")
            migfra.kill()
            migfra.start()
            attacker.send("task: query node\nid: again")
            attacker.wait_for("again")
            attacker.check("restart with a full journal")
            gate.touch()
            attacker.wait_for(*ids)
            assert attacker.without_room >= 1
            attacker.honest()
            attacker.check("its execution")
        assert migfra.terminate() == 0
    shown = ", ".join(f"{memory:.0f} MiB after {name}" for name, memory in attacker.figures.items())
    figures(f"the daemon's memory at its largest: {shown}")


def _attack_the_reader(attacker: Attacker) -> None:
    """Large messages of many objects, and large ids."""
    member = b"- vm-name: a\n"
    members = b"task: stop vm\nid: members\nlist:\n" + member * (LARGEST // len(member) - 10)
    numbers = b"task: repin vm\nvm-name: a\nvcpu-map: [[" + b"1," * (LARGEST // 2 - 50) + b"1]]\n"
    problems = b"task: stop vm\nid: problems\nlist: [" + b"1," * (LARGEST // 2 - 50) + b"1]\n"
    for text in (members, numbers, problems):
        assert len(text) <= LARGEST
        attacker.send(text)
    reasons = attacker.refusals(3)
    assert all("more than 200000 nodes" in reason for reason in reasons)
    attacker.honest()
    attacker.check("messages of many objects")
    for _ in range(4):
        attacker.send(f"task: stop vm\nid: {'i' * 3_900_000}\nlist: [{{vm-name: a}}]\n")
    (reason,) = attacker.refusals(4)
    assert "id: has 3900000 bytes" in reason
    attacker.honest()
    attacker.check("ids of 3.9 MB")


def _attack_the_queries(attacker: Attacker) -> None:
    for number in range(4000):
        attacker.send(f"task: query node\nid: q{number}\n", qos=0)
    attacker.honest()
    attacker.check("4,000 queries")
    for _ in range(3000):
        attacker.send(b"task: query node\n# " + b"x" * 60_000, qos=0)
    attacker.honest()
    attacker.check("180 MB of queries with QoS 0")


def _attack_with_large_packets(attacker: Attacker) -> None:
    for number in range(3):
        text = f"task: stop vm\nid: large {number}\n#".encode()
        attacker.send(text + b"x" * (64 << 20), qos=number)
    # What was dropped before may still be answered now.
    seen: set[str | None] = set()
    while not {"large 1", "large 2"} <= seen:
        seen.update(answer.id for answer in attacker.answers(1))
    attacker.honest()
    attacker.check("three messages of 64 MiB")


def _fill_the_journal(attacker: Attacker, size: tuple[int, int]) -> set[str]:
    """Send more than can wait, behind a start, and then a query. Return the ids."""
    first = TaskContainer(tasks=[Start(vm_name="first")], id="first", concurrent_execution=False)
    attacker.send(first.to_yaml())
    ids = ["first"]
    containers, members = size
    tasks = [Stop(vm_name=f"vm{number}") for number in range(members)]
    for number in range(containers):
        ids.append(f"many {number}")
        attacker.send(TaskContainer(tasks=tasks, id=ids[-1]).to_yaml())
    for number in range(20):
        id = f"long {number}"
        text = f"task: stop vm\nid: {id}\nlist: [{{vm-name: a}}]\n# cancel task {number}".encode()
        attacker.send(text + b"x" * (LARGEST - 200))
        ids.append(id)
    attacker.send("task: query node\nid: asked")
    return set(ids)
