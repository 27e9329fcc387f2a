"""The tables of a simulated cluster, and the types of their rows."""

import json
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from fastlib.codec.errors import FastlibError
from fastlib.message.numbers import CpuMap
from fastlib.migfra.virt.precopy import KIB, MIB

from .description import ClusterDescription, DomainDescription, HostDescription, State

VERSION: Final = 6
_MOST_MEMORY: Final = 1 << 48
"""The most memory in KiB. Sums of it must fit into SQLite's integers."""
SCHEMA: Final = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE host (
    name TEXT PRIMARY KEY, cpus INTEGER NOT NULL, memory INTEGER NOT NULL,
    certificates INTEGER NOT NULL, position INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE domain (
    name TEXT PRIMARY KEY, host TEXT NOT NULL REFERENCES host, state TEXT NOT NULL,
    vcpus INTEGER NOT NULL, memory INTEGER NOT NULL, dirty_rate REAL NOT NULL,
    working_set REAL NOT NULL, persistent INTEGER NOT NULL, vcpu_map TEXT,
    saved INTEGER NOT NULL, disk INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX domain_host ON domain (host);
CREATE TABLE image (
    path TEXT PRIMARY KEY, domain TEXT REFERENCES domain ON DELETE SET NULL, target TEXT NOT NULL,
    base TEXT
) WITHOUT ROWID;
CREATE INDEX image_domain ON image (domain);
CREATE INDEX image_base ON image (base);
CREATE TABLE session (
    id INTEGER PRIMARY KEY AUTOINCREMENT, host TEXT NOT NULL, pid INTEGER NOT NULL,
    birth TEXT NOT NULL, outgoing INTEGER NOT NULL, incoming INTEGER NOT NULL
);
CREATE TABLE migration (
    id INTEGER PRIMARY KEY AUTOINCREMENT, domain TEXT NOT NULL UNIQUE REFERENCES domain,
    source TEXT NOT NULL, destination TEXT NOT NULL REFERENCES host, memory INTEGER NOT NULL,
    session INTEGER NOT NULL REFERENCES session, phase TEXT NOT NULL, state TEXT NOT NULL
);
CREATE INDEX migration_way ON migration (destination, source);
CREATE INDEX migration_session ON migration (session);
CREATE TABLE slot (
    holder INTEGER NOT NULL, session INTEGER NOT NULL REFERENCES session, host TEXT NOT NULL,
    direction TEXT NOT NULL
);
CREATE INDEX slot_host ON slot (host, direction);
CREATE TABLE ticket (
    number INTEGER PRIMARY KEY AUTOINCREMENT, session INTEGER NOT NULL REFERENCES session,
    host TEXT NOT NULL, direction TEXT NOT NULL, until REAL NOT NULL
);
CREATE TABLE counter (key TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
"""
# Images are those that starts have created. All hosts share them. One without a domain has stayed
# after its domain was undefined.
# Phases of a migration: `waiting` for its partner in a swap, `saved` on storage, `copy`, `paused`
# by the migration, `post-copy`. Its `state` is the domain's state before it.
# A migration holds a slot. A session that waits for one has a ticket, valid until that time.
# The active domains of each host, and those that have room reserved there.
HOSTS: Final = (
    "SELECT name, cpus, memory, "
    "(SELECT coalesce(sum(memory), 0) FROM domain"
    " WHERE host = host.name AND state != 'shut off') + "
    "(SELECT coalesce(sum(memory), 0) FROM migration"
    " WHERE destination = host.name AND phase IN ('copy', 'paused')), "
    "(SELECT count(*) FROM domain WHERE host = host.name AND state != 'shut off') + "
    "(SELECT count(*) FROM migration"
    " WHERE destination = host.name AND phase IN ('copy', 'paused')), certificates FROM host"
)


class ClusterError(FastlibError):
    """A cluster cannot be created, found or opened."""


class Domain(msgspec.Struct, frozen=True, kw_only=True):
    """The present state of a domain. Memory is in KiB, the written data in bytes and bytes/s."""

    name: str
    host: str
    state: State
    vcpus: int
    memory: int
    dirty_rate: float = 0.0
    working_set: float = 0.0
    persistent: bool = True
    vcpu_map: CpuMap | None = None
    saved: bool = False
    """Whether its host has a saved image of it. The image has the size of this row."""
    disk: int = 0
    """KiB on the disk that only its host has."""
    migrating: bool = False

    @property
    def active(self) -> bool:
        return self.state != "shut off"


class Host(msgspec.Struct, frozen=True, kw_only=True):
    """The present state of a host. Memory is in KiB."""

    name: str
    cpus: int
    memory: int
    used: int
    """Memory of its active domains and of those that migrate to it, in KiB."""
    active: int
    """The number of both."""
    certificates: bool = False
    """Whether its hypervisor has certificates for encrypted migrations."""

    @property
    def free(self) -> int:
        return self.memory - self.used


DOMAIN: Final = (
    "domain.name, domain.host, domain.state, vcpus, domain.memory, dirty_rate, working_set, "
    "persistent, vcpu_map, saved, disk, migration.phase FROM domain LEFT JOIN migration "
    "ON migration.domain = domain.name"
)


def host_of_row(row: Sequence[Any]) -> Host:
    name, cpus, memory, used, active, certificates = row
    return Host(
        name=name,
        cpus=cpus,
        memory=memory,
        used=used,
        active=active,
        certificates=bool(certificates),
    )


def domain_of_row(row: Sequence[Any]) -> Domain:
    return Domain(
        name=row[0],
        host=row[1],
        state="paused" if row[11] == "paused" else row[2],
        vcpus=row[3],
        memory=row[4],
        dirty_rate=row[5],
        working_set=row[6],
        persistent=bool(row[7]),
        vcpu_map=None if row[8] is None else json.loads(row[8]),
        saved=bool(row[9]),
        disk=row[10],
        migrating=row[11] is not None,
    )


def described_domain(description: DomainDescription) -> Domain:
    written = description.memory if description.working_set is None else description.working_set
    return Domain(
        name=description.name,
        host=description.host,
        state=description.state,
        vcpus=description.vcpus,
        memory=description.memory,
        dirty_rate=description.dirty_rate * MIB,
        working_set=float(written * KIB),
        saved=description.managed_save,
        disk=description.disk,
    )


def check_description(description: ClusterDescription) -> None:
    """Raise ClusterError if the description contradicts itself, or for too much memory."""
    items: list[HostDescription | DomainDescription] = [*description.hosts, *description.domains]
    for item in items:
        if item.memory > _MOST_MEMORY:
            raise ClusterError(f"{item.name} has {item.memory} KiB of memory, which nothing has")
    for domain in description.domains:
        if domain.disk > _MOST_MEMORY:
            raise ClusterError(
                f"{domain.name} has {domain.disk} KiB on its disk, which nothing has"
            )
    for host in description.hosts:
        _check_pools(host)
    hosts = {host.name: host.memory for host in description.hosts}
    if len(hosts) < len(description.hosts):
        raise ClusterError("two hosts of the cluster have the same name")
    if len({domain.name for domain in description.domains}) < len(description.domains):
        raise ClusterError("two domains of the cluster have the same name")
    for link in description.links:
        if len(set(link.hosts)) != 2 or not set(link.hosts) <= set(hosts):
            raise ClusterError(f"a link must have two hosts of the cluster, not {list(link.hosts)}")
    for domain in description.domains:
        if domain.host not in hosts:
            raise ClusterError(f"{domain.name} is on {domain.host}, which is not in the cluster")
        if domain.managed_save and domain.state != "shut off":
            raise ClusterError(f"{domain.name} has a saved image, so its state must be: shut off")
        if domain.state != "shut off":
            hosts[domain.host] -= domain.memory
            if hosts[domain.host] < 0:
                raise ClusterError(f"the domains on {domain.host} have more memory than it has")


def _check_pools(host: HostDescription) -> None:
    names = [pool.name for pool in host.storage_pools]
    if len(set(names)) < len(names):
        raise ClusterError(f"two storage pools of {host.name} have the same name")
    for pool in host.storage_pools:
        if pool.free is not None and pool.free > pool.capacity:
            raise ClusterError(
                f"the storage pool {pool.name} of {host.name} has {pool.free} MiB free, but only "
                f"{pool.capacity} MiB in total"
            )
