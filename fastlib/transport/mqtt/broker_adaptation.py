"""The limits of each broker: stated ones, observed ones, and those of the client's options."""

import logging
from collections.abc import Mapping

from fastlib.transport.delivery import Delivery
from fastlib.transport.errors import MessageTooLargeError
from fastlib.transport.options import MqttOptions

from .broker_limits import BrokerLimits
from .learned_limits import Learned
from .paho_client import PahoClient
from .publish_packets import PublishPackets
from .suspects import ENDS_ALONE, Demand

log = logging.getLogger("fastlib.transport")


class BrokerAdaptation:
    """Knows the limits of each broker, and whether a message fits those of the current one.

    The current broker is the one that is set in paho's client. `name` is that of the client, for
    the log.
    """

    def __init__(self, client: PahoClient, packets: PublishPackets, options: MqttOptions) -> None:
        self._client = client
        self._packets = packets
        self._largest_packet = options.largest_packet
        self._qos = options.qos
        self._own_limits = self._limits_of(None)
        self.limits = self._own_limits
        """The limits of the broker that has accepted the last connection."""
        self._said: dict[tuple[str, int], tuple[str, ...]] = {}
        self._learned: dict[tuple[str, int], Learned] = {}

    def _limits_of(self, stated: Mapping[str, int] | None) -> BrokerLimits:
        return BrokerLimits.of_connack(stated, largest_packet=self._largest_packet, qos=self._qos)

    @property
    def _broker(self) -> tuple[str, int]:
        return self._client.host, self._client.port

    @property
    def learned(self) -> Learned:
        """The observed limits of the current broker."""
        return self._learned.setdefault(self._broker, Learned())

    # Messages.

    def check_size(self, delivery: Delivery, *, connected: bool = True) -> None:
        """Raise MessageTooLargeError if a message is larger than the known limit.

        Any thread may call it. Without a connection, only limits that do not depend on the broker
        apply.
        """
        limits = self.limits if connected else self._own_limits
        size = self._packets.size(delivery)
        if size > limits.largest_packet:
            raise MessageTooLargeError(
                delivery.undelivered(sent=False), size, limits.largest_packet, limits.packet_source
            )

    def demand(self, delivery: Delivery) -> Demand:
        """Return the demands of a message on this broker when it is sent the next time."""
        qos = min(delivery.sent_qos, self.limits.maximum_qos)
        retain = delivery.retain and self.limits.retain
        return Demand(self._packets.size(delivery), qos, retain)

    # Events.

    def accepted(self, stated: Mapping[str, int] | None, name: str) -> None:
        """Set the limits of a new connection. `stated` is from its CONNACK; None is MQTT 3.1.1."""
        self._set_limits(self._limits_of(stated), name)

    def confirmed(self, packet_id: int, delivery: Delivery, name: str, *, taken: bool) -> bool:
        """Note that the broker has answered a message; `taken` is False if it has refused it.

        Return True if its limits have changed: a message with which connections had ended before
        was taken in a weaker form.
        """
        size = self._packets.size(delivery)
        if taken and packet_id not in self.learned.tries:  # otherwise it was sent in a weaker form
            self.learned.took(self.demand(delivery))
        changed = self.learned.confirmed(packet_id, size, delivery.qos, delivery.retain, taken)
        if changed:
            self._set_limits(self.limits, name)
        return changed

    def too_large(self, size: int, name: str) -> None:
        """Note that packets of `size` bytes end connections."""
        self.learned.too_large(size)
        self._set_limits(self.limits, name)

    def ended_after_qos_0(self, size: int, name: str) -> None:
        """Note that only a message of QoS 0 was sent, which is not sent again."""
        learned = self.learned
        if learned.ended_after_qos_0(size):
            log.error(
                "%s: the broker ended the connection %d times after a message with QoS 0, whose "
                "packet had %d bytes or more; such messages are refused for a while. The broker "
                "may limit packets: set the option `largest-packet`",
                name,
                ENDS_ALONE,
                learned.refused,
            )

    def unreachable(self) -> None:
        """Note that the broker could not be reached."""
        self.learned.unreachable()

    def _set_limits(self, limits: BrokerLimits, name: str) -> None:
        """Set the limits, and log once for each broker what it cannot do."""
        self.limits = self.learned.apply(limits)
        missing = self.limits.missing()
        if missing and missing != self._said.get(self._broker):
            self._said[self._broker] = missing
            level = logging.WARNING if self.limits.weaken_delivery else logging.INFO
            log.log(level, "limits of the broker of %s: %s", name, "; ".join(missing))
