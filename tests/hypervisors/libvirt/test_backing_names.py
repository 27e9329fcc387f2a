"""The names by which images name their backing files: with `file:`, with `json:`, and others.

An image that another one needs is not removed, and an incremental copy is created on top of a path.
"""

import asyncio
import json
import types
from contextlib import contextmanager

import pytest

from fastlib import Migrate, MigrateParameter
from fastlib.migfra import HypervisorError
from fastlib.migfra.hypervisors.libvirt.domain import volumes
from fastlib.migfra.hypervisors.libvirt.domain.backing_names import backing_file, possible_files
from fastlib.migfra.hypervisors.libvirt.domain.disks_xml import Disk
from fastlib.migfra.hypervisors.libvirt.domain.image_chain import read_chain
from fastlib.migfra.hypervisors.libvirt.domain.image_users import check_unused
from fastlib.migfra.hypervisors.libvirt.domain.volumes import Image
from fastlib.migfra.hypervisors.libvirt.migration import disks_check
from fastlib.migfra.hypervisors.libvirt.migration.disks_check import _PlaceCheck
from fastlib.migfra.virt.migration_spec import MigrationSpec
from tests.support.libvirt.errors import error_of
from tests.support.libvirt.qcow2 import write_qcow2

libvirt = pytest.importorskip("libvirt")
IMAGE = "/images/top.qcow2"
BASE = "/images/base.qcow2"


def options(**given):
    return "json:" + json.dumps(given)


FILE = {"driver": "file", "filename": BASE}
TWICE = options(driver="quorum", children=[{"filename": "/a"}, {"filename": "/b"}])


@pytest.mark.parametrize(
    ("name", "found", "possible"),
    [
        (BASE, (BASE, "raw"), (BASE,)),
        ("base.qcow2", (BASE, "raw"), (BASE,)),
        (f"file:{BASE}", (BASE, "raw"), (BASE,)),
        (options(**FILE), (BASE, "raw"), (BASE,)),
        (options(driver="qcow2", file=FILE), (BASE, "qcow2"), (BASE,)),
        (options(**{"driver": "qcow2", "file.filename": BASE}), (BASE, "qcow2"), (BASE,)),
        (options(driver="raw", file={"driver": "raw", "file": FILE}), None, (BASE,)),
        (options(driver="luks", file=FILE), None, (BASE,)),
        (options(driver="host_device", filename="/dev/sda"), None, ("/dev/sda",)),
        (options(filename="base.qcow2"), None, (BASE,)),
        (TWICE, None, ("/a", "/b")),
        (options(driver="nbd", host="h"), None, ()),
        ("json:[]", None, ()),
        ("json:{", None, ()),
        ("json:" + "[" * 100_000, None, ()),
        ("nbd://host/x", None, ()),
        ("rbd:pool/x", None, ()),
    ],
)
def test_file_of_a_name_is_found(name, found, possible):
    assert backing_file(name, IMAGE, "raw") == found
    assert possible_files(name, IMAGE) == possible


def test_chain_continues_behind_options(tmp_path):
    top, middle, base = (tmp_path / name for name in ("top", "middle", "base"))
    write_qcow2(top, options(driver="qcow2", file={"filename": str(middle)}), "raw")
    write_qcow2(middle, f"file:{base}", "raw")
    chain = read_chain(str(top), "qcow2")
    assert (chain.backing, chain.unknown) == ((str(middle), str(base)), ())
    write_qcow2(top, TWICE, "raw")
    assert read_chain(str(top), "qcow2").possible == ("/a", "/b")


class Volume:
    """An image in a pool. libvirt reports the name of its backing file unchanged."""

    def __init__(self, path, backing=None, error=None):
        self._path, self._backing, self._error = path, backing, error

    def path(self):
        return self._path

    def XMLDesc(self, flags):
        if self._error is not None:
            raise self._error
        name = (self._backing or "").replace("&", "&amp;")
        return f"<volume><backingStore><path>{name}</path></backingStore></volume>"


NO_TEXT = UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte")


@contextmanager
def pool_of(*found):
    yield types.SimpleNamespace(listAllVolumes=lambda: list(found))


def overlays(monkeypatch, *found):
    monkeypatch.setattr(volumes, "_pool_of", lambda connection, path: pool_of(*found))
    return volumes.overlays_of(None, BASE)


def test_overlay_is_found_by_each_kind_of_name(monkeypatch):
    names = [BASE, f"file:{BASE}", options(driver="qcow2", file=FILE), "/images/x/..//base.qcow2"]
    found = [Volume(f"/images/{number}", name) for number, name in enumerate(names)]
    others = [Volume("/images/x", options(filename="/images/y")), Volume("/images/z")]
    gone = Volume("/images/gone", error=error_of(libvirt.VIR_ERR_NO_STORAGE_VOL, "gone"))
    assert overlays(monkeypatch, *found, *others, gone) == [each.path() for each in found]


def test_name_that_is_no_text_hides_no_overlay(monkeypatch):
    """The bindings of libvirt cannot return it."""
    with pytest.raises(HypervisorError, match="/images has a file whose name is not in UTF-8"):
        overlays(monkeypatch, Volume("?", error=NO_TEXT))


@pytest.mark.parametrize("name", [f"file:{BASE}", options(driver="qcow2", file=FILE)])
def test_image_that_another_one_needs_is_in_use(name):
    connection = types.SimpleNamespace(listAllDomains=lambda which: [])

    def check(*found):
        check_unused(connection, BASE, lambda *_: pool_of(*found), on_own_host=False)

    check(Volume(IMAGE, "/images/other"))
    with pytest.raises(HypervisorError, match=f"{BASE} is the backing file of {IMAGE}"):
        check(Volume(IMAGE, name))
    with pytest.raises(HypervisorError, match="name is not in UTF-8"):
        check(Volume("?", error=NO_TEXT))


def planned(monkeypatch, disk, image, **parameter):
    """The planned copy of a disk, and the problems. The image is as libvirt reports it."""
    size = -(-image.capacity // 512) * 512
    monkeypatch.setattr(disks_check, "read_image", lambda connection, path: image)
    monkeypatch.setattr(disks_check, "read_head", lambda *_: b"")
    monkeypatch.setattr(disks_check, "_virtual_size", lambda *_: size)

    class Source:
        async def call(self, function, *arguments):
            return function(None, *arguments)

    given = MigrateParameter(migration_type="live", **parameter)
    task = Migrate(vm_name="vm1", destination="node02", parameter=given)
    spec = MigrationSpec.from_task(task, "node01")
    check = _PlaceCheck(spec, (), None, Source(), None)
    return asyncio.run(check._plan(disk)), check._problems


@pytest.mark.parametrize(
    ("size", "cache", "found"),
    [
        (1000, "default", 1024),
        (1000, "writeback", 1024),
        (1024, "none", 1024),
        (1000, "none", None),
        (5000, "directsync", None),
    ],
)
def test_raw_disk_that_ends_within_a_sector_needs_a_cache(monkeypatch, size, cache, found):
    image = Image(path=IMAGE, format="raw", capacity=size)
    disk = Disk(target="vda", kind="file", path=IMAGE, format="raw", cache=cache)
    copy, problems = planned(monkeypatch, disk, image, copy_storage="all")
    if found is None:
        (problem,) = problems
        assert f"disk vda ({IMAGE}) of vm1 has {size} bytes and cache='{cache}'" in problem
        assert f"virsh blockresize vm1 vda {-(-size // 4096) * 4096}B, or set" in problem
    else:
        assert (copy.image.capacity, problems) == (found, [])


@pytest.mark.parametrize(
    ("name", "mode", "found"),
    [
        (options(driver="qcow2", file=FILE), "incremental", (BASE, "qcow2")),
        (f"file:{BASE}", "incremental", (BASE, "raw")),
        ("nbd://host/x", "incremental", None),
        ("nbd://host/x", "all", (None, None)),
    ],
)
def test_copy_is_created_on_top_of_a_path(monkeypatch, name, mode, found):
    image = Image(path=IMAGE, format="qcow2", capacity=1, backing=name, backing_format="raw")
    disk = Disk(target="vda", kind="file", path=IMAGE, format="qcow2")
    copy, problems = planned(monkeypatch, disk, image, copy_storage=mode)
    if found is None:
        (problem,) = problems
        assert f"disk vda ({IMAGE}) of vm1 has the backing file 'nbd://host/x'" in problem
        assert "order copy-storage: all" in problem
    else:
        assert (copy.image.backing, copy.image.backing_format) == found
