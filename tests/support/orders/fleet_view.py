"""The reports of the libvirt of all hosts about their domains, queried directly."""

from collections.abc import Iterable, Mapping
from typing import Any, Final
from xml.etree import ElementTree

import msgspec

from tests.support.lab.fleet import Fleet
from tests.support.lab.host import Host
from tests.support.lab.libvirt_access import libvirt_of, saved_images
from tests.support.lab.local_disks import FOLDER, images_on

_STATES: Final = {
    1: "running", 2: "running", 3: "paused", 4: "in shutdown", 5: "shut off", 6: "crashed",
    7: "pmsuspended",
}  # fmt: skip
Pins = tuple[tuple[int, str], ...]
"""vCPU and its CPUs, of each vCPU that is pinned."""


class DomainView(msgspec.Struct, frozen=True, kw_only=True):
    """A domain as its host's libvirt describes it."""

    name: str
    uuid: str
    state: str
    run: int
    """The id that it has until it ends, -1 while it is inactive."""
    persistent: bool
    autostart: bool
    saved: bool
    """Whether it has a managed save image."""
    definition: str | None
    """XML of the next start; None for a transient domain."""
    memory: int
    """KiB."""
    vcpus: tuple[int, ...]
    """The vCPUs that are there, or will be there at the next start."""
    maximum_vcpus: int
    pins: Pins
    """Of the running domain, or of the next start."""
    defined_pins: Pins
    snapshots: tuple[str, ...] = ()
    nodes: str | None = None
    """The memory nodes that the memory is bound to. No domain here has NUMA cells."""
    defined_nodes: str | None = None

    @property
    def active(self) -> bool:
        return self.state not in ("shut off", "crashed")


class FleetView(msgspec.Struct, frozen=True, kw_only=True):
    """All domains, by host and name, and the images of memory and of disks of each host."""

    hosts: Mapping[str, Mapping[str, DomainView]]
    images: Mapping[str, tuple[str, ...]]
    """Names of domains with a managed save image, by host."""
    disk_images: Mapping[str, tuple[str, ...]]
    """Paths of all images in the folder that each host has for itself."""

    def places(self, name: str) -> dict[str, DomainView]:
        """Where there is a domain of this name, active or not."""
        return {host: domains[name] for host, domains in self.hosts.items() if name in domains}

    def active_places(self, name: str) -> dict[str, DomainView]:
        """Where a domain of this name is active."""
        return {host: view for host, view in self.places(name).items() if view.active}

    @property
    def names(self) -> list[str]:
        return sorted({name for domains in self.hosts.values() for name in domains})


def observe(fleet: Fleet) -> FleetView:
    """Query all hosts. Raises libvirtError if one does not answer, or a domain disappears."""
    hosts = {host.name: _domains(host) for host in fleet.lab.hosts}
    images = {host.name: tuple(sorted(saved_images(host))) for host in fleet.lab.hosts}
    disk_images = {
        host.name: tuple(str(FOLDER / name) for name in images_on(host)) for host in fleet.lab.hosts
    }
    return FleetView(hosts=hosts, images=images, disk_images=disk_images)


def _domains(host: Host) -> dict[str, DomainView]:
    with libvirt_of(host) as connection:
        return {domain.name(): _view(domain) for domain in connection.listAllDomains()}


def _view(domain: Any) -> DomainView:
    import libvirt

    state = _STATES.get(domain.state()[0], "no state")
    persistent = bool(domain.isPersistent())
    xml = libvirt.VIR_DOMAIN_XML_SECURE
    definition = domain.XMLDesc(xml | libvirt.VIR_DOMAIN_XML_INACTIVE) if persistent else None
    present = ElementTree.fromstring(domain.XMLDesc(xml))
    defined = present if definition is None else ElementTree.fromstring(definition)
    vcpu = present.find("vcpu")
    assert vcpu is not None
    return DomainView(
        name=domain.name(),
        uuid=domain.UUIDString(),
        state=state,
        run=domain.ID(),
        persistent=persistent,
        autostart=persistent and bool(domain.autostart()),
        saved=bool(domain.hasManagedSaveImage()),
        definition=definition,
        memory=int(present.findtext("memory", "0")),
        vcpus=_vcpus(present),
        maximum_vcpus=int(vcpu.text or "0"),
        pins=_pins(present),
        defined_pins=_pins(defined),
        snapshots=tuple(domain.snapshotListNames()),
        nodes=_nodes(present),
        defined_nodes=_nodes(defined),
    )


def _vcpus(xml: ElementTree.Element) -> tuple[int, ...]:
    rows = xml.findall("vcpus/vcpu")
    if rows:
        return tuple(int(row.get("id", "")) for row in rows if row.get("enabled") == "yes")
    vcpu = xml.find("vcpu")
    assert vcpu is not None
    return tuple(range(int(vcpu.get("current", vcpu.text or "0"))))


def _pins(xml: ElementTree.Element) -> Pins:
    return tuple(
        sorted(
            (int(pin.get("vcpu", "")), cpu_text(cpus_of(pin.get("cpuset", ""))))
            for pin in xml.findall("cputune/vcpupin")
        )
    )


def _nodes(xml: ElementTree.Element) -> str | None:
    memory = xml.find("numatune/memory")
    return None if memory is None else cpu_text(cpus_of(memory.get("nodeset", "")))


def cpus_of(text: str) -> set[int]:
    """The CPUs of a text such as `0-2,4`."""
    found: set[int] = set()
    for part in text.split(","):
        first, _, last = part.partition("-")
        found |= set(range(int(first), int(last or first) + 1))
    return found


def cpu_text(cpus: Iterable[int]) -> str:
    """One text for each set of CPUs."""
    return ",".join(map(str, sorted(set(cpus))))
