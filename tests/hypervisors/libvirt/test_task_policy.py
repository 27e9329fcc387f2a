"""The choices of tasks: drivers, transports and destinations that the configuration allows."""

import pytest

from fastlib import Evacuate, Migrate, Start, Stop
from fastlib.message.tasks import EvacuateParameter, MigrateParameter, Query, SwapWith
from fastlib.migfra import HypervisorError
from fastlib.migfra.hypervisors.libvirt import HostOptions, LibvirtHypervisor, LibvirtOptions
from fastlib.migfra.hypervisors.libvirt.connection import connection
from fastlib.migfra.hypervisors.libvirt.connection.pool import ConnectionPool
from fastlib.migfra.plugin_api.hypervisor import NodeContext
from tests.support.libvirt.driver import domain, run_scenario

NODE = NodeContext("node01")


def pool(**options) -> ConnectionPool:
    return ConnectionPool("node01", LibvirtOptions(**options), NODE.log)


@pytest.mark.parametrize("driver", ["lxctools", "lxc", "xen"])
def test_task_cannot_choose_another_driver(driver):
    with pytest.raises(HypervisorError, match=f"the driver '{driver}'.* add it to drivers"):
        pool().uri("node01", driver, None)
    assert pool(drivers=[driver]).uri("node01", driver, None).startswith(f"{driver}://")
    assert pool(driver=driver).uri("node01", driver, None).startswith(f"{driver}://")


@pytest.mark.parametrize("transport", ["tcp", "tls"])
def test_task_cannot_choose_another_transport(transport):
    with pytest.raises(HypervisorError, match=f"the transport '{transport}'.* to transports"):
        pool().uri("node02", None, transport)
    allowed = pool(transports=[transport])
    assert allowed.uri("node02", None, transport) == f"qemu+{transport}://node02/system"
    assert allowed.uri("node02", None, None).startswith("qemu+ssh://")


@pytest.mark.parametrize(
    ("options", "host", "allowed"),
    [
        ({}, "anything", True),
        ({"nodes": ["node02"]}, "NODE02.", True),
        ({"nodes": ["node02"]}, "node03", False),
        ({"nodes": ["node02"]}, "10.0.0.9", False),
        ({"nodes": ["node02"]}, "node02.evil.example", False),
        ({"nodes": ["node02"], "destinations": ["node03"]}, "node03", True),
        ({"nodes": ["fe80::1"]}, "[FE80:0::1]", True),
        ({"destinations": []}, "node02", False),
        ({"nodes": ["node02"], "hosts": {"evil": HostOptions(address="10.0.0.9")}}, "evil", False),
    ],
)
def test_daemon_connects_only_to_allowed_hosts(options, host, allowed):
    uris = pool(**options)
    if allowed:
        assert uris.uri(host, None, None)
        assert uris.outer_uri(host, None, None)
        return
    for uri in (uris.uri, uris.outer_uri):
        with pytest.raises(HypervisorError, match="not a destination that the configuration"):
            uri(host, None, None)


def test_node_that_is_not_a_destination_is_only_queried():
    """The daemon asks `nodes` for a domain, also if no task may move a domain to them."""
    options = LibvirtOptions(nodes=["node02"], destinations=["node03"])
    assert pool(nodes=["node02"], destinations=["node03"]).uri("node02", None, None)
    runtime = LibvirtHypervisor(options, NODE)._runtime
    runtime.check_destinations(["node03", "node01", "localhost"])
    with pytest.raises(HypervisorError, match=r"'node02' is not .* add it to destinations"):
        runtime.check_destinations(["node03", "node02"])


ADDRESS = "10.0.0.66"
TASKS = [
    Migrate(vm_name="vm1", destination=ADDRESS),
    Migrate(vm_name="vm1", destination=ADDRESS, parameter=MigrateParameter(transport="tcp")),
    Migrate(
        vm_name="vm1",
        destination=ADDRESS,
        parameter=MigrateParameter(swap_with=SwapWith(vm_name="vm2")),
    ),
    Migrate(
        vm_name="vm1", destination="node02", parameter=MigrateParameter(transport="tcp")
    ),
    Evacuate(destinations=["node02", ADDRESS]),
    Evacuate(destinations=["node02"], parameter=EvacuateParameter(transport="tcp")),
    Evacuate(destinations=["node02"], driver="lxc"),
    Start(xml=domain("vm2"), driver="lxc", probe_with_ssh=False),
    Stop(vm_name="vm1", driver="xen"),
    Query(driver="xen"),
]  # fmt: skip


def test_refused_tasks_open_no_connection(tmp_path, monkeypatch):
    """An attack with `transport: tcp` and an address must not reach the network."""

    async def scenario(runner):
        await runner.do(Start(xml=domain(), probe_with_ssh=False))
        opened = []

        async def record(self):
            opened.append(self.uri)
            raise HypervisorError("opened")

        monkeypatch.setattr(connection.Connection, "open", record)
        for task in TASKS:
            with pytest.raises(HypervisorError, match="the configuration"):
                await runner.do(task)
        assert opened == []

    run_scenario(scenario, tmp_path, nodes=["node02"], ignore_unreachable_nodes=True)
