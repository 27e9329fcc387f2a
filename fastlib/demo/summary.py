"""What the story came to, as it was measured."""

from collections import Counter
from collections.abc import Iterator

import msgspec

from fastlib.message import Evacuate, Migrate

from .guard import Guard
from .stage import Stage
from .witness import NOBODY, Asked, Witness


class Chapter(msgspec.Struct, frozen=True, kw_only=True):
    """A step of the story."""

    number: int
    title: str
    seconds: float
    """How long it took."""
    cluster_seconds: float
    """How long it took in the cluster's time."""
    done: bool
    """Whether it went as it is told."""


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """Everything is counted from messages, or measured by those who did it."""

    ok: bool
    """Whether the story went as it is told, to its end."""
    problems: list[str]
    """What did not, and what must not be."""
    steps: list[Chapter]
    hosts: int
    vms: int
    seconds: float
    """How long it took."""
    cluster_seconds: float
    """How long it took in the cluster's time."""
    tasks: int
    """Tasks that were sent; a container may have several."""
    containers: int
    """Messages that the tasks were sent with; repeated ones count once."""
    repeated: int
    """Containers that were sent again with the same id."""
    results: dict[str, int]
    """Results by their status; repeated ones count once."""
    executed: int
    """How many tasks hypervisors began to execute."""
    migrations: int
    """VMs that have moved to another host."""
    interrupted: int
    """Migrations that were not finished: the VM stayed where it was."""
    bytes_moved: int
    """Memory that has moved between hosts."""
    longest_downtime: float
    """The longest time for which a VM stood still while it moved, in the cluster's time."""
    longest_downtime_vm: str | None
    """The VM that it was."""
    restarts: int
    """Daemons that were killed and came back."""
    messages: dict[str, int]
    """How many messages of each type passed."""
    looks: int
    """How often it was looked whether each VM is on exactly one host."""


def summarize(
    stage: Stage,
    witness: Witness,
    guard: Guard,
    steps: list[Chapter],
    problems: list[str],
    seconds: float,
    cluster_seconds: float,
) -> Summary:
    """The summary; `problems` are those that the story has told of."""
    found = [*problems]
    if all(step.done for step in steps):  # else much is missing for one reason
        found += witness.disagreements()
    found += guard.problems
    found += [f"{key} was executed more than once" for key in stage.executions.twice()]
    tasks = witness.tasks
    moves = list(_moves(witness))
    downtime, longest = _longest_downtime(witness)
    return Summary(
        ok=not found,
        problems=found,
        steps=steps,
        hosts=len(stage.hosts),
        vms=stage.settings.vms,
        seconds=seconds,
        cluster_seconds=cluster_seconds,
        tasks=sum(len(asked.container.tasks) for asked in tasks),
        containers=len(tasks),
        repeated=sum(asked.times - 1 for asked in tasks),
        results=dict(Counter(result.status for _, result in witness.results())),
        executed=stage.executions.counts.total(),
        migrations=sum(moves),
        interrupted=len(moves) - sum(moves),
        bytes_moved=stage.moved,
        longest_downtime=downtime * stage.settings.speed,
        longest_downtime_vm=longest,
        restarts=stage.restarts,
        messages=dict(sorted(witness.messages.items())),
        looks=guard.looks,
    )


def _moves(witness: Witness) -> Iterator[bool]:
    """For each VM that was to move to another host, whether it did."""
    for asked, result in witness.results():
        if result.vm_name not in NOBODY:
            yield from [result.status == "success"] * _movers(asked)


def _movers(asked: Asked) -> int:
    """How many VMs one result of the task is about."""
    task = asked.container.tasks[0]
    if isinstance(task, Migrate):
        return 2 if task.parameter is not None and task.parameter.swap_with is not None else 1
    return 1 if isinstance(task, Evacuate) else 0


def _longest_downtime(witness: Witness) -> tuple[float, str | None]:
    """The longest downtime, in our seconds, and whose it was."""
    longest: tuple[float, str | None] = (0.0, None)
    for _, result in witness.results():
        timings = {} if result.time_measurement is None else result.time_measurement.timings
        for name, timing in timings.items():
            timer, _, vm = name.partition("-")
            if timer == "downtime":
                longest = max(longest, (timing.wall, vm), key=lambda item: item[0])
    return longest
