"""The queue of migrations as a pure data structure: its rules and invariants."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    multiple,
    rule,
)

from fastlib.migfra.virt.migration_queue import (
    MOST_PASSED,
    MigrationQueue,
    Slot,
    size_class,
    slots_between,
    turn_order,
)

GIB = 1 << 20
SMALL, LARGE = GIB, 64 * GIB
HERE = {Slot("a", "outgoing"): 2, Slot("a", "incoming"): 2}
TO_B, TO_C = slots_between("a", "b"), slots_between("a", "c")


def queue_of(*memory, outgoing=2, slots=TO_B):
    """A queue of host a with migrations 0, 1, 2 and so on."""
    queue = MigrationQueue({**HERE, Slot("a", "outgoing"): outgoing})
    for key, each in enumerate(memory):
        queue.add(key, slots, each)
    return queue


def begin_all(queue):
    """Begin all migrations that may begin. Return their keys in order."""
    begun = []
    while (key := queue.next_turn()) is not None:
        queue.begin(key)
        begun.append(key)
    return begun


def order_of(queue, count):
    """The order in which migrations begin if always the oldest one ends first."""
    running, order = [], []
    while len(order) < count:
        begun = begin_all(queue)
        assert begun or running, "nothing runs, and nothing begins"
        order += begun
        running += begun
        queue.remove(running.pop(0))
    return order


def test_migrations_of_one_size_begin_in_order_of_arrival():
    queue = queue_of(*[SMALL] * 6)
    assert begin_all(queue) == [0, 1]
    assert queue.positions() == {2: 1, 3: 2, 4: 3, 5: 4}
    queue.remove(1)
    assert begin_all(queue) == [2]
    assert (queue.running, queue.waiting) == (2, 3)


def test_large_domains_leave_a_slot_to_small_ones():
    """Six large ones came first. The small ones wait for one of them, not for all."""
    queue = queue_of(*[LARGE] * 6)
    assert begin_all(queue) == [0, 1]
    for key in (10, 11, 12):
        queue.add(key, TO_B, SMALL)
    queue.remove(0)
    assert begin_all(queue) == [10]
    queue.remove(10)
    assert begin_all(queue) == [11]
    queue.remove(1)
    assert begin_all(queue) == [2], "large ones keep one slot, too"


def test_small_domains_leave_a_slot_to_large_ones():
    queue = queue_of(*[SMALL] * 20)
    queue.add(20, TO_B, LARGE)
    assert order_of(queue, 21).index(20) == 1


def test_classes_take_turns_with_one_slot():
    queue = queue_of(LARGE, LARGE, LARGE, SMALL, SMALL, SMALL, outgoing=1)
    assert order_of(queue, 6) == [0, 3, 1, 4, 2, 5]


def test_turn_order_mixes_large_and_small_domains():
    assert turn_order([LARGE, LARGE, SMALL, SMALL, SMALL]) == [0, 2, 1, 3, 4]
    assert turn_order([]) == []


def test_large_domains_do_not_fill_a_destination_while_small_ones_go_elsewhere():
    queue = queue_of(LARGE, LARGE, outgoing=4)
    queue.add(2, TO_C, SMALL)
    queue.add(3, TO_B, SMALL)
    assert queue.next_turn() == 0
    queue.begin(0)
    assert queue.next_turn() == 2
    queue.begin(2)
    assert queue.next_turn() == 3, "b has one large domain already"


def test_full_destination_does_not_stop_migrations_to_others():
    queue = queue_of(SMALL, SMALL, SMALL, outgoing=1)
    queue.add(3, TO_C, SMALL)
    assert queue.next_turn() == 0
    queue.block(0)
    assert begin_all(queue) == [3], "1 and 2 need not ask the same host at once"
    assert queue.positions() == {0: 1, 1: 2, 2: 3}


def test_slot_is_kept_for_migration_that_was_passed_often():
    queue = queue_of(SMALL, outgoing=2)
    assert queue.next_turn() == 0
    queue.block(0)
    for key in range(1, MOST_PASSED + 1):
        queue.add(key, TO_C, SMALL)
        assert begin_all(queue) == [key]
        queue.remove(key)
    for key in (10, 11):
        queue.add(key, TO_C, SMALL)
    assert begin_all(queue) == [10], "one of two slots is kept, the other one is used"
    queue.unblock()
    assert begin_all(queue) == [0]


def test_swap_needs_slots_in_both_directions():
    queue = MigrationQueue({Slot("a", "outgoing"): 2, Slot("a", "incoming"): 1})
    swap = slots_between("a", "b", swap=True)
    assert swap == {Slot(h, d) for h in "ab" for d in ("outgoing", "incoming")}
    queue.add(0, swap, SMALL)
    queue.add(1, swap, SMALL)
    queue.add(2, TO_B, SMALL)
    assert begin_all(queue) == [0, 2], "no slot for a second one that comes back"
    queue.remove(0)
    assert begin_all(queue) == [1]


def test_continued_migration_counts_above_the_limit():
    queue = queue_of(SMALL, outgoing=1)
    for key in (7, 8):
        queue.add_running(key, TO_B, 0)
    assert begin_all(queue) == []
    queue.remove(7)
    assert begin_all(queue) == []
    queue.remove(8)
    assert begin_all(queue) == [0]


def test_cancelled_migrations_leave_no_trace():
    queue = queue_of(*[SMALL] * 4, outgoing=1)
    assert queue.next_turn() == 0
    queue.remove(0)  # while it asks the other host
    queue.remove(1)  # while it waits
    assert begin_all(queue) == [2]
    queue.remove(99)
    queue.remove(2)
    assert begin_all(queue) == [3]


def test_key_is_refused_twice():
    queue = queue_of(SMALL)
    with pytest.raises(ValueError, match="0 is in the queue already"):
        queue.add(0, TO_B, SMALL)


@pytest.mark.parametrize(
    ("memory", "expected"), [(0, 0), (1, 1), (3, 1), (4, 2), (15, 2), (16, 3), (GIB, 11)]
)
def test_size_class_spans_a_factor_of_four(memory, expected):
    assert size_class(memory) == expected


@given(
    st.lists(st.sampled_from([SMALL, 8 * GIB, LARGE]), min_size=1, max_size=40),
    st.integers(1, 4),
)
def test_each_class_gets_its_share_in_any_order(memory, outgoing):
    """Between two turns of a class that waits, each other class has at most `outgoing` turns more.

    So the last one of a class waits for those of its own class and a multiple of them, and not for
    all that came.
    """
    order = order_of(queue_of(*memory, outgoing=outgoing), len(memory))
    assert sorted(order) == list(range(len(memory)))
    classes = [size_class(memory[key]) for key in order]
    for size in set(classes):
        own = [index for index, each in enumerate(classes) if each == size]
        # In its class, first come, first served.
        assert [order[index] for index in own] == sorted(order[index] for index in own)
        others = len(set(classes)) - 1
        for turn, index in enumerate(own, 1):
            assert index + 1 <= turn * (others + 1) + others * outgoing


class QueueMachine(RuleBasedStateMachine):
    """Migrations come, begin, are blocked, end and are cancelled in any order."""

    keys = Bundle("keys")

    def __init__(self):
        super().__init__()
        self.limits = {Slot("a", "outgoing"): 2, Slot("a", "incoming"): 1}
        self.queue = MigrationQueue(self.limits)
        self.slots = {}
        self.waiting, self.trying, self.blocked, self.running = set(), set(), set(), set()
        self.next_key = 0

    @rule(
        target=keys,
        slots=st.sampled_from(
            [TO_B, TO_C, slots_between("a", "b", swap=True), slots_between("c", "a")]
        ),
        memory=st.integers(0, 1 << 40),
        runs=st.booleans(),
    )
    def add(self, slots, memory, runs):
        key = self.next_key
        self.next_key += 1
        self.slots[key] = slots
        if runs and not self.next_key % 5:
            self.queue.add_running(key, slots, memory)
            self.running.add(key)
        else:
            self.queue.add(key, slots, memory)
            self.waiting.add(key)
        return key

    @rule(key=consumes(keys))
    def remove(self, key):
        self.queue.remove(key)
        for group in (self.waiting, self.trying, self.blocked, self.running):
            group.discard(key)

    @rule()
    def next_turn(self):
        key = self.queue.next_turn()
        if key is None:
            # No wake-up is lost: nothing that has all its slots is left waiting with nothing
            # running that will end.
            if not self.running and not self.trying:
                assert not self.waiting - self.blocked or self.kept()
            return
        assert key in self.waiting
        assert key not in self.blocked
        assert self.queue.is_trying(key)
        self.waiting.discard(key)
        self.trying.add(key)
        taken = Counter(slot for other in self.running | self.trying for slot in self.slots[other])
        for slot in self.slots[key]:
            assert taken[slot] <= self.limits.get(slot, 10**9)

    def kept(self):
        """Whether a blocked one may have a slot kept, which stops others until it is unblocked."""
        return bool(self.blocked)

    @rule(begin=st.booleans())
    def answer(self, begin):
        if not self.trying:
            return
        key = min(self.trying)
        self.trying.discard(key)
        if begin:
            self.queue.begin(key)
            self.running.add(key)
        else:
            self.queue.block(key)
            self.waiting.add(key)
            asked = self.slots[key] - self.limits.keys()
            self.blocked |= {
                each for each in self.waiting if self.slots[each] - self.limits.keys() == asked
            }

    @rule()
    def unblock(self):
        self.queue.unblock()
        self.blocked.clear()

    @rule(target=keys)
    def drain(self):
        """If all running migrations end and no host refuses, every waiting one gets its turn."""
        self.unblock()
        for _ in range(len(self.slots) + 1):
            for key in self.trying | self.running:
                if key in self.trying:
                    self.queue.begin(key)
                self.queue.remove(key)
            self.running.clear()
            self.trying.clear()
            while (key := self.queue.next_turn()) is not None:
                self.waiting.discard(key)
                self.trying.add(key)
        assert not self.waiting
        assert self.queue.waiting == 0
        return multiple()

    @invariant()
    def counts_and_positions_are_true(self):
        assert self.queue.waiting == len(self.waiting)
        assert self.queue.running == len(self.running) + len(self.trying)
        positions = self.queue.positions()
        assert set(positions) == self.waiting
        assert sorted(positions.values()) == list(range(1, len(self.waiting) + 1))


TestQueueMachine = QueueMachine.TestCase
