"""The pool of an image's folder: found, made for a moment, busy, left by a crash, or impossible.

The pools are fakes. `tests/laboratory/test_disk_copies.py` has real ones.
"""

import errno
from contextlib import nullcontext

import pytest

from fastlib.migfra import HypervisorError
from fastlib.migfra.hypervisors.libvirt.domain import volumes
from tests.support.libvirt.errors import error_of

libvirt = pytest.importorskip("libvirt")
FOLDER = "/default-pool"


class Pool:
    """A pool that refuses what libvirt refuses."""

    def __init__(self, busy=0, name="images"):
        self.busy = busy
        self.refreshed = False
        self._name = name
        self.is_there = True

    def name(self):
        return self._name

    def refresh(self, flags):
        if self.busy > 0:
            self.busy -= 1
            raise error_of(1, "internal error: pool 'images' has asynchronous jobs running.")
        self.refreshed = True

    def destroy(self):
        self.is_there = False

    def info(self):
        return [2, 100, 60, 40]


class Host:
    """A host with at most one pool."""

    def __init__(self, pool=None, refuses=()):
        self.pool = pool
        self.refuses = list(refuses)
        self.inactive = []

    def storagePoolLookupByTargetPath(self, folder):
        assert folder == FOLDER
        if self.pool is None or not self.pool.is_there:
            raise error_of(49, "no storage pool with matching target path")
        return self.pool

    def listAllStoragePools(self, flags):
        return self.inactive

    def storagePoolCreateXML(self, xml, flags):
        if self.refuses:
            raise self.refuses.pop(0)
        self.pool = Pool(name=volumes.PREFIX)
        return self.pool


@pytest.fixture(autouse=True)
def no_waits(monkeypatch):
    """Let the clock advance by each pause, without one."""
    now = [0.0]
    monkeypatch.setattr(volumes.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(volumes.time, "sleep", lambda seconds: now.__setitem__(0, now[0] + seconds))


def test_pool_of_the_host_is_refreshed_and_stays():
    pool = Pool(busy=3)
    assert volumes.read_room(Host(pool), FOLDER).free == 40
    assert pool.refreshed
    assert pool.is_there


def test_pool_that_stays_busy_is_an_error():
    with pytest.raises(libvirt.libvirtError, match="asynchronous jobs"):
        volumes.read_room(Host(Pool(busy=1000)), FOLDER)


def test_folder_without_a_pool_has_one_for_the_time_of_the_call():
    host = Host()
    assert volumes.read_room(host, FOLDER).free == 40
    assert not host.pool.is_there


def test_pool_that_another_daemon_makes_at_the_same_time_is_no_error():
    host = Host(refuses=[error_of(55, "operation failed: pool already exists")])
    assert volumes.read_room(host, FOLDER).free == 40


def test_folder_that_libvirt_cannot_use_is_an_error_at_once():
    missing = error_of(38, "cannot open directory '/default-pool': No such file or directory")
    host = Host(refuses=[missing] * 2)
    with pytest.raises(libvirt.libvirtError, match="cannot open directory"):
        volumes.read_room(host, FOLDER)
    assert len(host.refuses) == 1


def test_transient_pool_that_a_crash_left_is_removed():
    left = Pool(name=f"{volumes.PREFIX}1")
    host = Host(left)
    assert volumes.read_room(host, FOLDER).free == 40
    assert not left.is_there


def test_pools_of_several_daemons_that_take_turns_are_no_remains():
    """Each of them is there for less time than one that a crash left."""

    class Busy(Host):
        turns = 300

        def storagePoolLookupByTargetPath(self, folder):
            self.turns -= 1
            self.pool = Pool(name=f"{volumes.PREFIX}{self.turns // 2}") if self.turns else None
            if self.pool is not None:
                self.pool.destroy = lambda: pytest.fail("the pool of another daemon is removed")
            return super().storagePoolLookupByTargetPath(folder)

    assert volumes.read_room(Busy(), FOLDER).free == 40
    assert volumes.time.monotonic() > 2 * volumes._WAIT_SECONDS


@pytest.mark.parametrize("path", [FOLDER, FOLDER + "/"])
def test_folder_of_an_inactive_pool_is_refused_at_once_with_a_remedy(path):
    class Inactive(Pool):
        def XMLDesc(self, flags):
            return f"<pool><target><path>{path}</path></target></pool>"

    class WithInactive(Host):
        def listAllStoragePools(self, flags):
            assert flags == libvirt.VIR_CONNECT_LIST_STORAGE_POOLS_INACTIVE
            return [Inactive(name="images")]

    conflict = error_of(9, "operation failed: Storage source conflict with pool: 'images'")
    with pytest.raises(HypervisorError, match="images of /default-pool is not active; start it"):
        volumes.read_room(WithInactive(refuses=[conflict] * 9), FOLDER)
    assert volumes.time.monotonic() == 0


def test_file_system_that_an_inactive_pool_would_mount_is_missed():
    """libvirt allows another pool for its folder. The mount would hide the images."""

    class Inactive(Pool):
        def XMLDesc(self, flags):
            return f"<pool type='fs'><target><path>{FOLDER}</path></target></pool>"

    class Removed(Pool):
        def XMLDesc(self, flags):
            raise error_of(libvirt.VIR_ERR_NO_STORAGE_POOL, "Storage pool not found")

    host = Host()
    host.inactive = [Removed(), Inactive(name="big")]
    with pytest.raises(HypervisorError, match="the storage pool big of /default-pool is not act"):
        volumes.read_room(host, FOLDER)
    assert not host.pool.is_there
    host.inactive = [Removed()]
    assert volumes.read_room(host, FOLDER).free == 40


class ImagePool(Pool):
    """A pool in which another program makes a file just before libvirt does."""

    def __init__(self, error):
        super().__init__()
        self.error = error

    def storageVolLookupByName(self, name):
        raise error_of(50, "Storage volume not found")

    def createXML(self, xml, flags):
        raise self.error


def test_file_that_appears_before_the_image_is_told_from_other_errors():
    image = volumes.Image(path=f"{FOLDER}/a", format="raw", capacity=1)
    exists = error_of(38, "Failed to create file '/default-pool/a': File exists")
    exists.err = (*exists.err[:7], errno.EEXIST, -1)
    for error in exists, error_of(90, "storage volume 'a' exists already"):
        with pytest.raises(volumes.ImageExistsError, match="there is a file /default-pool/a"):
            volumes.create_image(Host(ImagePool(error)), image)
    full = error_of(38, "Failed to create file: No space left on device")
    full.err = (*full.err[:7], errno.ENOSPC, -1)
    with pytest.raises(libvirt.libvirtError, match="No space"):
        volumes.create_image(Host(ImagePool(full)), image)


def test_host_without_storage_driver_has_a_remedy():
    class WithoutStorage:
        def storagePoolLookupByTargetPath(self, folder):
            raise error_of(3, "this function is not supported by the connection driver")

    with pytest.raises(HypervisorError, match="install its storage driver"):
        volumes.read_room(WithoutStorage(), FOLDER)


# An image that a migration has left long ago


@pytest.mark.parametrize(
    ("format", "found", "capacity", "error"),
    [
        ("qcow2", "qcow2", 1024, None),
        ("raw", "raw", 1024, None),
        ("raw", "qcow2", 1024, None),  # the domain has written that into its raw disk
        ("qcow2", "raw", 1024, "it is another image by now"),
        ("qcow2", "qcow2", 2048, "it is another image by now"),
    ],
)
def test_left_image_is_removed_if_it_is_still_the_same_and_unneeded(
    monkeypatch, format, found, capacity, error
):
    class Volume:
        def XMLDesc(self, flags):
            return (
                f"<volume><capacity>{capacity}</capacity><target><path>/a</path>"
                f"<format type='{found}'/></target></volume>"
            )

    removed = []
    monkeypatch.setattr(volumes, "_pool_of", lambda connection, path: nullcontext())
    monkeypatch.setattr(volumes, "_find", lambda pool, path: Volume())
    monkeypatch.setattr(
        volumes, "remove_unneeded_image", lambda host, path, **named: removed.append((path, named))
    )
    image = volumes.Image(path="/a", format=format, capacity=1024)
    if error is None:
        volumes.remove_left_image(None, image)
        assert removed == [("/a", {"on_own_host": False})]
    else:
        with pytest.raises(HypervisorError, match=error):
            volumes.remove_left_image(None, image)
        assert removed == []


def test_left_image_may_be_gone(monkeypatch):
    monkeypatch.setattr(volumes, "_pool_of", lambda connection, path: nullcontext())
    monkeypatch.setattr(volumes, "_find", lambda pool, path: None)
    image = volumes.Image(path="/a", format="raw", capacity=1)
    assert volumes.remove_left_image(None, image) is False
