"""The messages of an MQTT session: paho's client, its callbacks, and the state of each message."""

import hashlib
import socket
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from logging import getLogger
from typing import Any, Final

import paho.mqtt.client as paho
from paho.mqtt.enums import MQTTErrorCode

from fastlib.transport.delivery import Delivery
from fastlib.transport.errors import ClosedError, ConnectError, RefusedError, TopicError
from fastlib.transport.filters import check_topic
from fastlib.transport.messages import InboundMessage
from fastlib.transport.options import MqttOptions

from .broker_limits import STATED, BrokerLimits
from .client_factory import make_client
from .connection_state import ConnectionState
from .inbound import InboundPublish, InboundTracker
from .outbox import Outbox
from .subscriptions import BrokerSubscriptions

log = getLogger("fastlib.transport")

DISCONNECT_SECONDS: Final = 2.0
"""The maximum time until the broker must have closed the connection after our DISCONNECT."""

PERMANENT_REFUSALS: Final = frozenset({0x84, 0x85, 0x86, 0x87, 0x8A, 0x8C})
"""Reason codes of a CONNACK that another try would not change: protocol version, client id,
password, authorization, banned, authentication method."""


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
        self.limits = BrokerLimits()
        """The limits of the broker that has accepted the last connection."""
        self.renews = False
        """True while it ends the connection, so that the broker repeats what was left to it."""
        self._max_in_flight = options.max_inflight
        self._max_payload = options.max_payload
        self._state = state
        self._run_in_thread = run_in_thread
        self._inbound = InboundTracker(self.client.acknowledge, options.max_unacknowledged)
        self._subscriptions = BrokerSubscriptions(self._send_subscribe, self._send_unsubscribe)

    # Commands.

    def send_queued(self) -> None:
        """Hand queued messages to paho, up to the number that may be in flight."""
        self.outbox.send_queued(self._publish)

    def drop_expired(self) -> None:
        """Fail the queued messages that have expired."""
        self.outbox.drop_expired(None if self._state.accepted else self._state.last_error)

    def subscribe(self, pattern: str, qos: int, confirmed: "Future[None]") -> None:
        """Request a filter; `confirmed` is done with the broker's answer."""
        self._subscriptions.add(pattern, qos, confirmed, self._state.accepted)

    def unsubscribe(self, pattern: str) -> None:
        """Withdraw a filter."""
        self._subscriptions.remove(pattern, self._state.accepted)

    def fail_subscriptions(self, error: ClosedError) -> None:
        """Fail all subscriptions that the broker has not answered."""
        self._subscriptions.fail(error)

    def _publish(self, delivery: Delivery) -> int | None:
        seconds = delivery.seconds_left()
        properties = None if seconds is None else self.client.expiry_properties(seconds)
        while True:
            info = self.client.publish(
                delivery.topic, delivery.payload, delivery.qos, delivery.retain, properties
            )
            if info.rc == MQTTErrorCode.MQTT_ERR_QUEUE_SIZE:
                continue  # an old message still has this packet id; the next call uses another
            if info.rc == MQTTErrorCode.MQTT_ERR_NO_CONN and delivery.qos == 0:
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
            self.renews = True
            self.client.disconnect()  # after what is queued for the socket

    # Callbacks of paho.

    def _on_connect(
        self, client: paho.Client, data: Any, flags: Any, reason: Any, properties: Any
    ) -> None:
        if reason.is_failure:
            text = f"{self._state.name}: the broker refuses the connection: {reason}"
            if reason.value in PERMANENT_REFUSALS:
                self._state.refused(RefusedError(text, reason.value))
            else:
                self._state.failed(ConnectError(text))
            return
        self.connection += 1
        self.renews = False
        self._inbound.connected()
        if not flags.session_present:
            self.session_start = self.connection
            self.client.session_lost()
            self._inbound.clear()
        self._renew_expiry(session_lost=not flags.session_present)
        stated = {name: getattr(properties, name) for name in STATED if hasattr(properties, name)}
        self.limits = BrokerLimits.of_connack(stated or ({} if self.client.is_five else None))
        self.outbox.max_in_flight = min(self._max_in_flight, self.limits.receive_maximum)
        self._state.connected()
        self._subscriptions.renew()
        if not self._state.opened.done():
            self._state.opened.set_result(None)
        else:
            self.on_reconnect()

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
        if flags.is_disconnect_packet_from_server:
            self._state.disconnect_code = reason.value
        elif (self._state.ended or self.renews) and (own := client.socket()) is not None:
            read_to_the_end(own)

    def _on_publish(
        self, client: paho.Client, data: Any, mid: int, reason: Any, properties: Any
    ) -> None:
        self.outbox.confirm(mid, reason.value)

    def _on_subscribe(
        self, client: paho.Client, data: Any, mid: int, reasons: Any, properties: Any
    ) -> None:
        self._state.exchanged()
        codes = [reason.value for reason in reasons]
        if not self._subscriptions.on_suback(mid, codes):
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
