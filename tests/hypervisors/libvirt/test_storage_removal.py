"""The sentence about the images that a stop has removed. The removal itself is replaced."""

import asyncio

from fastlib.migfra.hypervisors.libvirt.domain import volumes
from fastlib.migfra.hypervisors.libvirt.tasks.storage_removal import StorageRemoval
from tests.support.libvirt.fake_libvirt import FakeHosts


def test_details_name_the_file_behind_a_link_because_it_stays(tmp_path, monkeypatch):
    image, gone, link, target = (tmp_path / name for name in ("a", "b", "c", "d"))
    image.touch()
    target.touch()
    link.symlink_to(target)

    def remove(connection, path):
        if path == str(gone):
            return False
        (tmp_path / path).unlink()
        return True

    monkeypatch.setattr(volumes, "remove_image", remove)
    monkeypatch.setattr(StorageRemoval, "_check_unused", lambda *_, **__: asyncio.sleep(0))
    hosts = FakeHosts()
    removal = StorageRemoval(hosts.runtime, "vm1", None, hosts.context)
    removal._images = {str(image): "vda", str(gone): "vdb", str(link): "vdc"}
    assert asyncio.run(removal.remove()) == (
        f"removed vda ({image}), vdb ({gone}, gone before), vdc ({link}, a link; {target} stays)"
    )
    assert target.exists()
