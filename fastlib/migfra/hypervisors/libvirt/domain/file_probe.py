"""Find out from a host's libvirt whether files exist. The functions block: use `Connection.call`.

libvirt has no call for that. But it reports the size of an inactive domain's disk, and opens the
file to do so. So these functions define a domain with the files as disks, and undefine it at once.
It never runs. A pool of the storage driver would also do it, but then libvirt opens every file of
a folder, and some files of `/dev` must not be opened.
"""

import errno
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final, Literal
from xml.etree.ElementTree import Element, SubElement

import msgspec

from fastlib.migfra.hypervisors.libvirt.connection.api import api

from .xml import text

PREFIX: Final = "fastlib-check-"
"""Prefix of the names of temporarily defined domains."""
_NAMESPACE: Final = uuid.UUID("0d3bd1ae-0f4e-4d1c-9a3c-2f6f0d3a5b11")
_MOST_DISKS: Final = 16
"""Most disks of one temporary domain. The bus could hold a few more."""
_ABSENT: Final = frozenset({errno.ENOENT, errno.ENOTDIR})
_SAMPLE_BYTES: Final = 65536
"""Bytes of one sample. libvirt returns at most 4 MiB."""
_SAMPLE_SPREAD: Final = 8
_MOST_CONTENT: Final = 1 << 20
"""Most bytes of a file that is read whole."""
_FIRST_PARTITION: Final = 1 << 20
"""Byte at which the first partition usually begins, and with it the head of a file system."""


class FileFacts(msgspec.Struct, frozen=True, kw_only=True):
    """The answer of a host's libvirt about a path."""

    presence: Literal["present", "absent", "unknown"]
    size: int | None = None
    """In bytes. None for a folder, and if it is not known."""
    error: str = ""
    """libvirt's error text if the presence is unknown."""


class FileContent(msgspec.Struct, frozen=True, kw_only=True):
    """The part of a file that a host's libvirt can read."""

    is_present: bool = False
    is_folder: bool = False
    is_empty: bool = False
    data: bytes | None = None
    """All of its bytes. None if it is absent, is a folder, or was not to be read."""
    problem: str = ""
    """The reason why it cannot be read. Empty if it is absent."""


class Prober(msgspec.Struct, frozen=True, kw_only=True):
    """The daemon that checks files, and the domain that it checks them for."""

    host: str
    """The host of that daemon."""
    domain_uuid: str
    architecture: str

    @property
    def uuid(self) -> str:
        """UUID of the temporary domain. It is always the same one.

        So the next check of the same domain replaces and removes the definition that a crash left.
        """
        return str(uuid.uuid5(_NAMESPACE, f"{self.host} {self.domain_uuid}"))

    @property
    def name(self) -> str:
        """Name of the temporary domain."""
        return f"{PREFIX}{self.uuid[:13]}{_ending(self.host)}"


def _ending(host: str) -> str:
    return f"-by-{host}"


def is_probe(name: str) -> bool:
    """Return whether a name is that of a temporary domain."""
    return name.startswith(PREFIX)


def remove_left_definitions(connection: Any, host: str) -> None:
    """Remove the temporary domains that a host's daemon left when it was killed."""
    for domain in connection.listAllDomains():
        name = domain.name()
        if is_probe(name) and name.endswith(_ending(host)):
            domain.undefine()


def probe_files(connection: Any, prober: Prober, paths: Sequence[str]) -> dict[str, FileFacts]:
    """Find out of each path whether it is on the host. Leaves the host as it was."""
    facts = {}
    for some in _portions(paths):
        with _domain_with(connection, prober, some) as (domain, disks):
            facts.update({path: _facts(domain, disk) for path, disk in disks.items()})
    return facts


def read_samples(
    connection: Any, prober: Prober, sizes: Mapping[str, int]
) -> dict[str, bytes | None]:
    """Read some parts of files. `sizes` has the bytes of each. None for an unreadable file."""
    samples = {}
    for some in _portions(list(sizes)):
        with _domain_with(connection, prober, some) as (domain, disks):
            samples.update(
                {path: _sample(domain, disk, sizes[path]) for path, disk in disks.items()}
            )
    return samples


def read_head(connection: Any, prober: Prober, path: str, count: int) -> bytes:
    """Read the first `count` bytes of a file. Raises libvirtError, also if it is shorter."""
    with _domain_with(connection, prober, [path]) as (domain, disks):
        return bytes(domain.blockPeek(disks[path], 0, count, 0))


def read_files(
    connection: Any, prober: Prober, paths: Sequence[str], *, unread: Sequence[str] = ()
) -> dict[str, FileContent]:
    """Read small files of the host as its libvirt sees them. Leaves the host as it was.

    Of those in `unread`, it only finds out whether they are there.
    """
    contents = {}
    for some in _portions([*paths, *unread]):
        with _domain_with(connection, prober, some) as (domain, disks):
            for path, disk in disks.items():
                contents[path] = _content(domain, disk, is_read=path not in unread)
    return contents


def _portions(paths: Sequence[str]) -> Iterator[Sequence[str]]:
    for begin in range(0, len(paths), _MOST_DISKS):
        yield paths[begin : begin + _MOST_DISKS]


@contextmanager
def _domain_with(
    connection: Any, prober: Prober, paths: Sequence[str]
) -> Iterator[tuple[Any, dict[str, str]]]:
    """Define a domain with these disks temporarily. Yields it, and the disk of each path."""
    disks = {path: f"vd{chr(ord('a') + index)}" for index, path in enumerate(paths)}
    domain = connection.defineXML(_definition(prober, disks))
    try:
        yield domain, disks
    finally:
        domain.undefine()


def _definition(prober: Prober, disks: Mapping[str, str]) -> str:
    root = Element("domain", type="qemu")
    SubElement(root, "name").text = prober.name
    SubElement(root, "uuid").text = prober.uuid
    SubElement(root, "memory", unit="KiB").text = "1024"
    SubElement(SubElement(root, "os"), "type", arch=prober.architecture).text = "hvm"
    devices = SubElement(root, "devices")
    for path, name in disks.items():
        disk = SubElement(devices, "disk", type="file", device="disk")
        # Always raw: QEMU must not interpret the content.
        SubElement(disk, "driver", name="qemu", type="raw")
        SubElement(disk, "source", file=path)
        SubElement(disk, "target", dev=name, bus="virtio")
        SubElement(disk, "readonly")
    return text(root)


def _facts(domain: Any, disk: str) -> FileFacts:
    libvirt = api()
    try:
        _, _, physical = domain.blockInfo(disk)
    except libvirt.libvirtError as error:
        number = error.get_int1()
        if error.get_error_code() != libvirt.VIR_ERR_SYSTEM_ERROR:
            return FileFacts(presence="unknown", error=str(error))
        if number in _ABSENT:
            return FileFacts(presence="absent")
        if number == errno.EISDIR:
            return FileFacts(presence="present")
        return FileFacts(presence="unknown", error=str(error))
    return FileFacts(presence="present", size=int(physical))


def _content(domain: Any, disk: str, *, is_read: bool) -> FileContent:
    libvirt = api()
    facts = _facts(domain, disk)
    if facts.presence == "absent":
        return FileContent()
    if facts.presence == "unknown":
        return FileContent(problem=facts.error)
    if facts.size is None:
        return FileContent(is_present=True, is_folder=True, problem="it is a folder, not a file")
    if not is_read:
        return FileContent(is_present=True, is_empty=facts.size == 0)
    if facts.size > _MOST_CONTENT:
        problem = f"it has {facts.size} bytes, more than {_MOST_CONTENT}"
        return FileContent(is_present=True, problem=problem)
    if facts.size == 0:
        return FileContent(is_present=True, is_empty=True, data=b"")
    try:
        return FileContent(is_present=True, data=domain.blockPeek(disk, 0, facts.size, 0))
    except libvirt.libvirtError as error:
        return FileContent(is_present=True, problem=str(error))


def _sample(domain: Any, disk: str, size: int) -> bytes | None:
    """Read the beginning, the end, the head of the first partition, and parts between."""
    libvirt = api()
    if size == 0:
        return b""  # libvirt does not read 0 bytes
    last = max(0, size - _SAMPLE_BYTES)
    offsets = {last * part // _SAMPLE_SPREAD for part in range(_SAMPLE_SPREAD + 1)}
    offsets.add(min(last, _FIRST_PARTITION))
    count = min(_SAMPLE_BYTES, size)
    try:
        return b"".join(domain.blockPeek(disk, offset, count, 0) for offset in sorted(offsets))
    except libvirt.libvirtError:
        return None


class VolumeFacts(msgspec.Struct, frozen=True, kw_only=True):
    """The answer of a host's libvirt about a volume."""

    problem: str | None = None
    """The missing part and the remedy. None if the volume is there."""
    path: str | None = None
    size: int | None = None
    """Its capacity in bytes."""


def probe_volume(connection: Any, pool: str, volume: str) -> VolumeFacts:
    """Look for a volume of a pool. Raises libvirtError if the host has no storage driver."""
    libvirt = api()
    try:
        found = connection.storagePoolLookupByName(pool)
        if not found.isActive():
            return VolumeFacts(problem=f"the storage pool {pool} is not active; start it")
        try:
            disk = found.storageVolLookupByName(volume)
        except libvirt.libvirtError as error:
            if error.get_error_code() != libvirt.VIR_ERR_NO_STORAGE_VOL:
                raise
            found.refresh(0)  # else libvirt does not see volumes that other programs have put there
            disk = found.storageVolLookupByName(volume)
        return VolumeFacts(path=disk.path(), size=int(disk.info()[1]))
    except libvirt.libvirtError as error:
        code = error.get_error_code()
        if code == libvirt.VIR_ERR_NO_STORAGE_POOL:
            return VolumeFacts(problem=f"there is no storage pool {pool}; define and start it")
        if code == libvirt.VIR_ERR_NO_STORAGE_VOL:
            return VolumeFacts(problem=f"the storage pool {pool} has no volume {volume}")
        raise
