"""The simulated cluster: what may happen to its hosts, domains and migrations.

In memory it is shared by the daemons of one process, in a file by those of several. Every change is
one short transaction, and a domain is one row, so it is on exactly one host at any moment.
"""

import contextlib
import threading
from collections.abc import Sequence
from typing import ClassVar

import msgspec

from fastlib.message.numbers import CpuMap
from fastlib.message.tasks import EvacuateMode
from fastlib.migfra.errors import HypervisorError
from fastlib.migfra.virt.placement import (
    Destination,
    Guest,
    Placement,
    SwapOrder,
    place,
    swap_order,
)
from fastlib.migfra.virt.precopy import KIB, MIB

from .description import ClusterDescription, LinkDescription, State
from .store import NoRoomError, Store
from .tables import ClusterError, Domain, Host

__all__ = ["Cluster", "ClusterError", "Domain", "Host", "Swap"]


class Swap(msgspec.Struct, frozen=True, kw_only=True):
    """A swap that has begun: the order, and the migrations of both domains."""

    order: SwapOrder
    first: int
    second: int


class Cluster(Store):
    """A cluster, in memory or in a file. Methods may be called from any thread; none waits for
    more than other transactions."""

    _named: ClassVar[dict[str, "Cluster"]] = {}
    _naming: ClassVar[threading.Lock] = threading.Lock()

    @classmethod
    def named(cls, name: str, description: ClusterDescription | None = None) -> "Cluster":
        """The cluster of that name in this process, made by the first who has a description."""
        with cls._naming:
            found = cls._named.get(name)
            if found is None:
                if description is None:
                    raise ClusterError(
                        f"there is no cluster {name!r} in this process; say what to `create`"
                    )
                found = cls._named[name] = cls(description)
            return found

    @classmethod
    def forget(cls, name: str) -> None:
        """Let a name go, so that it can be made anew. Whoever has the cluster keeps it."""
        with cls._naming:
            cls._named.pop(name, None)

    # Reading

    def hosts(self) -> list[Host]:
        """Every host, in the order of the description."""
        with self._look():
            return self._hosts()

    def host(self, name: str) -> Host:
        """One host. Raises HypervisorError if there is none of that name."""
        with self._look():
            return self._host(name)

    def domains(self, host: str | None = None) -> list[Domain]:
        """Every domain, or those on a host, by name."""
        with self._look():
            return self._domains(host)

    def domain(self, name: str) -> Domain:
        """One domain. Raises HypervisorError if there is none of that name."""
        with self._look():
            return self._domain(name)

    def find(self, name: str) -> Domain | None:
        """One domain, or None if there is none of that name."""
        with self._look():
            return self._find(name)

    def link(self, source: str, destination: str) -> LinkDescription:
        """What connects two hosts."""
        pair = frozenset((source, destination))
        found = self._links.get(pair)
        if found is None:
            found = LinkDescription(hosts=(source, destination), bandwidth=self._bandwidth)
            self._links[pair] = found
        return found

    def share(self, migration: int) -> float:
        """What a migration has of its link now, in bytes a second."""
        with self._look():
            source, destination, _ = self._migration(migration)
            link = self.link(source, destination)
            count = "SELECT count(*) FROM migration WHERE phase NOT IN ('waiting', 'saved')"
            (flows,) = self._one(f"{count} AND source = ? AND destination = ?", source, destination)
            if not link.duplex:
                (back,) = self._one(
                    f"{count} AND source = ? AND destination = ?", destination, source
                )
                flows += back
        return float(link.bandwidth * MIB / max(1, flows))

    def problems(self) -> list[str]:
        """What must never be: the invariants that do not hold, in words. Empty if all is well."""
        with self._look():
            found = []
            for host in self._hosts():
                if host.used > host.memory:
                    found.append(f"{host.name} has {host.used} of {host.memory} KiB in use")
            for domain, host_name, source, destination, phase in self._db.execute(
                "SELECT domain.name, domain.host, source, destination, phase "
                "FROM migration JOIN domain ON domain.name = migration.domain"
            ):
                expected = destination if phase == "post-copy" else source
                if host_name != expected:
                    found.append(f"{domain} is on {host_name}, in its migration on {expected}")
            found += [
                f"{table}: broken reference"
                for table, *_ in self._db.execute("PRAGMA foreign_key_check")
            ]
            return found

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
    ) -> None:
        """Start a domain on a host; definitions are shared by all hosts, as by shared storage.

        `define` None starts what is defined; True defines it first if it is new, False makes it
        transient. Raises HypervisorError if it is active anywhere or has no room.
        """
        with self._change():
            row = self._find(name)
            if row is None and define is None:
                raise HypervisorError(f"there is no domain {name} defined")
            if row is not None and row.active:
                raise HypervisorError(f"{name} is active on {row.host} already")
            if row is not None and row.migrating:
                raise HypervisorError(f"{name} is saved while another domain moves")
            if row is not None and define is False:
                raise HypervisorError(f"{name} is defined already, so it cannot be transient")
            before = row or Domain(name=name, host=host, state="shut off", vcpus=1, memory=1 << 20)
            new = msgspec.structs.replace(
                before,
                host=host,
                state="running",
                memory=before.memory if memory is None else memory,
                vcpus=before.vcpus if vcpus is None else vcpus,
                vcpu_map=before.vcpu_map if vcpu_map is None else vcpu_map,
                persistent=before.persistent if define is None else define,
            )
            if not new.working_set or memory is not None:
                whole = float(new.memory * KIB)
                new = msgspec.structs.replace(new, working_set=min(new.working_set or whole, whole))
            self._need_room(host, new)
            self._check_map(host, new.vcpus, new.vcpu_map)
            self._insert(new)

    def stop(self, name: str, host: str, *, undefine: bool = False) -> None:
        """Shut a domain off; what is transient or to be undefined is gone then."""
        with self._change():
            domain = self._active_here(name, host)
            if undefine or not domain.persistent:
                self._db.execute("DELETE FROM domain WHERE name = ?", (name,))
            else:
                self._db.execute("UPDATE domain SET state = 'shut off' WHERE name = ?", (name,))

    def set_state(self, name: str, host: str, state: State) -> bool:
        """Let an active domain run or pause. False if it does so already."""
        with self._change():
            domain = self._active_here(name, host)
            self._db.execute("UPDATE domain SET state = ? WHERE name = ?", (state, name))
            return domain.state != state

    def repin(self, name: str, host: str, vcpu_map: CpuMap) -> None:
        """Change the CPUs that an active domain's vCPUs may use."""
        with self._change():
            domain = self._active_here(name, host)
            self._check_map(host, domain.vcpus, vcpu_map)
            self._pin(name, vcpu_map)

    # Migrations

    def begin(
        self, session: int, name: str, source: str, destination: str, vcpu_map: CpuMap | None = None
    ) -> int:
        """Begin a migration: the domain is active on the source and has room at the destination.

        Raises HypervisorError otherwise.
        """
        with self._change():
            domain = self._can_leave(name, source, destination)
            self._check_map(destination, domain.vcpus, vcpu_map)
            self._need_room(destination, domain)
            return self._begin(session, domain, destination, "copy")

    def begin_swap(self, session: int, first: str, source: str, second: str, other: str) -> Swap:
        """Begin the migrations of two domains that change places.

        What must wait for the other has a migration already, so that nothing else happens to it.
        Raises HypervisorError if they cannot even without each other.
        """
        with self._change():
            one, two = self._can_leave(first, source, other), self._can_leave(second, other, source)
            here, there = self._host(source), self._host(other)
            for domain, leaves, host in ((one, two, there), (two, one, here)):
                if domain.memory > host.free + leaves.memory:
                    raise HypervisorError(
                        f"{host.name} has no room for {domain.name} even without {leaves.name}"
                    )
            order = swap_order(_guest(one), here.free, _guest(two), there.free)
            # Neither has room before one is saved, so both wait for that.
            waiting = {"parallel": (), "first": (second,), "second": (first,)}.get(
                order, (first, second)
            )
            phases = {name: "waiting" if name in waiting else "copy" for name in (first, second)}
            return Swap(
                order=order,
                first=self._begin(session, one, other, phases[first]),
                second=self._begin(session, two, source, phases[second]),
            )

    def begin_evacuation(
        self,
        session: int,
        source: str,
        names: Sequence[str],
        destinations: Sequence[str],
        mode: EvacuateMode,
        overbooking: bool,
    ) -> list[tuple[Placement, int | None]]:
        """Place domains and begin their migrations at once, so that nobody takes their room."""
        with self._change():
            hosts = [self._host(name) for name in destinations]
            domains = [self._can_leave(name, source, None) for name in names]
            placements = place(
                [_guest(domain) for domain in domains],
                [
                    Destination(name=h.name, cpus=h.cpus, active=h.active, free_memory=h.free)
                    for h in hosts
                ],
                mode,
                overbooking=overbooking,
            )
            return [
                (
                    placed,
                    None
                    if placed.host is None
                    else self._begin(session, domain, placed.host, "copy"),
                )
                for placed, domain in zip(placements, domains, strict=True)
            ]

    def save(self, migration: int) -> None:
        """Put a waiting domain on storage: its memory is free, and it is shut off meanwhile."""
        with self._change():
            _, _, domain = self._migration(migration)
            self._db.execute("UPDATE domain SET state = 'shut off' WHERE name = ?", (domain,))
            self._db.execute("UPDATE migration SET phase = 'saved' WHERE id = ?", (migration,))

    def unsave(self, migration: int) -> bool:
        """Let a saved domain run at its source again. False if that has no room any more."""
        with self._change():
            source, _, name = self._migration(migration)
            domain = self._domain(name)
            if domain.memory > self._host(source).free:
                return False
            self._db.execute(
                "UPDATE domain SET state = (SELECT state FROM migration WHERE id = ?) "
                "WHERE name = ?",
                (migration, name),
            )
            self._drop(migration)
            return True

    def advance(self, migration: int) -> None:
        """Let a waiting migration begin. Raises HypervisorError if there is no room for it."""
        with self._change():
            self._advance(migration)

    def pause(self, migration: int) -> None:
        """Pause a migrating domain until the migration ends, however it does."""
        with self._change():
            self._migration(migration)
            self._db.execute(
                "UPDATE migration SET phase = 'paused' WHERE id = ? AND phase = 'copy'",
                (migration,),
            )

    def switch_to_post_copy(self, migration: int) -> None:
        """Let the domain run at the destination while its memory is still at the source."""
        with self._change():
            _, destination, domain = self._migration(migration)
            self._db.execute("UPDATE domain SET host = ? WHERE name = ?", (destination, domain))
            self._db.execute("UPDATE migration SET phase = 'post-copy' WHERE id = ?", (migration,))

    def finish(
        self, migration: int, vcpu_map: CpuMap | None = None, then: int | None = None
    ) -> None:
        """The domain is at the destination from now on; `then` is a migration that waited for it.

        Raises HypervisorError if the migration was given up by another, or if there is no room for
        the next one; the domain is at the destination all the same in the latter case.
        """
        with self._change():
            _, destination, domain = self._migration(migration)
            self._db.execute(
                "UPDATE domain SET host = ?, "
                "state = (SELECT state FROM migration WHERE id = ?) WHERE name = ?",
                (destination, migration, domain),
            )
            if vcpu_map is not None:
                self._pin(domain, vcpu_map)
            self._drop(migration)
            if then is not None:
                with contextlib.suppress(NoRoomError):  # told when it is to begin
                    self._advance(then)

    def move(self, name: str, source: str, destination: str) -> None:
        """Move the definition of a domain that is shut off."""
        with self._change():
            self._host(destination)
            domain = self._domain(name)
            if domain.active or domain.migrating or domain.host != source:
                raise HypervisorError(
                    f"{name} is {domain.state} on {domain.host}; an offline migration needs it "
                    f"shut off on {source}"
                )
            self._db.execute("UPDATE domain SET host = ? WHERE name = ?", (destination, name))

    def abandon(self, migration: int) -> None:
        """Give a migration up; the domain is where it was. Nothing happens if it is over."""
        with self._change():
            self._abandon(migration)


def _guest(domain: Domain) -> Guest:
    return Guest(name=domain.name, memory=domain.memory)
