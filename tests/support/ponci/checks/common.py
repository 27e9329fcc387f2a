"""Shared parts of the checks."""

import asyncio
from pathlib import Path

from fastlib import (
    Start,
    Task,
)
from fastlib.migfra import HypervisorError
from tests.support.ponci.runner import PonciRunner
from tests.support.ponci.workload import Counter, Stuck

DONE = "found done after the daemon's restart"


def online(what: str) -> list[int]:
    """The numbers of the machine's CPUs or memory nodes, of which there are few."""
    text = Path(f"/sys/devices/system/{what}/online").read_text().strip()
    first, _, last = text.partition("-")
    return list(range(int(first), int(last or first) + 1))


LAST_CPU = online("cpu")[-1]
LAST_NODE = online("node")[-1]


async def put(runner: PonciRunner, stuck: Stuck, *others: Counter) -> None:
    """Start vm1 with processes, one of which is stuck."""
    await runner.do(Start(vm_name="vm1"))
    for each in (stuck, *others):
        runner.trees.join(each.pid, "vm1")
    stuck.wait()
    await runner.until(lambda: stuck.is_stuck)


async def running(runner: PonciRunner, id: str) -> None:
    while not any(
        task.id == id and task.state == "running" for task in (await runner.node()).tasks
    ):
        await asyncio.sleep(0)


async def not_done(
    runner: PonciRunner, task: Task, words: str, cancelled: bool = False, **notes: object
) -> None:
    outcome = None
    error: HypervisorError | None = None
    try:
        outcome = await runner.recover(task, cancelled, **notes)
    except HypervisorError as raised:
        error = raised
    assert words in str(error), f"{task} ended with {error or outcome}"
