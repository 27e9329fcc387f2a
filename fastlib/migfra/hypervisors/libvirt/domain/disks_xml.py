"""Read the disks of a domain from its XML. Pure."""

from collections.abc import Sequence
from typing import Final, Literal
from xml.etree.ElementTree import Element

import msgspec

from .xml import parse

DiskKind = Literal["file", "block", "network", "volume", "other"]
_KINDS: Final[dict[str, DiskKind]] = {
    "file": "file",
    "block": "block",
    "network": "network",
    "volume": "volume",
}
_ATTRIBUTES: Final = {"file": "file", "block": "dev", "network": "name", "volume": "volume"}
DIRECT_CACHES: Final = frozenset({"none", "directsync"})
"""Modes in which the source's cache never has data that the destination misses."""


class Disk(msgspec.Struct, frozen=True, kw_only=True):
    """A disk that a domain writes."""

    target: str
    """Its name in the domain, such as `vda`."""
    kind: DiskKind
    path: str
    """The path of its image, or another name of its source.

    For a volume, it is that of the pool's volume once the host was asked.
    """
    format: str = "raw"
    cache: str = "default"
    is_shareable: bool = False
    """Whether several domains may write it at the same time."""
    is_transient: bool = False
    """Whether the end of the domain undoes what it writes."""
    is_encrypted: bool = False
    is_slice: bool = False
    """Whether it is a part of its file."""
    names_backing: bool = False
    """Whether the XML names its backing file."""
    protocol: str | None = None
    """The protocol of a network disk."""

    @property
    def words(self) -> str:
        """The disk with its path, for an error."""
        return f"disk {self.target} ({self.path})"

    @property
    def is_locked(self) -> bool:
        """Whether QEMU locks it against writers on other hosts, or need not do so.

        QEMU locks files. A lock of a device holds on its host only.
        """
        return self.kind == "file" or self.is_shareable

    @property
    def is_uncached(self) -> bool:
        """Whether QEMU passes by the cache of the host. Then it writes whole blocks."""
        return self.cache in DIRECT_CACHES

    @property
    def is_direct(self) -> bool:
        """Whether no cache of the host can hide what another host has written."""
        return self.is_shareable or self.is_uncached or self.protocol == "rbd"

    @property
    def is_file(self) -> bool:
        """Whether its data is in a file of the host, also as a volume of a pool."""
        return self.kind == "file" or (
            self.kind == "volume" and self.path.startswith("/") and not self._is_device
        )

    @property
    def libvirt_takes_as_shared(self) -> bool:
        """Whether libvirt takes it as shared, and relies on its cache mode alone."""
        return self.is_direct and (self.kind in ("block", "network") or self._is_device)

    @property
    def _is_device(self) -> bool:
        return self.kind == "volume" and self.path.startswith("/dev/")


def disks_of(xml: str) -> Sequence[Disk]:
    """Return the disks that a domain writes and that have a source.

    `xml` must be the XML that a migration sends. In that of an active domain libvirt also names the
    backing files that it found itself.
    """
    found = (_disk(element) for element in parse(xml).iterfind("devices/disk"))
    return tuple(disk for disk in found if disk is not None)


def _disk(element: Element) -> Disk | None:
    source, target = element.find("source"), element.find("target")
    if element.get("device", "disk") not in ("disk", "lun", "floppy"):
        return None
    if source is None or target is None or element.find("readonly") is not None:
        return None
    kind = _KINDS.get(element.get("type", "file"), "other")
    driver = element.find("driver")
    backing = element.find("backingStore")
    is_encrypted = source.find("encryption") is not None or element.find("encryption") is not None
    return Disk(
        target=target.get("dev", ""),
        kind=kind,
        path=source.get(_ATTRIBUTES.get(kind, ""), element.get("type", "")),
        format=str(driver.get("type", "raw")) if driver is not None else "raw",
        cache=str(driver.get("cache", "default")) if driver is not None else "default",
        is_shareable=element.find("shareable") is not None,
        is_transient=element.find("transient") is not None,
        is_encrypted=is_encrypted,
        is_slice=source.find("slices") is not None,
        names_backing=backing is not None and backing.find("source") is not None,
        protocol=source.get("protocol") if kind == "network" else None,
    )
