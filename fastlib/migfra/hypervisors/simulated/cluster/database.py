"""The SQLite database of a simulated cluster: transactions, sessions, and access to the rows.

A migration in progress is a row that belongs to a session, and a session belongs to a process.
After the end of that process, the next transaction drops its migrations. Then each domain is on the
host in its own row.

`Cluster` has the rules of the cluster. The methods here only read and write rows.
"""

import contextlib
import json
import sqlite3
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import msgspec

from fastlib.message.numbers import CpuMap
from fastlib.migfra.errors import HypervisorError
from fastlib.migfra.hypervisors.simulated.clock import wall_time
from fastlib.migfra.virt.migration_queue import Slot

from .description import ClusterDescription, Fault, HostDescription, LinkDescription, State
from .process import is_alive, own_identity
from .tables import (
    DOMAIN,
    HOSTS,
    SCHEMA,
    VERSION,
    ClusterError,
    Domain,
    Host,
    check_description,
    described_domain,
    domain_of_row,
    host_of_row,
)

_BUSY_SECONDS: Final = 30.0


class MigrationRow(msgspec.Struct, frozen=True):
    """A migration in progress."""

    source: str
    destination: str
    domain: str
    phase: str
    """`waiting` for its partner in a swap, `saved` on storage, `copy`, `paused`, `post-copy`."""
    state: State
    """The state of the domain before the migration."""


CREATE: Final = (
    "describe one with 'hypervisor: {type: simulated, create: {hosts: [{name: node01}]}}', with "
    "all hosts of the cluster, or name the file of a cluster with 'file: ...'"
)
"""The remedy if there is no cluster."""


def no_cluster_in(where: str) -> str:
    """Return the error text for a place without a cluster and without a description."""
    return f"there is no cluster in {where} yet; {CREATE}"


class Database:
    """The tables of a cluster. The methods that read or write rows need a transaction."""

    def __init__(
        self, description: ClusterDescription | None = None, file: Path | str | None = None
    ) -> None:
        """Open the database. If it is new, create the cluster of `description`.

        Raises ClusterError if it is new without a description, or if the file is not a cluster.
        """
        self.where: Final = "memory" if file is None else str(file)
        self._lock = threading.RLock()
        try:
            self._connection = sqlite3.connect(
                ":memory:" if file is None else file,
                isolation_level=None,
                check_same_thread=False,
                timeout=_BUSY_SECONDS,
            )
            # No user of a cluster in memory knows whether it is the last one.
            weakref.finalize(self, self._connection.close)
            self.execute("PRAGMA journal_mode = WAL")
            # A power failure may lose the last changes. The death of a process does not.
            self.execute("PRAGMA synchronous = OFF")
            self.execute("PRAGMA foreign_keys = ON")
            with self.write():
                self._create(description)
        except sqlite3.DatabaseError as error:
            raise ClusterError(f"{self.where} is not a simulated cluster: {error}") from None
        meta = dict(self.execute("SELECT key, value FROM meta").fetchall())
        self.epoch: Final = float(meta["epoch"])
        """The `world_time` at its creation."""
        self.bandwidth: Final = float(meta["bandwidth"])
        """Bandwidth in MiB/s of a link that has no description."""
        self.seed: Final = int(meta["seed"])
        self.faults: Final[tuple[Fault, ...]] = tuple(
            Fault.load(fault) for fault in json.loads(meta["faults"])
        )
        links = [LinkDescription.load(link) for link in json.loads(meta["links"])]
        self.links: Final = {frozenset(link.hosts): link for link in links}
        hosts = [HostDescription.load(host) for host in json.loads(meta["hosts"])]
        self.described_hosts: Final = {host.name: host for host in hosts}
        """The descriptions of the hosts, by their names."""

    def close(self) -> None:
        """Close the file. A cluster in memory is lost."""
        self._connection.close()

    def _create(self, description: ClusterDescription | None) -> None:
        (tables,) = self._one("SELECT count(*) FROM sqlite_master")
        if tables:
            (version,) = self._one("SELECT value FROM meta WHERE key = 'version'")
            if int(version) != VERSION:
                raise ClusterError(f"{self.where} is a cluster of version {version}")
            return
        if description is None:
            raise ClusterError(no_cluster_in(self.where))
        check_description(description)
        for statement in SCHEMA.split(";"):
            self.execute(statement)
        meta = {
            "version": VERSION,
            "epoch": repr(wall_time()),
            "bandwidth": description.bandwidth,
            "seed": description.seed,
            "faults": json.dumps([fault.emit() for fault in description.faults]),
            "hosts": json.dumps([host.emit() for host in description.hosts]),
            "links": json.dumps([link.emit() for link in description.links]),
        }
        self._connection.executemany("INSERT INTO meta VALUES (?, ?)", meta.items())
        self._connection.executemany(
            "INSERT INTO host VALUES (?, ?, ?, ?, ?)",
            [
                (h.name, h.cpus, h.memory, h.certificates, i)
                for i, h in enumerate(description.hosts)
            ],
        )
        for domain in description.domains:
            self.insert_domain(described_domain(domain))

    # Transactions

    @contextlib.contextmanager
    def write(self) -> Iterator[None]:
        """Run a block in a transaction that changes rows. An exception rolls it back."""
        with self._lock:
            self.execute("BEGIN IMMEDIATE")
            try:
                self._drop_dead_sessions()
                yield
            except BaseException:
                self.execute("ROLLBACK")
                raise
            self.execute("COMMIT")

    @contextlib.contextmanager
    def read(self) -> Iterator[None]:
        """Run a block in a read-only transaction."""
        with self._lock:
            if self._dead_sessions():
                with self.write():
                    pass
            self.execute("BEGIN")
            try:
                yield
            finally:
                self.execute("COMMIT")

    def execute(self, statement: str, *values: Any) -> sqlite3.Cursor:
        """Execute one statement."""
        return self._connection.execute(statement, values)

    def _one(self, statement: str, *values: Any) -> tuple[Any, ...]:
        row: tuple[Any, ...] = self.execute(statement, *values).fetchone()
        return row

    # Sessions

    def begin_session(self, host: str, outgoing: int, incoming: int) -> int:
        """Begin a session of a host's daemon. Ends the earlier sessions of that host.

        `outgoing` and `incoming` are the host's limits of migrations.
        """
        for (session,) in self.execute("SELECT id FROM session WHERE host = ?", host).fetchall():
            self.end_session(session)
        cursor = self.execute(
            "INSERT INTO session (host, pid, birth, outgoing, incoming) VALUES (?, ?, ?, ?, ?)",
            host, *own_identity(), outgoing, incoming,
        )  # fmt: skip
        return int(cursor.lastrowid or 0)

    def end_session(self, session: int) -> None:
        """End a session and abandon its migrations."""
        for (migration,) in self.execute(
            "SELECT id FROM migration WHERE session = ?", session
        ).fetchall():
            self.abandon_migration(migration)
        self.execute("DELETE FROM slot WHERE session = ?", session)
        self.execute("DELETE FROM ticket WHERE session = ?", session)
        self.execute("DELETE FROM session WHERE id = ?", session)

    def _dead_sessions(self) -> list[int]:
        """Return the sessions of dead processes that left migrations or slots behind."""
        if self.where == "memory":
            return []
        own = own_identity()
        owners = self.execute(
            "SELECT DISTINCT pid, birth FROM session WHERE id IN "
            "(SELECT session FROM migration UNION SELECT session FROM slot)"
        ).fetchall()
        dead = [owner for owner in owners if owner != own and not is_alive(*owner)]
        return [
            id
            for owner in dead
            for (id,) in self.execute(
                "SELECT id FROM session WHERE pid = ? AND birth = ?", *owner
            ).fetchall()
        ]

    def _drop_dead_sessions(self) -> None:
        (created,) = self._one("SELECT count(*) FROM sqlite_master WHERE name = 'migration'")
        if created:
            for session in self._dead_sessions():
                self.end_session(session)

    def count(self, key: str) -> int:
        """Increase the counter of a key. Returns its value before."""
        (value,) = self._one(
            "INSERT INTO counter VALUES (?, 1) "
            "ON CONFLICT (key) DO UPDATE SET value = value + 1 RETURNING value",
            key,
        )
        return int(value) - 1

    # Hosts and domains

    def hosts(self) -> list[Host]:
        """Return all hosts, in the order of the description."""
        return [host_of_row(row) for row in self.execute(HOSTS + " ORDER BY position")]

    def host(self, name: str) -> Host:
        """Return a host. Raises HypervisorError if there is none with that name."""
        row = self.execute(HOSTS + " WHERE name = ?", name).fetchone()
        if row is None:
            raise HypervisorError(f"there is no host {name} in the cluster")
        return host_of_row(row)

    def domains(self, host: str | None) -> list[Domain]:
        """Return all domains, or those on a host, sorted by name."""
        if host is None:
            rows = self.execute(f"SELECT {DOMAIN} ORDER BY domain.name")
        else:
            rows = self.execute(f"SELECT {DOMAIN} WHERE domain.host = ? ORDER BY domain.name", host)
        return [domain_of_row(row) for row in rows]

    def find_domain(self, name: str) -> Domain | None:
        """Return a domain. None if there is none with that name."""
        row = self.execute(f"SELECT {DOMAIN} WHERE domain.name = ?", name).fetchone()
        return None if row is None else domain_of_row(row)

    def domain(self, name: str) -> Domain:
        """Return a domain. Raises HypervisorError if there is none with that name."""
        found = self.find_domain(name)
        if found is None:
            raise HypervisorError(f"there is no domain {name}")
        return found

    def insert_domain(self, domain: Domain) -> None:
        """Insert or replace a domain."""
        pins = None if domain.vcpu_map is None else json.dumps(domain.vcpu_map)
        self.execute(
            # REPLACE would delete the row first, and with it the place of its images.
            "INSERT INTO domain VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) "
            "ON CONFLICT (name) DO UPDATE SET host = excluded.host, "
            "state = excluded.state, vcpus = excluded.vcpus, memory = excluded.memory, "
            "dirty_rate = excluded.dirty_rate, "
            "working_set = excluded.working_set, persistent = excluded.persistent, "
            "vcpu_map = excluded.vcpu_map, saved = excluded.saved, disk = excluded.disk",
            domain.name, domain.host, domain.state, domain.vcpus, domain.memory,
            domain.dirty_rate, domain.working_set, domain.persistent, pins,
            domain.saved, domain.disk,
        )  # fmt: skip

    def delete_domain(self, name: str) -> None:
        """Delete a domain."""
        self.execute("DELETE FROM domain WHERE name = ?", name)

    # Images

    def image_owner(self, path: str) -> tuple[str | None, str] | None:
        """Return the domain and the disk of an image. None if there is no such image."""
        row = self.execute("SELECT domain, target FROM image WHERE path = ?", path).fetchone()
        return None if row is None else (row[0], row[1])

    def images(self, domain: str) -> dict[str, str]:
        """Return the images of a domain: the disk of each path."""
        rows = self.execute("SELECT path, target FROM image WHERE domain = ? ORDER BY path", domain)
        return dict(rows.fetchall())

    def overlays(self, path: str) -> list[str]:
        """Return the images with a base."""
        rows = self.execute("SELECT path FROM image WHERE base = ? ORDER BY path", path)
        return [row[0] for row in rows.fetchall()]

    def insert_image(self, path: str, domain: str, target: str, base: str | None) -> None:
        """Insert a new image of a domain."""
        self.execute("INSERT INTO image VALUES (?, ?, ?, ?)", path, domain, target, base)

    def delete_image(self, path: str) -> None:
        """Delete an image."""
        self.execute("DELETE FROM image WHERE path = ?", path)

    # Changes of a domain

    def set_state(self, name: str, state: State) -> None:
        """Change the state of a domain."""
        self.execute("UPDATE domain SET state = ? WHERE name = ?", state, name)

    def set_saved(self, name: str, saved: bool) -> None:
        """Change whether a domain has a saved image."""
        self.execute("UPDATE domain SET saved = ? WHERE name = ?", saved, name)

    def set_host(self, name: str, host: str) -> None:
        """Change the host of a domain."""
        self.execute("UPDATE domain SET host = ? WHERE name = ?", host, name)

    def set_pinning(self, name: str, vcpu_map: CpuMap) -> None:
        """Change the CPUs that a domain's vCPUs may use."""
        self.execute("UPDATE domain SET vcpu_map = ? WHERE name = ?", json.dumps(vcpu_map), name)

    # Migrations

    def insert_migration(self, session: int, domain: Domain, destination: str, phase: str) -> int:
        """Insert a migration. Returns its id."""
        cursor = self.execute(
            "INSERT INTO migration (domain, source, destination, memory, session, phase, state) "
            "VALUES (?, ?, ?, ?, ?, ?, ?)",
            domain.name, domain.host, destination, domain.memory, session, phase, domain.state,
        )  # fmt: skip
        return int(cursor.lastrowid or 0)

    def find_migration(self, migration: int) -> MigrationRow | None:
        """Return a migration. None if it has ended."""
        row = self.execute(
            "SELECT source, destination, domain, phase, state FROM migration WHERE id = ?",
            migration,
        ).fetchone()
        return None if row is None else MigrationRow(*row)

    def migration(self, migration: int) -> MigrationRow:
        """Return a migration. Raises HypervisorError if it was given up."""
        found = self.find_migration(migration)
        if found is None:
            raise HypervisorError("the migration was given up because another daemon took over")
        return found

    def set_phase(self, migration: int, phase: str) -> None:
        """Change the phase of a migration."""
        self.execute("UPDATE migration SET phase = ? WHERE id = ?", phase, migration)

    def delete_migration(self, migration: int) -> None:
        """Delete a migration that has ended."""
        self.execute("DELETE FROM migration WHERE id = ?", migration)

    def abandon_migration(self, migration: int) -> None:
        """Give up a migration. Does nothing if it has ended."""
        found = self.find_migration(migration)
        if found is None:
            return
        if found.phase == "post-copy":  # it loses the memory that is still on the source
            self.set_state(found.domain, "paused")
        self.delete_migration(migration)

    def count_flows(self, source: str, destination: str) -> int:
        """Count the migrations that are sending memory from one host to another."""
        (count,) = self._one(
            "SELECT count(*) FROM migration WHERE phase NOT IN ('waiting', 'saved') "
            "AND source = ? AND destination = ?",
            source,
            destination,
        )
        return int(count)

    # Slots

    def slot_limit(self, slot: Slot, default: int) -> int:
        """Return the limit of a host's own daemon, or the default if that has no session."""
        row = self.execute(
            "SELECT outgoing, incoming FROM session WHERE host = ?", slot.host
        ).fetchone()
        if row is None:
            return default
        return int(row[0] if slot.direction == "outgoing" else row[1])

    def count_held(self, slot: Slot) -> int:
        """Count the migrations that hold a slot."""
        (count,) = self._one(
            "SELECT count(*) FROM slot WHERE host = ? AND direction = ?", slot.host, slot.direction
        )
        return int(count)

    def count_tickets_ahead(self, slot: Slot, session: int, now: float) -> int:
        """Count other sessions' tickets for a slot that are earlier than this session's."""
        (count,) = self._one(
            "WITH valid AS (SELECT * FROM ticket WHERE host = ? AND direction = ? AND until > ?), "
            "own AS (SELECT min(number) AS first FROM valid WHERE session = ?) "
            "SELECT count(*) FROM valid, own WHERE session != ? "
            "AND number < coalesce(first, 1 << 62)",
            *(slot.host, slot.direction, now, session, session),
        )
        return int(count)

    def hold_slot(self, slot: Slot, session: int, holder: int) -> None:
        """Let a migration hold a slot. Deletes the session's ticket for it."""
        self.delete_tickets(slot, session)
        self.execute(
            "INSERT INTO slot VALUES (?, ?, ?, ?)", holder, session, slot.host, slot.direction
        )

    def delete_slots(self, holder: int) -> None:
        """Delete the slots of a migration."""
        self.execute("DELETE FROM slot WHERE holder = ?", holder)

    def extend_ticket(self, slot: Slot, session: int, now: float, until: float) -> None:
        """Extend the session's ticket for a slot, or give it a new one."""
        extended = self.execute(
            "UPDATE ticket SET until = ? WHERE host = ? AND direction = ? AND session = ? "
            "AND until > ?",
            until, slot.host, slot.direction, session, now,
        )  # fmt: skip
        if not extended.rowcount:
            self.delete_tickets(slot, session)
            self.execute(
                "INSERT INTO ticket (session, host, direction, until) VALUES (?, ?, ?, ?)",
                session, slot.host, slot.direction, until,
            )  # fmt: skip

    def delete_tickets(self, slot: Slot, session: int) -> None:
        """Delete the session's ticket for a slot."""
        self.execute(
            "DELETE FROM ticket WHERE host = ? AND direction = ? AND session = ?",
            slot.host, slot.direction, session,
        )  # fmt: skip

    def migrating_domains(self) -> list[tuple[Domain, MigrationRow]]:
        """Return all migrating domains, each with its migration."""
        ids = self.execute("SELECT id FROM migration ORDER BY id").fetchall()
        rows = [self.migration(id) for (id,) in ids]
        return [(self.domain(row.domain), row) for row in rows]

    def broken_references(self) -> list[str]:
        """Return the tables that have a row with a wrong foreign key."""
        return [table for table, *_ in self.execute("PRAGMA foreign_key_check")]
