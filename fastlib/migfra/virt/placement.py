"""Where domains go: evacuation of a host, and the order of a swap, as pure functions.

The rules are those of docs/reference/protocol.md, "evacuate node". A host's capacity is its CPUs
minus its active domains. Memory has to fit wherever it is known; overbooking is about CPUs alone.
"""

from collections.abc import Iterable, Sequence
from typing import Literal

import msgspec

from fastlib.message.tasks import EvacuateMode

SwapOrder = Literal["parallel", "first", "second", "save-first", "save-second"]
"""How two domains change places: at once; one of them before the other; or one of them saved to
storage, so that its memory is free while the other one moves, and restored thereafter."""


class Destination(msgspec.Struct, frozen=True, kw_only=True):
    """A host that takes domains."""

    name: str
    cpus: int
    active: int
    """Its active domains, those on their way to it included."""
    free_memory: int | None = None
    """KiB; None where it is not known."""
    saved: frozenset[str] = frozenset()
    """The domains of which it has a saved image. A later start there would restore old memory."""


class Guest(msgspec.Struct, frozen=True, kw_only=True):
    """A domain that needs a host."""

    name: str
    memory: int | None = None
    """KiB; None where it is not known."""


class Placement(msgspec.Struct, frozen=True, kw_only=True):
    """Where one domain goes."""

    guest: str
    host: str | None = None
    """None if no host can take it."""
    reason: str | None = None
    """Why no host can take it."""


class _Room:
    """A destination while domains are handed out."""

    def __init__(self, host: Destination) -> None:
        self.name = host.name
        self.capacity = host.cpus - host.active
        self.free = host.free_memory
        self.saved = host.saved

    def obstacle(self, guest: Guest, overbooking: bool) -> str | None:
        """Why the host cannot take the domain, or None if it can."""
        if guest.name in self.saved:
            return f"{self.name} has an old saved image of {guest.name}; delete it there"
        if not overbooking and self.capacity <= 0:
            return f"{self.name} has no free CPU and overbooking is off"
        if guest.memory is not None and self.free is not None and guest.memory > self.free:
            return f"{self.name} has {max(self.free, 0)} KiB free of {guest.memory} KiB needed"
        return None

    def take(self, guest: Guest) -> None:
        self.capacity -= 1
        if self.free is not None and guest.memory is not None:
            self.free -= guest.memory


def place(
    guests: Sequence[Guest],
    hosts: Iterable[Destination],
    mode: EvacuateMode = "auto",
    *,
    overbooking: bool = True,
) -> tuple[Placement, ...]:
    """A placement for each domain, in the order of `guests`.

    `auto` always takes the host with the largest capacity. `compact` fills host after host in the
    given order; once all are full, overbooking goes to the least overbooked. `scatter` goes round
    the hosts. Ties go to the host named first. The largest domains are placed first, as the small
    ones fit in what is left; of equal ones the first.
    """
    by_name: dict[str, _Room] = {}
    for host in hosts:
        by_name.setdefault(host.name, _Room(host))
    rooms = list(by_name.values())
    chosen: dict[int, Placement] = {}
    turn = 0
    for index in sorted(range(len(guests)), key=lambda i: -(guests[i].memory or 0)):
        guest = guests[index]
        obstacles = [room.obstacle(guest, overbooking) for room in rooms]
        fit = [i for i, obstacle in enumerate(obstacles) if obstacle is None]
        if not fit:
            why = "; ".join(obstacle for obstacle in obstacles if obstacle is not None)
            reason = why or "there is no destination"
            chosen[index] = Placement(guest=guest.name, reason=reason)
            continue
        position = _choose(mode, rooms, fit, turn)
        turn = position + 1
        rooms[position].take(guest)
        chosen[index] = Placement(guest=guest.name, host=rooms[position].name)
    return tuple(chosen[index] for index in range(len(guests)))


def _choose(mode: EvacuateMode, rooms: Sequence[_Room], fit: Sequence[int], turn: int) -> int:
    """The position of the host that takes the next domain, one of `fit`."""
    if mode == "scatter":
        return min(fit, key=lambda i: (i - turn) % len(rooms))
    if mode == "compact":
        for position in fit:
            if rooms[position].capacity > 0:
                return position
    return max(fit, key=lambda i: (rooms[i].capacity, -i))


def swap_order(
    first: Guest, first_host: int | None, second: Guest, second_host: int | None
) -> SwapOrder:
    """How two domains change places when each host has that much memory free (KiB).

    `first_host` is what is free where the first domain runs now, None where it is not known. At
    once where both hosts have room for both; where only one has, the domain that goes there moves
    before the other; where neither has, the smaller domain is saved meanwhile.
    """
    first_fits = _fits(first.memory, second_host)
    second_fits = _fits(second.memory, first_host)
    if first_fits and second_fits:
        return "parallel"
    if first_fits:
        return "first"
    if second_fits:
        return "second"
    return "save-first" if (first.memory or 0) < (second.memory or 0) else "save-second"


def _fits(memory: int | None, free: int | None) -> bool:
    return memory is None or free is None or memory <= free
