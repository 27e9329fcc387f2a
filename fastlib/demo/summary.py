"""Summarize a run: its steps, problems and measurements."""

from collections import Counter
from collections.abc import Iterator

import msgspec

from fastlib.display.message_text import NO_DOMAIN
from fastlib.message import Evacuate, Migrate

from .cluster import DemoCluster
from .invariants import InvariantChecker
from .observer import Observer, TaskRecord


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """A step of the scenario."""

    number: int
    title: str
    seconds: float
    cluster_seconds: float
    """Seconds in the time of the cluster."""
    done: bool
    """Whether it succeeded."""


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """The observer's counts of messages, and the cluster's measurements."""

    ok: bool
    """Whether every step succeeded and no check failed."""
    problems: list[str]
    """Failed steps and checks."""
    steps: list[Step]
    hosts: int
    vms: int
    seconds: float
    cluster_seconds: float
    """Seconds in the time of the cluster."""
    tasks: int
    """Tasks sent; a container may have several."""
    containers: int
    """Containers sent; a repeated one counts once."""
    repeated: int
    """Containers that were sent again with the same id."""
    results: dict[str, int]
    """Results by status; a repeated one counts once."""
    executed: int
    """Tasks that a hypervisor began to execute."""
    migrations: int
    """VMs that moved to another host."""
    interrupted: int
    """Failed and cancelled migrations; the VM stayed on its host."""
    bytes_moved: int
    """Bytes of memory copied between hosts."""
    longest_downtime: float
    """Longest downtime of a migrating VM, in seconds of the cluster."""
    longest_downtime_vm: str | None
    """The VM with the longest downtime."""
    restarts: int
    """Daemons that restarted after they were killed."""
    messages: dict[str, int]
    """Messages by type."""
    checks: int
    """Checks that each VM is on exactly one host."""


def summarize(
    cluster: DemoCluster,
    observer: Observer,
    invariants: InvariantChecker,
    steps: list[Step],
    problems: list[str],
    seconds: float,
    cluster_seconds: float,
) -> Summary:
    """Return the summary; `problems` are those of the steps."""
    found = [*problems]
    if all(step.done for step in steps):  # a failed step leaves many tasks unanswered
        found += observer.violations()
    found += invariants.problems
    found += [f"{key} was executed more than once" for key in cluster.executions.repeated()]
    tasks = observer.tasks
    moves = list(_moves(observer))
    downtime, longest = _longest_downtime(observer)
    return Summary(
        ok=not found,
        problems=found,
        steps=steps,
        hosts=len(cluster.hosts),
        vms=cluster.settings.vms,
        seconds=seconds,
        cluster_seconds=cluster_seconds,
        tasks=sum(len(record.container.tasks) for record in tasks),
        containers=len(tasks),
        repeated=sum(record.times_sent - 1 for record in tasks),
        results=dict(Counter(result.status for _, result in observer.results())),
        executed=cluster.executions.counts.total(),
        migrations=sum(moves),
        interrupted=len(moves) - sum(moves),
        bytes_moved=cluster.bytes_moved(),
        longest_downtime=downtime * cluster.settings.speed,
        longest_downtime_vm=longest,
        restarts=cluster.restarts,
        messages=dict(sorted(observer.messages.items())),
        checks=invariants.checks,
    )


def _moves(observer: Observer) -> Iterator[bool]:
    """Yield for each VM of a migration whether it moved."""
    for record, result in observer.results():
        if result.vm_name not in NO_DOMAIN:
            yield from [result.status == "success"] * _vms_per_result(record)


def _vms_per_result(record: TaskRecord) -> int:
    """Return the number of migrating VMs that one result covers."""
    task = record.container.tasks[0]
    if isinstance(task, Migrate):
        return 2 if task.parameter is not None and task.parameter.swap_with is not None else 1
    return 1 if isinstance(task, Evacuate) else 0


def _longest_downtime(observer: Observer) -> tuple[float, str | None]:
    """Return the longest downtime in real seconds, and its VM."""
    longest: tuple[float, str | None] = (0.0, None)
    for _, result in observer.results():
        timings = {} if result.time_measurement is None else result.time_measurement.timings
        for name, timing in timings.items():
            timer, _, vm = name.partition("-")
            if timer == "downtime":
                longest = max(longest, (timing.wall, vm), key=lambda item: item[0])
    return longest
