"""Send the messages of the outbox to the broker."""

from collections.abc import Callable

from paho.mqtt.enums import MQTTErrorCode

from fastlib.transport.delivery import Delivery
from fastlib.transport.errors import MessageTooLargeError

from .broker_adaptation import BrokerAdaptation
from .connection_state import ConnectionState
from .delivery_suspects import DeliverySuspects
from .outbox import Outbox
from .paho_client import PahoClient
from .publish_packets import PublishPackets
from .subscriptions import BrokerSubscriptions
from .suspects import SMALL


class Sender:
    """Sends the messages of the outbox by paho's client, in a form that the broker accepts."""

    def __init__(
        self,
        client: PahoClient,
        outbox: Outbox,
        broker: BrokerAdaptation,
        packets: PublishPackets,
        suspects: DeliverySuspects,
        subscriptions: BrokerSubscriptions,
        state: ConnectionState,
        before_publish: Callable[[], None],
    ) -> None:
        """`before_publish` is called before each message that is sent for the first time."""
        self._client = client
        self._outbox = outbox
        self._broker = broker
        self._packets = packets
        self._suspects = suspects
        self._subscriptions = subscriptions
        self._state = state
        self._before_publish = before_publish
        self._max_in_flight = outbox.max_in_flight

    @property
    def can_send(self) -> bool:
        """True if `send_queued` has something to send."""
        if self._suspects.one_at_a_time:
            return self._may_send_next() and self._suspects.can_send_one
        if self._client.held:
            return True
        return self._outbox.can_send

    def send_queued(self) -> None:
        """Hand queued messages to paho, up to the number that may be in flight."""
        if self._suspects.one_at_a_time:
            if self._may_send_next() and self._suspects.send_one(self._publish):
                self._fit_in_flight()
            return
        for packet_id in list(self._client.held):
            self._client.release(packet_id)
        self._outbox.send_queued(self._publish)

    def _may_send_next(self) -> bool:
        """Return True if all packets that were sent on this connection are answered."""
        if self._subscriptions.unanswered or self._client.is_pinging:
            return False
        done = self._client.held.keys() | self._client.half_confirmed()
        return all(packet_id in done for packet_id in self._outbox.in_flight)

    def _publish(self, delivery: Delivery) -> int | None:
        self._before_publish()
        self._broker.check_size(delivery)
        limits = self._broker.limits
        delivery.sent_qos = min(delivery.qos, limits.maximum_qos)
        retain = delivery.retain and limits.retain
        while True:
            info = self._client.publish(
                delivery.topic,
                delivery.payload,
                delivery.sent_qos,
                retain,
                self._packets.properties(delivery),
            )
            if info.rc == MQTTErrorCode.MQTT_ERR_QUEUE_SIZE:
                continue  # an old message still has this packet id; the next call uses another
            if info.rc == MQTTErrorCode.MQTT_ERR_NO_CONN and delivery.sent_qos == 0:
                return None
            if self._client.sent_since_read > SMALL and not self._client.is_pinging:
                # The answer shows that the broker accepts messages of QoS 0 of this size.
                self._client.ping()
            return info.mid

    def accepted(self) -> None:
        """Prepare the messages that paho sends again on a new connection, for its limits."""
        self._outbox.max_in_flight = min(self._max_in_flight, self._broker.limits.receive_maximum)
        self._suspects.accepted()
        self._fit_in_flight()
        if self._suspects.one_at_a_time:
            self._client.hold()

    def _fit_in_flight(self) -> None:
        """Adapt the messages in flight to the limits of this broker. Paho sends them again."""
        limits = self._broker.limits
        half_confirmed = self._client.half_confirmed()
        for packet_id, delivery in list(self._outbox.in_flight.items()):
            if packet_id in half_confirmed:
                continue
            try:
                self._broker.check_size(delivery)
            except MessageTooLargeError as error:
                self._suspects.give_up(packet_id, error)
                continue
            qos = min(delivery.sent_qos, limits.maximum_qos)
            retain = delivery.retain and limits.retain
            if qos == 0:
                self._client.forget(packet_id)
                self._suspects.gone(packet_id)
                self._outbox.queue_again(packet_id)
            elif qos < delivery.sent_qos or retain < delivery.retain:
                delivery.sent_qos = qos
                self._client.change(packet_id, qos, retain)

    def renew_expiry(self, *, session_lost: bool) -> None:
        """Shorten the expiry of the messages in flight before paho sends them again.

        A message that has expired is dropped if the broker has lost the session. In a session that
        the broker has kept, it must be sent again (MQTT 5, section 4.4).
        """
        for packet_id, delivery in self._outbox.expiring_in_flight():
            seconds = delivery.seconds_left() or 0.0
            if seconds <= 0 and session_lost:
                self._client.forget(packet_id)
                self._outbox.drop_in_flight(packet_id)
            else:
                self._client.set_expiry(packet_id, seconds)

    def published(self, packet_id: int, code: int) -> None:
        """Note that a message is complete. `code` is the reason code of the broker's answer."""
        delivery = self._outbox.in_flight.get(packet_id)
        if delivery is not None and delivery.sent_qos:
            self._state.exchanged()
            self._suspects.gone(packet_id)
            taken = code < 0x80
            if self._broker.confirmed(packet_id, delivery, self._state.name, taken=taken):
                self._fit_in_flight()
        self._outbox.confirm(packet_id, code, self._client.said)
