"""The rules for domains that change, move, or need memory and CPUs. All need a transaction."""

from fastlib.message.numbers import CpuMap
from fastlib.migfra.errors import HypervisorError

from .database import Database
from .tables import Domain


class NoRoomError(HypervisorError):
    """A host has too little free memory."""


def active_here(database: Database, name: str, host: str) -> Domain:
    """Return a domain. Raises HypervisorError unless it is active here and not migrating."""
    domain = database.domain(name)
    if domain.host != host:
        raise HypervisorError(f"{name} is on {domain.host}, not on {host}")
    if not domain.active:
        raise HypervisorError(f"{name} is shut off")
    if domain.migrating:
        raise HypervisorError(f"{name} is migrating")
    return domain


def can_leave(database: Database, name: str, source: str, destination: str) -> Domain:
    """Return a domain that could move to another host. Raises HypervisorError otherwise."""
    domain = active_here(database, name, source)
    if destination == source:
        raise HypervisorError(f"{name} is on {source} already")
    database.host(destination)
    return domain


def can_migrate(
    database: Database, name: str, source: str, destination: str, vcpu_map: CpuMap | None
) -> Domain:
    """Return a domain for which another host has room. Raises HypervisorError otherwise."""
    domain = can_leave(database, name, source, destination)
    check_map(database, destination, domain.vcpus, vcpu_map)
    check_room(database, destination, domain)
    return domain


def check_room(database: Database, host: str, domain: Domain) -> None:
    """Raise NoRoomError if a host has too little free memory for a domain."""
    free = database.host(host).free
    if domain.memory > free:
        raise NoRoomError(
            f"{host} has {free} KiB of memory free, {domain.name} needs {domain.memory} KiB"
        )


def check_map(database: Database, host: str, vcpus: int, vcpu_map: CpuMap | None) -> None:
    """Raise HypervisorError if a host cannot bind the vCPUs as ordered."""
    if vcpu_map is None:
        return
    if len(vcpu_map) > vcpus:
        raise HypervisorError(f"vcpu-map has {len(vcpu_map)} entries for {vcpus} vCPUs")
    cpus = database.host(host).cpus
    for vcpu, row in enumerate(vcpu_map):
        if not row:
            raise HypervisorError(f"the vcpu-map has no CPU for vCPU {vcpu}; name at least one")
        for cpu in row:
            if cpu >= cpus:
                raise HypervisorError(f"{host} has no CPU {cpu}; it has {cpus}")


def merged(before: CpuMap | None, rows: CpuMap) -> CpuMap:
    """Return the pinning with new rows. vCPUs without a row keep their CPUs."""
    return [*rows, *(before or ())[len(rows) :]]


def broken_invariants(database: Database) -> list[str]:
    """Return the broken invariants of a cluster, in words."""
    found = []
    for host in database.hosts():
        if host.used > host.memory:
            found.append(f"{host.name} has {host.used} of {host.memory} KiB in use")
    found += [
        f"{domain.name} is {domain.state} and has a saved image"
        for domain in database.domains(None)
        if domain.saved and domain.active
    ]
    for domain, migration in database.migrating_domains():
        expected = migration.destination if migration.phase == "post-copy" else migration.source
        if domain.host != expected:
            found.append(f"{domain.name} is on {domain.host}, in its migration on {expected}")
    found += [f"{table}: broken reference" for table in database.broken_references()]
    return found
