"""A simulated cluster: the changes of its hosts, domains and migrations; `rules.py` restricts them.

The daemons of one process share a cluster in memory, those of several processes one in a file.
Each change is one short transaction, and a domain is one row. So a domain is always on exactly one
host.
"""

import contextlib
import threading
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Final, Self

import msgspec

from fastlib.message.numbers import CpuMap
from fastlib.message.tasks import EvacuateMode
from fastlib.migfra.errors import HypervisorError
from fastlib.migfra.virt.migration_limits import DEFAULT_MIGRATIONS
from fastlib.migfra.virt.migration_queue import Direction, Slot
from fastlib.migfra.virt.new_disks import DiskPlan
from fastlib.migfra.virt.placement import (
    Destination,
    Guest,
    Placement,
    SwapOrder,
    place,
    swap_order,
)
from fastlib.migfra.virt.precopy import MIB
from fastlib.migfra.virt.saved_state import (
    DISCARDED,
    RESTORED,
    StartOrder,
)

from .database import CREATE, Database
from .description import ClusterDescription, HostDescription, LinkDescription, State
from .images import check_new_disks, create_images, remove_images
from .rules import (
    NoRoomError,
    active_here,
    broken_invariants,
    can_leave,
    can_migrate,
    check_map,
    check_room,
    merged,
)
from .starting import check_start, started
from .tables import ClusterError, Domain, Host

__all__ = ["Cluster", "ClusterError", "Domain", "Host", "Swap"]


class Swap(msgspec.Struct, frozen=True, kw_only=True):
    """A swap that has begun: the order, and the migrations of both domains."""

    order: SwapOrder
    first: int
    second: int


class Cluster:
    """A cluster, in memory or in a file. Call its methods from any thread.

    A method blocks only while it waits for other transactions.
    """

    _named: ClassVar[dict[str, "Cluster"]] = {}
    _naming: ClassVar[threading.Lock] = threading.Lock()

    def __init__(
        self, description: ClusterDescription | None = None, file: Path | str | None = None
    ) -> None:
        """Open a cluster, or create it from `description` if there is none yet.

        Raises ClusterError if there is none and no description, or if the file is not a cluster.
        """
        self._database = Database(description, file)
        self.where: Final = self._database.where
        """The file, or `memory`."""
        self.epoch: Final = self._database.epoch
        """The `world_time` at its creation."""
        self.seed: Final = self._database.seed
        self.faults: Final = self._database.faults

    def close(self) -> None:
        """Close the file. A cluster in memory is lost."""
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @classmethod
    def named(cls, name: str, description: ClusterDescription | None = None) -> "Cluster":
        """Return this process's cluster with that name. The first description makes it."""
        with cls._naming:
            found = cls._named.get(name)
            if found is None:
                if description is None:
                    raise ClusterError(f"there is no cluster {name!r} in this process; {CREATE}")
                found = cls._named[name] = cls(description)
            return found

    @classmethod
    def find_named(cls, name: str) -> "Cluster | None":
        """Return this process's cluster with that name; None if there is none."""
        with cls._naming:
            return cls._named.get(name)

    @classmethod
    def forget(cls, name: str) -> None:
        """Forget a name. Users of the cluster keep it. The next `named` creates another cluster."""
        with cls._naming:
            cls._named.pop(name, None)

    # Reading

    def hosts(self) -> list[Host]:
        """Return all hosts, in the order of the description."""
        with self._database.read():
            return self._database.hosts()

    def host(self, name: str) -> Host:
        """Return a host. Raises HypervisorError if there is none with that name."""
        with self._database.read():
            return self._database.host(name)

    def description(self, host: str) -> HostDescription:
        """Return the description of a host. Raises HypervisorError if there is none."""
        self.host(host)
        return self._database.described_hosts[host]

    def domains(self, host: str | None = None) -> list[Domain]:
        """Return all domains, or those on a host, sorted by name."""
        with self._database.read():
            return self._database.domains(host)

    def domain(self, name: str) -> Domain:
        """Return a domain. Raises HypervisorError if there is none with that name."""
        with self._database.read():
            return self._database.domain(name)

    def find(self, name: str) -> Domain | None:
        """Return a domain. None if there is none with that name."""
        with self._database.read():
            return self._database.find_domain(name)

    def link(self, source: str, destination: str) -> LinkDescription:
        """Return the link between two hosts."""
        pair = frozenset((source, destination))
        links = self._database.links
        found = links.get(pair)
        if found is None:
            bandwidth = self._database.bandwidth
            found = links[pair] = LinkDescription(hosts=(source, destination), bandwidth=bandwidth)
        return found

    def share(self, migration: int) -> float:
        """Return the share of a migration in its link, in bytes a second."""
        with self._database.read():
            row = self._database.migration(migration)
            link = self.link(row.source, row.destination)
            flows = self._database.count_flows(row.source, row.destination)
            if not link.duplex:
                flows += self._database.count_flows(row.destination, row.source)
        return float(link.bandwidth * MIB / max(1, flows))

    def problems(self) -> list[str]:
        """Check the invariants. Returns the broken ones, in words."""
        with self._database.read():
            return broken_invariants(self._database)

    # Domains

    def start(
        self,
        name: str,
        host: str,
        *,
        memory: int | None = None,
        vcpus: int | None = None,
        vcpu_map: CpuMap | None = None,
        define: bool | None = None,
        order: StartOrder | None = None,
        disks: Sequence[DiskPlan] = (),
    ) -> str | None:
        """Start a domain on a host. All hosts share the definitions, as on shared storage.

        With `define` None the domain must be defined. True defines it first if it is new, False
        makes it transient. `order` has the parts that a saved image could contradict. Returns the
        use of a saved image, and the new disks. Raises HypervisorError if it is active on any host,
        if the host has too little memory, if the image does not fit the order, or if a disk cannot
        be created.
        """
        with self._database.write():
            order = order or StartOrder(
                name=name, host=host, memory=memory, vcpus=vcpus, vcpu_map=vcpu_map
            )
            before, decision = check_start(self._database, order, define)
            new = started(
                before, host, memory=memory, vcpus=vcpus, vcpu_map=vcpu_map, define=define
            )
            check_room(self._database, host, new)
            check_map(self._database, host, new.vcpus, new.vcpu_map)
            check_new_disks(self._database, new, disks)
            self._database.insert_domain(new)
            created = create_images(self._database, name, disks)
            used = {"restore": RESTORED, "discard": DISCARDED}.get(decision.action)
            return "; ".join(filter(None, [used, created])) or None

    def managed_save(self, host: str | None, name: str | None = None) -> None:
        """Save the active domains on a host, or one domain. Then they are shut off.

        A migrating domain is not saved.
        """
        with self._database.write():
            for domain in self._database.domains(host):
                if domain.active and not domain.migrating and name in (None, domain.name):
                    self._database.set_state(domain.name, "shut off")
                    self._database.set_saved(domain.name, True)

    def stop(
        self, name: str, host: str, *, undefine: bool = False, remove_storage: bool = False
    ) -> str | None:
        """Shut a domain off. Delete it if it is transient or `undefine` is true.

        With `remove_storage`, remove also the images that starts have created for it, and return
        the sentence about them. Raises HypervisorError if that is not possible.
        """
        with self._database.write():
            domain = active_here(self._database, name, host)
            details = remove_images(self._database, name) if remove_storage else None
            if undefine or not domain.persistent:
                self._database.delete_domain(name)
            else:
                self._database.set_state(name, "shut off")
            return details

    def set_state(self, name: str, host: str, state: State) -> bool:
        """Resume or pause an active domain. Returns False if it has that state already."""
        with self._database.write():
            domain = active_here(self._database, name, host)
            self._database.set_state(name, state)
            return domain.state != state

    def repin(self, name: str, host: str, vcpu_map: CpuMap) -> None:
        """Change the CPUs that an active domain's vCPUs may use."""
        with self._database.write():
            domain = active_here(self._database, name, host)
            check_map(self._database, host, domain.vcpus, vcpu_map)
            self._database.set_pinning(name, merged(domain.vcpu_map, vcpu_map))

    # Migrations

    def begin(
        self, session: int, name: str, source: str, destination: str, vcpu_map: CpuMap | None = None
    ) -> int:
        """Begin a migration. Returns its id.

        Raises HypervisorError if the domain is not active on the source, or if the destination has
        too little memory.
        """
        with self._database.write():
            domain = can_migrate(self._database, name, source, destination, vcpu_map)
            return self._database.insert_migration(session, domain, destination, "copy")

    def check(
        self, name: str, source: str, destination: str, vcpu_map: CpuMap | None = None
    ) -> None:
        """Check that a migration could begin now. Changes nothing. Raises HypervisorError."""
        with self._database.read():
            can_migrate(self._database, name, source, destination, vcpu_map)

    def begin_swap(self, session: int, first: str, source: str, second: str, other: str) -> Swap:
        """Begin the migrations of two domains that change places.

        A domain that must wait for the other one has a migration already. So other tasks cannot
        change it. Raises HypervisorError if a host has too little memory even without the other.
        """
        with self._database.write():
            one, two = (
                can_leave(self._database, first, source, other),
                can_leave(self._database, second, other, source),
            )
            here, there = self._database.host(source), self._database.host(other)
            for domain, leaves, host in ((one, two, there), (two, one, here)):
                if domain.memory > host.free + leaves.memory:
                    raise HypervisorError(
                        f"{host.name} has too little memory for {domain.name} even without "
                        f"{leaves.name}"
                    )
            order = swap_order(_guest(one), here.free, _guest(two), there.free)
            # Neither host has enough memory until one domain is saved. So both wait for that.
            waiting = {"parallel": (), "first": (second,), "second": (first,)}.get(
                order, (first, second)
            )
            phases = {name: "waiting" if name in waiting else "copy" for name in (first, second)}
            return Swap(
                order=order,
                first=self._database.insert_migration(session, one, other, phases[first]),
                second=self._database.insert_migration(session, two, source, phases[second]),
            )

    def check_swap(self, first: str, source: str, second: str, other: str) -> None:
        """Raise HypervisorError if two domains could not change places now."""
        with self._database.read():
            can_leave(self._database, first, source, other)
            can_leave(self._database, second, other, source)

    def plan_evacuation(
        self,
        source: str,
        names: Sequence[str],
        destinations: Sequence[str],
        mode: EvacuateMode,
        overbooking: bool,
    ) -> tuple[Placement, ...]:
        """Choose the destinations of domains of a host. Raises HypervisorError."""
        with self._database.read():
            hosts = [self._database.host(name) for name in destinations]
            domains = {domain.name: domain for domain in self._database.domains(source)}
            return place(
                [_guest(domains[name]) for name in names],
                [
                    Destination(name=h.name, cpus=h.cpus, active=h.active, free_memory=h.free)
                    for h in hosts
                ],
                mode,
                overbooking=overbooking,
            )

    def save(self, migration: int) -> None:
        """Save a waiting domain to storage: it is shut off, and its memory is free."""
        with self._database.write():
            row = self._database.migration(migration)
            self._database.set_state(row.domain, "shut off")
            self._database.set_phase(migration, "saved")

    def unsave(self, migration: int) -> bool:
        """Restore a saved domain on its source. Returns False if that has too little memory."""
        with self._database.write():
            row = self._database.migration(migration)
            domain = self._database.domain(row.domain)
            if domain.memory > self._database.host(row.source).free:
                return False
            self._database.set_state(row.domain, row.state)
            self._database.delete_migration(migration)
            return True

    def advance(self, migration: int) -> None:
        """Begin a waiting migration. Raises HypervisorError if there is too little memory."""
        with self._database.write():
            self._advance(migration)

    def pause(self, migration: int) -> None:
        """Pause a migrating domain until the migration ends, with or without success."""
        with self._database.write():
            if self._database.migration(migration).phase == "copy":
                self._database.set_phase(migration, "paused")

    def switch_to_post_copy(self, migration: int) -> None:
        """Run the domain on the destination while a part of its memory is still on the source."""
        with self._database.write():
            row = self._database.migration(migration)
            self._database.set_host(row.domain, row.destination)
            self._database.set_phase(migration, "post-copy")

    def finish(
        self, migration: int, vcpu_map: CpuMap | None = None, next_migration: int | None = None
    ) -> None:
        """Move the domain to the destination, and begin `next_migration`, which waited for that.

        Raises HypervisorError if another session gave the migration up. Raises it also if there is
        too little memory for the next one; then the domain is at the destination anyway.
        """
        with self._database.write():
            row = self._database.migration(migration)
            self._database.set_host(row.domain, row.destination)
            self._database.set_state(row.domain, row.state)
            if vcpu_map is not None:
                before = self._database.domain(row.domain).vcpu_map
                self._database.set_pinning(row.domain, merged(before, vcpu_map))
            self._database.delete_migration(migration)
            if next_migration is not None:
                with contextlib.suppress(NoRoomError):  # reported when it begins
                    self._advance(next_migration)

    def move(self, name: str, source: str, destination: str) -> None:
        """Move the definition of a domain that is shut off."""
        with self._database.write():
            self._database.host(destination)
            domain = self._database.domain(name)
            if domain.active or domain.migrating or domain.host != source:
                raise HypervisorError(
                    f"{name} must be shut off on {source} for an offline migration, but it is "
                    f"{domain.state} on {domain.host}"
                )
            if domain.saved:
                raise HypervisorError(
                    f"{name} has a saved image on {source} with its newest memory, which does not "
                    "migrate; start it there and migrate it live or warm"
                )
            self._database.set_host(name, destination)

    def abandon(self, migration: int) -> None:
        """Abandon a migration. The domain stays on its host. Ignores a migration that has ended."""
        with self._database.write():
            self._database.abandon_migration(migration)

    # Sessions

    def join(
        self, host: str, outgoing: int = DEFAULT_MIGRATIONS, incoming: int = DEFAULT_MIGRATIONS
    ) -> int:
        """Begin a session of a host's daemon. Ends an earlier session of it, with its migrations.

        `outgoing` and `incoming` are the host's limits of migrations.
        """
        with self._database.write():
            self._database.host(host)
            return self._database.begin_session(host, outgoing, incoming)

    def leave(self, session: int) -> None:
        """End a session."""
        with self._database.write():
            self._database.end_session(session)

    def count(self, key: str) -> int:
        """Increase the counter of a key. Returns its value before."""
        with self._database.write():
            return self._database.count(key)

    # Slots

    def take_slots(
        self,
        session: int,
        holder: int,
        slots: Iterable[Slot],
        defaults: Mapping[Direction, int],
        now: float,
        patience: float,
    ) -> bool:
        """Take all slots of a migration or none. Returns whether they were free.

        A session that found no free slot comes before later ones. That ends `patience` seconds
        after a slot is free. So sessions that need several slots do not wait for each other.
        `defaults` are the limits of hosts without a daemon.
        """
        with self._database.write():
            free = {
                slot: self._database.slot_limit(slot, defaults[slot.direction])
                - self._database.count_held(slot)
                for slot in slots
            }
            may_take = all(
                count > self._database.count_tickets_ahead(slot, session, now)
                for slot, count in free.items()
            )
            for slot, count in free.items():
                if may_take:
                    self._database.hold_slot(slot, session, holder)
                elif count <= 0:
                    self._database.extend_ticket(slot, session, now, now + patience)
            return may_take

    def free_slots(self, holder: int) -> None:
        """Free the slots of a migration, if it has any."""
        with self._database.write():
            self._database.delete_slots(holder)

    def _advance(self, migration: int) -> None:
        row = self._database.migration(migration)
        if row.phase in ("waiting", "saved"):
            check_room(self._database, row.destination, self._database.domain(row.domain))
            self._database.set_phase(migration, "copy")


def _guest(domain: Domain) -> Guest:
    return Guest(name=domain.name, memory=domain.memory)
