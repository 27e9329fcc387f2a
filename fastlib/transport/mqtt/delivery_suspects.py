"""Apply the decisions of `suspects.py` about messages in flight that may end connections."""

import logging
from collections.abc import Callable, Mapping
from typing import Final, Literal

from fastlib.transport.delivery import Delivery
from fastlib.transport.errors import (
    MessageTooLargeError,
    RefusedError,
    TransportError,
    reason,
)

from .broker_adaptation import BrokerAdaptation
from .connection_state import ConnectionState
from .control import Control
from .learned_limits import CAPABILITY_CODES
from .outbox import Outbox
from .paho_client import PahoClient
from .publish_packets import PublishPackets
from .suspects import ENDS_ALONE, SMALL, Demand, Remedy, Suspects, remedy

log = logging.getLogger("fastlib.transport")

PACKET_TOO_LARGE: Final = 0x95

MESSAGE_CODES: Final = frozenset({0x80, 0x81, 0x82, 0x83, 0x87, 0x90, PACKET_TOO_LARGE, 0x97, 0x99})
"""Reason codes of a DISCONNECT whose cause may be a message."""

CREDIBLE_LIMIT: Final = 512
"""Bytes. Every broker takes packets of this size."""


class DeliverySuspects:
    """Sends messages one at a time if one of them ends connections, and finds and handles it."""

    def __init__(
        self,
        client: PahoClient,
        outbox: Outbox,
        broker: BrokerAdaptation,
        packets: PublishPackets,
        state: ConnectionState,
    ) -> None:
        self._client = client
        self._outbox = outbox
        self._broker = broker
        self._packets = packets
        self._state = state
        self._suspects = Suspects()
        self._control = Control(state.clock)
        self._judged: dict[int, int] = {}
        """The number of ends after which a message was sent in another form, by packet id."""
        self._sent_here = 0
        """The number of queued messages that were sent on this connection while one was
        suspected."""

    @property
    def one_at_a_time(self) -> bool:
        """True if messages must be sent one at a time."""
        return self._suspects.one_at_a_time

    def accepted(self) -> None:
        """Note that the broker has accepted a connection."""
        self._sent_here = 0
        self._control.reset()

    @property
    def can_send_one(self) -> bool:
        """True if `send_one` has something to do."""
        return self._step() is not None

    @property
    def holds_back(self) -> bool:
        """True while a message is held back for some seconds, after which `send_one` decides."""
        return self._control.cause is not None

    def send_one(self, publish: Callable[[Delivery], int | None]) -> bool:
        """Send the next message: one that is held, or the first of the queue by `publish`.

        Return True if a message was found to end connections: the limits may have changed.
        """
        match self._step():
            case None:
                pass
            case "queue":
                if self._outbox.send_next(publish):
                    self._sent_here += 1
            case "ping":
                self._client.ping()
            case "ask":
                self._control.asked, self._client.ping_answered = True, False
                self._client.ping()
            case "judge":
                cause = self._control.cause
                assert cause is not None
                self._control.gone(cause)
                self._handle(cause, self._outbox.in_flight[cause], None)
                return True
            case packet_id:
                self._control.sending(packet_id)
                self._client.release(packet_id)
        return False

    def _step(self) -> int | Literal["queue", "ping", "ask", "judge"] | None:
        """Return the next action: the packet id of a held message to send, or another action."""
        held = {i: self._broker.demand(self._outbox.in_flight[i]) for i in self._client.held}
        first = self._outbox.first_queued
        queued = None if first is None else self._broker.demand(first)
        if not self._client.ping_answered and (held or self._control.asked):
            # Only a connection that works until then proves something about a message.
            return "ping"
        cause = next((i for i, demand in held.items() if self._is_likely_cause(i, demand)), None)
        if cause is not None:
            self._control.begin(cause)
            if self._control.seconds_left() <= 0:
                return "judge" if self._control.asked else "ask"
            doubtful = held.pop(cause)
            held = {i: each for i, each in held.items() if self._is_beyond_doubt(each, doubtful)}
            if queued is not None and not self._is_beyond_doubt(queued, doubtful):
                queued = None
        packet_id = self._suspects.next(held, queued, self._sent_here)
        if packet_id is not None:
            return packet_id
        return None if queued is None else "queue"

    def _is_likely_cause(self, packet_id: int, demand: Demand) -> bool:
        ends = self._suspects.ends_alone(packet_id)
        needed = self._broker.learned.needed_ends(demand)
        return ends >= needed and ends > self._judged.get(packet_id, 0)

    def _is_beyond_doubt(self, demand: Demand, doubtful: Demand) -> bool:
        """Return True if an end while this message is being sent proves nothing about it."""
        return self._broker.learned.has_taken_like(demand) and not demand.is_at_least(doubtful)

    def being_sent(self) -> dict[int, Delivery]:
        """Return the unconfirmed messages of which the broker may have read a part."""
        sent = self._outbox.in_flight.keys() - self._client.held.keys()
        sent -= self._client.half_confirmed() | self._client.unwritten()
        return {i: self._outbox.in_flight[i] for i in sent if self._outbox.in_flight[i].sent_qos}

    def describe(self, sent: Mapping[int, Delivery]) -> str:
        """Describe the messages that were being sent when a connection ended."""
        if not sent:
            return ""
        largest = max(sent.values(), key=self._packets.size)
        one = f"a message to {largest.topic} ({len(largest.payload)} bytes)"
        return one if len(sent) == 1 else f"{len(sent)} messages, the largest: {one}"

    def connection_ended(
        self, sent: Mapping[int, Delivery], code: int | None, *, subscribing: bool
    ) -> None:
        """Find the message that may have ended the connection, and handle it.

        `sent` is from `being_sent`. `code` is the reason code of the broker's DISCONNECT: one of
        `MESSAGE_CODES` or `CAPABILITY_CODES`, or None without one. `subscribing` is True if a
        SUBSCRIBE was also being sent.
        """
        held_back = self._control.connection_ended()
        learned = self._broker.learned
        highest = max((delivery.sent_qos for delivery in sent.values()), default=0)
        learned.disconnected(code, highest)
        if code in CAPABILITY_CODES:
            return  # on the next connection the messages are sent in a weaker form
        size_of_qos_0 = self._client.sent_since_read
        if size_of_qos_0 <= SMALL:
            learned.ended_without_qos_0()
        elif not sent:
            self._broker.ended_after_qos_0(size_of_qos_0, self._state.name)
        if held_back is not None and not (
            subscribing
            or size_of_qos_0 > SMALL
            or not all(learned.has_taken_like(self._broker.demand(each)) for each in sent.values())
        ):
            self._suspects.acquit(held_back, self._judged.get(held_back, 0))
        cause = self._suspects.connection_ended(
            sent.keys(), proof=code == PACKET_TOO_LARGE, others=subscribing or size_of_qos_0 > 0
        )
        # Without a reason, the next connection shows whether it lasts without the message.
        if cause is not None and code is not None:
            self._handle(cause, sent[cause], code)

    def _handle(self, packet_id: int, delivery: Delivery, code: int | None) -> None:
        """Send the message that ends connections in another form, or fail it."""
        learned = self._broker.learned
        size = self._packets.size(delivery)
        ends = self._suspects.ends_alone(packet_id)
        needed = ENDS_ALONE if code else learned.needed_ends(self._broker.demand(delivery))
        found = verdict(
            delivery,
            size=size,
            taken=learned.taken,
            ends=ends,
            attempt=ends - needed + ENDS_ALONE,
            code=code,
        )
        if isinstance(found, Remedy):
            assert found.qos is not None
            self._judged[packet_id] = ends
            delivery.sent_qos = found.qos
            learned.tries[packet_id] = found
            self._client.change(packet_id, found.qos, found.retain)
            return
        if isinstance(found, MessageTooLargeError) and found.source == "inferred":
            self._broker.too_large(size, self._state.name)
        self.give_up(packet_id, found)

    def give_up(self, packet_id: int, error: TransportError) -> None:
        """Fail a message in flight. It is not sent again."""
        log.error("%s: %s", self._state.name, error)
        self._client.forget(packet_id)
        self.gone(packet_id)
        self._outbox.fail(packet_id, error)

    def gone(self, packet_id: int) -> None:
        """Note that a message is confirmed or no longer in flight."""
        self._suspects.gone(packet_id)
        self._control.gone(packet_id)
        self._judged.pop(packet_id, None)

    def unreachable(self) -> None:
        """Note that the broker could not be reached, which explains the last end."""
        self._suspects.unreachable()


def verdict(
    delivery: Delivery, *, size: int, taken: int, ends: int, attempt: int, code: int | None
) -> Remedy | RefusedError | MessageTooLargeError:
    """Decide how to send a message that ends connections again, or return its error.

    `size` is that of its packet, `taken` that of the largest packet that the broker has confirmed.
    `ends` is the number of connections that ended while it alone was being sent, `attempt` the same
    without ends that prove nothing. `code` is the reason code of the last DISCONNECT. A remedy has
    a `qos`.
    """
    facts = delivery.undelivered(sent=True)
    if code == PACKET_TOO_LARGE:
        why = f"; the broker ended the connection: {reason(code)}"
        return MessageTooLargeError(facts, size, None, "broker", why)
    found = remedy(attempt, size=size, taken=taken, qos=delivery.qos, retain=delivery.retain)
    if found.qos is not None:
        return found
    why = f"; the broker ended the connection {ends} times while it alone was being sent"
    why += ", and lasts without it" if code is None else f": {reason(code)}"
    if size <= max(taken, CREDIBLE_LIMIT):
        text = (
            f"a message to {delivery.topic} is not sent again{why}. Its size ({size} bytes) is "
            f"not why. The broker may not support QoS {delivery.sent_qos} (option `qos`) or "
            "retained messages, or may not allow this client to send to the topic"
        )
        return RefusedError(text, code)
    why += (
        f". The largest packet that it has confirmed had {taken} bytes. It may limit "
        "packets (`max_packet_size` of mosquitto; set the option `largest-packet` to it), the "
        "QoS (option `qos`), or the topics of this client. Or the message takes longer than the "
        "broker waits for one packet: set a longer `keep_alive`"
    )
    return MessageTooLargeError(facts, size, None, "inferred", why)
