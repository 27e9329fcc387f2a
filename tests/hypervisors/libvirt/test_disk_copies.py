"""The record of the images that a migration makes: none that it has not made is ever removed.

The calls of libvirt are replaced. `tests/laboratory/test_disk_copies.py` has real ones.
"""

import asyncio

import pytest

from fastlib import Migrate, MigrateParameter
from fastlib.migfra import HypervisorError, TaskCancelledError
from fastlib.migfra.hypervisors.libvirt.domain.volumes import Image, ImageExistsError
from fastlib.migfra.hypervisors.libvirt.migration import disks_copy
from fastlib.migfra.hypervisors.libvirt.migration.disks_check import PlannedCopy
from fastlib.migfra.hypervisors.libvirt.migration.disks_copy import DiskCopies
from fastlib.migfra.hypervisors.libvirt.migration.record import MigrationRecord, MigrationState
from fastlib.migfra.plugin_api.cancel_scope import CancelScope
from fastlib.migfra.virt.migration_spec import MigrationSpec
from tests.support.libvirt.fake_libvirt import FakeHosts

NAMES = ("vda", "vdb", "vdc")


class Copies:
    """The creation of three images, and their removal."""

    def __init__(self, monkeypatch, **options):
        self.hosts = FakeHosts()
        parameter = MigrateParameter(migration_type="live", **options)
        task = Migrate(vm_name="vm1", destination="node02", parameter=parameter)
        spec = MigrationSpec.from_task(task, "node01")
        self.record = MigrationRecord(self.hosts.context, "vm1", MigrationState())
        self.scope = CancelScope(self.hosts.context)
        self.copies = DiskCopies(
            self.hosts.runtime, spec, self.record, self.scope, self.hosts.context
        )
        self.errors = {}
        """The error of the creation of a disk's image."""
        self.recorded = []
        """The record at each creation: the disks, and whether their images are made."""
        self.removed = []
        monkeypatch.setattr(disks_copy, "create_image", self._create)
        monkeypatch.setattr(disks_copy, "remove_image", self._remove)
        monkeypatch.setattr(disks_copy, "remove_image_without_data", self._remove_empty)

    def _create(self, connection, image):
        self.recorded.append(self.shown)
        error = self.errors.get(image.path)
        if error is not None:
            raise error

    def _remove(self, connection, path):
        self.removed.append(path)

    def _remove_empty(self, connection, image):
        self.removed.append(f"{image.path} if empty")
        return True

    @property
    def shown(self):
        return {copy.target: copy.created for copy in self.record.state.disks}

    async def create(self, data_file=None):
        planned = [
            PlannedCopy(
                target=name,
                image=Image(path=f"/{name}", format="raw", capacity=1),
                data_file=data_file,
            )
            for name in NAMES
        ]
        await self.copies.create(planned)

    async def create_and_remove(self, error):
        with pytest.raises(
            type(error) if isinstance(error, TaskCancelledError) else HypervisorError
        ):
            await self.create()
        problems = []
        await self.copies.remove(problems)
        assert problems == []
        assert self.shown == {}


@pytest.fixture
def made(monkeypatch):
    return Copies(monkeypatch)


def test_record_has_each_image_before_it_is_made_and_no_later_one(made):
    asyncio.run(made.create())
    assert made.recorded == [
        {"vda": False},
        {"vda": True, "vdb": False},
        {"vda": True, "vdb": True, "vdc": False},
    ]
    assert made.shown == dict.fromkeys(NAMES, True)


@pytest.mark.parametrize("data_file", [None, "/data"])
def test_details_name_the_data_file_that_stays_on_the_source(monkeypatch, data_file):
    made = Copies(monkeypatch, source_disks="remove", copy_storage="all")
    gone = []

    def remove(connection, path, on_own_host):
        gone.append(path)
        if path == "/vdc":
            raise HypervisorError("it is in use")

    monkeypatch.setattr(disks_copy, "remove_unneeded_image", remove)

    async def run():
        await made.create(data_file)
        return await made.copies.finish(is_certain=True)

    details = asyncio.run(run())
    assert gone == ["/vda", "/vdb", "/vdc"]
    assert "node01 keeps images: vdc could not be removed there: it is in use" in details
    stays = (
        "node01 keeps files with the data of images: /data of vda, /data of vdb; remove them there "
        "if nothing else needs them"
    )
    assert (stays in details) == (data_file is not None)
    assert ("data of images" in details) == (data_file is not None)


def test_file_of_another_program_is_not_removed(made):
    made.errors["/vdb"] = ImageExistsError("/vdb")
    asyncio.run(made.create_and_remove(HypervisorError()))
    assert made.removed == ["/vda"]


def test_image_that_may_have_been_made_is_removed_if_it_is_empty(made):
    made.errors["/vdb"] = HypervisorError("the connection is lost")
    asyncio.run(made.create_and_remove(HypervisorError()))
    assert made.removed == ["/vda", "/vdb if empty"]


def test_cancellation_removes_only_the_images_that_are_made(made, monkeypatch):
    def check():
        if len(made.recorded) == 2:
            raise TaskCancelledError("cancelled")

    monkeypatch.setattr(made.scope, "check", check)
    asyncio.run(made.create_and_remove(TaskCancelledError("cancelled")))
    assert made.removed == ["/vda", "/vdb"]
