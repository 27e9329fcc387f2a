"""Domains that do not freeze, or that something else has frozen."""

from pathlib import Path
from unittest import mock

from fastlib import (
    Cancel,
    Resume,
    Start,
    Stop,
    Suspend,
)
from fastlib.message.result_container import CANCELLED_BEFORE
from fastlib.migfra.hypervisors.ponci.decisions import (
    why_not_resumable,
    why_not_startable,
)
from fastlib.migfra.hypervisors.ponci.inspection import inspect
from fastlib.migfra.hypervisors.ponci.mounts import V1Mounts, V2Mount
from fastlib.migfra.hypervisors.ponci.v1 import V1
from fastlib.migfra.hypervisors.ponci.v2 import V2
from tests.support.ponci.checks.common import put, running
from tests.support.ponci.runner import PonciRunner
from tests.support.ponci.workload import Counter, Stuck


async def frozen_group_above_is_reported(runner: PonciRunner) -> None:
    with Counter(runner.directory) as counter:
        await runner.do(Start(vm_name="vm1"))
        runner.trees.join(counter.pid, "vm1")
        parent, command = runner.trees.parents[-1], runner.trees.thaw_command("")
        runner.trees.freeze("", True)
        try:
            await runner.until(lambda: runner.trees.state("vm1") == "frozen")
            assert await runner.domains() == {"vm1": "paused"}
            assert await runner.error_of(Resume(vm_name="vm1")) == (
                f"vm1 cannot run: {parent}, which is above it, is frozen; thaw that group first "
                f"({command}), then resume vm1"
            )
            assert await runner.error_of(Start(vm_name="vm2")) == (
                f"vm2 could not run: {parent}, which is above it, is frozen; thaw that group first "
                f"({command}), then start vm2"
            )
            assert not runner.trees.exists("vm2")
            # The domain stays paused for itself when the group above is thawed.
            assert await runner.do(Suspend(vm_name="vm1")) is None
        finally:
            runner.trees.freeze("", False)
        assert await runner.domains() == {"vm1": "paused"}
        assert await runner.do(Resume(vm_name="vm1")) is None
        assert await runner.domains() == {"vm1": "running"}


async def group_frozen_above_the_mount_is_reported(runner: PonciRunner) -> None:
    """As in a container, which sees only a part of the hierarchy."""
    runner.trees.make("seen")
    runner.trees.make("seen/vm1")
    runner.trees.freeze("", True)
    group = runner.trees.of("seen")
    seen = V1(V1Mounts(group[0], group[-1]), []) if len(group) > 1 else V2(V2Mount(group[0]), [])
    await runner.until(lambda: inspect(seen, "vm1").above_is_hidden)
    said = why_not_resumable(inspect(seen, "vm1"))
    assert said is not None
    assert f"vm1 cannot run: a group above {group[-1]} is frozen" in said
    assert inspect(seen, "vm1").is_frozen
    assert "could not run" in str(why_not_startable(inspect(seen, "vm2"), "node01"))
    runner.trees.freeze("seen", True)
    assert inspect(seen, "vm1").above[0].group == group[-1]
    runner.trees.freeze("", False)
    assert not inspect(seen, "vm1").above_is_hidden


async def frozen_groups_in_a_domain_are_thawed(runner: PonciRunner) -> None:
    with Counter(runner.directory) as inner, Counter(runner.directory) as outer:
        await runner.do(Start(vm_name="vm1"))
        for name in ("vm1/below", "vm1/below/deeper", "vm1/empty"):
            runner.trees.make(name)
            runner.trees.freeze(name, True)
        assert await runner.domains() == {"vm1": "running"}  # nothing in it stands still
        runner.trees.join(inner.pid, "vm1/below/deeper")
        await runner.until(lambda: runner.trees.state("vm1/below/deeper") == "frozen")
        assert await runner.domains() == {"vm1": "paused"}
        runner.trees.join(outer.pid, "vm1")
        assert await runner.domains() == {"vm1": "partly paused"}
        assert await runner.do(Suspend(vm_name="vm1")) is None
        assert await runner.domains() == {"vm1": "paused"}
        assert await runner.do(Suspend(vm_name="vm1")) == "vm1 was paused already"
        said = await runner.do(Resume(vm_name="vm1"))
        top = runner.trees.of("vm1")[-1]
        assert said is not None
        prefix, _, groups = said.partition(": ")
        assert prefix == "groups in vm1 were frozen separately and were thawed too"
        assert set(groups.split(", ")) == {
            str(top / name) for name in ("below", "below/deeper", "empty")
        }
        counts = inner.count, outer.count
        await runner.until(lambda: inner.count > counts[0] and outer.count > counts[1])
        assert await runner.domains() == {"vm1": "running"}
        assert await runner.do(Resume(vm_name="vm1")) == "vm1 was running already"


async def groups_that_somebody_freezes_again_are_reported(runner: PonciRunner) -> None:
    await runner.open(freeze_timeout=0.2)
    freezer = runner.hypervisor._runtime.hierarchy.freezer
    thaw = freezer.thaw

    def thaw_in_vain(group: Path) -> None:
        thaw(group)
        freezer.freeze(group)

    await runner.do(Start(vm_name="vm1"))
    runner.trees.make("vm1/below")
    top = runner.trees.of("vm1")[-1]
    for frozen, named in (("vm1", top), ("vm1/below", top / "below")):
        runner.trees.freeze(frozen, True)
        with mock.patch.object(freezer, "thaw", thaw_in_vain):
            assert await runner.error_of(Resume(vm_name="vm1")) == (
                f"vm1 was thawed, but another program has frozen {named} again; find out who does "
                "so, then resume vm1"
            )
        assert await runner.do(Resume(vm_name="vm1")) != "vm1 was running already"


async def suspend_is_refused_without_freezer(runner: PonciRunner) -> None:
    """Such as by cgroup v2 of Linux 5.1."""
    await runner.do(Start(vm_name="vm1"))
    freezer = runner.hypervisor._runtime.hierarchy.freezer
    with mock.patch.object(freezer, "can_freeze", return_value=False):
        said = await runner.error_of(Suspend(vm_name="vm1"))
    assert said == "this kernel cannot freeze a group of cgroup v2; use Linux 5.2 or newer"
    assert await runner.domains() == {"vm1": "running"}


async def group_that_freezes_in_a_domain_is_reported(runner: PonciRunner) -> None:
    await runner.open(freeze_timeout=0.2)
    with Stuck() as stuck, Counter(runner.directory) as counter:
        await runner.do(Start(vm_name="vm1"))
        runner.trees.make("vm1/below")
        runner.trees.join(stuck.pid, "vm1/below")
        stuck.wait()
        await runner.until(lambda: stuck.is_stuck)
        runner.trees.freeze("vm1/below", True)
        assert await runner.domains() == {"vm1": "freezing"}
        assert await runner.do(Resume(vm_name="vm1"))
        assert await runner.domains() == {"vm1": "running"}
        # What another program has frozen stays so after a suspension that fails.
        runner.trees.make("vm1/beside")
        runner.trees.join(counter.pid, "vm1/beside")
        runner.trees.freeze("vm1/beside", True)
        await runner.until(lambda: runner.trees.state("vm1/beside") == "frozen")
        assert await _error_with_cause(runner) == (
            "vm1 has not frozen within 0.2 s and was thawed, but parts of it are frozen; one of "
            "its processes waits for a device or a file server (ps shows 1 process "
            f"({stuck.pid}) in state D): check these, or set a longer freeze-timeout"
        )
        assert await runner.domains() == {"vm1": "partly paused"}
        # So does the domain itself.
        runner.trees.freeze("vm1", True)
        said = await runner.error_of(Suspend(vm_name="vm1"))
        assert "another program had requested the freeze before this task" in said
        assert runner.trees.state("vm1") == "freezing"
        assert await runner.do(Stop(vm_name="vm1", force=True)) is None


async def suspend_times_out_and_thaws(runner: PonciRunner) -> None:
    await runner.open(freeze_timeout=0.2)
    with Stuck() as stuck, Counter(runner.directory) as counter:
        await put(runner, stuck, counter)
        said = await _error_with_cause(runner)
        assert said.startswith("vm1 has not frozen within 0.2 s and continues to run; one of its ")
        assert await runner.domains() == {"vm1": "running"}
        now = counter.count
        await runner.until(lambda: counter.count > now)
        stuck.release()
        await runner.open()  # with more time to freeze
        await runner.do(Suspend(vm_name="vm1"))
        await runner.do(Resume(vm_name="vm1"))


async def _error_with_cause(runner: PonciRunner) -> str:
    """Return the error of a suspension that names the processes in the state D.

    Right after the thaw a process may be on its way back to its wait. Then the error names none.
    """
    errors: list[str] = []
    while not errors or "in state D" not in errors[-1]:
        assert len(errors) < 20, errors
        errors.append(await runner.error_of(Suspend(vm_name="vm1")))
    return errors[-1]


async def cancelled_suspend_thaws(runner: PonciRunner) -> None:
    await runner.open(freeze_timeout=600.0)
    with Stuck() as stuck, Counter(runner.directory) as counter:
        await put(runner, stuck, counter)
        suspending = await runner.send(Suspend(vm_name="vm1"))
        await runner.until(lambda: runner.trees.state("vm1") == "freezing")
        assert await runner.domains() == {"vm1": "freezing"}
        # Who comes behind waits, and can be cancelled while it does.
        behind = await runner.send(Resume(vm_name="vm1"))
        await running(runner, behind)
        for id in (behind, suspending):
            await runner.bench.send(Cancel(id=id), id=f"cancel-{id}")
            answers = {answer.id: answer for answer in [await runner.bench.result() for _ in "12"]}
            assert answers[f"cancel-{id}"].results[0].status == "success"
            said = CANCELLED_BEFORE if id == behind else "cancelled"
            assert answers[id].results[0].details == said
        assert runner.trees.state("vm1") == "running"
        now = counter.count
        await runner.until(lambda: counter.count > now)
