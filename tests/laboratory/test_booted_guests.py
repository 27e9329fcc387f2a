"""The saved state of one guest becomes that of another, which needs no laboratory."""

import struct
from pathlib import Path
from uuid import uuid4

import pytest

from tests.support.lab.booted_guests import BootedGuest, with_identity
from tests.support.lab.errors import LabError
from tests.support.lab.guest import linux
from tests.support.lab.shared_disks import SharedDisk

IMAGE = (Path("/kernel"), Path("/initrd"))
STREAM = b"QEVM" + bytes(range(256)) * 9000


def guest(folder, name, disk=None):
    size = {"memory": 96, "vcpus": 1, "dirty": 4, "rate": 1, "absent_vcpus": ()}
    return linux(name, folder, IMAGE, **size, disk=disk)


def disk(name):
    return SharedDisk(name, Path(f"/{uuid4()}/socket"), Path(f"/{name}.raw"))


def header(length, cookie, *, magic=b"LibvirtQemudSave", compression=0):
    return magic + struct.pack("=5I56x", 2, length, 1, compression, cookie)


@pytest.mark.parametrize("name", ["vm2", "90 % 'Käse' & <vm>"])
def test_domain_takes_name_uuid_console_and_disk(tmp_path, name):
    one = guest(tmp_path, "booting", disk("disk0"))
    other = guest(tmp_path, name, disk("another"))
    assert one.xml != other.xml
    assert with_identity(one.xml, other.xml) == with_identity(other.xml, other.xml)
    assert str(other.console) in with_identity(one.xml, other.xml)


@pytest.mark.parametrize("cookie", [b"", b"<cookie/>\0"])
def test_state_changes_in_its_header_alone(tmp_path, cookie):
    one, other = guest(tmp_path, "booting"), guest(tmp_path, "a longer name")
    xml = one.xml.encode() + b"\0"
    saved = header(len(xml + cookie), len(xml) if cookie else 0) + xml + cookie + STREAM
    (tmp_path / "state").write_bytes(saved)
    BootedGuest(tmp_path).write_state(other, tmp_path / "changed")
    xml = with_identity(one.xml, other.xml).encode() + b"\0"
    wanted = header(len(xml + cookie), len(xml) if cookie else 0) + xml + cookie + STREAM
    assert (tmp_path / "changed").read_bytes() == wanted


@pytest.mark.parametrize("changes", [{"magic": b"LibvirtQemudPart"}, {"compression": 1}])
def test_other_files_are_refused(tmp_path, changes):
    (tmp_path / "state").write_bytes(header(0, 0, **changes))
    with pytest.raises(LabError, match="is no uncompressed saved state"):
        BootedGuest(tmp_path).write_state(guest(tmp_path, "vm1"), tmp_path / "changed")
