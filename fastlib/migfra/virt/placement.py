"""Place the domains of an evacuation, and choose the order of a swap. Pure.

docs/reference/protocol.md, "evacuate node", has the rules. A host's capacity is its CPUs minus its
active domains. Memory, huge pages and memory nodes must fit if they are known. Overbooking is about
CPUs only.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import msgspec

from fastlib.message.tasks import EvacuateMode

from .memory_needs import HostMemory, Need, is_particular, normal_memory, problem_of_memory

SwapOrder = Literal["parallel", "first", "second", "save-first", "save-second"]
"""How two domains change places: at once, one before the other, or via storage. Via storage one of
them is saved, which frees its memory, the other one moves, and then the first is restored."""


class Destination(msgspec.Struct, frozen=True, kw_only=True):
    """A host that takes domains."""

    name: str
    cpus: int
    active: int
    """The number of its active domains, with those that migrate to it."""
    free_memory: int | None = None
    """In KiB. None if it is not known."""
    nodes: HostMemory = HostMemory()
    """Its memory nodes and huge pages. Empty if they are not known."""
    disk_room: Mapping[str, int] = {}
    """The free bytes of its folders for images. Others have none."""
    saved: frozenset[str] = frozenset()
    """The domains that have a saved image on it. A later start there would restore old memory."""


class Guest(msgspec.Struct, frozen=True, kw_only=True):
    """A domain that needs a host."""

    name: str
    memory: int | None = None
    """All of its memory in KiB. None if it is not known."""
    needs: Sequence[Need] = ()
    """The parts of its memory. Empty if they are not known; then all of it is normal memory."""

    disks: Mapping[str, int] = {}
    """The bytes that copies of its disks may take, by their folder."""

    @property
    def normal_memory(self) -> int | None:
        """Its memory in KiB that is not in huge pages. None if it is not known."""
        return normal_memory(self.needs) if self.needs else self.memory


class Placement(msgspec.Struct, frozen=True, kw_only=True):
    """The destination of one domain."""

    guest: str
    host: str | None = None
    """None if no host can take it."""
    reason: str | None = None
    """The reason why no host can take it."""


class _Room:
    """The room that is left on a destination during the placement."""

    def __init__(self, host: Destination) -> None:
        self.name = host.name
        self.capacity = host.cpus - host.active
        self.free = host.free_memory
        self.nodes = host.nodes
        self.placed: list[Guest] = []
        self.disk_room = dict(host.disk_room)
        self.saved = host.saved

    def obstacle(self, guest: Guest, overbooking: bool) -> str | None:
        """Return why the host cannot take the domain, or None if it can."""
        if guest.name in self.saved:
            return f"{self.name} has an old saved image of {guest.name}; delete it there"
        if not overbooking and self.capacity <= 0:
            return f"{self.name} has no free CPU and overbooking is off"
        needed = guest.normal_memory
        if needed is not None and self.free is not None and needed > self.free:
            return f"{self.name} has {max(self.free, 0)} KiB free of {needed} KiB needed"
        return _problem_of_needs(guest, self.name, self.nodes, self.placed)

    def has_disk_room(self, guest: Guest) -> bool:
        """Return whether the host has room for the copies of the domain's disks."""
        return all(self.disk_room.get(folder, 0) >= size for folder, size in guest.disks.items())

    def take(self, guest: Guest) -> None:
        self.capacity -= 1
        for folder, size in guest.disks.items():
            self.disk_room[folder] = self.disk_room.get(folder, 0) - size
        if is_particular(guest.needs):
            self.placed.append(guest)
        if self.free is not None and guest.normal_memory is not None:
            self.free -= guest.normal_memory


def place(
    guests: Sequence[Guest],
    hosts: Iterable[Destination],
    mode: EvacuateMode = "auto",
    *,
    overbooking: bool = True,
) -> tuple[Placement, ...]:
    """Return a placement for each domain, in the order of `guests`.

    `auto` always takes the host with the largest capacity. `compact` fills host after host in the
    given order. When all are full, it overbooks the least overbooked one. `scatter` takes the hosts
    in turn. Among equal hosts the one named first wins. The largest domains are placed first,
    because small ones fit into the rest. Equal domains keep their order. Hosts with room for the
    copies of a domain's disks are preferred. Without such a host, the check of its migration
    decides: some of its disks may be on shared storage.
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
        with_disk_room = [i for i in fit if rooms[i].has_disk_room(guest)]
        position = _choose(mode, rooms, with_disk_room or fit, turn)
        turn = position + 1
        rooms[position].take(guest)
        chosen[index] = Placement(guest=guest.name, host=rooms[position].name)
    return tuple(chosen[index] for index in range(len(guests)))


def _choose(mode: EvacuateMode, rooms: Sequence[_Room], fit: Sequence[int], turn: int) -> int:
    """Return the position of the host that takes the next domain, one of `fit`."""
    if mode == "scatter":
        return min(fit, key=lambda i: (i - turn) % len(rooms))
    if mode == "compact":
        for position in fit:
            if rooms[position].capacity > 0:
                return position
    return max(fit, key=lambda i: (rooms[i].capacity, -i))


def _problem_of_needs(
    guest: Guest, host: str, memory: HostMemory, placed: Sequence[Guest] = ()
) -> str | None:
    """Return why a host lacks memory nodes or huge pages for a domain, and for those before it."""
    if not is_particular(guest.needs):
        return None
    name = guest.name
    if placed:
        name += " with 1 other" if len(placed) == 1 else f" with {len(placed)} others"
    needs = [need for each in (*placed, guest) for need in each.needs]
    return problem_of_memory(name, host, needs, memory)


def swap_order(
    first: Guest,
    first_host: int | None,
    second: Guest,
    second_host: int | None,
    *,
    first_nodes: HostMemory = HostMemory(),  # noqa: B008 - it cannot change
    second_nodes: HostMemory = HostMemory(),  # noqa: B008 - it cannot change
) -> SwapOrder:
    """Return how two domains change places, by the free memory of both hosts in KiB.

    `first_host` is the free memory of the first domain's host, None if it is not known.
    `first_nodes` has the memory nodes and huge pages there. They move at once if each host has
    memory for both domains. If only one host has, the domain that goes there moves before the
    other. If neither has, the smaller domain is saved to storage.
    """
    first_fits = _fits(first, second_host, second_nodes)
    second_fits = _fits(second, first_host, first_nodes)
    if first_fits and second_fits:
        return "parallel"
    if first_fits:
        return "first"
    if second_fits:
        return "second"
    return "save-first" if (first.memory or 0) < (second.memory or 0) else "save-second"


def _fits(guest: Guest, free: int | None, nodes: HostMemory) -> bool:
    memory = guest.normal_memory
    if memory is not None and free is not None and memory > free:
        return False
    return _problem_of_needs(guest, "the host", nodes) is None
