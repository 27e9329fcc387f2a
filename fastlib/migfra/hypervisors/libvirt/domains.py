"""Looking at domains and changing them: functions that block, for `Connection.call`.

Each takes the `virConnect` and the domain's name, so that nothing is kept of a connection that may
be lost before the next call.
"""

from collections.abc import Collection
from typing import Any, Final

import msgspec

from fastlib.message.node import DomainReport
from fastlib.migfra.errors import HypervisorError

from .api import api
from .description import check_map

KIB: Final = 1024
STATES: Final = (
    "no state", "running", "blocked", "paused", "shutting down", "shut off", "crashed", "suspended",
)  # fmt: skip
"""libvirt's states in words, by their numbers."""
_RUNNING: Final = frozenset({1, 2})
"""Running, or waiting for a resource; both are running to an operator."""

# Why a domain runs or is paused, as libvirt counts it.
RUNS_AFTER_CANCEL: Final = 6
"""It was paused for the switch-over of a migration that then was taken for failed."""
RUNS_IN_POST_COPY: Final = frozenset({10, 11})
"""It runs on the destination, and part of its memory is still on the source."""
PAUSED_BY_USER: Final = 1
PAUSED_FOR_MIGRATION: Final = 2
PAUSED_ARRIVING: Final = frozenset({2, 11})
"""On the destination: it has never run there."""
PAUSED_IN_POST_COPY: Final = frozenset({12, 13})
"""On the source: the domain runs on the destination, and needs what memory is still here."""


class Sighting(msgspec.Struct, frozen=True, kw_only=True):
    """What a host's libvirt says of a domain. It is there in none of the senses if not `known`."""

    known: bool = False
    active: bool = False
    running: bool = False
    paused: bool = False
    migrating: bool = False
    """A job is under way that moves or saves it."""
    state: str = ""
    """libvirt's word for it."""
    reason: int = 0
    """Why it is in its state, as libvirt counts it."""
    persistent: bool = False
    autostart: bool = False
    """Whether it starts with its host."""
    uuid: str = ""
    memory: int = 0
    """KiB."""
    vcpus: int = 0

    @property
    def left_behind(self) -> bool:
        """Whether it stands still since a migration whose end its host's libvirt has not heard."""
        return self.paused and self.reason in {PAUSED_FOR_MIGRATION, *PAUSED_IN_POST_COPY}

    @property
    def words(self) -> str:
        """What it does, in words that go behind its name."""
        if not self.known:
            return "is unknown"
        if self.running:
            return "runs"
        if self.left_behind and not self.migrating:
            return "stands still since a migration"
        return f"is {self.state}" if self.state else "is shut off"


def find(connection: Any, name: str) -> Any:
    """The domain, or None."""
    libvirt = api()
    try:
        return connection.lookupByName(name)
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
            return None
        raise


def sight(connection: Any, name: str) -> Sighting:
    """What the host says of a domain now."""
    libvirt = api()
    domain = find(connection, name)
    if domain is None:
        return Sighting()
    try:
        # The job first: what ends meanwhile is seen as under way, and looked at once more.
        migrating = has_job(domain)
        _, maximum, _, vcpus, _ = domain.info()
        persistent = bool(domain.isPersistent())
        state, reason = domain.state()
        return Sighting(
            known=True,
            active=state != libvirt.VIR_DOMAIN_SHUTOFF and bool(domain.isActive()),
            running=state in _RUNNING,
            paused=state in (libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PMSUSPENDED),
            migrating=migrating,
            state=STATES[state] if state < len(STATES) else "in no known state",
            reason=reason,
            persistent=persistent,
            autostart=persistent and bool(domain.autostart()),
            uuid=domain.UUIDString(),
            memory=maximum,
            vcpus=vcpus,
        )
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
            return Sighting()  # it went while it was looked at
        raise


def has_job(domain: Any) -> bool:
    """Whether something is under way that keeps other calls waiting, such as a migration."""
    libvirt = api()
    try:
        kind = domain.jobInfo()[0]
    except libvirt.libvirtError as error:
        code = error.get_error_code()
        if code == libvirt.VIR_ERR_OPERATION_UNSUPPORTED:
            return True  # so it is of a domain that is arriving: only its source has figures
        # An inactive domain, and a driver without jobs, has none.
        if code in (libvirt.VIR_ERR_OPERATION_INVALID, libvirt.VIR_ERR_NO_SUPPORT):
            return False
        raise
    return bool(kind in (libvirt.VIR_DOMAIN_JOB_BOUNDED, libvirt.VIR_DOMAIN_JOB_UNBOUNDED))


# What a migration has left behind. Each looks again right before it acts.


def end_copy(connection: Any, name: str, uuid: str, reasons: Collection[int]) -> None:
    """End a domain, but only if it is that one, and paused for one of these reasons."""
    libvirt = api()
    domain = find(connection, name)
    if domain is None or not _is(domain, uuid):
        return
    state, reason = domain.state()
    if state == libvirt.VIR_DOMAIN_PAUSED and reason in reasons:
        domain.destroy()


def let_go_on(connection: Any, name: str, uuid: str) -> None:
    """Let a domain run on, but only if it is that one, and stands still since a migration."""
    libvirt = api()
    domain = find(connection, name)
    if domain is None or not _is(domain, uuid) or has_job(domain):
        return
    if domain.state() == [libvirt.VIR_DOMAIN_PAUSED, PAUSED_FOR_MIGRATION]:
        domain.resume()


def stop_second(connection: Any, name: str, uuid: str) -> None:
    """Pause a domain that runs again because its migration was taken for failed."""
    libvirt = api()
    domain = find(connection, name)
    if domain is None or not _is(domain, uuid):
        return
    if domain.state() == [libvirt.VIR_DOMAIN_RUNNING, RUNS_AFTER_CANCEL]:
        domain.suspend()


def _is(domain: Any, uuid: str) -> bool:
    return not uuid or domain.UUIDString() == uuid


def suspend(connection: Any, name: str) -> bool:
    """Pause a domain; False if it was paused already."""
    domain = _active(connection, name)
    if domain.state()[0] == api().VIR_DOMAIN_PAUSED:
        return False
    domain.suspend()
    return True


def resume(connection: Any, name: str) -> bool:
    """Let a paused domain run on; False if it ran already.

    Raises HypervisorError for what stands still since a migration: it may run on the other host.
    """
    domain = _active(connection, name)
    state, reason = domain.state()
    if state in _RUNNING:
        return False
    if state == api().VIR_DOMAIN_PAUSED and (
        reason == PAUSED_FOR_MIGRATION or reason in PAUSED_IN_POST_COPY
    ):
        raise HypervisorError(
            f"{name} stands still on {connection.getHostname()} since a migration, and may run on "
            "its destination; if it does not, let it run on with virsh resume, else destroy it here"
        )
    _wake(domain)
    return True


def let_run(connection: Any, name: str) -> None:
    """Let a domain run, whatever it has been paused for: who calls knows where it is."""
    domain = _active(connection, name)
    if domain.state()[0] not in _RUNNING:
        _wake(domain)


def _wake(domain: Any) -> None:
    if domain.state()[0] == api().VIR_DOMAIN_PMSUSPENDED:
        domain.pMWakeup(0)
    else:
        domain.resume()


def pin(connection: Any, name: str, vcpu_map: list[list[int]]) -> None:
    """Change the CPUs that a running domain's vCPUs may use, in its definition as well."""
    libvirt = api()
    domain = _active(connection, name)
    check_map(name, domain.info()[3], vcpu_map)
    cpus = host_cpus(connection)
    for row in vcpu_map:
        if max(row) >= cpus:
            raise HypervisorError(
                f"the vcpu-map has CPU {max(row)}, but the host has the CPUs 0 to {cpus - 1}"
            )
    flags = libvirt.VIR_DOMAIN_AFFECT_LIVE
    if domain.isPersistent():
        flags |= libvirt.VIR_DOMAIN_AFFECT_CONFIG
    for index, row in enumerate(vcpu_map):
        allowed = tuple(cpu in row for cpu in range(cpus))
        try:
            domain.pinVcpuFlags(index, allowed, flags)
        except libvirt.libvirtError as error:
            if error.get_error_code() != libvirt.VIR_ERR_INVALID_ARG:
                raise
            domain.pinVcpuFlags(index, allowed, 0)  # a driver that knows the current state only


def pinning(connection: Any, name: str) -> list[list[int]]:
    """The CPUs that each vCPU may use."""
    rows = _active(connection, name).vcpuPinInfo()
    return [[cpu for cpu, allowed in enumerate(row) if allowed] for row in rows]


def host_cpus(connection: Any) -> int:
    """How many CPUs the host has, those that are off included, as they have numbers as well."""
    info = connection.getInfo()
    return int(info[4] * info[5] * info[6] * info[7])


def destroy(connection: Any, name: str, run: int | None = None) -> None:
    """End a domain at once; if `run` is given, only the one that has this id since its start."""
    domain = find(connection, name)
    if domain is not None and domain.isActive() and run in (None, domain.ID()):
        domain.destroy()


def set_autostart(connection: Any, name: str) -> None:
    """Let a domain start with its host."""
    connection.lookupByName(name).setAutostart(1)


def undefine(connection: Any, name: str) -> None:
    """Forget a domain's definition, with all that libvirt keeps of it.

    The variables of its firmware stay, as on shared storage they may be those of a running domain.
    """
    libvirt = api()
    domain = find(connection, name)
    if domain is None or not domain.isPersistent():
        return
    try:
        domain.undefineFlags(
            libvirt.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE
            | libvirt.VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA
            | libvirt.VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA
            | libvirt.VIR_DOMAIN_UNDEFINE_KEEP_NVRAM
        )
    except libvirt.libvirtError as error:
        if error.get_error_code() not in (libvirt.VIR_ERR_INVALID_ARG, libvirt.VIR_ERR_NO_SUPPORT):
            raise
        domain.undefine()  # a driver that keeps nothing else


def active_names(connection: Any) -> list[str]:
    """The names of the active domains, in order."""
    flags = api().VIR_CONNECT_LIST_DOMAINS_ACTIVE
    return sorted(domain.name() for domain in connection.listAllDomains(flags))


def description(connection: Any, name: str, *, active: bool = False) -> str:
    """A domain's XML: how it is defined, or how it runs."""
    libvirt = api()
    flags = libvirt.VIR_DOMAIN_XML_SECURE
    if not active:
        flags |= libvirt.VIR_DOMAIN_XML_INACTIVE
    return str(connection.lookupByName(name).XMLDesc(flags))


def free_memory(connection: Any) -> int | None:
    """KiB that domains can still get, what the kernel caches included; None if not known."""
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


class HostFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What a host has."""

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
        """The domains that take room."""
        return [domain for domain in self.domains if domain.state != "shut off"]


def facts(connection: Any) -> HostFacts:
    """What the host has, and its domains."""
    info = connection.getInfo()
    return HostFacts(
        cpus=info[2],
        memory=info[1] * KIB,
        free_memory=free_memory(connection),
        domains=_reports(connection),
        libvirt=version(connection.getLibVersion()),
        hypervisor=f"{connection.getType()} {version(connection.getVersion())}",
    )


def _reports(connection: Any) -> tuple[DomainReport, ...]:
    reports = []
    for domain in connection.listAllDomains():
        name = domain.name()
        try:
            state, memory, _, vcpus, _ = domain.info()
        except api().libvirtError as error:
            if error.get_error_code() == api().VIR_ERR_NO_DOMAIN:
                continue  # it went meanwhile
            raise
        word = "running" if state in _RUNNING else STATES[state] if state < len(STATES) else "?"
        reports.append(DomainReport(name=name, state=word, vcpus=vcpus, memory=memory))
    return tuple(sorted(reports, key=lambda report: report.name))


def version(number: int) -> str:
    """libvirt's number of a version in the usual form."""
    return f"{number // 1_000_000}.{number // 1000 % 1000}.{number % 1000}"


def _active(connection: Any, name: str) -> Any:
    """The domain. Raises HypervisorError if it is not active."""
    domain = connection.lookupByName(name)
    if not domain.isActive():
        raise HypervisorError(
            f"{name} is not running on {connection.getHostname()}, it is shut off; start it first"
        )
    return domain
