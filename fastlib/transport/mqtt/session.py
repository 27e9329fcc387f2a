"""The session with an MQTT broker: paho's client, its callbacks, and the objects that they use."""

import hashlib
import logging
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import Any, Final

import paho.mqtt.client as paho

from fastlib.transport.delivery import Delivery
from fastlib.transport.errors import ClosedError, RefusedError, TopicError
from fastlib.transport.filters import check_topic
from fastlib.transport.messages import InboundMessage
from fastlib.transport.options import MqttOptions
from fastlib.transport.packet_size import subscribe_size

from .broker_adaptation import BrokerAdaptation
from .broker_limits import STATED, BrokerLimits
from .client_factory import make_client
from .connect_answers import ConnectAnswers
from .connection_state import ConnectionState
from .delivery_suspects import MESSAGE_CODES, DeliverySuspects
from .disconnecting import read_to_the_end
from .inbound import InboundPublish, InboundTracker
from .learned_limits import CAPABILITY_CODES
from .outbox import Outbox
from .publish_packets import PublishPackets
from .sender import Sender
from .session_starts import SessionStarts
from .subscriptions import BrokerSubscriptions

log = logging.getLogger("fastlib.transport")

KEEP_ALIVE_TIMEOUT: Final = 0x8D


class MqttSession:
    """Connects paho's client with the objects for each part of a session, and receives messages.

    Only the network thread uses it, except for `check_size`, `session_start`, `outbox.accept` and
    `outbox.room`.
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
        self.renews = False
        """True while it ends the connection to let the broker repeat messages that were left to
        it."""
        self.run_commands: Callable[[], None] = _ignore
        """Runs the commands that other threads have queued. It is called before a message is sent,
        so the broker gets each SUBSCRIBE before messages that were accepted after it."""
        self.client_id = options.client_id
        """The name of this client at the broker."""
        self._session_starts = SessionStarts()
        self._connect_answers = ConnectAnswers(self.client, options, state)
        state.silence_hint = self._connect_answers.silence_hint
        self._max_payload = options.max_payload
        self._state = state
        self._run_in_thread = run_in_thread
        self._inbound = InboundTracker(self.client.acknowledge, options.max_unacknowledged)
        self._subscriptions = BrokerSubscriptions(
            self._send_subscribe,
            self._send_unsubscribe,
            lambda filters: subscribe_size(filters, self.client.is_five),
        )
        packets = PublishPackets(self.client, options.content_type)
        self._broker = BrokerAdaptation(self.client, packets, options)
        self._suspects = DeliverySuspects(self.client, self.outbox, self._broker, packets, state)
        self._sender = Sender(
            self.client,
            self.outbox,
            self._broker,
            packets,
            self._suspects,
            self._subscriptions,
            state,
            lambda: self.run_commands(),
        )

    @property
    def session_start(self) -> int:
        """The connection that began the broker's session; 0 if it is older. For any thread."""
        return self._session_starts.current

    @property
    def limits(self) -> BrokerLimits:
        """The limits of the broker that has accepted the last connection."""
        return self._broker.limits

    # Commands.

    @property
    def can_send(self) -> bool:
        """True if `send_queued` has something to send."""
        return self._sender.can_send

    @property
    def holds_back(self) -> bool:
        """True while `send_queued` must be called again after some seconds without an event."""
        return self._suspects.holds_back

    def send_queued(self) -> None:
        """Hand queued messages to paho, up to the number that may be in flight."""
        self._sender.send_queued()

    def check_size(self, delivery: Delivery) -> None:
        """Raise MessageTooLargeError if a message is larger than the known limit.

        Any thread may call it.
        """
        self._broker.check_size(delivery, connected=self._state.accepted)

    def drop_expired(self) -> None:
        """Fail the queued messages that have expired."""
        self.outbox.drop_expired(None if self._state.accepted else self._state.last_error)

    def subscribe(
        self, pattern: str, qos: int, confirmed: "Future[None]", retained: bool = True
    ) -> None:
        """Request a filter; `confirmed` is done with the broker's answer. See `Link.subscribe`."""
        connected = self._state.accepted
        self._subscriptions.add(pattern, qos, confirmed, connected, retained=retained)

    def listen_for_refusals(self, on_refused: Callable[[str, RefusedError], None]) -> None:
        """See `Link.listen_for_refusals`."""
        self._subscriptions.on_refused = on_refused

    def unsubscribe(self, pattern: str) -> None:
        """Withdraw a filter."""
        self._subscriptions.remove(pattern, self._state.accepted)

    def forget(self, pattern: str) -> None:
        """Withdraw a filter that an earlier program may have left in the session."""
        self._subscriptions.forget(pattern, self._state.accepted)

    def fail_subscriptions(self, error: ClosedError) -> None:
        """Fail all subscriptions that the broker has not answered."""
        self._subscriptions.fail(error)

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
        """End the connection for a new one, after sending the data queued for the socket."""
        self.renews = True
        self.client.disconnect()

    # The beginning and the end of connections.

    def before_connect(self) -> None:
        """Prepare a try to connect to the broker that is set in paho's client."""
        self._connect_answers.before_connect()

    def ended_without_answer(self) -> str:
        """Note that a connection ended before the broker accepted it.

        Return the possible reason for the error if the broker gave none.
        """
        self._suspects.unreachable()
        return self._connect_answers.ended_without_answer()

    def connection_ended(self) -> None:
        """Note that the connection has ended, and find the message that may be the cause."""
        sent, code = self._suspects.being_sent(), self._state.disconnect_code
        self._state.connection_lost(
            self.client.violation,
            renewed=self.renews,
            sending=self._suspects.describe(sent) or self._subscriptions.describe(),
        )
        self.outbox.connection_lost()
        if self.client.violation or self.renews:
            return
        if code == KEEP_ALIVE_TIMEOUT:
            code = None  # a message takes longer than the keep-alive, or the network was frozen
        if code is None or code in MESSAGE_CODES | CAPABILITY_CODES:
            self._suspects.connection_ended(
                sent, code, subscribing=bool(self._subscriptions.unanswered)
            )
            self._subscriptions.connection_ended(alone=not sent)

    def unreachable(self) -> None:
        """Note that the broker could not be reached."""
        self._suspects.unreachable()
        self._broker.unreachable()
        self._connect_answers.unreachable()

    # Callbacks of paho.

    def _on_connect(
        self, client: paho.Client, data: Any, flags: Any, reason: Any, properties: Any
    ) -> None:
        if reason.is_failure:
            self._connect_answers.refused(reason)
            return
        self.connection += 1
        self.renews = False
        asks_again = self._connect_answers.accepted()
        lost = self._begin_session(resumed=flags.session_present)
        self._inbound.connected()
        if self._state.was_unreachable:
            self._inbound.broker_away()
        self._sender.renew_expiry(session_lost=lost)
        stated = {name: getattr(properties, name) for name in STATED if hasattr(properties, name)}
        self._broker.accepted(stated or ({} if self.client.is_five else None), self._state.name)
        self._sender.accepted()
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
        """Return True if this is not the session of the last connection."""
        broker = self.client.broker
        if not self._session_starts.accepted(broker, self.connection, resumed=resumed):
            return False
        self.client.session_lost()
        self._inbound.clear()
        return True

    def _on_disconnect(
        self, client: paho.Client, data: Any, flags: Any, reason: Any, properties: Any
    ) -> None:
        if flags.is_disconnect_packet_from_server:
            self._state.disconnect_code = reason.value
            self._state.disconnect_reason = self.client.said
        elif (self._state.ended or self.renews) and (own := client.socket()) is not None:
            read_to_the_end(own)

    def _on_publish(
        self, client: paho.Client, data: Any, mid: int, reason: Any, properties: Any
    ) -> None:
        self._sender.published(mid, reason.value)

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


def _ignore(*_: object) -> None:
    """Do nothing: no receiver is set, or a QoS 0 message needs no acknowledgement."""
