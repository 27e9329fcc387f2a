"""The evacuation of a host: one migration for each active domain, with retries, and its recovery.

The hosts are fakes (see fake_libvirt.py) and time is virtual.
"""

import asyncio
import itertools

import pytest
from msgspec.structs import replace

from fastlib import Evacuate, EvacuateParameter
from fastlib.migfra import FinalError, HypervisorError, TaskCancelledError
from fastlib.migfra.hypervisors.libvirt.domain.volumes import Room
from fastlib.migfra.hypervisors.libvirt.migration import migration
from fastlib.migfra.hypervisors.libvirt.tasks import evacuation_disks
from fastlib.migfra.hypervisors.libvirt.tasks.evacuation import evacuate
from fastlib.migfra.plugin_api.cancel_scope import CancelScope
from fastlib.migfra.virt.memory_needs import HostNode
from tests.support.libvirt.fake_domain import SHUT_OFF, FakeDomain
from tests.support.libvirt.fake_libvirt import FakeHost, FakeHosts
from tests.support.virtual_time import run_bounded


class Evacuation(FakeHosts):
    """Two hosts, and the errors that the next migrations of a domain raise."""

    def __init__(self, **options):
        super().__init__(**options)
        self.errors = {}
        self.moves = []
        """When each migration began, by virtual time."""

    async def run_migration(self, runtime, spec, arguments, scope, context):
        self.moves.append((spec.name, asyncio.get_running_loop().time()))
        if self.errors.get(spec.name):
            raise self.errors[spec.name].pop(0)
        self.destination.add(self.source.domains.pop(spec.name))

    async def evacuate(self, *, vm_name=None, destinations=("node02",), **parameter):
        task = Evacuate(
            destinations=destinations, vm_name=vm_name, parameter=EvacuateParameter(**parameter)
        )
        results = await evacuate(self.runtime, task, self.context)
        if isinstance(results, str):
            return results
        return {result.vm_name: (result.status, result.details) for result in results}


@pytest.fixture
def run(monkeypatch):
    """Run a scenario with an evacuation, whose migrations are computed."""

    def run(scenario, **options):
        async def main():
            evacuation = Evacuation(**options)
            monkeypatch.setattr(migration, "run_migration", evacuation.run_migration)
            await scenario(evacuation)

        run_bounded(main())

    return run


def test_evacuation_moves_each_active_domain(run):
    async def scenario(evacuation):
        evacuation.source.add(FakeDomain("vm2"))
        evacuation.source.add(FakeDomain("off", SHUT_OFF, 0))
        assert await evacuation.evacuate() == {"vm1": ("success", None), "vm2": ("success", None)}
        assert set(evacuation.destination.domains) == {"vm1", "vm2"}
        assert evacuation.context.saved_state["placements"] == {"vm1": "node02", "vm2": "node02"}

    run(scenario)


def test_evacuation_moves_only_the_named_domain(run):
    async def scenario(evacuation):
        evacuation.source.add(FakeDomain("vm2"))
        assert set(await evacuation.evacuate(vm_name="vm2")) == {"vm2"}
        with pytest.raises(HypervisorError, match="vm9 is not active on node01"):
            await evacuation.evacuate(vm_name="vm9")

    run(scenario)


def test_evacuation_avoids_a_host_with_an_old_saved_image(run):
    async def scenario(evacuation):
        evacuation.destination.images_left_behind["vm1"] = "<domain><memory>1</memory></domain>"
        stays = "vm1 stays on node01: node02 has an old saved image of vm1; delete it there"
        assert await evacuation.evacuate() == {"vm1": ("error", stays)}
        assert evacuation.moves == []

    run(scenario)


def test_evacuation_avoids_a_host_without_free_huge_pages(run):
    async def scenario(evacuation):
        pages = "<memoryBacking><hugepages><page size='8' unit='KiB'/></hugepages></memoryBacking>"
        evacuation.domain.above_devices = pages
        node = HostNode(total=1 << 20, pages={8: 1024}, free_pages={8: 127})
        evacuation.destination.set_nodes(node)
        [(status, details)] = (await evacuation.evacuate()).values()
        assert status == "error"
        assert details.startswith(
            "vm1 stays on node01: node02 has 127 huge pages of 8 KiB free on its memory node 0, "
            "but vm1 needs 128 there"
        )
        # Huge pages are no normal memory.
        evacuation.destination.free = 0
        evacuation.destination.set_nodes(replace(node, free_pages={8: 128}))
        assert await evacuation.evacuate() == {"vm1": ("success", None)}

    run(scenario)


def test_room_for_copies_of_disks_is_read_from_both_hosts(run, monkeypatch):
    mib = 1 << 20

    def read(connection, folder):
        if folder == "/b":
            raise HypervisorError("there is no such folder")
        return Room(total=100 * mib, free=70 * mib)

    async def scenario(evacuation):
        monkeypatch.setattr(evacuation_disks, "read_room", read)
        disks = {"vda": "/a/1", "vdb": "/a/2", "vdc": "/b/3"}
        evacuation.domain.disks = disks
        evacuation.domain.devices = [
            f"<disk type='file'><source file='{path}'/><target dev='{target}'/></disk>"
            for target, path in disks.items()
        ]
        evacuation.domain.devices.append(
            "<disk type='block'><source dev='/dev/sda'/><target dev='vdd'/></disk>"
        )
        evacuation.source.files = {path: bytes(size) for size, path in enumerate(disks.values())}
        source, names = evacuation.source, ["vm1", "gone"]
        sizes = evacuation_disks.read_disk_sizes(source, names, None)
        assert sizes == {"vm1": {"/a": 1, "/b": 2}}
        some = evacuation_disks.read_disk_sizes(source, names, ["vdb"])
        assert some == {"vm1": {"/a": 1}}
        there = await evacuation.runtime.connections.get("node02")
        rooms = await evacuation_disks.read_disk_rooms(there, sizes.values(), evacuation.context)
        assert rooms == {"/a": 70 * mib}
        # The check of the migration decides in the end.
        [(status, details)] = (await evacuation.evacuate(copy_storage="all")).values()
        assert status == "error"
        assert "vm1 did not migrate to node02" in details

    run(scenario)


def test_evacuation_of_empty_host_reports_no_domains(run):
    async def scenario(evacuation):
        del evacuation.source.domains["vm1"]
        assert await evacuation.evacuate() == "no domain is active on node01"
        evacuation.source.add(FakeDomain("vm3", SHUT_OFF)).saved_image = "<domain/>"
        assert await evacuation.evacuate() == (
            "no domain is active on node01; the saved images of vm3 stay there"
        )

    run(scenario)


def test_evacuation_retries_with_doubling_pauses(run):
    async def scenario(evacuation):
        evacuation.errors["vm1"] = [HypervisorError("it broke")] * 7
        assert await evacuation.evacuate(retry_counter=7) == {"vm1": ("success", "7")}
        times = [time for _, time in evacuation.moves]
        pauses = [later - earlier for earlier, later in itertools.pairwise(times)]
        assert pauses == pytest.approx([1, 2, 4, 8, 16, 30, 30])
        assert evacuation.phases.count("retry") == 7

    run(scenario)


def test_evacuation_reports_last_error_without_retries_left(run):
    async def scenario(evacuation):
        evacuation.errors["vm1"] = [HypervisorError("first"), HypervisorError("second")]
        found = await evacuation.evacuate(retry_counter=1)
        assert found == {
            "vm1": ("error", "vm1 did not migrate to node02: second; vm1 runs on node01")
        }
        assert len(evacuation.moves) == 2

    run(scenario)


@pytest.mark.parametrize("kind", [FinalError, TaskCancelledError])
def test_evacuation_does_not_retry_final_errors(run, kind):
    async def scenario(evacuation):
        evacuation.errors["vm1"] = [kind("it must not be repeated")]
        ((status, details),) = (await evacuation.evacuate(retry_counter=3)).values()
        assert status == "error"
        assert "it must not be repeated" in details
        assert len(evacuation.moves) == 1

    run(scenario)


def test_evacuation_ends_a_pause_when_cancelled(run):
    async def scenario(evacuation):
        evacuation.errors["vm1"] = [HypervisorError("it broke")] * 9
        loop = asyncio.get_running_loop()
        loop.call_later(2.5, evacuation.cancellation.cancel)
        assert await evacuation.evacuate(retry_counter=9) == {"vm1": ("error", "cancelled")}
        assert loop.time() == pytest.approx(2.5)

    run(scenario)


def test_evacuation_skips_domain_that_was_shut_off_in_the_meantime(run):
    async def scenario(evacuation):
        evacuation.errors["vm1"] = [HypervisorError("it broke")]

        def shut_off():
            evacuation.domain.state_now = [SHUT_OFF, 1]

        asyncio.get_running_loop().call_later(0.5, shut_off)
        found = await evacuation.evacuate(retry_counter=3)
        assert found == {"vm1": ("success", "vm1 has been shut off in the meantime")}

    run(scenario)


def test_evacuation_reports_unexpected_error_as_result(run):
    async def scenario(evacuation):
        evacuation.errors["vm1"] = [ValueError("a mistake")]
        ((status, details),) = (await evacuation.evacuate()).values()
        assert status == "error"
        assert "ValueError: a mistake" in details

    run(scenario)


def test_evacuation_reports_domains_without_room(run):
    async def scenario(evacuation):
        evacuation.destination.free = 1000  # the domain has 1024 KiB
        found = await evacuation.evacuate()
        assert found == {
            "vm1": ("error", "vm1 stays on node01: node02 has 1000 KiB free of 1024 KiB needed")
        }

    run(scenario)


def test_evacuation_refuses_unreachable_destinations(run):
    async def scenario(evacuation):
        evacuation.destination.is_there = False
        with pytest.raises(HypervisorError, match=r"no destination .* node02 is away"):
            await evacuation.evacuate()
        with pytest.raises(HypervisorError, match="name others than the host itself"):
            await evacuation.evacuate(destinations=["node01"])
        with pytest.raises(HypervisorError, match="running domains do not migrate offline"):
            await evacuation.evacuate(migration_type="offline")

    run(scenario)


# Hosts under several names

OWN_UUID, OTHER_UUID = (
    "c65f1cf1-7787-5327-b1c0-7ebdbf57fdd6",
    "0b0e1cf1-7787-5327-b1c0-7ebdbf57fdd6",
)


def with_names(evacuation, *, own=(), other=()):
    """Make names lead to the host itself and to the other one."""
    evacuation.source.set_host_uuid(OWN_UUID)
    evacuation.destination.set_host_uuid(OTHER_UUID)
    hosts = evacuation.runtime.connections.hosts
    hosts.update(dict.fromkeys(own, evacuation.source))
    hosts.update(dict.fromkeys(other, evacuation.destination))


def test_evacuation_leaves_out_the_host_itself_under_any_name(run):
    async def scenario(evacuation):
        with_names(evacuation, own=["alias", "node01.example.org"])
        names = ["NODE01", "node01.", "localhost", "alias", "node01.example.org"]
        found = await evacuation.evacuate(destinations=[*names, "node02"])
        assert found == {"vm1": ("success", None)}
        assert set(evacuation.destination.domains) == {"vm1"}

    run(scenario)


def test_evacuation_to_the_host_itself_alone_is_refused(run):
    async def scenario(evacuation):
        with_names(evacuation, own=["alias"])
        with pytest.raises(
            HypervisorError, match=r"there is no destination.*alias is node01 itself"
        ):
            await evacuation.evacuate(destinations=["alias"])

    run(scenario)


def test_evacuation_counts_a_destination_once(run):
    async def scenario(evacuation):
        with_names(evacuation, other=["alias"])
        evacuation.source.add(FakeDomain("vm2"))
        evacuation.destination.free = 1500  # each domain has 1024 KiB
        found = await evacuation.evacuate(destinations=["node02", "alias"])
        assert [status for status, _ in found.values()] == ["success", "error"]
        assert "node02 has 476 KiB free of 1024 KiB needed" in found["vm2"][1]
        assert "alias" not in found["vm2"][1]

    run(scenario)


def test_evacuation_refuses_a_host_with_the_same_uuid(run):
    async def scenario(evacuation):
        with_names(evacuation)
        evacuation.destination.set_host_uuid(OWN_UUID)
        with pytest.raises(HypervisorError, match=r"have the same host UUID.*set host_uuid"):
            await evacuation.evacuate()

    run(scenario)


# Domains that are not here any more


async def evacuate_beside(evacuation, meanwhile, **options):
    """Evacuate while another task holds the domain's lock and changes the domain."""
    scope = CancelScope()
    async with asyncio.TaskGroup() as group:
        with scope:
            async with evacuation.runtime.exclusive("vm1", None, scope):
                evacuating = group.create_task(evacuation.evacuate(**options))
                await asyncio.sleep(1)
                meanwhile()
    return evacuating.result()["vm1"]


def move_away(evacuation):
    evacuation.destination.add(evacuation.source.domains.pop("vm1"))


def test_evacuation_reports_where_a_domain_went_in_the_meantime(run):
    async def scenario(evacuation):
        found = await evacuate_beside(evacuation, lambda: move_away(evacuation))
        assert found == ("success", "vm1 has left in the meantime: it runs on node02")

    run(scenario)


def test_second_evacuation_says_where_the_first_one_moved_a_domain(run):
    async def scenario(evacuation):
        both = await asyncio.gather(evacuation.evacuate(), evacuation.evacuate())
        assert sorted(found["vm1"] for found in both if found["vm1"][1] is not None) == [
            ("success", "vm1 has left in the meantime: it runs on node02")
        ]
        assert len(evacuation.moves) == 1

    run(scenario)


def test_evacuation_finds_a_domain_that_went_to_none_of_its_destinations(run):
    """Another task of this daemon has moved it."""

    async def scenario(evacuation):
        third = evacuation.runtime.connections.hosts["node03"] = FakeHost("node03", lambda _: None)

        def move():
            third.add(evacuation.source.domains.pop("vm1"))
            evacuation.runtime.moved_to["vm1"] = "node03"

        found = await evacuate_beside(evacuation, move)
        assert found == ("success", "vm1 has left in the meantime: it runs on node03")

    run(scenario)


def test_evacuation_says_when_it_is_not_known_where_a_domain_is(run):
    async def scenario(evacuation):
        def lose():
            move_away(evacuation)
            evacuation.destination.is_there = False

        status, details = await evacuate_beside(evacuation, lose)
        assert status == "success"
        assert details == (
            "vm1 is no longer on node01; no other host could be queried for it; it is not known "
            "whether it runs on node02, which cannot be queried: check there"
        )

    run(scenario)


def test_evacuation_reports_a_domain_that_no_queried_host_has(run):
    async def scenario(evacuation):
        found = await evacuate_beside(evacuation, lambda: evacuation.source.domains.clear())
        assert found == ("success", "vm1 is no longer on node01, and is not active on node02")

    run(scenario)


def test_evacuation_does_not_take_another_domain_of_the_same_name_for_it(run):
    async def scenario(evacuation):
        def replace():
            evacuation.source.domains.clear()
            evacuation.source.add(FakeDomain()).uuid = OTHER_UUID

        found = await evacuate_beside(evacuation, replace)
        assert found == ("success", "vm1 is no longer on node01, and is not active on node02")
        assert evacuation.moves == []

    run(scenario)


def test_domain_without_destination_that_left_in_the_meantime_succeeds(run):
    async def scenario(evacuation):
        evacuation.destination.free = 1000  # the domain has 1024 KiB
        found = await evacuate_beside(evacuation, lambda: move_away(evacuation))
        assert found == ("success", "vm1 has left in the meantime: it runs on node02")

    run(scenario)
