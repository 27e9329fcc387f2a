"""The recovery of a task that a crash interrupted, by the next run of the daemon."""

import asyncio

from fastlib import (
    Repin,
    Resume,
    Start,
    Stop,
    Suspend,
)
from fastlib.migfra import Context
from tests.support.ponci.checks.common import DONE, not_done, put
from tests.support.ponci.runner import PonciRunner
from tests.support.ponci.workload import Counter, Stuck


async def recover_finishes_interrupted_start(runner: PonciRunner) -> None:
    start = Start(vm_name="vm1", vcpu_map=[[0]])
    await not_done(runner, start, "the daemon ended before vm1 was made")
    await not_done(runner, start, "the incomplete vm1 was removed: start it again", making=True)
    await runner.do(start)
    assert await runner.recover(start, making=True) == DONE
    assert await runner.recover(Start(vm_name="vm1"), making=True) == DONE
    other = Start(vm_name="vm1", vcpu_map=[[1]])
    await not_done(runner, other, "was removed", making=True)
    assert not runner.trees.exists("vm1")


async def recover_finishes_interrupted_suspend(runner: PonciRunner) -> None:
    suspend, resume = Suspend(vm_name="vm1"), Resume(vm_name="vm1")
    await not_done(runner, suspend, "there is no domain vm1")
    await runner.open(freeze_timeout=0.2)
    with Stuck() as stuck:
        await put(runner, stuck)
        await not_done(runner, suspend, "ended while this was in progress; vm1 runs on node01")
        assert await runner.recover(resume) == DONE
        runner.trees.freeze("vm1", True)
        await not_done(runner, suspend, "vm1 has not frozen within 0.2 s and continues to run")
        assert runner.trees.state("vm1") == "running"
        runner.trees.freeze("vm1", True)
        stuck.release()
        await runner.open()  # with more time to freeze
        assert await runner.recover(suspend) == DONE
        assert runner.trees.state("vm1") == "frozen"
        await not_done(runner, resume, "vm1 is paused on node01")
        await runner.do(resume)


async def recover_finishes_interrupted_stop(runner: PonciRunner) -> None:
    stop, force = Stop(vm_name="vm1"), Stop(vm_name="vm1", force=True)
    assert await runner.recover(stop) == DONE
    with Counter(runner.directory) as counter:
        await runner.do(Start(vm_name="vm1"))
        runner.trees.join(counter.pid, "vm1")
        await not_done(runner, stop, "vm1 runs on node01")
        await not_done(runner, force, "vm1 runs on node01")
        assert counter.runs
        # It was killing them: each perhaps frozen, and told to end or not.
        runner.trees.freeze("vm1", True)
        assert await runner.recover(force, killed=["vm1"]) == DONE
        assert counter.process.wait() == -9
    await runner.do(Start(vm_name="vm1"))
    some = Stop(regex="vm.", force=True)
    await not_done(runner, some, "before the first domain was stopped")
    results = await runner.recover(some, names=["vm1", "vm2"])
    assert [(each.vm_name, each.status) for each in results] == [
        ("vm1", "error"),
        ("vm2", "success"),
    ]


async def recover_of_cancelled_start_says_what_there_is(runner: PonciRunner) -> None:
    start = Start(vm_name="vm1", vcpu_map=[[0]])
    taken_back = "the incomplete vm1 was removed: start it again"
    await not_done(runner, start, taken_back, cancelled=True, making=True)
    await runner.do(start)
    assert await runner.recover(start, cancelled=True, making=True) == DONE


async def recover_of_cancelled_suspend_says_what_the_domain_does(runner: PonciRunner) -> None:
    suspend = Suspend(vm_name="vm1")
    with Stuck() as stuck:
        await put(runner, stuck)
        here = "ended while this was in progress; vm1 runs on node01"
        await not_done(runner, suspend, here, cancelled=True)
        runner.trees.freeze("vm1", True)
        await not_done(runner, suspend, "cancelled; vm1 runs on node01", cancelled=True)
        assert runner.trees.state("vm1") == "running"
        stuck.release()
        await runner.do(suspend)
        assert await runner.recover(suspend, cancelled=True) == DONE
        await runner.do(Resume(vm_name="vm1"))


async def recover_of_cancelled_stop_says_what_the_domain_does(runner: PonciRunner) -> None:
    force, some = Stop(vm_name="vm1", force=True), Stop(regex="vm.", force=True)
    assert await runner.recover(force, cancelled=True, killed=["vm1"]) == DONE
    with Counter(runner.directory) as counter:
        await runner.do(Start(vm_name="vm1"))
        runner.trees.join(counter.pid, "vm1")
        said = "cancelled; vm1 runs on node01"
        await not_done(runner, force, said, cancelled=True, killed=["vm1"])
        results = await runner.recover(some, cancelled=True, names=["vm1", "vm2"], killed=["vm1"])
        assert [(each.vm_name, each.status, each.details) for each in results] == [
            ("vm1", "error", said),
            ("vm2", "success", DONE),
        ]
        assert counter.runs


async def recover_of_cancelled_task_waits_for_the_lock_of_its_domain(runner: PonciRunner) -> None:
    await runner.do(Start(vm_name="vm1"))
    start = Start(vm_name="vm1")
    other = Context("node01")
    with runner.hypervisor._runtime.exclusive("vm1", start, other):
        recovering = asyncio.ensure_future(runner.recover(start, cancelled=True, making=True))
        done, _ = await asyncio.wait({recovering}, timeout=0.05)
        assert not done
    assert await recovering == DONE


async def recover_finishes_interrupted_repin(runner: PonciRunner) -> None:
    await runner.do(Start(vm_name="vm1", vcpu_map=[[0, 1]]))
    assert await runner.recover(Repin(vm_name="vm1", vcpu_map=[[1, 0]])) == DONE
    await not_done(
        runner, Repin(vm_name="vm1", vcpu_map=[[1]]), "vm1 is not pinned according to the task"
    )
