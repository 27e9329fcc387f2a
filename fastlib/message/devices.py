"""Devices that a domain is started with.

See docs/reference/protocol.md, "PCI devices".
"""

import re
from typing import Annotated, ClassVar, Literal, Self

import msgspec
from msgspec import Meta

from fastlib.codec.annotations import Wire
from fastlib.codec.constructor import constructor_of
from fastlib.codec.derivation import shape_of
from fastlib.codec.errors import ValidationError
from fastlib.codec.lazy_pattern import lazy_pattern
from fastlib.codec.rules import OneOf, Rule
from fastlib.codec.schema_protocol import Schema, SchemaBuilder

from .base import Message
from .numbers import U16

DiskName = Annotated[str, Meta(min_length=1)]
"""Name of a disk in a domain, such as vda."""
DiskFormat = Literal["qcow2", "raw"]
"""Format of a disk's image."""
DiskBus = Literal["virtio", "scsi", "sata", "ide", "usb"]
"""Bus by which the domain sees a disk."""
DiskCache = Literal["none", "directsync", "writethrough", "writeback", "unsafe"]
"""Use of the host's page cache for a disk; see libvirt's attribute `cache`."""
Mebibytes = Annotated[int, Meta(ge=1, le=0xFFFF_FFFF)]


class PciId(Message):
    """Kind of a PCI device. Any free device of that vendor and model on the host is attached."""

    vendor: Annotated[U16, Wire("Vendor, such as 0x15b3.", hex_digits=4)]
    """Vendor, such as 0x15b3."""
    device: Annotated[U16, Wire("Model of that vendor, such as 0x1004.", hex_digits=4)]
    """Model of that vendor, such as 0x1004."""


class _PciAddressText(msgspec.Struct, frozen=True, kw_only=True, rename="kebab"):
    pci_addr: Annotated[
        str, Wire("Full PCI address, DDDD:BB:DD.F in hexadecimal.", aliases=("addr",))
    ]


_HEX = "(?:0[xX])?([0-9a-fA-F]{1,%d})"
_ADDRESS = lazy_pattern(
    f"(?:{_HEX % 4}:)?{_HEX % 2}:{_HEX % 2}\\.(?:0[xX])?([0-9a-fA-F])", re.ASCII
)
# A C++ peer writes the device number in place of the domain, so the domain is lost.
_PEER_ADDRESS = lazy_pattern(f"{_HEX % 4}:{_HEX % 2}\\.{_HEX % 2}\\.([0-9a-fA-F])", re.ASCII)
# The same for schemas. It also checks ranges, but not whether the two numbers are equal.
_X, _H = "(0[xX])?", "[0-9a-fA-F]"
_REST = f"{_X}{_H}{{1,2}}%s{_X}[01]?{_H}[.]{_X}[0-7]"


_make_text = constructor_of(_PciAddressText)


class PciAddress(Message):
    """Address of one PCI device of the host; on the wire `pci-addr: "0000:01:02.3"`."""

    __wire__ = _PciAddressText

    domain: Annotated[int, Meta(ge=0, le=0xFFFF)] = 0
    bus: Annotated[int, Meta(ge=0, le=0xFF)]
    device: Annotated[int, Meta(ge=0, le=0x1F)]
    function: Annotated[int, Meta(ge=0, le=0x7)]

    def __str__(self) -> str:
        return f"{self.domain:04x}:{self.bus:02x}:{self.device:02x}.{self.function:x}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the address in a text: `0000:01:02.3`, `01:02.3`, or a C++ peer's `0002:01.02.3`.

        Raises ValueError.
        """
        match = _ADDRESS.fullmatch(text)
        if match is not None:
            domain, bus, device, function = (int(part or "0", 16) for part in match.groups())
        else:
            match = _PEER_ADDRESS.fullmatch(text)
            if match is None:
                raise ValueError(f"expected a PCI address such as 0000:01:02.3; got {text[:60]!r}")
            repeated, bus, device, function = (int(part, 16) for part in match.groups())
            if repeated != device:
                raise ValueError(
                    f"expected a PCI address such as 0000:01:02.3; got {text!r}, which has two "
                    "different device numbers"
                )
            domain = 0
        try:
            # Uses the codec's constructor, because this is a hot path of loading.
            address: Self = constructor_of(cls)(
                domain=domain, bus=bus, device=device, function=function
            )
        except ValidationError as error:
            raise ValueError(f"{text!r} is not a PCI address: {error.problems[0]}") from None
        return address

    def to_wire(self) -> _PciAddressText:
        wire: _PciAddressText = _make_text(pci_addr=str(self))
        return wire

    @classmethod
    def from_wire(cls, wire: _PciAddressText) -> Self:
        return cls.parse(wire.pci_addr)

    @staticmethod
    def __schema__(schemas: SchemaBuilder) -> Schema:
        schema = schemas.of(shape_of(_PciAddressText))
        text = schemas.text(
            r"^[0-9a-f]{4}:[0-9a-f]{2}:[01][0-9a-f]\.[0-7]$",
            also=f"^(({_X}{_H}{{1,4}}:)?{_REST % ':'}|{_X}0{{0,2}}[01]?{_H}:{_REST % '[.]'})$",
            expected="a PCI address such as 0000:01:02.3",
        )
        for keyword in schema.keys() & {"properties", "patternProperties"}:
            keys = schema[keyword]
            about = {key: {"description": keys[key]["description"]} for key in keys}
            schema = {**schema, keyword: {key: about[key] | text for key in keys}}
        return schema


class DeviceIvshmem(Message):
    """Memory that the host shares with the domain."""

    id: Annotated[str, Wire("Name of the device.")]
    """Name of the device."""
    size: Annotated[str, Wire("Size with its unit, such as 64M.")]
    """Size with its unit, such as 64M."""
    path: Annotated[
        str | None, Wire("The backing file; absent means the hypervisor's default.")
    ] = None
    """The backing file; absent means the hypervisor's default."""


class NewDisk(Message):
    """A disk that a start creates."""

    rules: ClassVar[tuple[Rule, ...]] = (OneOf("base", "size"),)

    target: Annotated[DiskName, Wire("Name of the disk in the domain, such as vda.")]
    """Name of the disk in the domain, such as vda."""
    base: Annotated[
        str | None,
        Wire(
            "Path of an image on the host. The new image is an overlay: it has the data of the "
            "base, and only the new image is written. Absent means an empty disk."
        ),
    ] = None
    """Path of an image on the host. The new image is an overlay: it has the data of the base, and
    only the new image is written. Absent means an empty disk.
    """
    size: Annotated[
        Mebibytes | None, Wire("Size of the disk; absent means that of the base.", unit="MiB")
    ] = None
    """Size of the disk; absent means that of the base. Unit: MiB."""
    path: Annotated[
        str | None,
        Wire(
            "Path of the new image on the host; absent means a file in the daemon's folder of "
            "images, with the names of the domain and of the target."
        ),
    ] = None
    """Path of the new image on the host; absent means a file in the daemon's folder of images, with
    the names of the domain and of the target.
    """
    format: Annotated[
        DiskFormat | None,
        Wire("Format of the new image; raw needs a disk without base. Absent means qcow2."),
    ] = None
    """Format of the new image; raw needs a disk without base. Absent means qcow2."""
    bus: Annotated[
        DiskBus | None, Wire("Bus of the disk; absent means the one that its name says.")
    ] = None
    """Bus of the disk; absent means the one that its name says."""
    cache: Annotated[
        DiskCache | None,
        Wire("Cache mode of the disk; absent means none, with which it can also migrate."),
    ] = None
    """Cache mode of the disk; absent means none, with which it can also migrate."""
