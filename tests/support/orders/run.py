"""Run a scenario: prepare it, send its orders in turn, and check the rule after each."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import msgspec

from fastlib.message import Result
from fastlib.transport import WaitTimeoutError
from tests.support.lab.errors import LabError
from tests.support.lab.fleet import PATIENCE, Fleet
from tests.support.lab.guest import Guest
from tests.support.lab.priority import prefer
from tests.support.lab.shared_disks import SharedDisk
from tests.support.waiting import wait_until

from .faults import inject
from .fleet_view import FleetView, observe
from .guest_checks import guest_violations, progress_of
from .guest_disks import GuestDisks
from .outcome import Outcome, Violation
from .prior_states import prepare
from .rule import may_end_late, violations
from .scenario import Order, Scenario, with_xml

_SETTLE_SECONDS = 60.0
"""How long the fleet may take until it is as it should be, on a busy machine."""
_LATE_END_SECONDS = 30.0
"""How long guests that were asked to shut down may take for it, until the next order begins."""


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """An order after which the rule was broken."""

    scenario: Scenario
    """Its last order is the one that failed."""
    outcome: Outcome
    violations: tuple[Violation, ...]
    logs: Mapping[str, Sequence[str]]
    """What each daemon wrote since the order."""

    @property
    def parts(self) -> frozenset[str]:
        return frozenset(each.part for each in self.violations)


class Counts(msgspec.Struct, kw_only=True):
    """How the orders ended."""

    orders: int = 0
    successes: int = 0
    errors: int = 0
    faults: int = 0
    copies: int = 0
    """Migrations that have copied disks."""
    encrypted: int = 0
    """Migrations that were encrypted."""


def run(
    fleet: Fleet, scenario: Scenario, shared: Mapping[str, SharedDisk], counts: Counts
) -> Failure | None:
    """Run one scenario on a fleet without domains. Returns its first failure."""
    disks = GuestDisks(fleet, scenario, shared)
    guests = prepare(fleet, scenario, disks.disks)
    disks.spread_backing_files()
    xmls = {name: guest.xml for name, guest in guests.items()}
    for number, order in enumerate(scenario.orders):
        counts.orders += 1
        so_far = msgspec.structs.replace(scenario, orders=scenario.orders[: number + 1])
        real = with_xml(disks.directed(order), xmls)
        failure = _run_order(fleet, so_far, real, guests, disks, counts)
        if failure is not None:
            return failure
    return None


def _run_order(
    fleet: Fleet,
    scenario: Scenario,
    order: Order,
    guests: Mapping[str, Guest],
    disks: GuestDisks,
    counts: Counts,
) -> Failure | None:
    before = _observed(fleet)
    progress = {name: progress_of(guest) for name, guest in guests.items()}
    log_starts = {name: len(daemon.log) for name, daemon in fleet.daemons.items()}
    fleet.observer.take()
    handle = fleet.client.submit(order.host, order.container)
    fault = order.fault if _hit(fleet, order, handle) else None
    counts.faults += fault is not None
    results: tuple[Result, ...] = ()
    found: list[Violation] = []
    try:
        results = tuple(handle.result(4 * PATIENCE).results)
    except WaitTimeoutError as error:
        found.append(Violation(part="each order has an answer", observed=str(error)))
    counts.successes += sum(each.status == "success" for each in results)
    counts.errors += sum(each.status == "error" for each in results)
    arrived = [each for each in results if each.status == "success"]
    counts.copies += sum("copied " in (each.details or "") for each in arrived)
    counts.encrypted += sum(bool(getattr(each, "encrypted", None)) for each in arrived)
    print(order.host, order.yaml(), fault, *(f"{each.status}: {each.details}" for each in results))
    begun = Outcome(
        order=order,
        results=results,
        before=before,
        after=before,
        fault=fault,
        local_disks=disks.paths,
    )
    outcome, broken = _settled(fleet, begun)
    found += broken
    if fault is not None:
        fleet.wait_until_settled()  # later it would look like an effect of the next order
    outcome = _after_late_ends(fleet, outcome, disks.disks)
    for name in disks.follow({name: list(outcome.after.active_places(name)) for name in guests}):
        part = "a disk arrives with all of its data"
        found.append(Violation(part=part, observed=f"{name!r}: {disks.disks[name]}"))
    _prefer_guests(fleet, outcome, disks.disks)
    found += guest_violations(outcome, guests, disks.disks, progress)
    try:
        fleet.assert_one_answer_each()
    except AssertionError as error:
        found.append(Violation(part="each order has one answer", observed=str(error)))
    found += [
        Violation(part="a daemon does not end", observed=name)
        for name, daemon in fleet.daemons.items()
        if not daemon.is_running
    ]
    logs = {name: daemon.log[log_starts[name] :] for name, daemon in fleet.daemons.items()}
    found += [
        Violation(part="a daemon has no unexpected error", observed=name)
        for name, log in logs.items()
        if any(line.startswith("Traceback") for line in log)
    ]
    if not found:
        return None
    return Failure(scenario=scenario, outcome=outcome, violations=tuple(found), logs=logs)


def _hit(fleet: Fleet, order: Order, handle: Any) -> bool:
    """Let the fault of an order happen and repair it. Returns whether it has happened."""
    fault = order.fault
    if fault is None:
        return False
    _wait_at_most(handle, fault.moment)
    if handle.done():
        return False
    repair = inject(fleet, fault, handle)
    if repair is None:
        return False
    _wait_at_most(handle, fault.outage)
    repair()
    return True


def _wait_at_most(handle: Any, seconds: float) -> None:
    with suppress(WaitTimeoutError):
        handle.result(seconds)


def _settled(fleet: Fleet, begun: Outcome) -> tuple[Outcome, list[Violation]]:
    """The fleet after an order, once it keeps the rule or has had its time for it."""
    latest: list[tuple[Outcome, list[Violation]]] = []

    def keeps_the_rule() -> bool:
        outcome = msgspec.structs.replace(begun, after=_observed(fleet))
        latest.append((outcome, violations(outcome)))
        return not latest[-1][1]

    with suppress(AssertionError):
        wait_until(keeps_the_rule, "an order keeps the rule", _SETTLE_SECONDS)
    return latest[-1]


def _after_late_ends(fleet: Fleet, outcome: Outcome, linux: Iterable[str]) -> Outcome:
    """Wait for guests with Linux that may shut down after their order: they do so in seconds."""
    late = [name for name in linux if may_end_late(outcome, name)]
    if not late:
        return outcome
    with suppress(AssertionError):
        wait_until(
            lambda: not any(map(_observed(fleet).active_places, late)),
            f"{late} shut down",
            _LATE_END_SECONDS,
        )
    return msgspec.structs.replace(outcome, after=_observed(fleet))


def _prefer_guests(fleet: Fleet, outcome: Outcome, linux: Iterable[str]) -> None:
    """Let guests with Linux compare their memory soon, also on a busy machine."""
    for name in linux:
        for host in outcome.after.active_places(name):
            with suppress(LabError):  # it may have ended since
                prefer(fleet.lab.host(host).qemu(name))


def _observed(fleet: Fleet) -> FleetView:
    """Return the reports of all hosts. Query again if a domain disappears in this time."""
    import libvirt

    def attempt() -> FleetView | None:
        try:
            return observe(fleet)
        except libvirt.libvirtError:
            return None

    return wait_until(attempt, "libvirt describes its domains", PATIENCE, error=LabError)
