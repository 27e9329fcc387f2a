"""Where a simulated cluster is kept: SQLite in memory or in a file, transactions, sessions.

A migration under way is a row that belongs to a session, and a session to a process. Once that is
gone, the next who looks drops its migrations, and a domain is where its own row says.
"""

import contextlib
import json
import sqlite3
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, Self

from fastlib.message.numbers import CpuMap
from fastlib.migfra.errors import HypervisorError

from .clock import world_time
from .description import ClusterDescription, Fault, LinkDescription
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


class NoRoomError(HypervisorError):
    """A host has not enough memory free."""


class Store:
    """The tables of a cluster. Methods with an underscore are for the inside of a transaction."""

    def __init__(
        self, description: ClusterDescription | None = None, file: Path | str | None = None
    ) -> None:
        """`description` is the cluster to make where there is none yet.

        Raises ClusterError if there is none and no description, or if the file is something else.
        """
        self.where: Final = "memory" if file is None else str(file)
        self._lock = threading.RLock()
        try:
            self._db = sqlite3.connect(
                ":memory:" if file is None else file,
                isolation_level=None,
                check_same_thread=False,
                timeout=_BUSY_SECONDS,
            )
            # Nobody may be left who knows that it should be closed.
            weakref.finalize(self, self._db.close)
            self._db.execute("PRAGMA journal_mode = WAL")
            # A lost power supply may cost the last changes, the death of a process does not.
            self._db.execute("PRAGMA synchronous = OFF")
            self._db.execute("PRAGMA foreign_keys = ON")
            with self._change():
                self._make(description)
        except sqlite3.DatabaseError as error:
            raise ClusterError(f"{self.where} is no simulated cluster: {error}") from None
        meta = dict(self._db.execute("SELECT key, value FROM meta").fetchall())
        self.epoch: Final = float(meta["epoch"])
        """The `world_time` when it was made."""
        self._bandwidth = float(meta["bandwidth"])
        self.seed: Final = int(meta["seed"])
        self.faults: Final[tuple[Fault, ...]] = tuple(
            Fault.load(fault) for fault in json.loads(meta["faults"])
        )
        links = [LinkDescription.load(link) for link in json.loads(meta["links"])]
        self._links: dict[frozenset[str], LinkDescription] = {
            frozenset(link.hosts): link for link in links
        }

    def close(self) -> None:
        """Close the file. A cluster in memory is gone."""
        self._db.close()

    def _make(self, description: ClusterDescription | None) -> None:
        (tables,) = self._one("SELECT count(*) FROM sqlite_master")
        if tables:
            (version,) = self._db.execute("SELECT value FROM meta WHERE key = 'version'").fetchone()
            if int(version) != VERSION:
                raise ClusterError(f"{self.where} is a cluster of version {version}")
            return
        if description is None:
            raise ClusterError(f"there is no cluster in {self.where} yet; say what to `create`")
        check_description(description)
        for statement in SCHEMA.split(";"):
            self._db.execute(statement)
        meta = {
            "version": VERSION,
            "epoch": repr(world_time()),
            "bandwidth": description.bandwidth,
            "seed": description.seed,
            "faults": json.dumps([fault.emit() for fault in description.faults]),
            "links": json.dumps([link.emit() for link in description.links]),
        }
        self._db.executemany("INSERT INTO meta VALUES (?, ?)", meta.items())
        self._db.executemany(
            "INSERT INTO host VALUES (?, ?, ?, ?)",
            [(h.name, h.cpus, h.memory, i) for i, h in enumerate(description.hosts)],
        )
        for domain in description.domains:
            self._insert(described_domain(domain))

    # Sessions

    def join(self, host: str) -> int:
        """Begin a session for the daemon of a host; what an earlier one left is dropped."""
        pid, birth = own_identity()
        with self._change():
            self._host(host)
            for (session,) in self._db.execute(
                "SELECT id FROM session WHERE host = ?", (host,)
            ).fetchall():
                self._end_session(session)
            cursor = self._db.execute(
                "INSERT INTO session (host, pid, birth) VALUES (?, ?, ?)", (host, pid, birth)
            )
            return int(cursor.lastrowid or 0)

    def leave(self, session: int) -> None:
        """End a session."""
        with self._change():
            self._end_session(session)

    def count(self, key: str) -> int:
        """How often this was called with the key before."""
        with self._change():
            (value,) = self._db.execute(
                "INSERT INTO counter VALUES (?, 1) "
                "ON CONFLICT (key) DO UPDATE SET value = value + 1 RETURNING value",
                (key,),
            ).fetchone()
            return int(value) - 1

    # Inside of transactions

    @contextlib.contextmanager
    def _change(self) -> Iterator[None]:
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                self._drop_dead()
                yield
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    @contextlib.contextmanager
    def _look(self) -> Iterator[None]:
        with self._lock:
            if self._dead_sessions():
                with self._change():
                    pass
            self._db.execute("BEGIN")
            try:
                yield
            finally:
                self._db.execute("COMMIT")

    def _one(self, statement: str, *values: Any) -> tuple[Any, ...]:
        row: tuple[Any, ...] = self._db.execute(statement, values).fetchone()
        return row

    def _dead_sessions(self) -> list[int]:
        """Sessions of processes that are gone and left migrations behind."""
        if self.where == "memory":
            return []
        own = own_identity()
        owners = self._db.execute(
            "SELECT DISTINCT pid, birth FROM session JOIN migration "
            "ON migration.session = session.id"
        ).fetchall()
        dead = [owner for owner in owners if owner != own and not is_alive(*owner)]
        return [
            id
            for owner in dead
            for (id,) in self._db.execute(
                "SELECT id FROM session WHERE pid = ? AND birth = ?", owner
            ).fetchall()
        ]

    def _drop_dead(self) -> None:
        (made,) = self._one("SELECT count(*) FROM sqlite_master WHERE name = 'migration'")
        if made:
            for session in self._dead_sessions():
                self._end_session(session)

    def _end_session(self, session: int) -> None:
        for (migration,) in self._db.execute(
            "SELECT id FROM migration WHERE session = ?", (session,)
        ).fetchall():
            self._abandon(migration)
        self._db.execute("DELETE FROM session WHERE id = ?", (session,))

    def _abandon(self, migration: int) -> None:
        row = self._db.execute(
            "SELECT domain, phase FROM migration WHERE id = ?", (migration,)
        ).fetchone()
        if row is None:
            return
        domain, phase = row
        if phase == "post-copy":  # part of its memory is lost with the source
            self._db.execute("UPDATE domain SET state = 'paused' WHERE name = ?", (domain,))
        self._drop(migration)

    def _drop(self, migration: int) -> None:
        self._db.execute("DELETE FROM migration WHERE id = ?", (migration,))

    def _hosts(self) -> list[Host]:
        rows = self._db.execute(HOSTS + " ORDER BY position")
        return [host_of_row(row) for row in rows]

    def _host(self, name: str) -> Host:
        row = self._db.execute(HOSTS + " WHERE name = ?", (name,)).fetchone()
        if row is None:
            raise HypervisorError(f"there is no host {name} in the cluster")
        return host_of_row(row)

    def _domains(self, host: str | None) -> list[Domain]:
        where = "" if host is None else "WHERE domain.host = ?"
        rows = self._db.execute(
            f"SELECT {DOMAIN} {where} ORDER BY domain.name", () if host is None else (host,)
        )
        return [domain_of_row(row) for row in rows]

    def _find(self, name: str) -> Domain | None:
        row = self._db.execute(f"SELECT {DOMAIN} WHERE domain.name = ?", (name,)).fetchone()
        return None if row is None else domain_of_row(row)

    def _domain(self, name: str) -> Domain:
        found = self._find(name)
        if found is None:
            raise HypervisorError(f"there is no domain {name}")
        return found

    def _insert(self, domain: Domain) -> None:
        pins = None if domain.vcpu_map is None else json.dumps(domain.vcpu_map)
        self._db.execute(
            "INSERT OR REPLACE INTO domain VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                domain.name, domain.host, domain.state, domain.vcpus, domain.memory,
                domain.dirty_rate, domain.working_set, domain.persistent, pins,
            ),
        )  # fmt: skip

    def _pin(self, name: str, vcpu_map: CpuMap) -> None:
        self._db.execute(
            "UPDATE domain SET vcpu_map = ? WHERE name = ?", (json.dumps(vcpu_map), name)
        )

    def _active_here(self, name: str, host: str) -> Domain:
        """The domain, active on the host and not migrating. Raises HypervisorError."""
        domain = self._domain(name)
        if domain.host != host:
            raise HypervisorError(f"{name} is on {domain.host}, not on {host}")
        if not domain.active:
            raise HypervisorError(f"{name} is shut off")
        if domain.migrating:
            raise HypervisorError(f"{name} is migrating")
        return domain

    def _can_leave(self, name: str, source: str, destination: str | None) -> Domain:
        domain = self._active_here(name, source)
        if destination is not None:
            if destination == source:
                raise HypervisorError(f"{name} is on {source} already")
            self._host(destination)
        return domain

    def _need_room(self, host: str, domain: Domain) -> None:
        free = self._host(host).free
        if domain.memory > free:
            raise NoRoomError(
                f"{host} has {free} KiB of memory free, {domain.name} needs {domain.memory} KiB"
            )

    def _check_map(self, host: str, vcpus: int, vcpu_map: CpuMap | None) -> None:
        if vcpu_map is None:
            return
        if len(vcpu_map) > vcpus:
            raise HypervisorError(f"vcpu-map has {len(vcpu_map)} entries for {vcpus} vCPUs")
        cpus = self._host(host).cpus
        for row in vcpu_map:
            for cpu in row:
                if cpu >= cpus:
                    raise HypervisorError(f"{host} has no CPU {cpu}; it has {cpus}")

    def _begin(self, session: int, domain: Domain, destination: str, phase: str) -> int:
        cursor = self._db.execute(
            "INSERT INTO migration (domain, source, destination, memory, session, phase, state) "
            "VALUES (?, ?, ?, ?, ?, ?, ?)",
            (domain.name, domain.host, destination, domain.memory, session, phase, domain.state),
        )
        return int(cursor.lastrowid or 0)

    def _advance(self, migration: int) -> None:
        _, destination, name = self._migration(migration)
        (phase,) = self._one("SELECT phase FROM migration WHERE id = ?", migration)
        if phase in ("waiting", "saved"):
            self._need_room(destination, self._domain(name))
            self._db.execute("UPDATE migration SET phase = 'copy' WHERE id = ?", (migration,))

    def _migration(self, migration: int) -> tuple[str, str, str]:
        """Source, destination and domain. Raises HypervisorError if it was given up."""
        row = self._db.execute(
            "SELECT source, destination, domain FROM migration WHERE id = ?", (migration,)
        ).fetchone()
        if row is None:
            raise HypervisorError("the migration was given up, as another daemon took over")
        return row[0], row[1], row[2]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
