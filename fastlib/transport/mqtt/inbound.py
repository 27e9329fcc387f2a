"""Messages from the broker that are not completed yet, by packet number."""

from collections.abc import Callable
from enum import Enum, auto
from typing import Final


class State(Enum):
    HANDED_OVER = auto()
    """With the consumer, who has not acknowledged it."""
    CONFIRMED = auto()
    """QoS 2: PUBREC is sent, PUBREL has not come."""


class Entry:
    """One message."""

    __slots__ = ("mid", "payload", "qos", "state", "topic")

    def __init__(self, mid: int, qos: int, topic: str, payload: bytes) -> None:
        self.mid: Final = mid
        self.qos: Final = qos
        self.topic: Final = topic
        self.payload: Final = payload
        self.state = State.HANDED_OVER


class Incoming:
    """Tells new messages from repeated ones, so that QoS 2 comes once across connections.

    `confirm(mid, qos)` sends the PUBACK or PUBREC.
    """

    def __init__(self, confirm: Callable[[int, int], None]) -> None:
        self._confirm = confirm
        self._entries: dict[int, Entry] = {}

    def arrived(
        self, mid: int, qos: int, topic: str, payload: bytes, duplicate: bool
    ) -> Entry | None:
        """The entry of a message to hand over, or None for one that was handed over before."""
        known = self._entries.get(mid)
        # A broker that was restored from an older state may use a number for something else.
        if known and duplicate and known.topic == topic and known.payload == payload:
            if known.state is State.CONFIRMED:
                self._send(known)
            return None
        entry = self._entries[mid] = Entry(mid, qos, topic, payload)
        return entry

    def acknowledged(self, entry: Entry, connected: bool) -> None:
        """The consumer has it.

        Without a connection that is remembered until the broker sends the message again.
        """
        if self._entries.get(entry.mid) is not entry:
            return  # the session it belonged to is gone
        entry.state = State.CONFIRMED
        if connected:
            self._send(entry)

    def _send(self, entry: Entry) -> None:
        self._confirm(entry.mid, entry.qos)
        if entry.qos == 1:
            del self._entries[entry.mid]

    def released(self, mid: int) -> None:
        """PUBREL: the broker must not send it again (MQTT 3.1.1, section 4.3.3).

        A PUBLISH with this number is another message from here on, even with DUP and the same
        content: the broker may have sent it before, on a connection that broke.
        """
        self._entries.pop(mid, None)

    def session_lost(self) -> None:
        """The numbers mean nothing any more."""
        self._entries.clear()
