"""Acknowledge to the broker orders that have just begun, together with their answers.

An acknowledgement wakes the network's thread. That thread then competes with the loop and with the
thread of the journal for the interpreter, while the order is executed. So the acknowledgement of a
single order waits some milliseconds for the answer, and one wake-up sends both. An acknowledgement
may always come late: it only lets the broker forget the order.
"""

import asyncio
from collections.abc import Callable
from typing import Final

LONGEST_SECONDS: Final = 0.005
"""Seconds that an acknowledgement waits for the answer."""


class LateAcks:
    """Acknowledgements of journalled orders that wait for a moment."""

    def __init__(self) -> None:
        self._waiting: dict[int, Callable[[], None]] = {}
        """By the number of the order. The thread that removes one sends it."""
        self._due = 0.0
        """Latest time to send the waiting acknowledgements, by the clock of the loop."""
        self._timer: asyncio.TimerHandle | None = None
        """It continues when no acknowledgement waits: most orders are answered before it ends."""

    def add(self, number: int, ack: Callable[[], None]) -> None:
        """Acknowledge an order with its answer, or soon.

        If a second order comes, acknowledge both now.

        `ack` may be called in any thread. `number` is that of the order in the journal.
        """
        if self._waiting:  # the broker bounds how many are unacknowledged
            self.flush()
            ack()
            return
        self._waiting[number] = ack
        loop = asyncio.get_running_loop()
        self._due = loop.time() + LONGEST_SECONDS
        if self._timer is None:
            self._timer = loop.call_at(self._due, self._send_due)

    def _send_due(self) -> None:
        """Acknowledge what has waited long enough. The timer may be that of an earlier order."""
        self._timer = None
        if not self._waiting:
            return
        loop = asyncio.get_running_loop()
        if loop.time() < self._due:
            self._timer = loop.call_at(self._due, self._send_due)
        else:
            self.flush()

    def send(self, number: int) -> None:
        """Acknowledge an order if that has not been done. Any thread may call it."""
        ack = self._waiting.pop(number, None)
        if ack is not None:
            ack()

    def flush(self) -> None:
        """Send all waiting acknowledgements. Called in the loop."""
        for number in tuple(self._waiting):
            self.send(number)

    def end(self) -> None:
        """Send all waiting acknowledgements, and stop the timer."""
        self.flush()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
