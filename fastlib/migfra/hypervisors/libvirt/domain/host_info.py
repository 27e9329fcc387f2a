"""Read the CPUs, memory, domains and versions of a host. The functions block."""

from typing import Any, Final

import msgspec

from fastlib.message.node import DomainReport
from fastlib.migfra.hypervisors.libvirt.connection.api import api

from . import saved_state
from .file_probe import is_probe
from .state import RUNNING_STATES, STATES

KIB: Final = 1024


def cpu_count(connection: Any) -> int:
    """Count the CPUs of the host. Offline ones count too: they have numbers."""
    info = connection.getInfo()
    return int(info[4] * info[5] * info[6] * info[7])


def active_names(connection: Any) -> list[str]:
    """Return the names of the active domains, sorted."""
    flags = api().VIR_CONNECT_LIST_DOMAINS_ACTIVE
    return sorted(domain.name() for domain in connection.listAllDomains(flags))


def active_uuids(connection: Any) -> dict[str, str]:
    """Return the UUIDs of the active domains, by their sorted names."""
    flags = api().VIR_CONNECT_LIST_DOMAINS_ACTIVE
    found = connection.listAllDomains(flags)
    return dict(sorted((domain.name(), domain.UUIDString()) for domain in found))


def free_memory(connection: Any) -> int | None:
    """Return the memory in KiB that domains can still get, with the kernel's caches. Else None."""
    libvirt = api()
    try:
        found = connection.getMemoryStats(libvirt.VIR_NODE_MEMORY_STATS_ALL_CELLS)
        return int(found["free"] + found.get("buffers", 0) + found.get("cached", 0))
    except libvirt.libvirtError as error:
        if error.get_error_code() != libvirt.VIR_ERR_NO_SUPPORT:
            raise
    try:
        return int(connection.getFreeMemory()) // KIB
    except libvirt.libvirtError as error:
        if error.get_error_code() != libvirt.VIR_ERR_NO_SUPPORT:
            raise
        return None


class HostInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A host, its memory and its domains."""

    cpus: int
    memory: int
    """KiB."""
    free_memory: int | None
    """KiB."""
    domains: tuple[DomainReport, ...]
    libvirt: str
    hypervisor: str

    @property
    def active(self) -> list[DomainReport]:
        """The domains that use memory and CPUs."""
        return [domain for domain in self.domains if domain.state != "shut off"]


def read(connection: Any) -> HostInfo:
    """Read the description of the host and its domains."""
    info = connection.getInfo()
    return HostInfo(
        cpus=info[2],
        memory=info[1] * KIB,
        free_memory=free_memory(connection),
        domains=_reports(connection),
        libvirt=version_text(connection.getLibVersion()),
        hypervisor=f"{connection.getType()} {version_text(connection.getVersion())}",
    )


def _reports(connection: Any) -> tuple[DomainReport, ...]:
    reports = []
    for domain in connection.listAllDomains():
        name = domain.name()
        if is_probe(name):
            continue
        try:
            state, memory, _, vcpus, _ = domain.info()
            saved = saved_state.image_of(domain) is not None
        except api().libvirtError as error:
            if error.get_error_code() == api().VIR_ERR_NO_DOMAIN:
                continue  # it has ended in the meantime
            raise
        word = (
            "running" if state in RUNNING_STATES else STATES[state] if state < len(STATES) else "?"
        )
        reports.append(
            DomainReport(
                name=name,
                state=word,
                vcpus=vcpus,
                memory=memory,
                managed_save=True if saved else None,
            )
        )
    return tuple(sorted(reports, key=lambda report: report.name))


def version_text(number: int) -> str:
    """Return libvirt's number of a version in the usual form, such as 9.0.0."""
    return f"{number // 1_000_000}.{number // 1000 % 1000}.{number % 1000}"
