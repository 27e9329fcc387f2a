"""Find the files, devices and volumes of its host that a domain's XML names. Pure.

In an offline migration libvirt copies none of them, and does not check that they are there.
"""

import posixpath
from collections.abc import Collection, Iterator, Sequence
from typing import Final
from xml.etree.ElementTree import Element

import msgspec

from .xml import parse

TPM_DIRECTORY: Final = "/var/lib/libvirt/swtpm"
"""The folder in which libvirt keeps the state of emulated TPMs, by UUID."""
_DISK_ATTRIBUTES: Final = {"file": "file", "block": "dev", "dir": "dir"}
"""The attribute of `<source>` with the path, by the type of the disk."""
_OS_FILES: Final = ("loader", "kernel", "initrd", "dtb", "shim")
_CHARACTER_DEVICES: Final = ("serial", "parallel", "console", "channel")


class DomainFile(msgspec.Struct, frozen=True, kw_only=True):
    """A path of the host that a domain needs."""

    path: str
    role: str
    """Its use in the domain, such as `disk vda`."""
    written: bool = False
    """Whether the domain writes it. A stale copy of it would then do harm."""
    sent: bool = False
    """Whether a live or warm migration sends its content. A stale copy of it then does no harm."""
    block: bool = False
    """Whether it must be a block device."""
    format: str | None = None
    """Format of a disk's image, such as `qcow2`. None if not stated, or if it is not a disk."""
    disk: str | None = None
    """Target of the disk that it belongs to."""
    is_behind: bool = False
    """Whether it is a backing file."""
    chain_known: bool = False
    """Whether the XML names all backing files of the image."""
    if_on_source: bool = False
    """Whether it is needed only if the source has it. The domain's first start makes it."""
    template: str | None = None
    """The file from which the first start makes it."""


class PoolVolume(msgspec.Struct, frozen=True, kw_only=True):
    """A volume of a storage pool that a domain needs."""

    pool: str
    volume: str
    role: str
    written: bool = False
    disk: str | None = None
    """Target of the disk that it belongs to."""
    is_top: bool = False
    """Whether it is the volume that the disk names, and not one behind it."""
    is_behind: bool = False
    """Whether it is a backing file."""


class DomainFiles(msgspec.Struct, frozen=True, kw_only=True):
    """Everything of its host that a domain needs."""

    files: Sequence[DomainFile] = ()
    volumes: Sequence[PoolVolume] = ()
    unknown: Sequence[str] = ()
    """Sources that libvirt cannot look up on a host, such as network disks, in words."""


def files_of(xml: str, *, moves: bool = False) -> DomainFiles:
    """Return the files that a domain needs. Optional sources (`startupPolicy`) are left out.

    With `moves`, those are also left out without which the domain arrives, but does not start.
    """
    optional = ("optional", "requisite") if moves else ("optional",)
    root = parse(xml)
    files: list[DomainFile] = []
    volumes: list[PoolVolume] = []
    unknown: list[str] = []
    for disk in root.iterfind("devices/disk"):
        target = disk.find("target")
        name = "" if target is None else target.get("dev", "")
        for found in _of_disk(disk, optional):
            match found:
                case DomainFile():
                    files.append(msgspec.structs.replace(found, disk=name))
                case PoolVolume():
                    volumes.append(msgspec.structs.replace(found, disk=name))
                case _:
                    unknown.append(found)
    for others in (_of_firmware(root), _of_devices(root), _of_tpm(root)):
        files += others
    return DomainFiles(
        files=tuple({each.path: each for each in reversed(files)}.values())[::-1],
        volumes=tuple(volumes),
        unknown=tuple(unknown),
    )


def _of_disk(disk: Element, optional: Collection[str]) -> Iterator[DomainFile | PoolVolume | str]:
    """Yield the source of a disk, and the images behind it."""
    device, target = disk.get("device", "disk"), disk.find("target")
    role = device if target is None else f"{device} {target.get('dev', '')}".strip()
    source = disk.find("source")
    if source is None or source.get("startupPolicy") in optional:
        return
    written = (
        device in ("disk", "lun", "floppy")
        and disk.find("readonly") is None
        and disk.find("transient") is None
    )
    yield from _of_layer(disk, role, written)
    data = source.find("dataStore")
    if data is not None:
        yield from _of_layer(data, f"data file of {role}", written)
    layer = disk.find("backingStore")
    while layer is not None and layer.find("source") is not None:
        yield from _of_layer(layer, f"backing file of {role}", written=False)
        layer = layer.find("backingStore")


def _of_layer(layer: Element, role: str, written: bool) -> Iterator[DomainFile | PoolVolume | str]:
    kind, source = layer.get("type", "file"), layer.find("source")
    if source is None:
        return
    if kind == "volume":
        pool, volume = source.get("pool", ""), source.get("volume", "")
        yield PoolVolume(
            pool=pool,
            volume=volume,
            role=role,
            written=written,
            is_top=layer.tag == "disk",
            is_behind=layer.tag == "backingStore",
        )
        return
    if kind not in _DISK_ATTRIBUTES:
        yield f"{role} ({kind} {source.get('protocol', '')}".rstrip() + ")"
        return
    path = source.get(_DISK_ATTRIBUTES[kind])
    if path:
        driver = layer.find("driver") if layer.tag == "disk" else layer.find("format")
        yield DomainFile(
            path=path,
            role=role,
            written=written and kind != "dir",
            block=kind == "block" or path.startswith("/dev/"),
            format=None if driver is None else driver.get("type"),
            is_behind=layer.tag == "backingStore",
            chain_known=layer.find("backingStore") is not None or layer.tag == "backingStore",
        )


def _of_firmware(root: Element) -> Iterator[DomainFile]:
    for tag in _OS_FILES:
        yield from _of_text(root.find(f"os/{tag}"), tag)
    for table in root.iterfind("os/acpi/table"):
        yield from _of_text(table, "ACPI table")
    variables = root.find("os/nvram")
    if variables is not None:
        source = variables.find("source")
        path = variables.text if source is None else source.get("file", source.get("dev"))
        yield from (
            msgspec.structs.replace(
                each,
                written=True,
                sent=True,
                block=each.path.startswith("/dev/"),
                if_on_source=True,
                template=variables.get("template"),
            )
            for each in _of_path(path, "UEFI variables")
        )
    for entry in root.iterfind("sysinfo/entry"):
        yield from _of_path(entry.get("file"), "firmware configuration")


def _of_devices(root: Element) -> Iterator[DomainFile]:
    yield from _of_text(root.find("devices/emulator"), "emulator")
    for rom in root.iter("rom"):
        yield from _of_path(rom.get("file"), "ROM")
    for memory in root.iterfind("devices/memory"):
        for each in _of_text(memory.find("source/path"), f"{memory.get('model')} memory"):
            yield msgspec.structs.replace(
                each,
                written=memory.find("target/readonly") is None,
                sent=memory.get("model") == "nvdimm",
            )
    for filesystem in root.iterfind("devices/filesystem"):
        source = filesystem.find("source")
        if source is not None:
            path = source.get("dir") or source.get("file") or source.get("dev")
            yield from _of_path(path, "file system")
    for tag in _CHARACTER_DEVICES:
        for device in root.iterfind(f"devices/{tag}[@type='file']"):
            source = device.find("source")
            path = None if source is None else source.get("path")
            yield from _of_path(path and posixpath.dirname(path), f"folder of a {tag} log")


def _of_tpm(root: Element) -> Iterator[DomainFile]:
    uuid = root.findtext("uuid", "").strip()
    for backend in root.iterfind("devices/tpm/backend[@type='emulator']"):
        source = backend.find("source")
        path = f"{TPM_DIRECTORY}/{uuid}" if source is None else source.get("path")
        for each in _of_path(path, "state of its TPM"):
            yield msgspec.structs.replace(each, written=True, sent=True, if_on_source=True)


def _of_text(element: Element | None, role: str) -> Iterator[DomainFile]:
    if element is not None:
        yield from _of_path(element.text, role)


def _of_path(path: str | None, role: str) -> Iterator[DomainFile]:
    if path is not None and path.strip().startswith("/"):
        yield DomainFile(path=path.strip(), role=role)
