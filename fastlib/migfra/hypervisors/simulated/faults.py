"""Faults of a simulated cluster: planned ones, and random ones that follow a seed.

Whether a fault happens depends on the seed, on the fault, on the domain and on the number of
earlier chances. It does not depend on the order of the daemons' calls.
"""

import random
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import msgspec

from fastlib.migfra.hypervisors.simulated.cluster.cluster import Cluster
from fastlib.migfra.hypervisors.simulated.cluster.description import SAVING, Fault


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """A call of a method for one domain. A fault may hit it."""

    task: str
    host: str
    """The host whose daemon calls."""
    vm_name: str | None = None


class FaultPlan:
    """The faults of a cluster, and further ones of one daemon."""

    def __init__(self, cluster: Cluster, own: Sequence[Fault] = (), host: str = "") -> None:
        """Take a cluster, and as `own` the faults of the daemon of `host`."""
        self._cluster: Final = cluster
        self._faults: Final = [
            *((f"cluster/{i}", fault) for i, fault in enumerate(cluster.faults)),
            *((f"{host}/{i}", fault) for i, fault in enumerate(own)),
        ]

    def reachable(self, host: str, now: float) -> bool:
        """Return whether other hosts can reach that one."""
        return not any(
            fault.kind in ("unreachable", "shutdown") and fault.host == host and _is_due(fault, now)
            for _, fault in self._faults
        )

    def apply_saves(self, now: float) -> None:
        """Apply the due faults that save domains, each once."""
        for key, fault in self._faults:
            due = fault.kind in SAVING and fault.begin <= now
            if due and self._cluster.count(f"{key}/saved") == 0:
                self._cluster.managed_save(fault.host, fault.vm_name)

    def of_call(self, call: Call, now: float) -> Iterator[Fault]:
        """Yield the faults that hit a call at its begin."""
        for key, fault in self._matching(call):
            if fault.percent is None and _is_due(fault, now) and self._happens(key, fault, call):
                yield fault

    def of_migration(self, call: Call) -> "MigrationFaults":
        """Return the faults that hit a migration at some percentage."""
        matching = [
            (key, fault) for key, fault in self._matching(call) if fault.percent is not None
        ]
        return MigrationFaults(self, call, matching)

    def _matching(self, call: Call) -> Iterable[tuple[str, Fault]]:
        for key, fault in self._faults:
            if (
                fault.kind in ("error", "hang")
                and fault.task in (None, call.task)
                and fault.vm_name in (None, call.vm_name)
                and fault.host in (None, call.host)
            ):
                yield key, fault

    def _happens(self, key: str, fault: Fault, call: Call) -> bool:
        """Draw once. The n-th draw for a domain always has the same answer."""
        if fault.times is None and fault.rate >= 1:
            return True
        key = f"{key}/{call.task}/{call.vm_name or ''}"
        count = self._cluster.count(key)
        if not self._draw(key, count, fault.rate):
            return False
        if fault.times is None:
            return True
        return sum(self._draw(key, n, fault.rate) for n in range(count)) < fault.times

    def _draw(self, key: str, count: int, rate: float) -> bool:
        chance = random.Random(f"{self._cluster.seed}/{key}/{count}")  # noqa: S311 - no secret
        return chance.random() < rate


class MigrationFaults:
    """The faults of one migration. Each has one chance, at its percentage."""

    def __init__(self, plan: FaultPlan, call: Call, faults: list[tuple[str, Fault]]) -> None:
        self._plan = plan
        self._call = call
        self._ahead = faults

    def reached(self, percent: float, now: float) -> Iterator[Fault]:
        """Yield the faults that hit the migration now."""
        due = [
            item
            for item in self._ahead
            if (item[1].percent or 0) <= percent and _is_due(item[1], now)
        ]
        if not due:
            return
        self._ahead = [item for item in self._ahead if item not in due]
        for key, fault in due:
            if self._plan._happens(key, fault, self._call):
                yield fault


def _is_due(fault: Fault, now: float) -> bool:
    return fault.begin <= now and (fault.until is None or now < fault.until)
