"""A daemon answers every hostile payload, over a real mosquitto, and continues to work.

1,200 payloads by default, 100,000 with `--long`.
"""

import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from random import Random

import pytest

from fastlib import (
    DeviceIvshmem,
    Evacuate,
    EvacuateParameter,
    FastlibError,
    Message,
    Migrate,
    MigrateParameter,
    PciAddress,
    PciId,
    Quit,
    Repin,
    Result,
    ResultContainer,
    Resume,
    Start,
    Stop,
    Suspend,
    SwapWith,
    Task,
    TaskContainer,
    load,
)
from fastlib.message import Cancel, Query, topics
from fastlib.message.agent import InitAgent, Kpis
from fastlib.transport import Communicator, connect
from tests.migfra.test_load import at, resident
from tests.support import hostile
from tests.support.migfra.program import Program, program
from tests.support.mosquitto import Mosquitto
from tests.support.texts import mutated, written

SEED = 20
HOST = "node01"
ANSWER_PATIENCE = 300.0
"""Seconds until an answer that must come is given up."""
WINDOW = 64
"""Payloads that are not answered yet."""
LARGEST = 1 << 17
"""Bytes of the largest payload that the daemon reads here."""

pytestmark = pytest.mark.load

Figures = Callable[[object], None]


# --- what is thrown -------------------------------------------------------------------------------


def _tasks(name: str) -> list[list[Task]]:
    """The members of some containers, of every task but the one that ends the daemon."""
    start = Start(
        vm_name=name,
        vcpus=2,
        memory=1 << 20,
        memnode_map=[[0], [1]],
        vcpu_map=[[0, 1], [2]],
        pci_ids=[PciId(vendor=0x15B3, device=0x1004)],
        devs=[PciAddress(bus=8, device=0, function=0)],
        ivshmem=DeviceIvshmem(id="a", size="2M"),
        time_measurement=True,
    )
    moved = MigrateParameter(
        retry_counter=1,
        migration_type="live",
        vcpu_map=[[1]],
        swap_with=SwapWith(vm_name="b"),
        timeout=3,
    )
    return [
        [start, Start(xml=f"<domain><name>{name}</name></domain>", transient=True)],
        [Stop(vm_name=name), Stop(regex=f"{name}.*", force=True)],
        [Migrate(vm_name=name, destination="node02", parameter=moved)],
        [
            Evacuate(
                destinations=["node02", "node03"],
                parameter=EvacuateParameter(mode="scatter", overbooking=False),
            )
        ],
        [Repin(vm_name=name, vcpu_map=[[0, 1], [2]])],
        [Suspend(vm_name=name), Suspend(vm_name=name, concurrent_execution=False)],
        [Resume(vm_name=name)],
        [Cancel(id=name)],
        [Query()],
    ]


def _message(rng: Random) -> Message:
    """A message with an id that no other has."""
    id = f"{rng.getrandbits(64):016x}"
    if rng.random() < 0.9:
        return TaskContainer(tasks=rng.choice(_tasks(f"vm{rng.randrange(99)}")), id=id)
    results = [Result(vm_name="vm1", status="error", details="no\nsuch domain")]
    return rng.choice(
        [
            ResultContainer(result="vm started", results=results, id=id),
            InitAgent(kpi=Kpis(categories={"a": "b"}, repeat=3)),
            Start(vm_name=id),  # a member without its container
        ]
    )


def _damaged(rng: Random) -> bytes:
    """A message in any spelling and encoding, with something wrong in it or not."""
    text = written(_message(rng), rng)
    for _ in range(rng.choice([0, 0, 1, 1, 3])):
        text = mutated(text, rng)
    unit = rng.choice(["utf-8"] * 5 + ["utf-16", "utf-16-be", "utf-32", "latin-1"])
    data = bytearray(text.encode(unit, "replace"))
    for _ in range(rng.choice([0, 0, 0, 1, 5])):
        at = rng.randrange(len(data) + 1)
        data[at : at + rng.choice([0, 1, 4])] = rng.randbytes(rng.choice([0, 1, 3]))
    return bytes(data)


_VALUES = [
    "~", "", "[]", "{}", "[[]]", "{a: b}", "[a, {b: c}]", "-1", "1e9", "0x", "9" * 20, ".nan",
    "true", "'yes'", "*a", "&a [*a]", "!!python/object/apply:os.system [id]", "!!binary aaaa",
    "2001-01-01", "|\n  a\n  b", '"\\ud800"', '"\\0"', "../../etc/passwd", "$(id)", "fast/+/#",
    "%s", "'a\n\n  b'", "(a+)+$", "[1, -1]",
    "<!DOCTYPE a [<!ENTITY b SYSTEM 'file:///etc/passwd'>]><a>&b;</a>",
]  # fmt: skip


def _wrong(rng: Random) -> bytes:
    """A message with values of wrong types, and keys at wrong places."""
    tree = _message(rng).emit()
    lines = [f"id: {rng.getrandbits(64):016x}"] if rng.random() < 0.8 else []
    for key, value in tree.items():
        if key == "id":
            continue
        if rng.random() < 0.4:
            lines.append(f"{key}: {rng.choice(_VALUES)}")
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            member = "".join(f"\n    {name}: {rng.choice(_VALUES)}" for name in value[0])
            lines.append(f"{key}:\n  -{member}")
        else:
            lines.append(f"{key}: {value}")
    rng.shuffle(lines)
    return "\n".join(lines).encode("utf-8", "surrogatepass")


def _hostile(sizes: tuple[int, ...]) -> Iterator[bytes]:
    """The texts that are made to hurt a reader, again and again, of these sizes in turn."""
    for size in itertools.cycle(sizes):
        for family in hostile.FAMILIES.values():
            if family is hostile.trees:
                continue  # of Python, not of the wire
            for _, _, text in family(size):
                yield text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text


def huge() -> Iterator[bytes]:
    """About as large as is read, and larger."""
    bodies = (
        *("- vm-name: a\n", "- vm-nmae: a\n", "- {vm-name: a, force: maybe}\n", "- [", "- {a: "),
        *("- &a [*a]\n", "# comment\n", "- 'a", "\0", " "),
    )
    for size in (LARGEST - 100, LARGEST, LARGEST + 1, 20 * LARGEST):
        for number, body in enumerate(bodies):
            head = f"id: {size}-{number}\ntask: stop vm\nlist:\n"
            yield f"{head}{body * size}".encode()[:size]


def payloads(seed: int) -> Iterator[bytes]:
    """Hostile payloads without end; the same ones each time."""
    rng = Random(seed)
    made = _hostile((300, 3_000))
    while True:
        dice = rng.random()
        if dice < 0.15:
            payload = rng.randbytes(rng.choice([0, 1, 2, 10, 100, 1000, 10_000]))
        elif dice < 0.5:
            payload = _damaged(rng)
        elif dice < 0.7:
            payload = _wrong(rng)
        else:
            payload = next(made)
        if not _ends_the_daemon(payload):
            yield payload


def _ends_the_daemon(payload: bytes) -> bool:
    """Return True if a payload is a valid `task: quit`, which the daemon executes."""
    if b"q\0u" not in payload and b"quit" not in payload and b"u\0i" not in payload:
        return False
    try:
        message = load(payload)
    except FastlibError:
        return False
    return isinstance(message, TaskContainer) and message.declaration.type is Quit


# --- and what comes of it -------------------------------------------------------------------------


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    with Mosquitto(tmp_path / "broker", settings=("max_queued_messages 0",)) as broker:
        yield broker


@pytest.fixture
def migfra(tmp_path: Path, broker: Mosquitto) -> Iterator[Program]:
    with program(tmp_path, broker.port) as migfra:
        migfra.configuration.write_text(
            f"hostname: {HOST}\n"
            f"communicator: {{host: 127.0.0.1, port: {broker.port}, qos: 2}}\n"
            f"hypervisor: {{type: dummy}}\n"
            f"journal: {{path: {migfra.journal}, max-size: 1}}\n"
            f"limits: {{payload: {LARGEST}}}\n"
        )
        migfra.start()
        yield migfra


def throw(
    scheduler: Communicator, thrown: Iterable[bytes], window: int
) -> Iterator[ResultContainer]:
    """Send payloads, and return the answers, with a bounded number in flight."""
    unanswered = 0
    for payload in thrown:
        scheduler.send(payload, topics.TASK(HOST), qos=2)
        unanswered += 1
        if unanswered == window:
            yield _answer(scheduler)
            unanswered -= 1
    for _ in range(unanswered):
        yield _answer(scheduler)


def _answer(scheduler: Communicator) -> ResultContainer:
    message = scheduler.receive(topics.RESULT(HOST), timeout=ANSWER_PATIENCE)
    answer = ResultContainer.from_yaml(message.payload)
    assert answer.results
    if answer.result == "unknown":
        (result,) = answer.results
        assert result.status == "error"
        assert result.details
    return answer


def check_sound(scheduler: Communicator, migfra: Program) -> None:
    """A good task is answered, and nothing but that; the log has no failure of the daemon."""
    good = TaskContainer(tasks=[Start(vm_name="good")], id="good")
    (answer,) = throw(scheduler, [good.to_yaml().encode()], 1)
    assert answer.id == "good"
    assert answer.results == (Result(vm_name="good", status="success"),)
    assert migfra.terminate() == 0
    assert [line for line in migfra.log if "Traceback" in line or " ERROR " in line] == []


def test_hostile_payloads_are_answered(
    migfra: Program, broker: Mosquitto, request: pytest.FixtureRequest, figures: Figures
) -> None:
    is_long = request.config.getoption("--long")
    count, every = (100_000, 10_000) if is_long else (1_200, 300)
    said: Counter[str] = Counter()
    samples: list[float] = []
    with connect(at(broker.port)) as scheduler:
        scheduler.subscribe(topics.RESULT(HOST), qos=2)
        thrown = itertools.islice(payloads(SEED), count)
        for number, answer in enumerate(throw(scheduler, thrown, WINDOW), 1):
            said[_kind(answer)] += 1
            if number % every == 0:
                samples.append(resident(migfra.pid))
        check_sound(scheduler, migfra)
    assert said.total() == count
    assert set(said) == {"unknown", "error", "success"}
    # Tables of the reader, by title and indentation, fill up to their bounds in the first half.
    half = len(samples) // 2
    assert samples[-1] - samples[half - 1] < 8, samples
    figures(
        f"{count:,} payloads: {said['unknown']:,} answered as unknown, {said['error']:,} with an "
        f"error, {said['success']:,} executed; {samples[0]:.1f} MiB after {every:,}, "
        f"{samples[half - 1]:.1f} MiB at half, {samples[-1]:.1f} MiB at the end"
    )


def _kind(answer: ResultContainer) -> str:
    """How an answer says that it went."""
    if answer.result == "unknown":
        return "unknown"
    return "error" if any(r.status == "error" for r in answer.results) else "success"


def test_huge_payloads_are_answered(
    migfra: Program, broker: Mosquitto, request: pytest.FixtureRequest, figures: Figures
) -> None:
    rounds = 20 if request.config.getoption("--long") else 2
    thrown = list(huge())
    samples: list[float] = []
    with connect(at(broker.port)) as scheduler:
        scheduler.subscribe(topics.RESULT(HOST), qos=2)
        for _ in range(rounds):
            for payload, answer in zip(thrown, throw(scheduler, thrown, 1), strict=True):
                assert f"id: {answer.id}\n".encode() == payload[: payload.index(b"task")]
            samples.append(resident(migfra.pid))
        check_sound(scheduler, migfra)
    # What the allocator keeps for the next such payload differs a little from round to round.
    assert samples[-1] < 1.3 * samples[0], samples
    figures(
        f"{rounds * len(thrown):,} payloads of {LARGEST:,} to {20 * LARGEST:,} bytes; "
        f"{samples[0]:.0f} MiB after {len(thrown)}, {samples[-1]:.0f} MiB at the end"
    )
