"""A broker that publishes released messages again: none comes twice, and none is lost."""

import random
from collections import Counter, deque

import pytest

from fastlib.transport.mqtt.inbound import InboundPublish, InboundTracker
from fastlib.transport.mqtt.released import MANY_IDS, MAX_RELEASED, PacketIdOrder, ReleasedMessages

SAME = b"start vm"
"""All orders of some schedulers are equal."""


class Line:
    """A receiver at a broker, with a connection that breaks between any two packets."""

    def __init__(
        self, dice: random.Random, *, smallest_id: bool, forgets_release: bool, window: int = 5
    ) -> None:
        self.dice = dice
        self.smallest_id = smallest_id
        self.forgets_release = forgets_release
        self.window = window
        self.last_id = 1000
        self.queued: deque[int] = deque()
        self.in_flight: dict[int, tuple[int, str]] = {}
        """By packet id: the message, and the state that the broker has of it."""
        self.to_send: deque[tuple[str, int, bool]] = deque()
        self.down: deque[tuple[str, int, bool, int]] = deque()
        self.up: deque[tuple[str, int]] = deque()
        self.delivered: list[int] = []
        self.unacknowledged: list[InboundPublish] = []
        self.tracker = InboundTracker(lambda packet_id, _: self.up.append(("rec", packet_id)))

    def _new_id(self) -> int:
        if self.smallest_id:
            return next(number for number in range(1, 1000) if number not in self.in_flight)
        self.last_id += 1
        return self.last_id

    def broker_sends(self) -> None:
        if self.to_send:
            kind, packet_id, duplicate = self.to_send.popleft()
            number, was = self.in_flight.get(packet_id, (0, "complete"))
            if not was.startswith("to "):
                return  # the receiver has answered it meanwhile
            state = "published" if kind == "publish" else "released"
            self.in_flight[packet_id] = (number, state)
            self.down.append((kind, packet_id, duplicate, number))
        elif self.queued and len(self.in_flight) < self.window:
            packet_id, number = self._new_id(), self.queued.popleft()
            self.in_flight[packet_id] = (number, "published")
            self.down.append(("publish", packet_id, False, number))

    def broker_reads(self) -> None:
        if not self.up:
            return
        kind, packet_id = self.up.popleft()
        if packet_id not in self.in_flight:
            return
        if kind == "rec":
            number, _ = self.in_flight[packet_id]
            self.in_flight[packet_id] = (number, "released")
            self.down.append(("rel", packet_id, False, number))
        else:
            del self.in_flight[packet_id]

    def receiver_reads(self) -> None:
        if not self.down:
            return
        kind, packet_id, duplicate, number = self.down.popleft()
        if kind == "rel":
            self.tracker.release(packet_id)
            self.up.append(("comp", packet_id))
        elif publish := self.tracker.received(packet_id, 2, "a", SAME, duplicate):
            self.delivered.append(number)
            self.unacknowledged.append(publish)

    def receiver_acknowledges(self) -> None:
        if self.unacknowledged:
            self.tracker.acknowledge(self.unacknowledged.pop(0), connected=True)

    def cut(self) -> None:
        self.down.clear()
        self.up.clear()
        self.to_send.clear()
        for packet_id, (number, state) in self.in_flight.items():
            if state == "released" or (state == "to release" and not self.forgets_release):
                self.in_flight[packet_id] = (number, "to release")
                self.to_send.append(("rel", packet_id, False))
            else:
                self.in_flight[packet_id] = (number, "to publish")
                self.to_send.append(("publish", packet_id, True))
        self.tracker.connected()

    def run(self, messages: int) -> Counter[int]:
        """Bring some messages over with many cuts; return how often each has come."""
        self.queued.extend(range(messages))
        steps = [
            self.broker_sends,
            self.broker_reads,
            self.receiver_reads,
            self.receiver_acknowledges,
        ]
        while self.queued or self.in_flight:
            if self.dice.random() < 0.03:
                self.cut()
            self.dice.choice(steps)()
        return Counter(self.delivered)


@pytest.fixture
def seeds(request: pytest.FixtureRequest) -> range:
    return range(1000 if request.config.getoption("--long") else 4)


def test_broker_that_forgets_a_release_duplicates_no_message(seeds: range):
    for seed in seeds:
        line = Line(random.Random(seed), smallest_id=False, forgets_release=True)
        came = line.run(200)
        assert sorted(came) == list(range(200))
        assert set(came.values()) == {1}


@pytest.mark.parametrize(("smallest_id", "forgets"), [(True, False), (True, True), (False, False)])
def test_equal_messages_with_an_id_used_again_are_not_lost(
    seeds: range, smallest_id: bool, forgets: bool
):
    for seed in seeds:
        line = Line(random.Random(seed), smallest_id=smallest_id, forgets_release=forgets)
        came = line.run(200)
        assert sorted(came) == list(range(200))
        if not forgets:
            assert set(came.values()) == {1}


def test_model_of_the_broker_shows_the_fault(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(ReleasedMessages, "is_repeated", lambda *_: False)
    lines = [
        Line(random.Random(seed), smallest_id=False, forgets_release=True) for seed in range(20)
    ]
    assert max(max(line.run(200).values()) for line in lines) > 1


@pytest.mark.parametrize("qos", [1, 2])
def test_message_of_an_earlier_connection_is_confirmed_once(qos: int):
    """A second confirmation could confirm another message with the same packet id."""
    sent: list[int] = []
    tracker = InboundTracker(lambda packet_id, _: sent.append(packet_id))
    publish = tracker.received(1, qos, "a", SAME, duplicate=False)
    assert publish
    tracker.connected()
    tracker.acknowledge(publish, connected=True)  # the broker has not repeated it here
    assert sent == []
    assert tracker.received(1, qos, "a", SAME, duplicate=True) is None
    assert sent == [1]


def test_order_of_ids_is_certain_beyond_the_window():
    order = PacketIdOrder()
    for packet_id in range(1, 2 * 10 + MANY_IDS + 1):
        order.add(packet_id, in_flight=10)
        assert not order.is_certain
    order.add(2 * 10 + MANY_IDS + 1, in_flight=10)
    assert order.is_certain
    order.add(1, in_flight=10)  # as a broker that uses ids again
    assert not order.is_certain


def test_order_of_ids_is_certain_when_smaller_free_ids_are_passed_over():
    order = PacketIdOrder()
    for packet_id in range(1, 1001):
        order.add(packet_id, in_flight=1000)
    assert not order.is_certain
    order.add_free(3)
    for packet_id in range(1001, 1001 + MANY_IDS):
        order.add(packet_id, in_flight=1000)
        assert not order.is_certain
    order.add(1001 + MANY_IDS, in_flight=1000)
    assert order.is_certain
    order.add(3, in_flight=1000)
    assert not order.is_certain


def test_high_id_at_the_beginning_shows_the_order():
    order = PacketIdOrder()
    order.add(5000, in_flight=1)
    assert order.is_certain


def test_first_id_comes_after_the_last_one():
    order = PacketIdOrder()
    order.add(65535, in_flight=1)
    assert order.is_newer(1)
    assert not order.is_newer(65534)
    order.add(1, in_flight=1)
    assert order.is_certain


def complete(messages: ReleasedMessages, packet_id: int, content: bytes = SAME) -> None:
    messages.add_new(packet_id, in_flight=1)
    messages.confirming(packet_id)
    messages.released(packet_id, content)


def test_message_is_forgotten_once_the_broker_has_its_pubcomp():
    messages = ReleasedMessages()
    complete(messages, 500)
    assert messages.is_repeated(500, SAME)
    complete(messages, 501)  # its PUBREL answers a PUBREC after the PUBCOMP of 500
    assert not messages.is_repeated(500, SAME)
    assert messages.is_repeated(501, SAME)


def test_pubrec_before_the_pubcomp_proves_nothing():
    messages = ReleasedMessages()
    for packet_id in (500, 501):
        messages.add_new(packet_id, in_flight=2)
        messages.confirming(packet_id)
    messages.released(500, SAME)
    messages.released(501, SAME)
    assert messages.is_repeated(500, SAME)


def test_pubrec_of_another_connection_proves_nothing():
    messages = ReleasedMessages()
    complete(messages, 500)
    messages.add_new(501, in_flight=1)
    messages.confirming(501)
    messages.connected()
    messages.released(501, SAME)
    assert messages.is_repeated(500, SAME)


def test_pubrel_that_is_repeated_keeps_the_content():
    messages = ReleasedMessages()
    complete(messages, 500)
    messages.connected()
    messages.released(500, None)
    assert messages.is_repeated(500, SAME)
    assert not messages.is_repeated(500, b"another")


def test_number_of_remembered_messages_is_bounded():
    messages = ReleasedMessages()
    for packet_id in range(1, MAX_RELEASED + 2):
        messages.add_new(packet_id, in_flight=1)
        messages.released(packet_id, SAME)
    assert not messages.is_repeated(1, SAME)
    assert messages.is_repeated(2, SAME)


def test_tracker_forgets_all_when_the_broker_was_away_or_has_lost_the_session():
    sent: list[int] = []
    for forget in (InboundTracker.broker_away, InboundTracker.clear):
        tracker = InboundTracker(lambda packet_id, _: sent.append(packet_id))
        publish = tracker.received(500, 2, "a", SAME, duplicate=False)
        assert publish
        tracker.acknowledge(publish, connected=True)
        tracker.release(500)
        forget(tracker)
        assert tracker.received(500, 2, "a", SAME, duplicate=True)


def test_repetition_of_a_complete_message_is_confirmed_again():
    sent: list[int] = []
    tracker = InboundTracker(lambda packet_id, _: sent.append(packet_id))
    publish = tracker.received(500, 2, "a", SAME, duplicate=False)
    assert publish
    tracker.acknowledge(publish, connected=True)
    tracker.release(500)
    tracker.connected()
    assert tracker.received(500, 2, "a", SAME, duplicate=True) is None
    assert sent == [500, 500]
    assert tracker.received(500, 2, "a", SAME, duplicate=True) is None
    tracker.release(500)
    assert tracker.received(501, 2, "a", SAME, duplicate=False)
