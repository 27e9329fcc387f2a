"""The bounds of one container, and the estimates of the memory that it takes."""

import asyncio
import tracemalloc

import pytest

from fastlib import Evacuate, Migrate, MigrateParameter, Stop, SwapWith, TaskContainer
from fastlib.message import Cancel
from fastlib.migfra.errors import HypervisorError
from fastlib.migfra.tasks.container_bounds import (
    is_too_long,
    problem_with,
    running_memory,
    short_id,
    text_memory,
    waiting_memory,
)
from fastlib.migfra.tasks.decoding import Unreadable, read
from fastlib.migfra.tasks.jobs import Job
from fastlib.migfra.tasks.memory_budget import MemoryBudget
from fastlib.migfra.virt.names import check_name, check_names

MEMBERS = 500
LARGEST = 4 << 20


def stops(count: int, **more: str) -> TaskContainer:
    return TaskContainer(tasks=[Stop(vm_name=f"vm{n}") for n in range(count)], **more)


def test_number_of_members_is_bounded() -> None:
    assert problem_with(stops(3), 3) is None
    problem = problem_with(stops(4), 3)
    assert problem is not None
    assert problem.startswith("a container must have at most 3 members; got 4; ")
    assert "container-members" in problem


@pytest.mark.parametrize(
    ("container", "problem"),
    [
        (stops(1, id="é" * 129), "id: has 258 bytes; at most 256"),
        (stops(1, idempotency_key="k" * 257), "idempotency-key: has 257 bytes; at most 256"),
        (TaskContainer(tasks=[Stop(vm_name="v" * 201)]), "vm-name: has 201 bytes; at most 200"),
        (TaskContainer(tasks=[Stop(vm_name="é" * 128)]), "vm-name: has 256 bytes; at most 200"),
        (TaskContainer(tasks=[Cancel(id="i" * 257)]), "id: has 257 bytes; at most 256"),
    ],
)
def test_length_of_ids_and_names_is_bounded_in_bytes(
    container: TaskContainer, problem: str
) -> None:
    assert problem_with(container, 10) == f"{problem} are accepted; give a shorter one"


def test_longest_ids_and_names_are_accepted() -> None:
    assert problem_with(stops(1, id="é" * 128, idempotency_key="k" * 256), 10) is None
    assert problem_with(TaskContainer(tasks=[Stop(vm_name="é" * 100)]), 10) is None
    assert problem_with(TaskContainer(tasks=[Cancel(id="i" * 256)]), 10) is None
    assert check_name("é" * 100) == "é" * 100
    assert not is_too_long("é" * 128)


def test_name_inside_a_task_or_of_a_host_has_the_same_bound_and_text() -> None:
    swap = MigrateParameter(swap_with=SwapWith(vm_name="v" * 201))
    tasks = [
        Migrate(vm_name="a", destination="b", parameter=swap),
        Migrate(vm_name="a", destination="h" * 201),
        Evacuate(destinations=["h" * 201]),
    ]
    for task in tasks:
        with pytest.raises(HypervisorError, match="it has 201 bytes; at most 200 are accepted; g"):
            check_names(task)


def test_answer_to_a_long_id_has_its_beginning_and_a_digest() -> None:
    one, other = short_id("a" * 1000), short_id("a" * 1001)
    assert one is not None
    assert one.startswith("a" * 64 + "… (sha256 ")
    assert one != other
    assert short_id("a" * 256) == "a" * 256
    assert short_id(None) is None


def test_refusal_of_a_message_keeps_a_long_id_short() -> None:
    found = read(stops(1, id="i" * 5000).to_yaml().encode(), LARGEST, most_members=10)
    assert isinstance(found, Unreadable)
    assert found.id == short_id("i" * 5000)
    # Another error, and a text that is no YAML.
    for text in (b"task: nonsense\nid: " + b"i" * 5000, b"id: " + b"i" * 900 + b"\n]"):
        found = read(text, LARGEST, most_members=10)
        assert isinstance(found, Unreadable)
        assert found.id is not None
        assert not is_too_long(found.id)


def test_number_of_nodes_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastlib.migfra.tasks.container_bounds.MAX_NODES", 200)
    text = b"task: repin vm\nvm-name: a\nvcpu-map: [[" + b"1," * 200 + b"1]]\n"
    found = read(text, LARGEST, most_members=10)
    assert isinstance(found, Unreadable)
    assert "more than 200 nodes" in found.reason


def test_bounds_do_not_apply_to_orders_accepted_before() -> None:
    found = read(stops(20, id="i" * 300).to_yaml().encode(), LARGEST)
    assert isinstance(found, TaskContainer)


HEAD = "task: start vm\nvm-configurations:\n"


@pytest.mark.parametrize(
    "text",
    [
        "task: stop vm\nlist:\n" + "- vm-name: a\n" * MEMBERS,
        HEAD + "- vm-name: a\n  vcpus: 1\n  memory: 1024\n" * MEMBERS,
        "task: stop vm\nlist: [" + "{regex: a}," * MEMBERS + "]\n",
        "task: repin vm\nvm-name: a\nvcpu-map: [" + "[1]," * MEMBERS + "]\n",
        HEAD + "- vm-name: a\n  pci-ids:\n" + "  - vendor: 0x1\n    device: 0x1\n" * MEMBERS,
        HEAD + '- vm-name: a\n  ivshmem: {id: a, size: "' + "é" * 9000 + '😀"}\n',
        "task: evacuate node\ndestinations:\n" + "- a\n" * MEMBERS,
    ],
    ids=["stops", "starts", "flow", "lists", "pairs", "wide", "names"],
)
def test_estimate_of_the_memory_is_not_too_low(text: str) -> None:
    payload = text.encode()
    read(payload, LARGEST)  # what is derived from the declarations is made once
    tracemalloc.start()
    container = read(payload, LARGEST)
    assert isinstance(container, TaskContainer)
    job = Job(1, None, container)
    taken = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert taken <= waiting_memory(text_memory(payload), len(job.members)) + 4096


def test_running_container_counts_the_members_that_are_started_together() -> None:
    assert running_memory(10, 3, 256) - 10 == 3 * (running_memory(10, 1, 256) - 10)
    assert running_memory(10, 10_000, 256) == running_memory(10, 256, 256)


def test_budget_is_taken_in_the_order_of_the_calls() -> None:
    async def main() -> None:
        budget = MemoryBudget(10)
        taken: list[int] = []

        async def take(size: int) -> None:
            await budget.wait(size)
            taken.append(size)

        assert budget.take(6)
        assert not budget.take(5)
        async with asyncio.TaskGroup() as group:
            for size in (5, 1, 30):
                group.create_task(take(size))
            await asyncio.sleep(0)
            assert taken == []  # the one of 1 byte does not overtake
            assert not budget.take(1)
            budget.give_back(6)
            await asyncio.sleep(0)
            assert taken == [5, 1]
            budget.give_back(5)
            await asyncio.sleep(0)
            assert taken == [5, 1]  # what is larger than the bound waits until it is alone
            budget.give_back(1)
        assert taken == [5, 1, 30]
        assert budget.taken == 30

    asyncio.run(main())


def test_budget_releases_memory_of_cancelled_orders() -> None:
    async def main() -> None:
        budget = MemoryBudget(10)
        assert budget.take(10)
        first, second = (asyncio.create_task(budget.wait(size)) for size in (8, 9))
        await asyncio.sleep(0)
        first.cancel()
        budget.give_back(10)
        await second
        await asyncio.wait((first,))
        assert first.cancelled()  # though the budget had passed it over by then
        assert budget.taken == 9
        third = asyncio.create_task(budget.wait(1))
        await asyncio.sleep(0)
        third.cancel()  # it has its share already
        await asyncio.wait((third,))
        assert budget.taken == 9 + (not third.cancelled())

    asyncio.run(main())
