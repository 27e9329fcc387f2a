"""Starts whose domain has other CPUs or memory nodes than the maps of the order.

libvirt's driver `test` makes them. Another program changes the domain between two steps of the
start.
"""

import pytest

from fastlib import Repin, Start, Stop, Suspend
from fastlib.migfra import HypervisorError
from fastlib.migfra.hypervisors.libvirt.domain import creation, pinning
from fastlib.migfra.hypervisors.libvirt.tasks.start import PAUSED_RUN
from tests.support.libvirt.driver import domain, run_scenario

UUID = "6695eb01-f6a4-8304-79aa-97f2502e193f"


def with_uuid():
    return domain().replace("<memory", f"<uuid>{UUID}</uuid><memory")


def order(**options):
    return Start(xml=with_uuid(), probe_with_ssh=False, **options)


def repinned(connection, name):
    connection.lookupByName(name).pinVcpu(1, (False, False, False, True))


def bound_elsewhere(connection, name):
    xml = connection.lookupByName(name).XMLDesc(2)
    assert "nodeset='1'" in xml
    connection.defineXML(xml.replace("nodeset='1'", "nodeset='0'"))


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Run a scenario in which another program acts right before or after libvirt's start."""

    def run(scenario, *, before=None, after=None):
        create = creation.create_defined
        seen = []

        def created(connection, name, *arguments):
            if before is not None:
                before(connection, name)
            found = create(connection, name, *arguments)
            _, paused = arguments
            seen.append(paused)
            if after is not None:
                after(connection, name)
            return found

        monkeypatch.setattr(creation, "create_defined", created)
        run_scenario(scenario, tmp_path)
        return seen

    return run


def test_start_with_maps_is_compared_before_it_runs(run):
    async def scenario(runner):
        assert await runner.do(order(vcpu_map=[[0], [1, 2]], memnode_map=[[1]])) is None
        assert await runner.state("vm1") == "running"

    assert run(scenario) == [True]


def test_vcpus_that_differ_are_pinned_again(run):
    async def scenario(runner):
        details = await runner.do(order(vcpu_map=[[0], [2]]))
        assert details == "pinned it again, because vCPU 1 may use the CPUs 3 instead of 2"
        local = await runner.hypervisor._runtime.local()
        assert await local.call(pinning.is_pinned, "vm1", [[0], [2]])
        assert await runner.state("vm1") == "running"

    run(scenario, after=repinned)


def test_vcpus_that_stay_different_undo_the_start(run, monkeypatch):
    async def scenario(runner):
        monkeypatch.setattr(pinning, "pin", lambda *arguments: None)
        with pytest.raises(HypervisorError) as caught:
            await runner.do(order(vcpu_map=[[0], [2]]))
        text = "libvirt started vm1 otherwise: vCPU 1 may use the CPUs 3 instead of 2"
        assert str(caught.value) == text
        assert await runner.state("vm1") is None

    run(scenario, after=repinned)


def test_memory_on_other_nodes_undoes_the_start(run):
    async def scenario(runner):
        with pytest.raises(HypervisorError) as caught:
            await runner.do(order(memnode_map=[[1]]))
        assert str(caught.value) == (
            "libvirt started vm1 otherwise: its memory is bound to the memory nodes 0 instead of "
            "the memory nodes 1; in its definition its memory is bound to the memory nodes 0 "
            "instead of the memory nodes 1"
        )
        assert await runner.state("vm1") is None

    run(scenario, before=bound_elsewhere)


def test_rows_of_vcpus_that_are_offline_are_compared_too(run):
    async def scenario(runner):
        xml = with_uuid().replace("<vcpu>2</vcpu>", "<vcpu current='1'>2</vcpu>")
        start = Start(xml=xml, probe_with_ssh=False, vcpu_map=[[0], [2]])
        assert await runner.do(start) is None
        await runner.do(Stop(vm_name="vm1"))

    run(scenario)


def test_transient_domain_is_compared(run):
    async def scenario(runner):
        start = order(vcpu_map=[[0], [2]], memnode_map=[[1]], transient=True)
        assert await runner.do(start) is None
        assert await runner.state("vm1") == "running"

    run(scenario)


@pytest.mark.parametrize("maps", [{"vcpu_map": [[0], [2]]}, {"memnode_map": [[1]]}])
def test_interrupted_start_is_compared_before_it_runs(run, maps):
    """The daemon was killed when the domain existed, but did not run yet."""

    async def scenario(runner):
        await runner.do(order(vcpu_map=[[0], [2]], memnode_map=[[1]]))
        await runner.do(Suspend(vm_name="vm1"))
        details = await runner.recover(order(**maps), **{PAUSED_RUN: UUID})
        assert details == "found done after the daemon's restart"
        await runner.do(Suspend(vm_name="vm1"))
        if "vcpu_map" in maps:
            await runner.do(Repin(vm_name="vm1", vcpu_map=[[0], [1]]))
            details = await runner.recover(order(**maps), **{PAUSED_RUN: UUID})
            assert "pinned it again, because vCPU 1 may use the CPUs 1 instead of 2" in details
            return
        with pytest.raises(HypervisorError, match="libvirt started vm1 otherwise: its memory"):
            await runner.recover(order(memnode_map=[[0]]), **{PAUSED_RUN: UUID})
        assert await runner.state("vm1") == "paused"

    run(scenario)
