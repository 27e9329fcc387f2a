"""QoS 2 messages that are complete here, but possibly not at the broker. No I/O.

mosquitto forgets the state of a message if two connections break in quick succession. On the first
one it has sent PUBREL. The second one ends before it has sent PUBREL again. On the third one it
sends PUBLISH again. MQTT forbids that (3.1.1, section 4.3.3): the receiver has forgotten the packet
id, so the message would come twice.

The receiver may drop such a PUBLISH only if it cannot be another message with the same content,
whose first PUBLISH was lost with a connection. That is certain if all of these hold:

- The broker may not have our PUBCOMP. Once it has, it may use the packet id again.
- The broker takes packet ids in order, as mosquitto does. Then a new message has a newer id than
  all before. A broker that takes the smallest free id uses an id again at once.
- The broker kept running: a restarted broker may have an older state.
"""

from typing import Final

MAX_RELEASED: Final = 4096
"""The maximum number of messages that are remembered, about 150 bytes each."""

MANY_IDS: Final = 32
"""The number of new messages that must show that a broker does not use the smallest free id."""

PACKET_IDS: Final = 65535


class PacketIdOrder:
    """Decides from observations whether a broker uses the packet ids of its messages in order.

    It is certain in two cases. Many messages came with an id although a smaller one was free. Or
    the ids are larger than any that a broker with so few messages in flight would reuse.
    """

    def __init__(self) -> None:
        self._newest: int | None = None
        self._highest = 0
        self._most_in_flight = 0
        self._ran_backwards = False
        self._smallest_free: int | None = None
        self._passed_over = 0
        """The number of messages in a row that came although the broker knew of a smaller free
        id."""

    def add(self, packet_id: int, in_flight: int) -> None:
        """Note a new message, and the number of messages in flight with it."""
        self._most_in_flight = max(self._most_in_flight, in_flight)
        self._highest = max(self._highest, packet_id)
        if self._newest is not None and not self.is_newer(packet_id):
            self._passed_over, self._smallest_free, self._ran_backwards = 0, None, True
        elif self._smallest_free is not None and self._smallest_free < packet_id:
            self._passed_over += 1
        self._newest = packet_id

    def add_free(self, packet_id: int) -> None:
        """Note that the broker knows that an id is free."""
        self._smallest_free = min(packet_id, self._smallest_free or packet_id)

    @property
    def is_certain(self) -> bool:
        """True if no broker that uses ids again at once would have taken these ids."""
        few = not self._ran_backwards and self._highest > 2 * self._most_in_flight + MANY_IDS
        return few or self._passed_over > MANY_IDS

    def is_newer(self, packet_id: int) -> bool:
        """Return True if the id comes after the newest one; after the last id comes the first."""
        assert self._newest is not None
        return 0 < (packet_id - self._newest) % PACKET_IDS < PACKET_IDS // 2


class ReleasedMessages:
    """The messages whose PUBREL has come and whose PUBCOMP the broker may not have."""

    def __init__(self) -> None:
        self._order = PacketIdOrder()
        self._messages: dict[int, bytes] = {}
        """The content of each message by its packet id, in the order of their PUBCOMP."""
        self._before: dict[int, int] = {}
        """By packet id, the number of PUBCOMP of this connection before our first PUBREC."""
        self._confirmed_before: set[int] = set()
        """The packet ids whose PUBREC was also sent on an earlier connection."""
        self._completed: list[int] = []
        """The packet ids of the PUBCOMP of this connection that the broker may not have."""
        self._known = 0
        """The number of PUBCOMP of this connection that the broker certainly has."""

    def add_new(self, packet_id: int, in_flight: int) -> None:
        """Note a new message. `in_flight` counts those that are not complete, with this one."""
        self._messages.pop(packet_id, None)
        self._order.add(packet_id, in_flight)

    def confirming(self, packet_id: int) -> None:
        """Note that a PUBREC is sent."""
        if packet_id not in self._confirmed_before:
            self._before.setdefault(packet_id, self._known + len(self._completed))

    def released(self, packet_id: int, content: bytes | None) -> None:
        """Note a PUBREL, which a PUBCOMP follows. `content` is None if it is no longer known.

        The PUBREL answers our first PUBREC, if that was on this connection, so the broker has read
        all that we had sent before that.
        """
        has = self._before.pop(packet_id, None)
        self._confirmed_before.discard(packet_id)
        if has is not None and has > self._known:
            for complete in self._completed[: has - self._known]:
                self._messages.pop(complete, None)
                self._order.add_free(complete)
            del self._completed[: has - self._known]
            self._known = has
        if content is None:
            content = self._messages.get(packet_id)
        if content is None:
            return
        self._messages.pop(packet_id, None)
        self._messages[packet_id] = content
        self._completed.append(packet_id)
        if len(self._messages) > MAX_RELEASED:
            del self._messages[next(iter(self._messages))]

    def is_repeated(self, packet_id: int, content: bytes) -> bool:
        """Return True if a PUBLISH with DUP is certainly one that is complete here."""
        return (
            self._messages.get(packet_id) == content
            and self._order.is_certain
            and not self._order.is_newer(packet_id)
        )

    def connected(self) -> None:
        """Note that a connection begins: the broker may have missed the end of the last one."""
        self._confirmed_before.update(self._before)
        self._before.clear()
        self._completed.clear()
        self._known = 0

    def clear(self) -> None:
        """Forget all: the broker has lost the session or may have restarted."""
        self.connected()
        self._confirmed_before.clear()
        self._messages.clear()
        self._order = PacketIdOrder()
