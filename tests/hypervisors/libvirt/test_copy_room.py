"""The room at a destination for copies of disks that are made at the same time.

The hosts are fakes (see fake_libvirt.py), time is virtual, and the answers about folders are
replaced. `tests/laboratory/test_disk_copies.py` has real ones.
"""

import asyncio
from contextlib import asynccontextmanager

import pytest

from fastlib import Migrate, MigrateParameter
from fastlib.migfra import HypervisorError, TaskCancelledError
from fastlib.migfra.hypervisors.libvirt.domain.volumes import Image, Room
from fastlib.migfra.hypervisors.libvirt.errors import LostError
from fastlib.migfra.hypervisors.libvirt.migration import copy_room
from fastlib.migfra.hypervisors.libvirt.migration.copy_room import (
    confirm_room,
    find_shortage,
    is_same_file_system,
    reserved_room,
)
from fastlib.migfra.hypervisors.libvirt.migration.disks_check import PlannedCopy
from fastlib.migfra.hypervisors.libvirt.slots.notices import (
    Note,
    define_notice,
    remove_notices,
    slot_notice,
)
from fastlib.migfra.plugin_api.cancel_scope import CancelScope
from fastlib.migfra.virt.migration_spec import MigrationSpec
from tests.support.libvirt.fake_domain import FakeDomain, refusal
from tests.support.libvirt.fake_libvirt import FakeHosts
from tests.support.libvirt.slot_daemons import ArrivingDomain
from tests.support.virtual_time import run_bounded

MIB = 1 << 20
FOLDER = "/images"
RECORD = (
    "<metadata><d:disks xmlns:d='urn:fastlib:disks'><d:disk target='vda' path='{path}'/></d:disks>"
    "</metadata>"
)


class Copying(FakeHosts):
    """Two hosts, and a folder at the destination with some MiB free."""

    def __init__(self, monkeypatch, **options):
        super().__init__(**options)
        self.free = {FOLDER: 100}
        self.images = {}
        """The MiB that each image at the destination may still take."""
        self.unreadable = set()
        self.begun = []
        self.scopes = {}
        monkeypatch.setattr(copy_room, "read_room", self._read)

    def _read(self, connection, folder, paths):
        assert connection is self.destination
        if folder in self.unreadable:
            raise HypervisorError("its pool is not active")
        rest = {path: self.images[path] * MIB for path in paths if path in self.images}
        return Room(total=1000 * MIB, free=self.free[folder] * MIB, rest=rest)

    def migration(self, name, *sizes, folder=FOLDER):
        """A migration, and the copies of its domain's disks, of some MiB each."""
        parameter = MigrateParameter(migration_type="live", copy_storage="all")
        task = Migrate(vm_name=name, destination="node02", parameter=parameter)
        copies = [
            PlannedCopy(
                target=f"vd{letter}",
                image=Image(
                    path=f"{folder}/{name}-{letter}", format="raw", capacity=(size - 1) * MIB
                ),
            )
            for letter, size in zip("abc", sizes, strict=False)
        ]
        return MigrationSpec.from_task(task, "node01"), copies

    @asynccontextmanager
    async def room(self, name, *sizes, **options):
        """The room for copies of a domain's disks."""
        spec, copies = self.migration(name, *sizes, **options)
        scope = self.scopes[name] = CancelScope(self.context)
        with scope:
            async with reserved_room(self.runtime, spec, copies, scope, self.context):
                self.begun.append(name)
                yield

    async def begins(self, name, *sizes, **options):
        async with self.room(name, *sizes, **options):
            pass

    async def refusal(self, *arguments, **options):
        with pytest.raises(HypervisorError) as caught:
            await self.begins(*arguments, **options)
        return str(caught.value)

    def arrive(self, name, path, rest, kind="file"):
        """Let a domain arrive from another host, with an image that may take some MiB."""
        domain = self.destination.add(ArrivingDomain(name))
        domain.devices = [f"<disk type='{kind}'><source file='{path}'/><target dev='vda'/></disk>"]
        self.images[path] = rest

    def record(self, name, path, rest):
        """Let the destination have a domain with an image that its start has created."""
        self.destination.add(FakeDomain(name)).above_devices = RECORD.format(path=path)
        self.images[path] = rest


@pytest.fixture
def run(monkeypatch):
    def run(scenario, **options):
        async def main():
            copying = Copying(monkeypatch, **options)
            await scenario(copying)
            assert not copying.runtime.copies.at("node02")

        run_bounded(main())

    return run


def test_copies_of_one_daemon_begin_only_with_room_for_all(run):
    """Each of them finds room for itself."""

    async def scenario(copying):
        ends = {f"vm{number}": asyncio.Event() for number in range(5)}

        async def migrate(name):
            async with copying.room(name, 40):
                await ends[name].wait()

        tasks = [asyncio.create_task(migrate(name)) for name in ends]
        await asyncio.sleep(10)
        assert copying.begun == ["vm0", "vm1"]
        copying.free[FOLDER] = 70  # the first has arrived with less data than its size
        ends["vm0"].set()
        await asyncio.sleep(10)
        assert copying.begun == ["vm0", "vm1"]
        copying.images[f"{FOLDER}/vm1-a"] = 25  # the second has taken a part of its room
        await asyncio.sleep(10)
        assert copying.begun == ["vm0", "vm1", "vm2"]
        copying.free[FOLDER] = 1000
        await asyncio.sleep(10)
        assert len(copying.begun) == 5
        for end in ends.values():
            end.set()
        await asyncio.gather(*tasks)

    run(scenario)


def test_waiting_copy_says_so_and_can_be_cancelled(run):
    async def scenario(copying):
        copying.arrive("foreign", f"{FOLDER}/foreign", 70)
        waiting = asyncio.create_task(copying.begins("vm1", 20, 20))
        await asyncio.sleep(10)
        assert copying.phases == ["wait for room"]
        copying.scopes["vm1"].cancel("cancelled")
        with pytest.raises(TaskCancelledError):
            await waiting
        assert copying.begun == []

    run(scenario)


def test_copies_from_other_hosts_are_counted_until_they_have_arrived(run):
    async def scenario(copying):
        copying.arrive("foreign", f"{FOLDER}/foreign", 61)
        waiting = asyncio.create_task(copying.begins("vm1", 40))
        await asyncio.sleep(10)
        assert copying.begun == []
        copying.images[f"{FOLDER}/foreign"] = 60
        await waiting
        copying.images[f"{FOLDER}/foreign"] = 61
        copying.destination.add(FakeDomain("foreign"))
        await copying.begins("vm2", 40)

    run(scenario)


def test_disk_that_is_no_file_takes_no_room(run):
    async def scenario(copying):
        copying.arrive("foreign", f"{FOLDER}/foreign", 90, kind="volume")
        await copying.begins("vm1", 40)

    run(scenario)


def test_room_of_images_that_starts_have_created_is_refused_at_once(run):
    async def scenario(copying):
        copying.record("old", f"{FOLDER}/old", 70)
        assert await copying.refusal("vm1", 20, 11) == (
            f"node02 has 100 MiB free in {FOLDER}; other copies and disks of starts may take 70 "
            "MiB of it, and disk vda, vdb of vm1 may need 31 MiB; make room there, or set "
            "overcommit-disks: true in the configuration"
        )
        await copying.begins("vm1", 20, 10)

    run(scenario)


def test_copy_that_never_fits_does_not_wait(run):
    async def scenario(copying):
        copying.arrive("foreign", f"{FOLDER}/foreign", 70)
        assert "may need 101 MiB" in await copying.refusal("vm1", 101)

    run(scenario)


def test_operator_may_overcommit(run):
    async def scenario(copying):
        copying.arrive("foreign", f"{FOLDER}/foreign", 100)
        async with copying.room("vm1", 60):
            await copying.begins("vm2", 60)

    run(scenario, overcommit_disks=True)


def test_folders_of_one_file_system_share_its_room(run):
    async def scenario(copying):
        copying.free["/other"] = 99
        copying.arrive("foreign", "/other/foreign", 70)
        waiting = asyncio.create_task(copying.begins("vm1", 40))
        await asyncio.sleep(10)
        assert copying.begun == []
        copying.free["/other"] = 10  # it is another file system
        await waiting

    run(scenario)


def test_unreadable_folder_of_another_copy_is_left_out(run):
    async def scenario(copying):
        copying.free["/other"] = 99
        copying.arrive("foreign", "/other/foreign", 70)
        copying.unreadable = {"/other"}
        await copying.begins("vm1", 40)
        copying.unreadable = {FOLDER}
        assert await copying.refusal("vm1", 40) == "its pool is not active"

    run(scenario)


def test_silent_destination_ends_the_wait(run):
    async def scenario(copying):
        copying.arrive("foreign", f"{FOLDER}/foreign", 70)
        waiting = asyncio.create_task(copying.begins("vm1", 40))
        await asyncio.sleep(10)
        copying.destination.is_there = False
        with pytest.raises(LostError):
            await waiting

    run(scenario)


def test_migration_without_copies_asks_nobody(run):
    async def scenario(copying):
        copying.destination.is_there = False
        await copying.begins("vm1")

    run(scenario)


def test_domain_that_ends_during_the_reading_is_left_out(run):
    async def scenario(copying):
        copying.arrive("foreign", f"{FOLDER}/foreign", 70)
        domain = copying.destination.domains["foreign"]
        domain.XMLDesc = lambda flags=0: (_ for _ in ()).throw(
            refusal("NO_DOMAIN", "Domain not found")
        )
        await copying.begins("vm1", 40)

    run(scenario)


# Copies that another daemon begins at the same time


def announce(copying, path, by="node03"):
    """Let another daemon show in its notice that it copies an image here."""
    note = Note(by=by, domains=("foreign",), images=(path,))
    notice = slot_notice("incoming", 1, note)
    assert define_notice(copying.destination, notice)
    return notice


def test_copy_that_another_daemon_has_not_begun_yet_is_counted(run):
    async def scenario(copying):
        notice = announce(copying, f"{FOLDER}/foreign")
        await copying.begins("vm0", 40)  # it has not created the image
        copying.images[f"{FOLDER}/foreign"] = 70
        waiting = asyncio.create_task(copying.begins("vm1", 40))
        await asyncio.sleep(10)
        assert copying.begun == ["vm0"]
        remove_notices(copying.destination, [notice.uuid])
        await waiting

    run(scenario)


def test_image_that_a_killed_daemon_has_left_is_not_waited_for(run):
    async def scenario(copying):
        announce(copying, f"{FOLDER}/foreign")
        copying.images[f"{FOLDER}/foreign"] = 70
        text = await copying.refusal("vm1", 40)
        assert "other copies and disks of starts may take 70 MiB" in text
        assert asyncio.get_running_loop().time() >= 20

    run(scenario)


def test_notices_of_this_daemon_are_counted_once(run):
    async def scenario(copying):
        copying.images[f"{FOLDER}/foreign"] = 70
        announce(copying, f"{FOLDER}/foreign", by="node01")
        await copying.begins("vm1", 40)

    run(scenario)


@pytest.mark.parametrize(("foreign", "fits"), [(60, True), (61, False)])
def test_second_of_two_daemons_that_begin_at_once_gives_up(run, foreign, fits):
    """Both have found room, and then created their images."""

    async def scenario(copying):
        async with copying.room("vm1", 40):
            announce(copying, f"{FOLDER}/foreign")
            copying.images[f"{FOLDER}/foreign"] = foreign
            confirming = confirm_room(copying.runtime, *copying.migration("vm1", 40))
            if fits:
                await confirming
                return
            with pytest.raises(HypervisorError, match="another host began to copy there at the"):
                await confirming

    run(scenario)


def test_room_is_confirmed_without_other_daemons(run):
    async def scenario(copying):
        async with copying.room("vm1", 40):
            copying.free[FOLDER] = 0
            await confirm_room(copying.runtime, *copying.migration("vm1", 40))
        copying.destination.is_there = False
        await confirm_room(copying.runtime, *copying.migration("vm1"))

    run(scenario)


# The decision


@pytest.mark.parametrize(
    ("needed", "copied", "recorded", "short", "passes"),
    [
        (100, 0, 0, False, None),
        (101, 0, 0, True, False),
        (60, 40, 0, False, None),
        (60, 41, 0, True, True),
        (60, 0, 40, False, None),
        (60, 0, 41, True, False),
        (60, 20, 20, False, None),
        (60, 1, 40, True, True),
        (60, 1, 41, True, False),
    ],
)
def test_shortage_passes_if_only_copies_in_progress_take_the_room(
    needed, copied, recorded, short, passes
):
    found = find_shortage(
        {"/a/new": needed}, {"/a/copy": copied}, {"/a/start": recorded},
        {"/a": Room(total=1000, free=100)},
    )  # fmt: skip
    assert (found is not None) == short
    if found is not None:
        assert found.passes == passes
        assert (found.promised, found.needed, found.free) == (copied + recorded, needed, 100)


@pytest.mark.parametrize(
    ("total", "one", "other", "same"),
    [
        (6400, 500, 500, True),
        (6400, 500, 600, True),
        (6400, 500, 601, False),
        (1 << 50, 1 << 40, (1 << 40) + (256 << 20), True),
        (1 << 50, 1 << 40, (1 << 40) + (256 << 20) + 1, False),
    ],
)
def test_file_systems_are_told_apart_by_their_sizes(total, one, other, same):
    first, second = Room(total=total, free=one), Room(total=total, free=other)
    assert is_same_file_system(first, second) == is_same_file_system(second, first) == same
    assert not is_same_file_system(first, Room(total=total + 1, free=one))
