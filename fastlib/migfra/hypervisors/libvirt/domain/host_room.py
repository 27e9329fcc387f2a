"""Check that a host has the CPUs and memory nodes that a domain needs. The functions block."""

from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec

from fastlib.migfra.errors import HypervisorError
from fastlib.migfra.hypervisors.libvirt.connection.api import api
from fastlib.migfra.virt.domain_vcpus import (
    cpu_set,
    default_pin,
    parse_cpu_set,
    read_pins,
    read_vcpus,
)
from fastlib.migfra.virt.xml_numbers import read_number

from .host_info import KIB, cpu_count
from .xml import parse

_OTHER_PINS: Final = {"emulatorpin": "the emulator", "iothreadpin": "an I/O thread"}
"""Elements that pin threads other than vCPUs, and the names of these threads."""


class HostCpus(msgspec.Struct, frozen=True, kw_only=True):
    """The CPUs of a host."""

    count: int
    """The number of CPUs. Offline ones count too: they have numbers."""
    offline: frozenset[int] = frozenset()


def read_cpus(connection: Any) -> HostCpus:
    """Read the CPUs of a host."""
    libvirt = api()
    count = cpu_count(connection)
    if connection.getType() == "TEST":
        return HostCpus(count=count)  # libvirt's driver `test` calls half of them offline
    try:
        known, is_online, _ = connection.getCPUMap()
    except libvirt.libvirtError as error:
        if error.get_error_code() != libvirt.VIR_ERR_NO_SUPPORT:
            raise
        return HostCpus(count=count)
    offline = frozenset(cpu for cpu, online in enumerate(is_online) if not online)
    return HostCpus(count=max(count, known), offline=offline)


def check_cpus(host: str, cpus: HostCpus, vcpu_map: Sequence[Iterable[int]]) -> None:
    """Raise HypervisorError if a map has a CPU that the host lacks, or that is offline."""
    wanted = frozenset().union(*vcpu_map)
    if max(wanted, default=0) >= cpus.count:
        raise HypervisorError(
            f"the vcpu-map has CPU {max(wanted)}, but {host} has the CPUs 0 to {cpus.count - 1}"
        )
    if offline := wanted & cpus.offline:
        raise HypervisorError(
            f"the vcpu-map has CPU {min(offline)}, which is offline on {host}; choose others, or "
            f"bring it online with chcpu -e {min(offline)}"
        )


def check_pins(name: str, host: str, cpus: HostCpus, xml: str) -> None:
    """Raise HypervisorError if a host has no CPU online that a thread of a domain may use.

    libvirt would notice that only after it has started QEMU there.
    """
    root = parse(xml)
    pins, default = read_pins(root), default_pin(root)
    online = frozenset(range(cpus.count)) - cpus.offline
    for vcpu in read_vcpus(root).online:
        allowed = pins.get(vcpu, default)
        if allowed is not None and not allowed & online:
            raise HypervisorError(
                f"vCPU {vcpu} of {name} may use the CPUs {cpu_set(allowed)} only, none of which is "
                f"online on {host}; repin it first, or give a vcpu-map"
            )
    for tag, what in _OTHER_PINS.items():
        for pin in root.iterfind(f"cputune/{tag}"):
            allowed = parse_cpu_set(pin.get("cpuset"), f"<{tag} cpuset>")
            if not allowed & online:
                raise HypervisorError(
                    f"{what} of {name} may use the CPUs {cpu_set(allowed)} only, none of which is "
                    f"online on {host}; change that first with virsh {tag} {name}"
                )


def read_memory_nodes(connection: Any) -> frozenset[int] | None:
    """Return the numbers of a host's memory nodes. None if libvirt does not report them."""
    cells = parse(connection.getCapabilities()).findall("host/topology/cells/cell")
    return frozenset(read_number(cell.get("id"), "<cell id>") for cell in cells) or None


def check_memory_nodes(
    host: str, nodes: frozenset[int] | None, memnode_map: Sequence[Iterable[int]]
) -> None:
    """Raise HypervisorError if a map has a memory node that the host lacks."""
    missing = frozenset().union(*memnode_map) - (nodes or frozenset())
    if nodes is not None and missing:
        raise HypervisorError(
            f"the memnode-map has memory node {min(missing)}, but {host} has {cpu_set(nodes)}; "
            "choose one of these"
        )


def total_memory(connection: Any) -> int:
    """Return the memory of a host in KiB."""
    return int(connection.getInfo()[1]) * KIB
