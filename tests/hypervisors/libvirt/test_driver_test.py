"""Tasks without a migration, with libvirt's driver `test`, on any machine."""

import asyncio
import threading

import pytest

from fastlib import Repin, Resume, Start, Stop, Suspend
from fastlib.message.tasks import Migrate, Query
from fastlib.migfra import Context, HypervisorError, TaskCancelledError, TaskExpiredError
from fastlib.migfra.hypervisors.libvirt import HostOptions
from fastlib.migfra.hypervisors.libvirt.connection import connection as connection_module
from fastlib.migfra.hypervisors.libvirt.errors import LostError
from fastlib.migfra.plugin_api.cancel_scope import CancelScope
from fastlib.migfra.plugin_api.cancellation import Cancellation
from fastlib.migfra.plugin_api.expiry import Expiry
from tests.support.clock import StoppedClock
from tests.support.libvirt.driver import domain, run_scenario
from tests.support.mosquitto import PATIENCE, free_port
from tests.support.waiting import try_with_more_time, wait_until_async


def test_domain_starts_pauses_resumes_and_stops(tmp_path):
    async def scenario(runner):
        assert await runner.do(Start(xml=domain(), probe_with_ssh=False)) is None
        assert await runner.state("vm1") == "running"
        with pytest.raises(HypervisorError, match="vm1 runs on node01 already; stop it first"):
            await runner.do(Start(vm_name="vm1"))
        assert await runner.do(Suspend(vm_name="vm1")) is None
        assert await runner.do(Suspend(vm_name="vm1")) == "vm1 was paused already"
        assert await runner.state("vm1") == "paused"
        with pytest.raises(HypervisorError, match=r"vm1 is paused.*resume it first"):
            await runner.do(Stop(vm_name="vm1"))
        assert await runner.do(Resume(vm_name="vm1")) is None
        assert await runner.do(Resume(vm_name="vm1")) == "vm1 was running already"
        assert await runner.do(Stop(vm_name="vm1")) is None
        assert await runner.state("vm1") == "shut off"
        with pytest.raises(HypervisorError, match="vm1 is shut off on node01 already"):
            await runner.do(Stop(vm_name="vm1"))
        with pytest.raises(HypervisorError, match="it is shut off; start it first"):
            await runner.do(Suspend(vm_name="vm1"))
        assert await runner.do(Start(vm_name="vm1", probe_with_ssh=False)) is None
        assert await runner.do(Stop(vm_name="vm1", force=True, undefine=True)) is None
        assert await runner.state("vm1") is None

    run_scenario(scenario, tmp_path)


def test_task_whose_order_has_expired_changes_nothing(tmp_path):
    """Each task reports its begin after its waits and before its first change."""

    def context(expires):
        return Context("node01", expiry=Expiry(expires, clock=StoppedClock(1000.0)))

    async def scenario(runner):
        for task, before, after in (
            (Start(xml=domain(), probe_with_ssh=False), None, "running"),
            (Suspend(vm_name="vm1"), "running", "paused"),
            (Resume(vm_name="vm1"), "paused", "running"),
            (Repin(vm_name="vm1", vcpu_map=[[0], [1]]), "running", "running"),
            (Stop(vm_name="vm1"), "running", "shut off"),
            (Start(vm_name="vm1", probe_with_ssh=False), "shut off", "running"),
            (Stop(vm_name="vm1", force=True, undefine=True), "running", None),
        ):
            late, given = context(1000.0), context(1001.0)
            with pytest.raises(TaskExpiredError):
                await runner.do(task, late)
            assert not late.expiry.begun
            assert await runner.state("vm1") == before
            await runner.do(task, given)
            assert given.expiry.begun
            assert await runner.state("vm1") == after

    run_scenario(scenario, tmp_path)


@pytest.mark.parametrize("kind", [Start, Stop, Suspend, Resume])
def test_task_fails_for_unknown_domain(tmp_path, kind):
    async def scenario(runner):
        with pytest.raises(HypervisorError, match="there is no domain vm9 on node01"):
            await runner.do(kind(vm_name="vm9"))

    run_scenario(scenario, tmp_path)


def test_transient_domain_does_not_exist_after_its_stop(tmp_path):
    async def scenario(runner):
        await runner.do(Start(xml=domain(), transient=True, probe_with_ssh=False))
        await runner.do(Stop(vm_name="vm1"))
        assert await runner.state("vm1") is None

    run_scenario(scenario, tmp_path)


def test_start_sets_size_and_pinning(tmp_path):
    async def scenario(runner):
        await runner.do(
            Start(xml=domain(), memory=32768, vcpus=3, vcpu_map=[[0], [1]], probe_with_ssh=False)
        )
        (found,) = (await runner.do(Query())).domains
        assert (found.memory, found.vcpus) == (32768, 3)
        await runner.do(Repin(vm_name="vm1", vcpu_map=[[1, 2], [3]]))
        assert await runner.recover(Repin(vm_name="vm1", vcpu_map=[[2, 1], [3]]))
        with pytest.raises(HypervisorError, match="are pinned according to the task"):
            await runner.recover(Repin(vm_name="vm1", vcpu_map=[[0], [3]]))
        with pytest.raises(HypervisorError, match="has 4 rows, but vm1 has 3 vCPUs"):
            await runner.do(Repin(vm_name="vm1", vcpu_map=[[0]] * 4))
        with pytest.raises(HypervisorError, match="has CPU 999, but the host has the CPUs 0 to"):
            await runner.do(Repin(vm_name="vm1", vcpu_map=[[999]]))
        await runner.do(Stop(vm_name="vm1"))
        await runner.do(Start(vm_name="vm1", memory=16384, probe_with_ssh=False))
        (found,) = (await runner.do(Query())).domains
        assert (found.memory, found.vcpus) == (16384, 3)

    run_scenario(scenario, tmp_path)


def test_failed_start_restores_the_definition(tmp_path):
    async def scenario(runner):
        await runner.do(Start(xml=domain(), probe_with_ssh=False))
        await runner.do(Stop(vm_name="vm1"))
        cancellation = Cancellation()
        context = runner.context(cancellation)
        start = Start(vm_name="vm1", memory=1024, probe_hostname="127.0.0.1")
        starting = asyncio.ensure_future(runner.do(start, context))
        await wait_until_async(lambda: "probe" in runner.phases)
        cancellation.cancel()
        with pytest.raises(TaskCancelledError):
            await starting
        (found,) = (await runner.do(Query())).domains
        assert (found.state, found.memory) == ("shut off", 65536)

    run_scenario(scenario, tmp_path, probe_port=1)


def test_stop_by_regex_stops_matching_domains(tmp_path):
    async def scenario(runner):
        for name in ("vm1", "vm2", "other"):
            await runner.do(Start(xml=domain(name), probe_with_ssh=False))
        results = await runner.do(Stop(regex="vm[0-9]"))
        assert [(each.vm_name, each.status) for each in results] == [
            ("vm1", "success"),
            ("vm2", "success"),
        ]
        assert await runner.state("other") == "running"
        assert await runner.do(Stop(regex="vm.*")) == "no active domain's name matches 'vm.*'"
        results = await runner.recover(Stop(regex=".*"), names=["vm1", "other"])
        assert [each.status for each in results] == ["success", "error"]

    run_scenario(scenario, tmp_path)


@pytest.mark.parametrize(
    ("greeting", "answer"), [(b"SSH-2.0-x\r\n", None), (b"220 mail\r\n", "another server than SSH")]
)
def test_start_waits_for_ssh_banner(tmp_path, greeting, answer):
    async def scenario(runner):
        async def greet(reader, writer):
            writer.write(greeting)
            await writer.drain()
            writer.close()

        server = await asyncio.start_server(
            greet, "127.0.0.1", runner.hypervisor.options.probe_port
        )
        start = Start(xml=domain(), probe_hostname="127.0.0.1")
        async with server:
            if answer is None:
                assert await runner.do(start) is None
            else:
                with pytest.raises(HypervisorError, match="vm1 runs, but ") as caught:
                    await runner.do(start)
                assert answer in str(caught.value)
        assert await runner.state("vm1") == "running"

    def probe(seconds):
        folder = tmp_path / f"{seconds}"
        folder.mkdir()
        run_scenario(scenario, folder, probe_port=free_port(), start_timeout=seconds)

    try_with_more_time(probe, (60.0,) if answer is None else (1.0, 10.0, 60.0))


@pytest.mark.parametrize("ignored", [False, True])
def test_start_refuses_when_a_node_is_unreachable_unless_ignored(tmp_path, ignored):
    async def scenario(runner):
        starting = runner.do(Start(xml=domain(), probe_with_ssh=False))
        if ignored:
            assert await starting == "node02 could not be queried for vm1"
        else:
            with pytest.raises(HypervisorError, match="vm1 may run on node02 already"):
                await starting
            assert await runner.state("vm1") is None

    nodes = ["node01", "node02"]
    run_scenario(
        scenario, tmp_path, nodes=nodes, connect_timeout=0.5, ignore_unreachable_nodes=ignored
    )


def test_failed_start_keeps_domain_that_another_one_started(tmp_path, monkeypatch):
    """Another program starts the domain between the last check and this start."""
    from fastlib.migfra.hypervisors.libvirt.domain import creation

    create = creation.create_defined

    def started_by_another(connection, name, uuid, paused):
        connection.lookupByName(name).create()
        return create(connection, name, uuid, paused)

    async def scenario(runner):
        monkeypatch.setattr(creation, "create_defined", started_by_another)
        with pytest.raises(HypervisorError):
            await runner.do(Start(xml=domain(), probe_with_ssh=False))
        assert await runner.state("vm1") == "running"

    run_scenario(scenario, tmp_path)


def test_resume_refuses_domain_left_paused_by_a_migration(tmp_path, monkeypatch):
    """It may run on the other host. Only a check of that host can find out."""
    from fastlib.migfra.hypervisors.libvirt.domain import control

    async def scenario(runner):
        await runner.do(Start(xml=domain(), probe_with_ssh=False))
        await runner.do(Suspend(vm_name="vm1"))
        monkeypatch.setattr(control, "PAUSED_FOR_MIGRATION", 1)  # the driver knows no other reason
        with pytest.raises(HypervisorError, match="vm1 is paused on"):
            await runner.do(Resume(vm_name="vm1"))
        assert await runner.state("vm1") == "paused"

    run_scenario(scenario, tmp_path)


def test_failed_connections_leave_no_threads(tmp_path):
    async def scenario(runner):
        connections = runner.hypervisor._runtime.connections
        with pytest.raises(HypervisorError):
            await connections.get("node02", transport="tcp")
        before = {thread.name for thread in threading.enumerate()}
        for _ in range(3):
            with pytest.raises(HypervisorError):
                await connections.get("node02", transport="tcp")
        await wait_until_async(
            lambda: {t.name for t in threading.enumerate()} <= before | {"asyncio_0"}
        )

    run_scenario(
        scenario,
        tmp_path,
        transports=["tcp"],
        hosts={"node02": HostOptions(address="127.0.0.1")},
        port=1,
    )


def test_call_fails_on_connection_that_another_task_closed(tmp_path):
    async def scenario(runner):
        connection = await runner.hypervisor._runtime.local()
        await connection.close()
        with pytest.raises(LostError, match="the connection to libvirt on node01 was lost"):
            await connection.call(lambda raw: raw.getHostname())

    run_scenario(scenario, tmp_path)


def test_recover_reports_the_outcome_of_each_task(tmp_path):
    async def scenario(runner):
        with pytest.raises(HypervisorError, match="the daemon ended while this was in progress"):
            await runner.recover(Start(vm_name="vm1"))
        assert await runner.recover(Stop(vm_name="vm1"))
        await runner.do(Start(xml=domain(), probe_with_ssh=False))
        assert await runner.recover(Start(xml=domain()))
        assert await runner.recover(Resume(vm_name="vm1"))
        with pytest.raises(HypervisorError, match="vm1 runs on node01"):
            await runner.recover(Suspend(vm_name="vm1"))
        with pytest.raises(HypervisorError, match="vm1 runs on node01"):
            await runner.recover(Stop(vm_name="vm1"))
        with pytest.raises(HypervisorError, match="before vm1 began to migrate; vm1 runs on"):
            await runner.recover(Migrate(vm_name="vm1", destination="node02"))

    run_scenario(scenario, tmp_path)


def test_task_that_waits_for_its_domain_can_be_cancelled(tmp_path):
    async def scenario(runner):
        await runner.do(Start(xml=domain(), probe_with_ssh=False))
        cancellation = Cancellation()

        with CancelScope(runner.context()) as scope:
            async with runner.hypervisor._runtime.locks.hold("vm1", scope):
                waiting = asyncio.ensure_future(
                    runner.do(Suspend(vm_name="vm1"), runner.context(cancellation))
                )
                await asyncio.sleep(0)
                cancellation.cancel()
                with pytest.raises(TaskCancelledError):
                    await waiting
                other = asyncio.ensure_future(runner.do(Suspend(vm_name="vm1")))
                await asyncio.sleep(0)
                assert not other.done()
        await other
        assert await runner.state("vm1") == "paused"

    run_scenario(scenario, tmp_path)


def test_connection_is_closed_by_the_last_call_that_uses_it(tmp_path, monkeypatch):
    """libvirt frees a closed connection, so a call on it would end the process."""
    closed = []
    monkeypatch.setattr(connection_module, "_close", closed.append)
    goes_on, begun = threading.Event(), threading.Event()

    def hang(*raws):
        begun.set()
        goes_on.wait(PATIENCE)
        return [raw.getHostname() for raw in raws], list(closed)

    async def scenario(runner):
        own = runner.hypervisor._runtime.connections.own
        async with own("node01", None, None) as source, own("node01", None, None) as destination:
            calls = [source.submit(hang), source.submit_with(destination, hang)]
            await asyncio.to_thread(begun.wait, PATIENCE)
        assert closed == [], "both have left their blocks"
        goes_on.set()
        for call in calls:
            _, closed_meanwhile = await asyncio.wrap_future(call)
            assert len(closed_meanwhile) < 2
        await wait_until_async(lambda: len(closed) == 2)
        assert closed[0] is not closed[1]
        with pytest.raises(LostError):
            source.submit_with(destination, hang)

    run_scenario(scenario, tmp_path)
