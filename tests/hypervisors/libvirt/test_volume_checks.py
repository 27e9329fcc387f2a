"""The check that a domain finds its volumes of storage pools at the destination."""

import pytest

from tests.support.libvirt.storage_hosts import Pool, Storage, disk, image


def test_volumes_of_pools_are_checked(tmp_path):
    path = image(tmp_path)
    source = "<source pool='images' volume='x'/><target dev='vda'/>"
    storage = Storage(f"<disk type='volume' device='disk'>{source}</disk>")
    storage.source.pools["images"] = Pool({"x": str(path)})
    lacks = "node02 lacks the volume x (disk vda) of vm1: "
    assert storage.refusal() == (
        f"{lacks}there is no storage pool images; define and start it there"
    )
    storage.destination.pools["images"] = Pool({}, active=False)
    assert "the storage pool images is not active; start it" in storage.refusal()
    storage.destination.pools["images"] = Pool({})
    assert "the storage pool images has no volume x" in storage.refusal()
    storage.destination.pools["images"] = Pool({}, appears_by_refresh={"x": str(path)})
    assert storage.check() == []
    storage.destination.hidden = [tmp_path]
    storage.destination.own[str(path)] = path.read_bytes()
    assert "is another file on node02" in storage.refusal()
    storage.destination.pools["images"] = Pool({"x": "/elsewhere/x"})
    (note,) = storage.check()
    assert note == "whether the volume x (disk vda) is the same on both hosts could not be checked"


def volume_disk(cache="none"):
    return (
        f"<disk type='volume' device='disk'><driver type='raw' cache='{cache}'/>"
        "<source pool='images' volume='x'/><target dev='vda'/></disk>"
    )


def with_volume(path, **options):
    storage = Storage(volume_disk(**options))
    for host in (storage.source, storage.destination):
        host.pools["images"] = Pool({"x": str(path)})
    return storage


@pytest.mark.parametrize("parameter", [{}, {"copy_storage": "all"}])
def test_volume_in_a_shared_folder_is_a_shared_disk(tmp_path, parameter):
    plan = with_volume(image(tmp_path)).run_check("live", **parameter).plan
    assert (plan.copies, plan.shows_shared, plan.has_unlocked) == ((), True, True)


def test_volume_in_a_shared_folder_needs_a_cache_that_hides_nothing(tmp_path):
    path = image(tmp_path)
    refusal = with_volume(path, cache="writeback").refusal(kind="live")
    assert f"disk vda ({path}) of vm1 has cache='writeback' on storage that " in refusal


def test_volume_in_a_folder_of_each_host_is_refused(tmp_path):
    path = image(tmp_path)
    storage = with_volume(path)
    storage.destination.hidden = [tmp_path]
    storage.destination.own[str(path)] = path.read_bytes()
    refusal = storage.refusal(kind="live")
    assert f"{path} (disk vda) of vm1 is another file on node02" in refusal
    assert "copy-storage" not in refusal
    refusal = storage.refusal(kind="live", copy_storage="all")
    assert "is a volume of a storage pool, and copy-storage copies image files only" in refusal


def test_volume_that_is_a_device_is_a_device(tmp_path):
    storage = with_volume("/dev/vg/x")
    for host in (storage.source, storage.destination):
        host.own["/dev/vg/x"] = bytes(1 << 20)
    storage.domain.devices.append(disk(image(tmp_path), "vdb"))
    assert storage.run_check("live").plan.shows_shared
    storage.destination.own["/dev/vg/x"] = bytes(2 << 20)
    assert "/dev/vg/x (disk vda) of vm1 is another file" in storage.refusal(kind="live")


def test_host_without_storage_driver_is_reported():
    source = "<source pool='images' volume='x'/><target dev='vda'/>"
    storage = Storage(f"<disk type='volume' device='disk'>{source}</disk>")
    storage.source.pools["images"] = Pool({"x": "rbd/x"})
    storage.destination.pools = None
    (note,) = storage.check()
    assert note.startswith("whether node02 has the volume x (disk vda) could not be checked: ")
    storage.destination.pools = {"images": Pool({"x": "rbd/x"})}
    assert storage.check() == []
