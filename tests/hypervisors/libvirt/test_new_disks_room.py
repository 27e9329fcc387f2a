"""The room that starts reserve for new images: also those in progress, and images not yet full.

The folders are real, the answers of libvirt are replaced. `tests/laboratory/test_new_disks.py` has
real ones.
"""

import asyncio
import os

import pytest

from fastlib import NewDisk, Start
from fastlib.migfra import HypervisorError
from fastlib.migfra.hypervisors.libvirt.domain.promised_images import PromisedImages
from fastlib.migfra.hypervisors.libvirt.domain.volumes import Image, Room
from fastlib.migfra.hypervisors.libvirt.tasks import new_disks_room
from fastlib.migfra.hypervisors.libvirt.tasks.new_disks import claimed
from fastlib.migfra.hypervisors.libvirt.tasks.new_disks_check import PlannedImage
from fastlib.migfra.virt.new_disks import MIB, plan_disks
from fastlib.migfra.virt.xml_values import XmlPolicy
from tests.support.libvirt.fake_libvirt import FakeHosts


class Rooms:
    """A host with some MiB free, and images of earlier starts."""

    def __init__(self, folder, monkeypatch, free=100, **options):
        self.folder = folder
        self.hosts = FakeHosts(**options)
        self.free = free
        self.images = {}
        """The MiB that each image may still take."""
        self.recorded = []
        self.unreadable = []
        monkeypatch.setattr(new_disks_room, "read_room", self._read)
        self.arriving = []
        monkeypatch.setattr(new_disks_room, "read_promised_images", self._read_images)

    def _read_images(self, connection):
        return PromisedImages(arriving=self.arriving, recorded=self.recorded)

    def _read(self, connection, folder, paths):
        if folder in self.unreadable:
            raise HypervisorError("its pool is not active")
        found = {path: self.images[path] * MIB for path in paths if path in self.images}
        return Room(total=1 << 40, free=self.free * MIB, rest=found)

    def made_before(self, name, rest, folder=None):
        path = f"{folder or self.folder}/{name}"
        self.recorded.append(path)
        self.images[path] = rest

    def claim(self, name, *sizes, folder=None):
        """The claim of a start for disks of some MiB."""
        disks = [
            NewDisk(
                target=f"vd{letter}", size=size, path=f"{folder or self.folder}/{name}-{letter}"
            )
            for letter, size in zip("abc", sizes, strict=False)
        ]
        policy = XmlPolicy(allow="any")
        plans = plan_disks(Start(vm_name=name, disks=disks), name, policy, str(self.folder))
        planned = [
            PlannedImage(
                disk=each, image=Image(path=each.path, format="raw", capacity=each.size or 0)
            )
            for each in plans
        ]
        return claimed(self.hosts.runtime, None, name, planned)

    def refusal(self, *claim, **options):
        async def run():
            async with self.claim(*claim, **options):
                pass

        with pytest.raises(HypervisorError) as caught:
            asyncio.run(run())
        return str(caught.value)

    def fits(self, *claim, **options):
        async def run():
            async with self.claim(*claim, **options):
                pass

        asyncio.run(run())


@pytest.fixture
def room(tmp_path, monkeypatch):
    return Rooms(tmp_path, monkeypatch)


def test_starts_at_the_same_time_do_not_together_exceed_the_room(room):
    """Each of them finds room for itself."""

    async def run():
        begun, end = [], asyncio.Event()

        async def start(name):
            async with room.claim(name, 40):
                begun.append(name)
                await end.wait()

        starts = [asyncio.create_task(start(f"node{number}")) for number in range(8)]
        await asyncio.wait(starts, return_when=asyncio.FIRST_EXCEPTION)
        while sum(task.done() for task in starts) < 6:
            await asyncio.sleep(0)
        end.set()
        results = await asyncio.gather(*starts, return_exceptions=True)
        assert len(begun) == results.count(None) == 2
        refused = [str(result) for result in results if result is not None]
        assert len(refused) == 6
        assert all(
            "the disks of other starts and of arriving domains may take 80 MiB of it" in each
            for each in refused
        )
        # A claim ends with its start.
        async with room.claim("node9", 100):
            pass

    asyncio.run(run())
    assert room.hosts.runtime.new_images == {}


def test_images_that_are_not_full_keep_their_room(room):
    room.made_before("old", 70)
    room.made_before("gone", 50)
    del room.images[f"{room.folder}/gone"]
    assert room.refusal("vm1", 20, 11) == (
        f"node01 has 100 MiB free in {room.folder}; the disks of other starts and of arriving "
        "domains may take 70 MiB of it, and disk vda, vdb of vm1 may need 31 MiB; make room there, "
        "choose another path, or set overcommit-disks: true in the configuration"
    )
    room.fits("vm1", 20, 10)


def test_images_of_domains_that_arrive_keep_their_room(room):
    path = f"{room.folder}/foreign"
    room.arriving, room.images[path] = [path], 70
    assert "and of arriving domains may take 70 MiB of it" in room.refusal("vm1", 31)
    room.recorded = [path]  # a start has created it on another host
    assert "may take 70 MiB of it" in room.refusal("vm1", 31)
    room.fits("vm1", 30)


def test_folders_of_a_file_system_share_its_room(room, tmp_path, monkeypatch):
    other, unreadable = tmp_path / "other", tmp_path / "unreadable"
    for folder in other, unreadable:
        folder.mkdir()
    room.made_before("old", 70, other)
    room.made_before("lost", 70, unreadable)
    room.made_before("older", 70, tmp_path / "removed")
    room.unreadable = [str(unreadable)]
    assert "may take 70 MiB" in room.refusal("vm1", 40)
    room.fits("vm1", 30)
    room.unreadable.append(str(room.folder))
    assert room.refusal("vm1", 1) == "its pool is not active"
    room.unreadable.clear()
    room.recorded = room.recorded[:1]
    real = os.stat

    def stat(path, *arguments, **options):
        found = real(path, *arguments, **options)
        if str(path) != str(other):
            return found
        return os.stat_result((*found[:2], found.st_dev + 1, *found[3:]))

    monkeypatch.setattr(new_disks_room.os, "stat", stat)
    room.fits("vm1", 100)


def test_operator_may_overcommit(tmp_path, monkeypatch):
    room = Rooms(tmp_path, monkeypatch, overcommit_disks=True)
    room.made_before("old", 1000)
    room.fits("vm1", 90)
    room.fits("vm2")


def test_path_is_claimed_once(room):
    async def run():
        async with room.claim("vm1", 1):
            with pytest.raises(HypervisorError, match=r"another start creates .*vm1-a at the same"):
                async with room.claim("vm1", 1):
                    pass

    asyncio.run(run())
