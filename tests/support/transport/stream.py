"""Send a stream of numbered messages during faults, and count lost and repeated messages."""

import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from fastlib.transport import Communicator

TOPICS = 4
PATIENCE = 300
"""Seconds until a stream that does not come through is given up."""


@dataclass
class Outcome:
    """The received messages of a stream."""

    sent: int
    got: list[tuple[int, int]] = field(default_factory=list)
    """Topic and number, as received."""
    not_marked: int = 0
    """Duplicates without the mark that they may be some."""
    confirmed_at: dict[tuple[int, int], float] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def lost(self) -> set[tuple[int, int]]:
        every = {(number % TOPICS, number) for number in range(self.sent)}
        return every - set(self.got)

    @property
    def duplicates(self) -> int:
        return sum(Counter(self.got).values()) - len(set(self.got))

    @property
    def in_order(self) -> bool:
        """Within each topic, counting the first time of each message."""
        first = list(dict.fromkeys(self.got))
        per_topic = [[n for t, n in first if t == topic] for topic in range(TOPICS)]
        return all(numbers == sorted(numbers) for numbers in per_topic)

    def __str__(self) -> str:
        order = "order kept" if self.in_order else "ORDER NOT KEPT"
        return (
            f"{self.sent} messages: {len(self.lost)} lost, {self.duplicates} duplicates, {order}, "
            f"{self.seconds:.1f} s"
        )


def stream(
    sender: Communicator,
    receiver: Communicator,
    root: str,
    *,
    sent: int,
    qos: int,
    faults: dict[int, Callable[[], None]],
    manual_ack: bool = False,
) -> Outcome:
    """Send numbers to several topics; cause a fault after each given count; wait for the end."""
    outcome = Outcome(sent)
    receiver.subscribe(f"{root}/#", qos=2, manual_ack=manual_ack)
    progress = threading.Condition()
    ended: set[str] = set()
    seen: set[tuple[int, int]] = set()

    def receive() -> None:
        while len(ended) < TOPICS:
            message = receiver.receive(f"{root}/#", timeout=PATIENCE)
            if message.payload == b"end":
                ended.add(message.topic)
            else:
                with progress:
                    place = (int(message.topic.rpartition("/")[2]), int(message.payload))
                    if place in seen and not message.duplicate:
                        outcome.not_marked += 1
                    seen.add(place)
                    outcome.got.append(place)
                    progress.notify_all()
            message.ack()

    thread = threading.Thread(target=receive, daemon=True)
    start = time.monotonic()
    thread.start()

    def confirm(place: tuple[int, int], _: object) -> None:
        outcome.confirmed_at.setdefault(place, time.monotonic())

    def has_received(count: int) -> bool:
        return len(outcome.got) >= count

    def send() -> None:
        for number in range(sent):
            place = (number % TOPICS, number)
            delivery = sender.send(b"%d" % number, f"{root}/{place[0]}", qos, timeout=PATIENCE)
            delivery.future.add_done_callback(partial(confirm, place))
            deliveries.append(delivery)

    deliveries: list[Any] = []
    sending = threading.Thread(target=send, daemon=True)
    sending.start()
    for count, action in sorted(faults.items()):
        with progress:
            enough = progress.wait_for(partial(has_received, count), PATIENCE)
        assert enough, f"{len(outcome.got)} of {sent} came"
        action()
    sending.join(PATIENCE)
    for delivery in deliveries:
        delivery.wait(PATIENCE)
    assert len(deliveries) == sent
    for topic in range(TOPICS):
        sender.send(b"end", f"{root}/{topic}", qos).wait(PATIENCE)
    thread.join(PATIENCE)
    assert not thread.is_alive(), f"{outcome}, and no end of it"
    outcome.seconds = time.monotonic() - start
    return outcome
