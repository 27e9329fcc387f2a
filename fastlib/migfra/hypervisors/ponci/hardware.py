"""Read the CPUs, NUMA nodes and huge pages of this host from files of the kernel."""

import re
from collections.abc import Set
from pathlib import Path
from typing import Final

from fastlib.message.hardware import HugePagesReport, NumaNodeReport

from .files import GoneError, folders_in, read
from .id_lists import parse_id_list

CPU_INFO: Final = Path("/proc/cpuinfo")
NODES: Final = Path("/sys/devices/system/node")
HUGE_PAGES: Final = Path("/sys/kernel/mm/hugepages")
_NODE: Final = re.compile(r"node([0-9]{1,9})", re.ASCII)
_SIZE: Final = re.compile(r"hugepages-([0-9]{1,15})kB", re.ASCII)
_MEMORY: Final = re.compile(r"^Node [0-9]+ (MemTotal|MemFree): +([0-9]+) kB$", re.MULTILINE)


def cpu_of(text: str) -> tuple[str | None, str | None]:
    """Return model and vendor of the first CPU in the text of /proc/cpuinfo.

    Many architectures have no such lines; then they are None.
    """
    first = text.partition("\n\n")[0].splitlines()
    found = {
        key.strip(): value.strip() for key, _, value in (line.partition(":") for line in first)
    }
    return found.get("model name") or None, found.get("vendor_id") or None


def numa_nodes(
    cpus: Set[int], nodes: Set[int], folder: Path = NODES
) -> list[NumaNodeReport] | None:
    """Return the NUMA nodes with the CPUs that domains can get. None without such a kernel."""
    found = {int(match[1]) for name in folders_in(folder) if (match := _NODE.fullmatch(name))}
    if not found:
        return None
    return [_node(folder / f"node{number}", number, cpus) for number in sorted(found & nodes)]


def _node(folder: Path, number: int, cpus: Set[int]) -> NumaNodeReport:
    memory = {key: int(value) for key, value in _MEMORY.findall(read(folder / "meminfo"))}
    return NumaNodeReport(
        id=number,
        cpus=sorted(parse_id_list(read(folder / "cpulist")) & cpus),
        memory=memory.get("MemTotal"),
        free_memory=memory.get("MemFree"),
        huge_pages=huge_pages(folder / "hugepages"),
    )


def huge_pages(folder: Path = HUGE_PAGES) -> list[HugePagesReport] | None:
    """Return the huge pages in a folder of the kernel. None if the kernel has no such folder."""
    sizes = sorted(int(match[1]) for name in folders_in(folder) if (match := _SIZE.fullmatch(name)))
    if not sizes:
        return None
    return [
        HugePagesReport(
            size=size,
            total=_count(folder / f"hugepages-{size}kB" / "nr_hugepages"),
            free=_count(folder / f"hugepages-{size}kB" / "free_hugepages"),
        )
        for size in sizes
    ]


def _count(path: Path) -> int | None:
    try:
        return int(read(path))
    except GoneError:
        return None
