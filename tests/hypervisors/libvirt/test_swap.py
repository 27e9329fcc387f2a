"""Swaps of two domains: their order by the room on both hosts, and the state after a failure.

The hosts are fakes (see fake_libvirt.py) and time is virtual.
"""

import asyncio

import pytest

from fastlib import Migrate, MigrateParameter, SwapWith
from fastlib.migfra import FinalError, HypervisorError, TaskCancelledError
from fastlib.migfra.hypervisors.libvirt.domain import control
from fastlib.migfra.hypervisors.libvirt.migration import migration
from fastlib.migfra.hypervisors.libvirt.tasks.migrate import migrate
from fastlib.migfra.virt.memory_needs import HostNode
from tests.support.libvirt.fake_domain import RUNNING, SHUT_OFF, FakeDomain, refusal
from tests.support.libvirt.fake_libvirt import FakeHosts
from tests.support.virtual_time import run_bounded


class Swapping(FakeHosts):
    """Two hosts, vm1 on the first, vm2 on the second, and migrations that take ten seconds."""

    def __init__(self, **options):
        super().__init__(**options)
        self.partner = self.destination.add(FakeDomain("vm2"))
        self.errors = {}
        """What the migration of a domain raises at its end."""
        self.moves = []
        """The begin of each migration, by virtual time."""

    def room(self, first, second):
        """Set the free memory of both hosts, in KiB; each domain has 1024."""
        self.source.free, self.destination.free = first, second

    async def run_migration(self, runtime, spec, arguments, scope, context):
        self.moves.append((spec.name, asyncio.get_running_loop().time()))
        await scope.sleep(10)
        if spec.name in self.errors:
            raise self.errors[spec.name]
        hosts = {"node01": self.source, "node02": self.destination}
        hosts[spec.destination].add(hosts[spec.source].domains.pop(spec.name))

    async def swap(self, vm_name="vm2", **parameter):
        partner = SwapWith(vm_name=vm_name)
        task = Migrate(
            vm_name="vm1",
            destination="node02",
            parameter=MigrateParameter(swap_with=partner, **parameter),
        )
        return (await migrate(self.runtime, task, self.context)).details

    async def error(self, kind=HypervisorError, **parameter):
        with pytest.raises(HypervisorError) as caught:
            await self.swap(**parameter)
        assert type(caught.value) is kind
        return str(caught.value)

    @property
    def places(self):
        """The active domains of both hosts."""
        return [
            sorted(name for name, each in host.domains.items() if each.isActive())
            for host in (self.source, self.destination)
        ]


@pytest.fixture
def run(monkeypatch):
    """Run a scenario with a swap, whose migrations are computed."""

    def run(scenario, **options):
        async def main():
            swapping = Swapping(**options)
            monkeypatch.setattr(migration, "run_migration", swapping.run_migration)
            await scenario(swapping)

        run_bounded(main())

    return run


BEFORE = [["vm1"], ["vm2"]]
SWAPPED = [["vm2"], ["vm1"]]


@pytest.mark.parametrize(
    ("room", "begins"),
    [
        ((2000, 2000), [("vm1", 0), ("vm2", 0)]),
        ((0, 2000), [("vm1", 0), ("vm2", 10)]),
        ((2000, 0), [("vm2", 0), ("vm1", 10)]),
    ],
)
def test_swap_order_follows_the_room(run, room, begins):
    async def scenario(hosts):
        hosts.room(*room)
        assert await hosts.swap() is None
        assert hosts.places == SWAPPED
        assert hosts.moves == begins

    run(scenario)


def test_swap_without_room_saves_one_domain(run, tmp_path):
    async def scenario(hosts):
        hosts.room(0, 0)
        assert await hosts.swap() is None
        assert hosts.places == SWAPPED
        assert len(hosts.moves) == 1
        assert [call for call in hosts.calls if "save" in call or "restore" in call] in (
            ["node01: save", "node02: restore"],
            ["node02: save", "node01: restore"],
        )
        assert list(tmp_path.iterdir()) == []

    run(scenario, snapshot_directory=str(tmp_path))


def test_swap_without_room_needs_snapshot_directory(run):
    async def scenario(hosts):
        hosts.room(0, 0)
        assert "name a folder that all hosts share as snapshot-directory" in await hosts.error()
        assert hosts.places == BEFORE

    run(scenario)


def test_swap_fails_when_a_host_is_too_small(run):
    async def scenario(hosts):
        hosts.room(2000, 0)
        hosts.domain.memory = 4096
        assert await hosts.error() == (
            "node02 has too little memory for vm1 even without vm2; nothing was swapped"
        )
        assert hosts.moves == []

    run(scenario)


PAGES = "<memoryBacking><hugepages><page size='8' unit='KiB'/></hugepages></memoryBacking>"


@pytest.mark.parametrize(
    ("pages", "begins"),
    [
        ((128, 128), [("vm1", 0), ("vm2", 0)]),
        ((127, 128), [("vm1", 0), ("vm2", 10)]),
        ((128, 127), [("vm2", 0), ("vm1", 10)]),
    ],
)
def test_swap_order_follows_the_free_huge_pages(run, pages, begins):
    """Neither host has other memory free."""

    async def scenario(hosts):
        hosts.room(0, 0)
        for host, free in zip((hosts.source, hosts.destination), pages, strict=True):
            host.set_nodes(HostNode(total=1 << 20, pages={8: 1024}, free_pages={8: free}))
        hosts.domain.above_devices = hosts.partner.above_devices = PAGES
        assert await hosts.swap() is None
        assert hosts.places == SWAPPED
        assert hosts.moves == begins

    run(scenario)


def test_swap_fails_without_huge_pages_also_after_the_partner_has_left(run):
    async def scenario(hosts):
        for host in (hosts.source, hosts.destination):
            host.set_nodes(HostNode(total=1 << 20, pages={8: 1024}, free_pages={8: 100}))
        hosts.domain.above_devices = hosts.partner.above_devices = PAGES
        hosts.domain.memory = 1832
        hosts.partner.memory = 1023
        text = await hosts.error()
        assert (
            "node02 has 228 huge pages of 8 KiB free on its memory node 0, but vm1 needs 229"
            in (text)
        )
        assert text.endswith("; the memory of vm2 counts as free; nothing was swapped")
        assert hosts.moves == []

    run(scenario)


def test_swap_looks_for_memory_on_the_nodes_of_the_map(run):
    async def scenario(hosts):
        nodes = [
            HostNode(total=1 << 20, pages={8: 1024}, free_pages={8: free}) for free in (256, 0)
        ]
        for host in (hosts.source, hosts.destination):
            host.set_nodes(*nodes)
        hosts.domain.above_devices = hosts.partner.above_devices = PAGES
        text = await hosts.error(memnode_map=[[2]])
        assert "the memnode-map has memory node 2, but node02 has 0,1" in text
        # The fakes have no memory nodes, so it arrives on others.
        assert "bound to no memory nodes" in await hosts.error(FinalError, memnode_map=[[1]])
        assert hosts.moves == [("vm2", 0), ("vm1", 10)]

    run(scenario)


def test_reserved_memory_counts_as_occupied(run):
    async def scenario(hosts):
        hosts.room(2000, 1999)
        await hosts.swap()
        assert hosts.moves == [("vm2", 0), ("vm1", 10)]

    run(scenario, reserved_memory=1000 - 24)


def test_swap_needs_a_running_partner(run):
    async def scenario(hosts):
        hosts.partner.state_now = [SHUT_OFF, 1]
        assert await hosts.error() == "vm2 does not run on node02; nothing was swapped"

    run(scenario)


def test_swap_checks_both_before_it_begins(run):
    async def scenario(hosts):
        hosts.destination.add(FakeDomain("vm1", SHUT_OFF, 0)).uuid = "another"
        text = await hosts.error()
        assert "did not migrate to node02: node02 has another domain with the name vm1" in text
        assert text.endswith("; nothing was swapped")
        assert hosts.moves == []

    run(scenario)


@pytest.mark.parametrize("room", [1 << 20, 512])
@pytest.mark.parametrize("host", ["node01", "node02"])
def test_swap_is_refused_if_it_would_leave_an_old_saved_image(run, tmp_path, room, host):
    """In parallel, and with one domain on storage."""

    async def scenario(hosts):
        hosts.room(room, room)
        image = "<domain><memory>1024</memory></domain>"
        {"node01": hosts.source, "node02": hosts.destination}[host].images_left_behind.update(
            {"vm2" if host == "node01" else "vm1": image}
        )
        calls = list(hosts.calls)
        text = await hosts.error()
        assert f"{host} has a saved image of vm" in text
        assert text.endswith("; nothing was swapped")
        assert hosts.calls == calls
        assert hosts.places == [["vm1"], ["vm2"]]

    run(scenario, snapshot_directory=str(tmp_path))


def test_parallel_swap_cancels_the_partner_after_a_failure(run):
    async def scenario(hosts):
        hosts.errors["vm1"] = HypervisorError("the link broke")

        async def longer(runtime, spec, arguments, scope, context):
            await scope.sleep(0 if spec.name == "vm1" else 100)
            await hosts.run_migration(runtime, spec, arguments, scope, context)

        migration.run_migration = longer
        assert await hosts.error() == (
            "the swap failed: vm1 did not migrate to node02: the link broke; vm1 runs on node01; "
            "given up with its partner; vm2 runs on node02"
        )
        assert hosts.places == BEFORE

    run(scenario)


def test_parallel_swap_is_final_when_one_arrived(run):
    async def scenario(hosts):
        hosts.errors["vm2"] = HypervisorError("the link broke")

        async def longer(runtime, spec, arguments, scope, context):
            await scope.sleep(0 if spec.name == "vm1" else 5)
            await hosts.run_migration(runtime, spec, arguments, scope, context)

        migration.run_migration = longer
        assert await hosts.error(FinalError) == (
            "the swap failed: vm2 did not migrate to node01: the link broke; vm2 runs on node02; "
            "vm1 runs on node02"
        )

    run(scenario)


@pytest.mark.parametrize("room", [(2000, 2000), (0, 2000)])
def test_cancelled_swap_leaves_both_domains(run, room):
    async def scenario(hosts):
        hosts.room(*room)
        asyncio.get_running_loop().call_later(5, hosts.cancellation.cancel)
        kind = TaskCancelledError if room[0] else HypervisorError
        with pytest.raises(HypervisorError, match="cancelled; vm1 runs on node01") as caught:
            await hosts.swap()
        assert isinstance(caught.value, kind)
        assert hosts.places == BEFORE

    run(scenario)


def test_swap_in_turn_is_final_when_the_second_fails(run):
    async def scenario(hosts):
        hosts.room(0, 2000)
        hosts.errors["vm2"] = HypervisorError("the link broke")
        assert await hosts.error(FinalError) == (
            "the swap failed: vm2 did not migrate to node01: the link broke; vm2 runs on node02; "
            "vm1 runs on node02"
        )

    run(scenario)


def test_swap_in_turn_reports_problem_after_arrival(run):
    async def scenario(hosts):
        hosts.room(0, 2000)
        hosts.domain.starts_with_host = True
        hosts.domain.refuses["autostart"] = refusal("OPERATION_FAILED", "no")
        text = await hosts.error(FinalError)
        assert text.startswith(
            "the swap failed: vm1 runs on node02, but could not enable its autostart"
        )
        assert text.endswith("; vm2 runs on node01")
        assert hosts.places == SWAPPED

    run(scenario)


def test_swap_via_storage_restores_on_source_when_the_partner_fails(run, tmp_path):
    async def scenario(hosts):
        hosts.room(24, 24)
        hosts.domain.memory = 1000  # the smaller one is saved
        hosts.errors["vm2"] = HypervisorError("the link broke")
        text = await hosts.error()
        assert text == (
            "the swap failed: vm2 did not migrate to node01: the link broke; vm2 runs on node02; "
            "vm1 runs on node01"
        )
        assert hosts.places == BEFORE
        assert list(tmp_path.iterdir()) == []

    run(scenario, snapshot_directory=str(tmp_path))


def test_swap_via_storage_is_final_when_the_restore_fails(run, tmp_path):
    async def scenario(hosts):
        hosts.room(24, 24)
        hosts.domain.memory = 1000
        hosts.destination.refuses["restore"] = refusal("OPERATION_FAILED", "no memory")
        text = await hosts.error(FinalError)
        assert text.startswith("the swap failed: vm1 could not be restored on node02: libvirt on")
        assert text.endswith("; vm1 runs on node01; vm2 runs on node01")

    run(scenario, snapshot_directory=str(tmp_path))


def test_swap_via_storage_reports_problem_of_the_partner(run, tmp_path):
    async def scenario(hosts):
        hosts.room(24, 24)
        hosts.domain.memory = 1000
        hosts.partner.starts_with_host = True
        hosts.partner.refuses["autostart"] = refusal("OPERATION_FAILED", "no")
        text = await hosts.error(FinalError)
        assert text.startswith(
            "the swap failed: vm2 runs on node01, but could not enable its autostart"
        )
        assert text.endswith("; vm1 runs on node02")

    run(scenario, snapshot_directory=str(tmp_path))


def test_unexpected_error_of_a_swap_is_raised(run, monkeypatch):
    def broken(connection, name):
        raise ZeroDivisionError

    async def scenario(hosts):
        monkeypatch.setattr(control, "ensure_running", broken)
        with pytest.raises(ZeroDivisionError):
            await hosts.swap()

    run(scenario)


def test_migrate_without_swap_moves_one_domain(run):
    async def scenario(hosts):
        task = Migrate(vm_name="vm1", destination="node02")
        assert (await migrate(hosts.runtime, task, hosts.context)).details is None
        assert hosts.places == [[], ["vm1", "vm2"]]
        assert hosts.domain.state_now[0] == RUNNING

    run(scenario)
