"""The queue of migrations, a pure data structure that decides which one begins next.

A migration needs *slots*: one of the source's for outgoing migrations, one of the destination's for
incoming ones. A swap needs one of each at both hosts. The rules:

- Domains of similar memory are a class: each class spans a factor of four. Within a class the
order is first come, first served.
- The next turn belongs to the class that holds the fewest of the slots in question, and among
  these to the one that has waited longest for a turn. So neither large domains nor small ones keep
  all slots while the others wait.
- A migration whose slots are not free does not stop those behind it. When `MOST_PASSED` of them
  have taken a slot that it needs, one such slot is kept for it.
- A migration takes all its slots at once or none. So two migrations never wait for each other.
- A migration that had its turn and failed goes to the end, behind those without a turn yet.

The queue does not wait and has no clock. `MigrationLimits` is the queue for coroutines.
"""

from collections import Counter, defaultdict, deque
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, Literal

import msgspec

Direction = Literal["outgoing", "incoming"]
MOST_PASSED: Final = 4
"""Number of migrations that may take a slot before an earlier one that needs the same slot."""
_CLASS_BITS: Final = 2
"""Bits by which the memory of two classes differs: a factor of four."""


class Slot(msgspec.Struct, frozen=True, order=True):
    """The permission for one migration of a host in one direction. A host has a limited number."""

    host: str
    direction: Direction


def slots_between(source: str, destination: str, *, swap: bool = False) -> frozenset[Slot]:
    """Return the slots of a migration from one host to another, or of a swap of the two."""
    there = {Slot(source, "outgoing"), Slot(destination, "incoming")}
    back = {Slot(destination, "outgoing"), Slot(source, "incoming")} if swap else set()
    return frozenset(there | back)


def size_class(memory: int) -> int:
    """Return the class of a domain by its memory (KiB): 0 below 1 KiB, 1 below 4 KiB, and so on."""
    return -(-memory.bit_length() // _CLASS_BITS)


def turn_order(memory: Sequence[int]) -> list[int]:
    """Return the indices of domains in the order of their turns in a queue.

    A task that migrates several domains queues them in this order. So the first ones are not all
    large or all small. `memory` is the memory of each domain in KiB.
    """
    queue = MigrationQueue({})
    for index, each in enumerate(memory):
        queue.add(index, frozenset(), each)
    return list(queue.positions())


class _Entry:
    """One migration in the queue, from `add` to `remove`."""

    def __init__(self, slots: frozenset[Slot], size: int) -> None:
        self.slots: Final = slots
        self.size: Final = size
        self.state: Literal["waiting", "trying", "running"] = "waiting"
        self.blocked = False
        """Whether another host had no slot. `unblock` resets it."""
        self.passes: list[int] = []
        """The earlier ones that need one of its slots and could not begin when it got its turn."""
        self.passed = 0
        """The number of later ones that took a slot that it needs. `MOST_PASSED` reserves one."""


class MigrationQueue:
    """The waiting and running migrations, by keys of the caller.

    A migration is *waiting*, then *trying* (`next_turn` has reserved its slots here, and the caller
    asks the other hosts for theirs), then *running*. `remove` ends it in any state.
    """

    def __init__(self, limits: Mapping[Slot, int]) -> None:
        """Take the number of each slot of this host. Other hosts count their own slots."""
        self._limits = dict(limits)
        self._entries: dict[int, _Entry] = {}  # in the order of arrival
        self._trying: set[int] = set()
        self._turns: dict[int, int] = {}
        """The number of the latest turn of each class."""
        self._turn = 0

    def add(self, key: int, slots: frozenset[Slot], memory: int) -> None:
        """Add a migration at the end. `memory` is that of its domain, or of the larger one, in KiB.

        Raises ValueError if the key is in the queue already.
        """
        if key in self._entries:
            raise ValueError(f"{key} is in the queue already")
        self._entries[key] = _Entry(slots, size_class(memory))

    def add_running(self, key: int, slots: frozenset[Slot], memory: int) -> None:
        """Add a migration that runs already, whether or not a slot is free."""
        self.add(key, slots, memory)
        self._entries[key].state = "running"

    def remove(self, key: int) -> None:
        """Remove a migration that has ended or was cancelled. Does nothing if it is not there."""
        self._entries.pop(key, None)
        self._trying.discard(key)

    def next_turn(self) -> int | None:
        """Return the next migration that may try to begin, now *trying*. None if there is none."""
        ahead: list[int] = []
        asking = {self._elsewhere(self._entries[key]) for key in self._trying}
        taken, kept = self._use()
        for key in self._in_turn():
            entry = self._entries[key]
            if self._elsewhere(entry) in asking:
                continue  # migrations that need the same slots ask one after the other
            if not entry.blocked and all(
                self._limits[slot] - taken[slot] > (kept.get(slot, key) != key)
                for slot in entry.slots & self._limits.keys()
            ):
                entry.state = "trying"
                self._trying.add(key)
                entry.passes = [each for each in ahead if self._entries[each].slots & entry.slots]
                return key
            ahead.append(key)
        return None

    def begin(self, key: int) -> None:
        """Note that a migration has all its slots and runs."""
        entry = self._entries[key]
        for passed in entry.passes:
            if (other := self._entries.get(passed)) is not None:
                other.passed += 1
        entry.state = "running"
        self._trying.discard(key)
        self._turn += 1
        self._turns[entry.size] = self._turn

    def block(self, key: int) -> None:
        """Let a migration continue to wait at its place: another host had no slot for it.

        Others that need the same slots of other hosts do not ask now.
        """
        asked = self._elsewhere(self._entries[key])
        self._entries[key].state = "waiting"
        self._trying.discard(key)
        for entry in self._entries.values():
            if entry.state == "waiting" and self._elsewhere(entry) == asked:
                entry.blocked = True

    def unblock(self) -> None:
        """Let all blocked migrations try again."""
        for entry in self._entries.values():
            entry.blocked = False

    def _elsewhere(self, entry: _Entry) -> frozenset[Slot]:
        """Return the slots that other hosts count."""
        return entry.slots.difference(self._limits)

    def is_trying(self, key: int) -> bool:
        """Return whether a migration has the turn and its slots of this host."""
        return key in self._trying

    def is_next_to_ask(self, key: int) -> bool:
        """Return whether a waiting migration may ask as soon as others have their answers."""
        entry = self._entries[key]
        asked = self._elsewhere(entry)
        return entry.state == "waiting" and any(
            self._elsewhere(self._entries[other]) == asked for other in self._trying
        )

    def positions(self) -> dict[int, int]:
        """Return the place of each waiting migration: 1 is the next one."""
        return {key: position for position, key in enumerate(self._in_turn(), 1)}

    @property
    def running(self) -> int:
        """The number of migrations that run or are about to run."""
        return sum(entry.state != "waiting" for entry in self._entries.values())

    @property
    def waiting(self) -> int:
        """The number of migrations that wait."""
        return len(self._entries) - self.running

    def _in_turn(self) -> Iterator[int]:
        """Yield the waiting migrations in the order of their turns if all slots were free."""
        classes: dict[int, deque[int]] = {}
        used: defaultdict[int, Counter[Slot]] = defaultdict(Counter)
        for key, entry in self._entries.items():
            if entry.state == "waiting":
                classes.setdefault(entry.size, deque()).append(key)
            else:
                used[entry.size].update(entry.slots)
        arrival = {size: index for index, size in enumerate(classes)}
        turns = {size: self._turns.get(size, 0) for size in classes}
        turn = self._turn

        def rank(size: int) -> tuple[int, int, int]:
            first = self._entries[classes[size][0]]
            share = sum(used[size][slot] for slot in first.slots)
            return share, turns[size], arrival[size]

        while classes:
            size = min(classes, key=rank)
            key = classes[size].popleft()
            if not classes[size]:
                del classes[size]
            yield key
            used[size].update(self._entries[key].slots)
            turn += 1
            turns[size] = turn

    def _use(self) -> tuple[Counter[Slot], dict[Slot, int]]:
        """Return the number of taken slots of each kind, and the slots kept for overdue ones.

        At most one of each slot is kept. So a full host does not stop all others.
        """
        taken: Counter[Slot] = Counter()
        kept: dict[Slot, int] = {}
        for key, entry in self._entries.items():
            if entry.state != "waiting":
                taken.update(entry.slots)
            elif entry.passed >= MOST_PASSED:
                for slot in entry.slots:
                    kept.setdefault(slot, key)
        return taken, kept
