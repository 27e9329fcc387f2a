"""Add new disks to a domain's XML, with a record that names their images. Pure.

The record is an element in `<metadata>`. libvirt stores it, and sends it along in a migration. So
the host on which the domain is stopped knows which images starts have created for it.
"""

from collections.abc import Mapping, Sequence
from typing import Final
from xml.etree.ElementTree import Element, SubElement

from fastlib.migfra.errors import HypervisorError
from fastlib.migfra.virt.new_disks import DiskPlan

from .xml import only_child, parse, text

NAMESPACE: Final = "urn:fastlib:disks"
_RECORD: Final = f"{{{NAMESPACE}}}disks"
_DISK: Final = f"{{{NAMESPACE}}}disk"


def recorded_images(xml: str) -> dict[str, str]:
    """Return the images that starts have created for a domain: the target of each path."""
    return images_in(parse(xml))


def images_in(root: Element) -> dict[str, str]:
    """Return the images that `recorded_images` returns, from parsed XML."""
    found = {}
    for disk in root.iterfind(f"metadata/{_RECORD}/{_DISK}"):
        path, target = disk.get("path"), disk.get("target")
        if path is not None and target is not None:
            found[path] = target
    return found


def has_record(xml: str) -> bool:
    """Return whether XML has a record. Only the daemon may write one."""
    return "metadata" in xml and parse(xml).find(f"metadata/{_RECORD}") is not None


def with_disks(xml: str, disks: Sequence[DiskPlan], recorded: Mapping[str, str]) -> str:
    """Return a domain's XML with new disks, and with a record of these and of earlier images.

    Raises HypervisorError if the XML has a disk of one of the names, or names one of the images.
    """
    root = parse(xml)
    devices = only_child(root, "devices")
    _check_free(root, devices, disks)
    for disk in disks:
        devices.append(_device(disk))
    _set_record(root, {**recorded, **{disk.path: disk.target for disk in disks}})
    return text(root)


def _check_free(root: Element, devices: Element, disks: Sequence[DiskPlan]) -> None:
    name = root.findtext("name")
    targets = {target.get("dev") for target in devices.iterfind("disk/target")}
    paths = {source.get("file") for source in devices.iter("source")}
    problems = [
        f"{name} has a disk {disk.target} already; choose another target, or leave the disk out, "
        "if an earlier start has created it"
        for disk in disks
        if disk.target in targets
    ]
    problems += [
        f"{name} uses {disk.path} already; choose another path for disk {disk.target}"
        for disk in disks
        if disk.path in paths and disk.target not in targets
    ]
    problems += [
        f"{name} uses {disk.base} already, which would be the base of its own disk "
        f"{disk.target}; choose another base"
        for disk in disks
        if disk.base is not None and disk.base in paths
    ]
    if problems:
        raise HypervisorError("; ".join(problems))


def _device(disk: DiskPlan) -> Element:
    device = Element("disk", type="file", device="disk")
    # The format is always written: QEMU must not guess it from what a guest has written.
    SubElement(device, "driver", name="qemu", type=disk.format, cache=disk.cache)
    SubElement(device, "source", file=disk.path)
    SubElement(device, "target", dev=disk.target, bus=disk.bus)
    return device


def _set_record(root: Element, images: Mapping[str, str]) -> None:
    metadata = root.find("metadata")
    if metadata is None:
        if not images:
            return
        metadata = SubElement(root, "metadata")
    for record in metadata.findall(_RECORD):
        metadata.remove(record)
    if not images:
        return
    # The names have their prefix here, because libvirt shows it to people.
    record = SubElement(metadata, "fastlib:disks", {"xmlns:fastlib": NAMESPACE})
    for path, target in images.items():
        SubElement(record, "fastlib:disk", target=target, path=path)
