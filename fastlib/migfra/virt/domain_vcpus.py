"""Read the vCPUs in a domain's XML: their number, those that are online, and their pinning.

A row of a `vcpu-map` is for a vCPU that is online. With the vCPUs 0 and 2 online and 1 offline, the
first row is for vCPU 0 and the second one for vCPU 2.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Final
from xml.etree.ElementTree import Element

import msgspec

from fastlib.migfra.errors import HypervisorError

from .xml_numbers import read_number

MOST_CPUS: Final = 1 << 16
"""The largest number of a CPU in libvirt."""
_MOST_VCPUS: Final = (1 << 16) - 1
"""The most vCPUs: libvirt reports their number in 16 bits."""
_U32: Final = (1 << 32) - 1
_RANGE: Final = re.compile(r"\s*(\^?)([0-9]{1,5})(?:-([0-9]{1,5}))?\s*", re.ASCII)

Pins = Mapping[int, frozenset[int]]
"""The CPUs that each vCPU may use, by its number."""


class Vcpus(msgspec.Struct, frozen=True, kw_only=True):
    """The vCPUs of a domain."""

    maximum: int
    online: tuple[int, ...]
    """The sorted numbers of those that are online now, or at the start."""


def read_vcpus(root: Element) -> Vcpus:
    """Read a domain's vCPUs. Raises HypervisorError for an invalid number."""
    element = root.find("vcpu")
    maximum = 1 if element is None else read_number(element.text, "<vcpu>", _MOST_VCPUS)
    count = maximum
    if element is not None and element.get("current") is not None:
        count = read_number(element.get("current"), "<vcpu current>", _MOST_VCPUS)
    if maximum == 0:
        raise HypervisorError("the domain's XML has 0 as <vcpu>; it must be at least 1")
    if count > maximum:
        raise HypervisorError(
            f"the domain's XML has {count} as <vcpu current>, but only {maximum} as <vcpu>"
        )
    each = root.findall("vcpus/vcpu")
    if not each:
        return Vcpus(maximum=maximum, online=tuple(range(count)))
    enabled = {}
    for vcpu in each:
        number = read_number(vcpu.get("id"), "<vcpus> <vcpu id>", _U32)
        if number >= maximum:
            raise HypervisorError(
                f"the domain's XML has {number} as <vcpus> <vcpu id>, but only {maximum} as <vcpu>"
            )
        if number in enabled:
            raise HypervisorError(f"the domain's XML has {number} as <vcpus> <vcpu id> twice")
        enabled[number] = vcpu.get("enabled")
        if enabled[number] not in ("yes", "no"):
            raise HypervisorError(
                f"the domain's XML has {enabled[number]!r} as <vcpus> <vcpu enabled>; yes or no "
                "was expected"
            )
    online = sorted(number for number, word in enabled.items() if word == "yes")
    return Vcpus(maximum=maximum, online=tuple(online))


def read_topology(root: Element) -> int | None:
    """Return the number of CPUs in the domain's <topology>. None without one.

    Raises HypervisorError for an invalid number.
    """
    topology = root.find("cpu/topology")
    if topology is None:
        return None
    product = 1
    for name in ("sockets", "dies", "clusters", "cores", "threads"):
        if topology.get(name) is not None:
            product *= read_number(topology.get(name), f"<topology {name}>", _U32)
    return product


def read_pins(root: Element) -> Pins:
    """Return the CPUs of each pinned vCPU. Raises HypervisorError."""
    pins = {}
    for pin in root.findall("cputune/vcpupin"):
        number = read_number(pin.get("vcpu"), "<vcpupin vcpu>", _U32)
        pins[number] = parse_cpu_set(pin.get("cpuset"), "<vcpupin cpuset>")
    return pins


def default_pin(root: Element) -> frozenset[int] | None:
    """Return the CPUs of each vCPU without a pin. None means all. Raises HypervisorError."""
    element = root.find("vcpu")
    cpus = None if element is None else element.get("cpuset")
    return None if cpus is None else parse_cpu_set(cpus, "<vcpu cpuset>")


def cpu_set(numbers: Iterable[int]) -> str:
    """Return numbers in libvirt's form of a set."""
    return ",".join(map(str, sorted(set(numbers))))


def parse_cpu_set(text: str | None, where: str) -> frozenset[int]:
    """Return the numbers of a set such as `0-3,^2,7`. Raises HypervisorError."""
    numbers: set[int] = set()
    for part in (text or "").split(","):
        found = _RANGE.fullmatch(part)
        first = last = -1
        if found is not None:
            first, last = int(found[2]), int(found[3] or found[2])
        if found is None or last < first or last >= MOST_CPUS:
            raise HypervisorError(
                f"the domain's XML has {(text or '')[:40]!r} as {where}; it must be a set of CPUs "
                "such as 0-3,^2,7"
            )
        each = range(first, last + 1)
        if found[1]:
            numbers.difference_update(each)
        else:
            numbers.update(each)
    return frozenset(numbers)


def rows_for_online(name: str, vcpus: Vcpus, vcpu_map: Sequence[Sequence[int]]) -> Pins:
    """Return the CPUs of each vCPU that has a row: row i is for the i-th vCPU that is online.

    Raises HypervisorError if there are more rows than vCPUs online, or for a row without a CPU.
    """
    check_vcpu_map(name, len(vcpus.online), vcpu_map)
    return _assigned(vcpus.online, vcpu_map)


def rows_for_start(name: str, vcpus: Vcpus, vcpu_map: Sequence[Sequence[int]]) -> Pins:
    """Return the CPUs of each vCPU that has a row, for a domain that is shut off.

    If the first vCPUs are online, further rows are for vCPUs that come online later.
    """
    if vcpus.online != tuple(range(len(vcpus.online))):
        return rows_for_online(name, vcpus, vcpu_map)
    check_vcpu_map(name, vcpus.maximum, vcpu_map, online=False)
    return _assigned(range(vcpus.maximum), vcpu_map)


def _assigned(numbers: Iterable[int], vcpu_map: Sequence[Sequence[int]]) -> Pins:
    return {vcpu: frozenset(row) for vcpu, row in zip(numbers, vcpu_map, strict=False)}


def check_vcpu_map(
    name: str, vcpus: int, vcpu_map: Sequence[Sequence[int]], *, online: bool = True
) -> None:
    """Raise HypervisorError if a map does not fit the number of vCPUs."""
    if len(vcpu_map) > vcpus:
        has = f"{vcpus} {'vCPU' if vcpus == 1 else 'vCPUs'}{' online' if online else ''}"
        raise HypervisorError(
            f"the vcpu-map has {len(vcpu_map)} rows, but {name} has {has}; give at most one row "
            "for each"
        )
    for index, row in enumerate(vcpu_map):
        if not row:
            raise HypervisorError(f"the vcpu-map has no CPU for vCPU {index}; name at least one")
        if max(row) >= MOST_CPUS:
            raise HypervisorError(f"the vcpu-map has CPU {max(row)}, which no host has")
