"""Tasks that are refused because a cgroup cannot execute them."""

import re

from fastlib import (
    DeviceIvshmem,
    Evacuate,
    Migrate,
    NewDisk,
    PciAddress,
    PciId,
    Repin,
    Resume,
    Start,
    Stop,
    Suspend,
    Task,
)
from tests.support.ponci.checks.common import LAST_CPU
from tests.support.ponci.runner import PonciRunner


async def migration_is_not_supported(runner: PonciRunner) -> None:
    await runner.do(Start(vm_name="vm1"))
    for task, title in (
        (Migrate(vm_name="vm1", destination="node02"), "migrate vm"),
        (Evacuate(destinations=["node02"]), "evacuate node"),
    ):
        assert await runner.error_of(task) == f"the hypervisor ponci does not support {title}"
    assert await runner.domains() == {"vm1": "running"}


async def unsupported_fields_are_refused(runner: PonciRunner) -> None:
    cpus = f"0-{LAST_CPU}"
    for task, words in (
        (Start(xml="<domain><name>vm1</name></domain>"), "no XML; give 'vm-name'"),
        (Start(vm_name="vm1", vcpus=2), "no vCPUs; give the CPUs that it may use as one row"),
        (Start(vm_name="vm1", memory=1024), "no limit of memory; leave 'memory' out"),
        (Start(vm_name="vm1", transient=False), "leave 'transient' out"),
        (Start(vm_name="vm1", pci_ids=[PciId(vendor=1, device=2)]), "leave 'pci-ids' out"),
        (Start(vm_name="vm1", devs=[PciAddress.parse("00:01.0")]), "leave 'devs' out"),
        (Start(vm_name="vm1", ivshmem=DeviceIvshmem(id="a", size="1M")), "leave 'ivshmem' out"),
        (Start(vm_name="vm1", saved_state="discard"), "leave 'saved-state' out"),
        (Start(vm_name="vm1", disks=[NewDisk(target="vda", size=1)]), "leave 'disks' out"),
        (
            Stop(vm_name="vm1", undefine=True, remove_storage=True),
            "a cgroup has no disks; leave 'remove-storage' out",
        ),
        (Start(vm_name="vm1", driver="qemu"), "has no driver 'qemu'; leave 'driver' out"),
        (
            Start(vm_name="vm1", vcpu_map=[[0], [1]]),
            "the vcpu-map must have one row, .* one set of CPUs .* has 2 rows; give a row such as "
            r"vcpu-map: \[\[0, 1",
        ),
        (
            Start(vm_name="vm1", vcpu_map=[[]]),
            "the vcpu-map must have one row, .* has an empty row",
        ),
        (
            Start(vm_name="vm1", memnode_map=[[0], [0]]),
            "the memnode-map must have one row, .* it has 2 rows",
        ),
        (
            Start(vm_name="vm1", vcpu_map=[[0, 4000]]),
            f"the CPU 4000, but domains on node01 can only get the CPUs {cpus}; choose among",
        ),
        (
            Start(vm_name="vm1", memnode_map=[[900]]),
            "the memory node 900, but domains on node01 can only get the memory nodes 0",
        ),
    ):
        said = await runner.error_of(task)
        assert re.search(words, said), (words, said)
        assert await runner.domains() == {}
    await runner.do(Start(vm_name="vm1", vcpu_map=[[0]]))
    for rows, words in (([[0], [1]], "has 2 rows"), ([[4000]], "the CPU 4000, but")):
        said = await runner.error_of(Repin(vm_name="vm1", vcpu_map=rows))
        assert words in said
    sets = runner.hypervisor._runtime.hierarchy.sets("vm1")
    assert sets.cpus == {0}


async def start_does_not_probe_ssh(runner: PonciRunner) -> None:
    assert await runner.do(Start(vm_name="vm1", probe_with_ssh=False)) is None
    said = "vm2 was not probed, because a cgroup does not answer on SSH"
    assert await runner.do(Start(vm_name="vm2", probe_with_ssh=True)) == said
    assert await runner.do(Start(vm_name="vm3", probe_hostname="a")) == said.replace("vm2", "vm3")


async def invalid_names_are_refused(runner: PonciRunner) -> None:
    for name in ("cgroup.procs", "cpuset.cpus", "freezer.state", "tasks", "memory.max", "cpu.x"):
        tasks: list[Task] = [
            Start(vm_name=name), Stop(vm_name=name, force=True), Suspend(vm_name=name)
        ]  # fmt: skip
        for task in tasks:
            assert f"{name!r} cannot be the name of a cgroup" in await runner.error_of(task)
    for name in ("..", "../x", "a/b", "/", ".", " x", "a\nb"):
        tasks = [Start(vm_name=name), Stop(vm_name=name, force=True), Suspend(vm_name=name),
                 Resume(vm_name=name), Repin(vm_name=name, vcpu_map=[[0]])]  # fmt: skip
        for task in tasks:
            assert "cannot be the name of a domain" in await runner.error_of(task)
    assert await runner.domains() == {}
    for name in ("vm-1.example.org", "größe", "x" * 200, "cpusets", "_cpuset.cpus"):
        await runner.do(Start(vm_name=name))
        assert await runner.domains() == {name: "running"}
        await runner.do(Stop(vm_name=name))


async def existing_and_missing_domains_are_reported(runner: PonciRunner) -> None:
    for task in (Stop(vm_name="vm9"), Stop(vm_name="vm9", force=True), Suspend(vm_name="vm9"),
                 Resume(vm_name="vm9"), Repin(vm_name="vm9", vcpu_map=[[0]])):  # fmt: skip
        assert await runner.error_of(task) == (
            f"there is no domain vm9 on node01 (no group {runner.trees.of('vm9')[0]}); check its "
            "spelling, or start it first"
        )
    await runner.do(Start(vm_name="vm1", vcpu_map=[[0]]))
    said = await runner.error_of(Start(vm_name="vm1", vcpu_map=[[1]]))
    assert said == (f"vm1 exists on node01 already, as {runner.trees.of('vm1')[0]}; stop it first")
    assert runner.hypervisor._runtime.hierarchy.sets("vm1").cpus == {0}
