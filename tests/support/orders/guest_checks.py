"""The reports of guests with Linux about their own memory and disks.

A guest compares its memory, and the counter in its memory with the one on its disk, four times a
second. The counter on the disk goes on after each boot. So the console shows memory or a disk that
is older than it should be, a second copy, and a reboot that nobody has ordered.
"""

import itertools
from collections.abc import Iterator, Mapping
from typing import Final

import msgspec

from fastlib.message import Start
from tests.support.lab.errors import LabError
from tests.support.lab.fleet import COMPARE_PATIENCE
from tests.support.lab.guest import Guest, Heartbeat
from tests.support.waiting import wait_until

from .fleet_view import DomainView
from .guest_disks import Disk
from .outcome import Outcome, Violation

_KERNEL_KIB: Final = 48 << 10


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """How far a guest had come."""

    boots: int
    last: Heartbeat | None


def progress_of(guest: Guest) -> Progress:
    """How far a guest has come, by its console."""
    beats = guest.heartbeats
    return Progress(boots=sum(beat.count == 1 for beat in beats), last=beats[-1] if beats else None)


def guest_violations(
    outcome: Outcome,
    guests: Mapping[str, Guest],
    disks: Mapping[str, Disk],
    before: Mapping[str, Progress],
) -> Iterator[Violation]:
    """Check the guests with Linux after an order. Waits until each that runs has checked itself."""
    for name, disk in disks.items():
        if name not in guests:
            continue
        places = outcome.after.active_places(name)
        runs = [view.state for view in places.values()] == ["running"]
        yield from _checked(outcome, guests[name], disk, before[name], runs)
        if runs:
            (view,) = places.values()
            yield from _has_size(guests[name], view)


def _checked(
    outcome: Outcome, guest: Guest, disk: Disk, before: Progress, runs: bool
) -> Iterator[Violation]:
    name = guest.name
    started = any(
        isinstance(task, Start) and not _is_restored(outcome, name, task)
        for task in outcome.order.container.tasks
    )
    if runs:
        try:
            _await_checks(guest, before, outcome)
        except (LabError, AssertionError) as error:
            yield Violation(part="a running guest goes on", observed=f"{name!r}: {error}")
            return
    elif crash := guest.crash:
        yield Violation(part="a running guest goes on", observed=f"{name!r} has crashed: {crash}")
    beats = guest.heartbeats
    if not beats:
        return
    if beats[-1].faults or beats[-1].stale:
        part = "memory and disk of a guest are the newest ones"
        yield Violation(part=part, observed=f"{name!r}: {beats[-1]}")
    boots = sum(beat.count == 1 for beat in beats)
    if boots > before.boots and not started:
        yield Violation(part="a guest boots only when it is started", observed=f"{name!r}")
    counts = [beat.disk for beat in beats]
    if counts != sorted(set(counts)):
        wrong = next(each for each in itertools.pairwise(counts) if each[0] >= each[1])
        part = "the counter on a disk never goes back"
        yield Violation(part=part, observed=f"{name!r}: {wrong[1]} after {wrong[0]}")
    if disk.count < counts[-1]:
        part = "a disk has what its guest wrote last"
        yield Violation(part=part, observed=f"{name!r}: {disk.count}, not {counts[-1]}")


def _has_size(guest: Guest, view: DomainView) -> Iterator[Violation]:
    """The guest has the memory that libvirt reports. Its kernel needs the rest."""
    beats = guest.heartbeats
    if not beats:
        return
    beat = beats[-1]
    if beat.cpus != len(view.vcpus) or not 0 <= view.memory - beat.memory < _KERNEL_KIB:
        observed = f"{guest.name!r}: {beat}, but libvirt says {view.memory} KiB, {view.vcpus}"
        yield Violation(part="a guest has the memory and vCPUs of its domain", observed=observed)


def _is_restored(outcome: Outcome, name: str, task: Start) -> bool:
    before = outcome.before.hosts[outcome.order.host].get(name)
    return before is not None and before.saved and task.saved_state != "discard"


def _await_checks(guest: Guest, before: Progress, outcome: Outcome) -> None:
    """Wait for a beat after the order, and for a comparison of all memory if the guest moved."""
    last = before.last

    def is_new(beat: Heartbeat) -> bool:
        return last is None or beat.disk > last.disk

    wait_until(lambda: is_new(guest.wait_for_heartbeat()), f"a beat of {guest.name}")
    if _stayed(outcome, guest.name):
        return
    first = guest.wait_for_heartbeat()
    # The first comparison of the memory that ends may have begun before.
    wait_until(
        lambda: guest.wait_for_heartbeat().passes >= first.passes + 2,
        lambda: f"{guest.name} compares its memory: {guest.heartbeats[-1:]}",
        COMPARE_PATIENCE,
    )


def _stayed(outcome: Outcome, name: str) -> bool:
    """Whether it is the same process that ran before."""
    before, after = outcome.before.active_places(name), outcome.after.active_places(name)
    return {host: view.run for host, view in before.items()} == {
        host: view.run for host, view in after.items()
    }
