"""The messages of an MQTT session: paho's client, its callbacks, and the state of each message."""

import hashlib
import logging
import socket
import time
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from typing import Any, Final

import paho.mqtt.client as paho
from paho.mqtt.enums import MQTTErrorCode
from paho.mqtt.properties import Properties

from fastlib.transport.delivery import Delivery
from fastlib.transport.errors import (
    ClosedError,
    ConnectError,
    MessageTooLargeError,
    RefusedError,
    TopicError,
    TransportError,
    shown_reason,
)
from fastlib.transport.errors import (
    reason as reason_text,
)
from fastlib.transport.filters import check_topic
from fastlib.transport.messages import InboundMessage
from fastlib.transport.options import MqttOptions
from fastlib.transport.packet_size import publish_size, subscribe_size

from .broker_limits import STATED, BrokerLimits
from .client_factory import connect_size_of, make_client
from .connection_state import ConnectionState
from .inbound import InboundPublish, InboundTracker
from .last_will import LastWill
from .learned_limits import Learned
from .outbox import Outbox
from .subscriptions import BrokerSubscriptions
from .suspects import ENDS_ALONE, SMALL, Demand, Remedy, Suspects, remedy

log = logging.getLogger("fastlib.transport")

DISCONNECT_SECONDS: Final = 2.0
"""The maximum time until the broker must have closed the connection after our DISCONNECT."""

PERMANENT_REFUSALS: Final = frozenset({0x84, 0x85, 0x86, 0x87, 0x8A, 0x8C})
"""Reason codes of a CONNACK that another try would not change: protocol version, client id,
password, authorization, banned, authentication method."""

KEEP_ALIVE_TIMEOUT: Final = 0x8D
PACKET_TOO_LARGE: Final = 0x95
RETAIN_NOT_SUPPORTED: Final = 0x9A
QOS_NOT_SUPPORTED: Final = 0x9B

CREDIBLE_LIMIT: Final = 512
"""Bytes. Every broker takes packets of this size."""

LARGE_CONNECT: Final = 1000
"""Bytes of a CONNECT packet from which its size is named when the broker does not accept it."""

MESSAGE_CODES: Final = frozenset({0x80, 0x81, 0x82, 0x83, 0x87, 0x90, PACKET_TOO_LARGE, 0x97, 0x99})
"""Reason codes of a DISCONNECT of which a message may be the cause."""


class MqttSession:
    """Sends and receives by paho's client, and records in the state what paho reports.

    Only the network thread uses it, except for `outbox.accept` and `outbox.room`.
    """

    def __init__(
        self,
        options: MqttOptions,
        state: ConnectionState,
        run_in_thread: Callable[[Callable[[], None]], None],
    ) -> None:
        """`run_in_thread` runs a command in the network thread, at once if that is the current one.

        Raises OptionsError.
        """
        self.client = make_client(options, self._on_message, self._on_pubrel)
        self.client.on_connect = self._on_connect
        self.client.on_disconnect = self._on_disconnect
        self.client.on_publish = self._on_publish
        self.client.on_pingresp = state.exchanged
        self.client.on_subscribe = self._on_subscribe
        self.outbox = Outbox(options.max_pending, options.max_inflight)
        self.on_message: Callable[[InboundMessage], None] = _ignore
        """Called for each new message, in order."""
        self.on_reconnect: Callable[[], None] = _ignore
        """Called after each accepted connection but the first."""
        self.connection = 0
        """The number of accepted connections so far."""
        self.session_start = 0
        """The connection that began the broker's session; 0 if it is older."""
        self._own_limits = BrokerLimits.of_connack(
            None, largest_packet=options.largest_packet, qos=options.qos
        )
        self.limits = self._own_limits
        """The limits of the broker that has accepted the last connection."""
        self._session_broker: tuple[str, int, str] | None = None
        """The broker of the last accepted connection."""
        self._session_starts: dict[tuple[str, int, str], int] = {}
        """For each broker that has accepted a connection, the one that began its session."""
        self.renews = False
        """True while it ends the connection, so that the broker repeats what was left to it."""
        self.run_commands: Callable[[], None] = _ignore
        """Runs the commands that other threads have queued. Called before a message is sent, so
        the broker gets a SUBSCRIBE before each message that was accepted after it."""
        self.client_id = options.client_id
        """The name of this client at the broker."""
        self._max_in_flight = options.max_inflight
        self._largest_packet = options.largest_packet
        self._qos = options.qos
        self._limits_said: dict[tuple[str, int], tuple[str, ...]] = {}
        self._learned: dict[tuple[str, int], Learned] = {}
        self._suspects = Suspects()
        self._last_will = LastWill(self.client, options)
        self._answered = False
        """True if the broker has answered the last CONNECT."""
        self._connect_size = connect_size_of(options)
        self._sent_here = 0
        self._ended_by: int | None = None
        self._max_payload = options.max_payload
        self._content_type = options.content_type
        self._state = state
        self._run_in_thread = run_in_thread
        self._inbound = InboundTracker(self.client.acknowledge, options.max_unacknowledged)
        self._subscriptions = BrokerSubscriptions(
            self._send_subscribe,
            self._send_unsubscribe,
            lambda filters: subscribe_size(filters, self.client.is_five),
        )

    # Commands.

    @property
    def can_send(self) -> bool:
        """True if `send_queued` would send something."""
        if self._suspects.one_at_a_time or self.client.held:
            return self._may_send_next() and (
                bool(self.client.held) or self.outbox.first_queued is not None
            )
        return self.outbox.can_send

    def send_queued(self) -> None:
        """Hand queued messages to paho, up to the number that may be in flight."""
        if self._suspects.one_at_a_time:
            self._send_one()
            return
        for packet_id in list(self.client.held):
            self.client.release(packet_id)
        self.outbox.send_queued(self._publish)

    def _send_one(self) -> None:
        """Send the next message if no other is being sent, see `suspects.py`."""
        if not self._may_send_next():
            return
        held = {i: self._demand(self.outbox.in_flight[i]) for i in self.client.held}
        first = self.outbox.first_queued
        queued = None if first is None else self._demand(first)
        packet_id = self._suspects.next(held, queued, self._sent_here)
        if packet_id is None:
            if queued is not None and self.outbox.send_next(self._publish):
                self._sent_here += 1
        elif not self.client.ping_answered:
            # Only a connection that works until then says something of this message.
            self.client.ping()
        else:
            self.client.release(packet_id)

    def _may_send_next(self) -> bool:
        """Return True if all that was sent on this connection is answered."""
        if self._subscriptions.unanswered or self.client.is_pinging:
            return False
        done = self.client.held.keys() | self.client.half_confirmed()
        return all(packet_id in done for packet_id in self.outbox.in_flight)

    def _demand(self, delivery: Delivery) -> Demand:
        retain = delivery.retain and self.limits.retain
        return Demand(self._size(delivery), min(delivery.sent_qos, self.limits.maximum_qos), retain)

    def check_size(self, delivery: Delivery) -> None:
        """Raise MessageTooLargeError if a message is larger than is known to be possible.

        Any thread may call it. Without a connection, only the limits that do not depend on the
        broker count.
        """
        self._check_size(delivery, self.limits if self._state.accepted else self._own_limits)

    def _check_size(self, delivery: Delivery, limits: BrokerLimits) -> None:
        size = self._size(delivery)
        if size > limits.largest_packet:
            raise MessageTooLargeError(
                delivery.undelivered(sent=False), size, limits.largest_packet, limits.packet_source
            )

    def _size(self, delivery: Delivery) -> int:
        """Return the size of a message's packet in bytes."""
        packed = self.client.properties_size(self._properties(delivery))
        return publish_size(delivery.topic, len(delivery.payload), delivery.qos, packed)

    def _properties(self, delivery: Delivery) -> Properties | None:
        seconds = delivery.seconds_left()
        properties = None if seconds is None else self.client.expiry_properties(seconds)
        if self._content_type is None or not self.client.is_five or not _is_text(delivery.payload):
            return properties
        return self.client.text_properties(properties, self._content_type)

    def drop_expired(self) -> None:
        """Fail the queued messages that have expired."""
        self.outbox.drop_expired(None if self._state.accepted else self._state.last_error)

    def subscribe(
        self, pattern: str, qos: int, confirmed: "Future[None]", retained: bool = True
    ) -> None:
        """Request a filter; `confirmed` is done with the broker's answer. See `Link.subscribe`."""
        connected = self._state.accepted
        self._subscriptions.add(pattern, qos, confirmed, connected, retained=retained)

    def unsubscribe(self, pattern: str) -> None:
        """Withdraw a filter."""
        self._subscriptions.remove(pattern, self._state.accepted)

    def forget(self, pattern: str) -> None:
        """Withdraw a filter that an earlier program may have left in the session."""
        self._subscriptions.forget(pattern, self._state.accepted)

    def fail_subscriptions(self, error: ClosedError) -> None:
        """Fail all subscriptions that the broker has not answered."""
        self._subscriptions.fail(error)

    def _publish(self, delivery: Delivery) -> int | None:
        self.run_commands()
        self._check_size(delivery, self.limits)
        delivery.sent_qos = min(delivery.qos, self.limits.maximum_qos)
        retain = delivery.retain and self.limits.retain
        while True:
            info = self.client.publish(
                delivery.topic,
                delivery.payload,
                delivery.sent_qos,
                retain,
                self._properties(delivery),
            )
            if info.rc == MQTTErrorCode.MQTT_ERR_QUEUE_SIZE:
                continue  # an old message still has this packet id; the next call uses another
            if info.rc == MQTTErrorCode.MQTT_ERR_NO_CONN and delivery.sent_qos == 0:
                return None
            return info.mid

    def _send_subscribe(self, filters: list[tuple[str, int]]) -> int:
        _, packet_id = self.client.subscribe(filters)
        return packet_id or 0

    def _send_unsubscribe(self, filters: list[str]) -> None:
        self.client.unsubscribe(filters)

    def _acknowledge(self, publish: InboundPublish) -> None:
        # After our DISCONNECT the broker takes no acknowledgement. It repeats the message.
        connected = self._state.accepted and not self.renews
        self._inbound.acknowledge(publish, connected)
        if connected and self._inbound.has_room_again:
            self._renew()

    def _renew(self) -> None:
        """End the connection for a new one, after what is queued for the socket."""
        self.renews = True
        self.client.disconnect()

    # Connecting.

    def before_connect(self) -> None:
        """Prepare a try to connect to the broker that was set in paho's client."""
        self._answered = False
        self._last_will.before_connect()

    def ended_without_answer(self) -> str:
        """Note that a connection ended which the broker has not accepted.

        Return what may be the reason if the broker gave none, for the error.
        """
        self._suspects.unreachable()
        if self._answered or self.client.violation is not None:
            return ""
        again = self._last_will.ended_without_answer(self._state.name)
        if again or self._connect_size > LARGE_CONNECT:
            return self._size_of_connect()
        if self.client.is_five:
            return "; it may not know MQTT 5: try the option `protocol` with 3.1.1"
        return ""

    def _size_of_connect(self) -> str:
        return (
            f"; the CONNECT packet has {self._connect_size} bytes, with {self._last_will}, which "
            "the broker may not take"
        )

    # Callbacks of paho.

    def _on_connect(
        self, client: paho.Client, data: Any, flags: Any, reason: Any, properties: Any
    ) -> None:
        self._answered = True
        if reason.is_failure:
            text = f"{self._state.name}: the broker refuses the connection: {reason}"
            if self.client.said:
                text += f": the broker says {shown_reason(self.client.said)}"
            if reason.value == PACKET_TOO_LARGE or self._connect_size > LARGE_CONNECT:
                text += self._size_of_connect()
            if self._last_will.refused(reason.value, self._state.name):
                self._state.failed(ConnectError(text))
            elif reason.value in PERMANENT_REFUSALS:
                self._state.refused(RefusedError(text, reason.value))
            else:
                self._state.failed(ConnectError(text))
            return
        self.connection += 1
        self.renews = False
        asks_again = self._last_will.accepted()
        lost = self._begin_session(resumed=flags.session_present)
        self._inbound.connected()
        if self._state.was_unreachable:
            self._inbound.broker_away()
        self._renew_expiry(session_lost=lost)
        stated = {name: getattr(properties, name) for name in STATED if hasattr(properties, name)}
        self._read_limits(stated or ({} if self.client.is_five else None))
        self.outbox.max_in_flight = min(self._max_in_flight, self.limits.receive_maximum)
        self._sent_here, self._ended_by = 0, None
        self._fit_in_flight()
        if self._suspects.one_at_a_time:
            self.client.hold()
        self._state.connected()
        self._subscriptions.set_max_size(self.limits.maximum_packet)
        self._subscriptions.renew()
        if not self._state.opened.done():
            self._state.opened.set_result(None)
        else:
            self.on_reconnect()
        if asks_again:
            self._renew()

    def _begin_session(self, *, resumed: bool) -> bool:
        """Return True if this is not the session of the last connection.

        Another broker knows nothing of what is in flight, also if it has an older session of this
        client: the packet ids belong to another session.
        """
        broker = self.client.broker
        moved = bool(self._session_starts) and broker != self._session_broker
        self._session_broker = broker
        if not resumed:
            self._session_starts[broker] = self.connection
        elif moved:
            self._session_starts.setdefault(broker, self.connection)
        else:
            self._session_starts.setdefault(broker, self.session_start)
        self.session_start = self._session_starts[broker]
        if resumed and not moved:
            return False
        self.client.session_lost()
        self._inbound.clear()
        return True

    def _read_limits(self, stated: Mapping[str, int] | None) -> None:
        """Set the limits of this connection."""
        limits = BrokerLimits.of_connack(stated, largest_packet=self._largest_packet, qos=self._qos)
        learned = self._learned.get(self._broker)
        self.limits = limits if learned is None else learned.apply(limits)
        self._say_limits()

    def _say_limits(self) -> None:
        """Log once for each broker what it cannot do."""
        missing = self.limits.missing()
        if missing and missing != self._limits_said.get(self._broker):
            self._limits_said[self._broker] = missing
            level = logging.WARNING if self.limits.weaken_delivery else logging.INFO
            log.log(level, "limits of the broker of %s: %s", self._state.name, "; ".join(missing))

    @property
    def _broker(self) -> tuple[str, int]:
        return self.client.host, self.client.port

    def _fit_in_flight(self) -> None:
        """Adapt the messages in flight, which paho sends again, to the limits of this broker."""
        half_confirmed = self.client.half_confirmed()
        for packet_id, delivery in list(self.outbox.in_flight.items()):
            if packet_id in half_confirmed:
                continue
            try:
                self._check_size(delivery, self.limits)
            except MessageTooLargeError as error:
                self._give_up(packet_id, error)
                continue
            qos = min(delivery.sent_qos, self.limits.maximum_qos)
            retain = delivery.retain and self.limits.retain
            if qos == 0:
                self.client.forget(packet_id)
                self._suspects.gone(packet_id)
                self.outbox.queue_again(packet_id)
            elif qos < delivery.sent_qos or retain < delivery.retain:
                delivery.sent_qos = qos
                self.client.change(packet_id, qos, retain)

    def _give_up(self, packet_id: int, error: TransportError) -> None:
        """Fail a message in flight. It is not sent again."""
        log.error("%s: %s", self._state.name, error)
        self.client.forget(packet_id)
        self._suspects.gone(packet_id)
        self.outbox.fail(packet_id, error)

    def connection_ended(self) -> None:
        """Note that the connection has ended, and decide which message may be why."""
        sent = self.outbox.in_flight.keys() - self.client.held.keys()
        sent -= self.client.half_confirmed() | self.client.unwritten()
        sent = {i for i in sent if self.outbox.in_flight[i].sent_qos}
        code = self._state.disconnect_code
        self._state.connection_lost(
            self.client.violation, renewed=self.renews, sending=self._describe(sent)
        )
        self.outbox.connection_lost()
        if self.client.violation or self.renews or self._ended_by == KEEP_ALIVE_TIMEOUT:
            return
        if code is None or code in MESSAGE_CODES:
            others = bool(self._subscriptions.unanswered) or self.client.sent_since_read > 0
            self._subscriptions.connection_ended(alone=not sent)
            self._learn(code, sent)
            if not sent and self.client.sent_since_read > SMALL:
                self._suspect_qos_0(self.client.sent_since_read)
            cause = self._suspects.connection_ended(
                sent, proof=code == PACKET_TOO_LARGE, others=others
            )
            if cause is not None:
                self._handle_cause(cause, code)

    def _suspect_qos_0(self, size: int) -> None:
        """Note that nothing but a message of QoS 0 was sent, which is not sent again."""
        learned = self._learned.setdefault(self._broker, Learned())
        if learned.ended_after_qos_0(size):
            log.error(
                "%s: the broker ended the connection %d times after a message with QoS 0, whose "
                "packet had %d bytes or more; such messages are refused for a while. The broker "
                "may limit packets: set the option `largest-packet`",
                self._state.name,
                ENDS_ALONE,
                learned.refused,
            )

    def _learn(self, code: int | None, sent: Collection[int]) -> None:
        """Note what a DISCONNECT says of this broker."""
        learned = self._learned.setdefault(self._broker, Learned())
        if code == QOS_NOT_SUPPORTED and sent:
            highest = max(self.outbox.in_flight[i].sent_qos for i in sent)
            learned.maximum_qos = min(learned.maximum_qos, 1 if highest == 2 else 0)
        elif code == RETAIN_NOT_SUPPORTED:
            learned.retain = False

    def _handle_cause(self, packet_id: int, code: int | None) -> None:
        """Send the message that ends the connections in another way, or not again."""
        delivery = self.outbox.in_flight[packet_id]
        learned = self._learned.setdefault(self._broker, Learned())
        size = self._size(delivery)
        attempt = self._suspects.ends_alone(packet_id)
        found = remedy(
            attempt, size=size, taken=learned.taken, qos=delivery.qos, retain=delivery.retain
        )
        if found.qos is not None and code != PACKET_TOO_LARGE:
            delivery.sent_qos = found.qos
            learned.tries[packet_id] = found
            self.client.change(packet_id, found.qos, found.retain)
            return
        facts = delivery.undelivered(sent=True)
        if code == PACKET_TOO_LARGE:
            why = f"; the broker ended the connection: {reason_text(code)}"
            self._give_up(packet_id, MessageTooLargeError(facts, size, None, "broker", why))
            return
        ends = "the broker ended the connection %d times while it alone was being sent"
        why = f"; {ends % attempt}"
        if code is not None:
            why += f": {reason_text(code)}"
        if size <= max(learned.taken, CREDIBLE_LIMIT):
            text = (
                f"a message to {delivery.topic} is not sent again{why}. Its size ({size} bytes) is "
                f"not why. The broker may not support QoS {delivery.sent_qos} (option `qos`) or "
                "retained messages, or may not allow this client to send to the topic"
            )
            self._give_up(packet_id, RefusedError(text, code))
            return
        learned.too_large(size)
        why += (
            f". The largest packet that it has confirmed had {learned.taken} bytes. It may limit "
            "packets (`max_packet_size` of mosquitto; set the option `largest-packet` to it), the "
            "QoS (option `qos`), or the topics of this client"
        )
        self._give_up(packet_id, MessageTooLargeError(facts, size, None, "inferred", why))

    def unreachable(self) -> None:
        """Note that the broker could not be reached."""
        self._suspects.unreachable()
        if self._broker in self._learned:
            self._learned[self._broker].unreachable()
        self._last_will.unreachable()

    def _describe(self, sent: Collection[int]) -> str:
        """Return which messages were being sent when a connection ended, for people."""
        messages = [self.outbox.in_flight[packet_id] for packet_id in sent]
        if not messages:
            filters = self._subscriptions.unanswered
            more = f" and {len(filters) - 1} more" if len(filters) > 1 else ""
            return f"a subscription to {filters[0]}{more}" if filters else ""
        largest = max(messages, key=self._size)
        one = f"a message to {largest.topic} ({len(largest.payload)} bytes)"
        return one if len(messages) == 1 else f"{len(messages)} messages, the largest: {one}"

    def _renew_expiry(self, session_lost: bool) -> None:
        """Shorten the expiry of the messages in flight, which paho sends again after this.

        A message that has expired is dropped if the broker has lost the session. In a session that
        the broker has kept, it must be sent again (MQTT 5, section 4.4).
        """
        for packet_id, delivery in self.outbox.expiring_in_flight():
            seconds = delivery.seconds_left() or 0.0
            if seconds <= 0 and session_lost:
                self.client.forget(packet_id)
                self.outbox.drop_in_flight(packet_id)
            else:
                self.client.set_expiry(packet_id, seconds)

    def _on_disconnect(
        self, client: paho.Client, data: Any, flags: Any, reason: Any, properties: Any
    ) -> None:
        self._ended_by = reason.value
        if flags.is_disconnect_packet_from_server:
            self._state.disconnect_code = reason.value
            self._state.disconnect_reason = self.client.said
        elif (self._state.ended or self.renews) and (own := client.socket()) is not None:
            read_to_the_end(own)

    def _on_publish(
        self, client: paho.Client, data: Any, mid: int, reason: Any, properties: Any
    ) -> None:
        delivery = self.outbox.in_flight.get(mid)
        if delivery is not None and delivery.sent_qos:
            self._state.exchanged()
            learned = self._learned.setdefault(self._broker, Learned())
            learned.taken = max(learned.taken, self._size(delivery))
            self._suspects.gone(mid)
            found = learned.tries.pop(mid, None)
            if found is not None and reason.value < 0x80:
                self._apply_remedy(found, delivery)
        self.outbox.confirm(mid, reason.value, self.client.said)

    def _apply_remedy(self, found: Remedy, delivery: Delivery) -> None:
        """Send all further messages to this broker as the one that it has taken at last."""
        learned = self._learned[self._broker]
        if found.qos is not None and found.qos < delivery.qos:
            learned.maximum_qos = 1
        if found.retain < delivery.retain:
            learned.retain = False
        self.limits = learned.apply(self.limits)
        self._say_limits()
        self._fit_in_flight()

    def _on_subscribe(
        self, client: paho.Client, data: Any, mid: int, reasons: Any, properties: Any
    ) -> None:
        self._state.exchanged()
        codes = [reason.value for reason in reasons]
        if not self._subscriptions.on_suback(mid, codes, self.client.said):
            self.client.violation = f"a SUBACK with {len(codes)} reason codes"

    def _on_message(self, message: paho.MQTTMessage) -> None:
        self._state.exchanged()
        try:
            topic = check_topic(message.topic)
        except (UnicodeDecodeError, TopicError) as error:
            # Another client may have sent it: the broker would repeat it on each connection.
            why = "is not UTF-8" if isinstance(error, UnicodeDecodeError) else error
            log.error("%s: the topic of a message is not allowed: %s", self._state.name, why)
            if message.qos:
                self.client.acknowledge(message.mid, message.qos)
            return
        payload = bytes(message.payload)
        size = len(payload) + self.client.skipped
        sha256 = self.client.sha256
        if self._max_payload is not None and len(payload) > self._max_payload:
            if not self.client.skipped:
                sha256 = hashlib.sha256(payload).hexdigest()
            payload = payload[: self._max_payload]
        ack = _ignore
        packet_id = None
        if message.qos:
            packet_id = message.mid
            left_before = self._inbound.leaves
            publish = self._inbound.received(message.mid, message.qos, topic, payload, message.dup)
            if self._inbound.leaves and not left_before:
                log.warning(
                    "%s: messages that the broker has sent without an acknowledgement take %d "
                    "bytes; later ones are left to it until this program has acknowledged others",
                    self._state.name,
                    self._inbound.unacknowledged,
                )
            if publish is None:
                return
            ack = partial(self._run_in_thread, partial(self._acknowledge, publish))
        self.on_message(
            InboundMessage(
                topic,
                payload,
                message.qos,
                message.retain,
                message.dup,
                ack,
                packet_id,
                self.connection,
                self.session_start,
                size,
                sha256,
            )
        )

    def _on_pubrel(self, packet_id: int) -> None:
        self._inbound.release(packet_id)


def _is_text(payload: bytes) -> bool:
    """Return True for UTF-8 without NUL: what MQTT 5 means by text (section 1.5.4)."""
    try:
        payload.decode()
    except UnicodeDecodeError:
        return False
    return b"\0" not in payload


def read_to_the_end(own: Any) -> None:
    """Let the broker close the connection, after it has read everything from us.

    If we close it with unread data, TCP drops the data that the broker has not read yet: our last
    acknowledgements and the DISCONNECT. The broker would then publish our will.
    """
    with suppress(OSError):
        own.shutdown(socket.SHUT_WR)
        own.settimeout(DISCONNECT_SECONDS)
        latest = time.monotonic() + DISCONNECT_SECONDS
        while own.recv(65536) and time.monotonic() < latest:
            pass


def _ignore(*_: object) -> None:
    """Do nothing: no receiver is set, or a QoS 0 message needs no acknowledgement."""
