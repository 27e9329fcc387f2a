"""Reports of a migration daemon about the hardware and the storage of its node."""

from collections.abc import Sequence
from typing import Annotated

from fastlib.codec.annotations import Wire

from .base import Message
from .numbers import U32, U64


class HugePagesReport(Message):
    """The huge pages of one size."""

    size: Annotated[U64, Wire("Size of one page.", unit="KiB")]
    """Size of one page. Unit: KiB."""
    total: Annotated[U64 | None, Wire("Number of pages of this size.")] = None
    """Number of pages of this size."""
    free: Annotated[U64 | None, Wire("Number of pages that no domain or program uses.")] = None
    """Number of pages that no domain or program uses."""


class NumaNodeReport(Message):
    """One NUMA node of a host."""

    id: Annotated[U32, Wire("Number of the node, as in a memnode-map.")]
    """Number of the node, as in a memnode-map."""
    cpus: Annotated[Sequence[U32], Wire("Numbers of its CPUs, as in a vcpu-map.")]
    """Numbers of its CPUs, as in a vcpu-map."""
    memory: Annotated[U64 | None, Wire("Memory of the node.", unit="KiB")] = None
    """Memory of the node. Unit: KiB."""
    free_memory: Annotated[
        U64 | None,
        Wire("Memory of the node that is not in use, without the kernel's caches.", unit="KiB"),
    ] = None
    """Memory of the node that is not in use, without the kernel's caches. Unit: KiB."""
    huge_pages: Annotated[
        Sequence[HugePagesReport] | None, Wire("Its huge pages, the smallest size first.")
    ] = None
    """Its huge pages, the smallest size first."""


class StoragePoolReport(Message):
    """One storage pool of a host."""

    name: Annotated[str, Wire("Name of the pool.")]
    """Name of the pool."""
    type: Annotated[str | None, Wire("Type: dir, netfs, logical or another one of libvirt.")] = None
    """Type: dir, netfs, logical or another one of libvirt."""
    path: Annotated[str | None, Wire("Folder of its volumes on the host.")] = None
    """Folder of its volumes on the host."""
    state: Annotated[
        str | None,
        Wire("State: running, inactive, or another word of libvirt, such as inaccessible."),
    ] = None
    """State: running, inactive, or another word of libvirt, such as inaccessible."""
    capacity: Annotated[U64 | None, Wire("Size of the pool.", unit="MiB")] = None
    """Size of the pool. Unit: MiB."""
    free: Annotated[U64 | None, Wire("Free space of the pool.", unit="MiB")] = None
    """Free space of the pool. Unit: MiB."""
    details: Annotated[
        str | None,
        Wire("Reason why the daemon does not know the other values.", empty_is_absent=True),
    ] = None
    """Reason why the daemon does not know the other values."""
