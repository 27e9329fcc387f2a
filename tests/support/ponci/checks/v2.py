"""Properties that only cgroup v2 has."""

import asyncio

from fastlib import (
    Repin,
    Resume,
    Start,
    Stop,
    Suspend,
)
from fastlib.migfra import HypervisorError
from tests.support.ponci.runner import PonciRunner
from tests.support.ponci.workload import Counter


async def _open_error(runner: PonciRunner, parent: str) -> str:
    """Return the error of a hypervisor that opens with that parent group."""
    try:
        await asyncio.to_thread(runner.another(parent=parent).open)
    except HypervisorError as error:
        return str(error)
    raise AssertionError(f"a hypervisor opened with the parent {parent}")


async def v2_parent_with_processes_is_refused(runner: PonciRunner) -> None:
    (parent,) = runner.trees.parents
    with Counter(runner.directory) as counter:
        (parent / "cgroup.procs").write_text(f"{counter.pid}\n")
        said = await runner.error_of(Start(vm_name="vm1"))
        assert said.startswith(f"{parent} must have no processes of its own, or cgroup v2")
        error = await _open_error(runner, f"{runner.parent}/new")
        assert f"{parent} must have no processes of its own" in error
        assert "it has 1;" in error
        # What the kernel makes of a group in one of this kind.
        (parent / "vm1").mkdir()
        assert (parent / "vm1/cgroup.type").read_text() == "domain invalid\n"
        (parent / "vm1").rmdir()


async def v2_threaded_parent_is_refused(runner: PonciRunner) -> None:
    (parent,) = runner.trees.parents
    top = parent.with_name(f"{runner.parent}-threaded")
    for group, expected in (
        (parent / "new", f"{parent} is of the type 'domain threaded'"),
        (top, f"{top} is of the type 'threaded'"),
    ):
        group.mkdir()
        try:
            (group / "cgroup.type").write_text("threaded\n")
            await asyncio.to_thread(runner.another(parent=str(group.relative_to(top.parent))).open)
        except HypervisorError as error:
            said = str(error)
        finally:
            group.rmdir()
        assert said.startswith(f"{expected}, so no process can be put into groups in it; name")


async def v2_threads_of_a_domain_are_found(runner: PonciRunner) -> None:
    with Counter(runner.directory) as counter:
        await runner.do(Start(vm_name="vm1"))
        (group,) = runner.trees.of("vm1")
        runner.trees.join(counter.pid, "vm1")
        (group / "threads").mkdir()
        (group / "threads/cgroup.type").write_text("threaded\n")
        (group / "threads/cgroup.threads").write_text(f"{counter.pid}\n")
        await runner.do(Suspend(vm_name="vm1"))
        await runner.do(Resume(vm_name="vm1"))
        assert f"vm1 has 1 process ({counter.pid})" in await runner.error_of(Stop(vm_name="vm1"))
        await runner.do(Stop(vm_name="vm1", force=True))
        assert counter.process.wait() == -9


async def v2_too_many_groups_are_reported(runner: PonciRunner) -> None:
    (parent,) = runner.trees.parents
    (parent / "cgroup.max.descendants").write_text("1\n")
    await runner.do(Start(vm_name="vm1"))
    said = await runner.error_of(Start(vm_name="vm2"))
    assert "vm2 would exceed the limit of groups; raise cgroup.max.descendants" in said


async def v2_removed_controller_is_reported(runner: PonciRunner) -> None:
    (parent,) = runner.trees.parents
    await runner.do(Start(vm_name="vm1"))
    (parent / "cgroup.subtree_control").write_text("-cpuset\n")
    assert await runner.domains() == {"vm1": "incomplete"}
    assert await runner.error_of(Repin(vm_name="vm1", vcpu_map=[[0]])) == (
        f"vm1 cannot be pinned: the groups in {parent} no longer have the controller cpuset; "
        f"enable it again (echo +cpuset > {parent}/cgroup.subtree_control)"
    )
    await runner.do(Start(vm_name="vm2", vcpu_map=[[0]]))
    assert await runner.domains() == {"vm1": "running", "vm2": "running"}


async def v2_threaded_domain_is_reported(runner: PonciRunner) -> None:
    (parent,) = runner.trees.parents
    with Counter(runner.directory) as counter:
        await runner.do(Start(vm_name="vm1"))
        (group,) = runner.trees.of("vm1")
        (parent / "cgroup.subtree_control").write_text("-cpuset\n")
        (group / "cgroup.type").write_text("threaded\n")
        (parent / "cgroup.procs").write_text(f"{counter.pid}\n")
        (group / "cgroup.threads").write_text(f"{counter.pid}\n")
        assert await runner.domains() == {"vm1": "incomplete"}
        assert await runner.error_of(Stop(vm_name="vm1", force=True)) == (
            f"vm1 cannot be deleted: {group} is of the type 'threaded', and its threads "
            f"({counter.pid}) belong to processes of a group above it; end these processes, or "
            "move the threads"
        )
        assert counter.runs
        (parent / "cgroup.threads").write_text(f"{counter.pid}\n")
        assert await runner.do(Stop(vm_name="vm1", force=True)) is None
