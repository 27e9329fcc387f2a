"""The hardware and the storage pools of a host, as the page shows them. All parts have bounds."""

from typing import Final

import msgspec

from fastlib.message import NodeReport

from .texts import cut, short, short_or_none

MAX_ROWS: Final = 32
"""Maximum NUMA nodes, sizes of huge pages and storage pools of a host; the page has no others."""


class NumaNode(msgspec.Struct, frozen=True, omit_defaults=True):
    """One NUMA node of a host."""

    id: int
    cpus: int
    """Number of its CPUs."""
    memory: int | None = None
    """KiB."""
    free_memory: int | None = None
    """KiB."""


class HugePages(msgspec.Struct, frozen=True, omit_defaults=True):
    """Huge pages of one size on a host."""

    size: int
    """KiB."""
    total: int | None = None
    free: int | None = None


class StoragePool(msgspec.Struct, frozen=True, omit_defaults=True):
    """One storage pool of a host."""

    name: str
    state: str | None = None
    capacity: int | None = None
    """MiB."""
    free: int | None = None
    """MiB."""
    details: str | None = None
    """The reason why the daemon does not know the other values."""


class Hardware(msgspec.Struct, frozen=True, omit_defaults=True):
    """The hardware of a host. An absent value is not known."""

    cpu_model: str | None = None
    numa_nodes: tuple[NumaNode, ...] = ()
    huge_pages: tuple[HugePages, ...] = ()
    """Sizes without pages are left out."""
    storage_pools: tuple[StoragePool, ...] = ()


def hardware_of(report: NodeReport) -> Hardware | None:
    """Return the hardware in a report. None if it has none, as of earlier daemons."""
    found = Hardware(
        cpu_model=short_or_none(report.cpu_model),
        numa_nodes=tuple(
            NumaNode(node.id, len(node.cpus), node.memory, node.free_memory)
            for node in (report.numa_nodes or ())[:MAX_ROWS]
        ),
        huge_pages=tuple(
            HugePages(pages.size, pages.total, pages.free)
            for pages in (report.huge_pages or ())[:MAX_ROWS]
            if pages.total != 0
        ),
        storage_pools=tuple(
            StoragePool(
                short(pool.name),
                short_or_none(pool.state),
                pool.capacity,
                pool.free,
                None if pool.details is None else cut(pool.details),
            )
            for pool in (report.storage_pools or ())[:MAX_ROWS]
        ),
    )
    return None if found == Hardware() else found
