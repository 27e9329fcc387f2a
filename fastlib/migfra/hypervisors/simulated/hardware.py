"""Report the hardware and the storage pools that the description of a host declares."""

from typing import Final

from fastlib.message.hardware import HugePagesReport, NumaNodeReport, StoragePoolReport

from .cluster.description import HostDescription

_HUGE_PAGE_KIB: Final = 2048


def numa_nodes(host: HostDescription, free_memory: int) -> list[NumaNodeReport]:
    """Return the NUMA nodes of a host. They have equal parts of its CPUs, memory and free memory.

    `free_memory` is in KiB. No host has huge pages.
    """
    count = host.numa_nodes
    return [
        NumaNodeReport(
            id=number,
            cpus=range(number * host.cpus // count, (number + 1) * host.cpus // count),
            memory=_part(host.memory, number, count),
            free_memory=_part(free_memory, number, count),
            huge_pages=[HugePagesReport(size=_HUGE_PAGE_KIB, total=0, free=0)],
        )
        for number in range(count)
    ]


def _part(whole: int, number: int, count: int) -> int:
    return (number + 1) * whole // count - number * whole // count


def storage_pools(host: HostDescription) -> list[StoragePoolReport]:
    """Return the storage pools of a host, sorted by name."""
    return [
        StoragePoolReport(
            name=pool.name,
            type="dir",
            path=pool.path,
            state="running",
            capacity=pool.capacity,
            free=pool.capacity if pool.free is None else pool.free,
        )
        for pool in sorted(host.storage_pools, key=lambda pool: pool.name)
    ]
