"""The limits of a broker, from the properties of its CONNACK. Pure.

MQTT 5 brokers state their limits (MQTT 5, section 3.2.2.3). MQTT 3.1.1 brokers do not. For these,
the options of the client may state the limits, and `reported` is False. Limits belong to a
connection: the next one may be to another broker.
"""

from collections.abc import Mapping
from typing import Final, Literal, Self

import msgspec

MAX_LENGTH: Final = 268_435_455
"""Bytes of the largest Remaining Length of a packet (MQTT 5, section 2.1.4)."""

MAX_PACKET: Final = MAX_LENGTH + 5
"""Bytes. No packet of MQTT is larger: the length, and 5 bytes before it."""

MAX_RECEIVE: Final = 65_535
"""The default number of messages that a broker accepts without an acknowledgement."""

STATED: Final = (
    "MaximumPacketSize",
    "MaximumQoS",
    "RetainAvailable",
    "WildcardSubscriptionAvailable",
    "SharedSubscriptionAvailable",
    "ReceiveMaximum",
)
"""The properties of a CONNACK that are read, by paho's names."""

Source = Literal["MQTT", "broker", "option", "inferred"]
"""Where a limit of the packet size comes from. `inferred`: connections ended at larger packets."""


class BrokerLimits(msgspec.Struct, frozen=True, kw_only=True):
    """The limits of a broker. The defaults are those of MQTT 5 for a broker that states none."""

    reported: bool = False
    """True if the broker speaks MQTT 5. A limit that it does not state then does not exist."""
    maximum_packet: int | None = None
    """The largest packet in bytes, with its header, its topic and its properties; None: unknown."""
    packet_source: Source = "MQTT"
    """Where `maximum_packet` comes from."""
    maximum_qos: Literal[0, 1, 2] = 2
    """The highest quality of service of a message."""
    retain: bool = True
    """True if the broker keeps retained messages."""
    wildcard_subscriptions: bool = True
    shared_subscriptions: bool = True
    """True if the broker supports `$share/<group>/<filter>`."""
    receive_maximum: int = MAX_RECEIVE
    """The number of messages with QoS 1 and 2 that the broker accepts without an
    acknowledgement."""

    @classmethod
    def of_connack(
        cls,
        properties: Mapping[str, int] | None,
        *,
        largest_packet: int | None = None,
        qos: Literal[0, 1, 2] = 2,
    ) -> Self:
        """Return the limits by the properties of a CONNACK; None is MQTT 3.1.1.

        The keys are those of `STATED`; others are ignored. `largest_packet` (bytes) and `qos` are
        the limits of the client's options. The lower limit applies.
        """
        found = properties or {}
        stated = found.get("MaximumPacketSize")
        if stated is not None and stated >= MAX_LENGTH:  # mosquitto states MQTT's own limit
            stated = None
        source: Source = "MQTT" if stated is None else "broker"
        if largest_packet is not None and (stated is None or largest_packet < stated):
            stated, source = largest_packet, "option"
        maximum_qos: Literal[0, 1, 2] = 2
        if (lowest := min(found.get("MaximumQoS", 2), qos)) < 2:
            maximum_qos = 1 if lowest == 1 else 0
        return cls(
            reported=properties is not None,
            maximum_packet=stated,
            packet_source=source,
            maximum_qos=maximum_qos,
            retain=bool(found.get("RetainAvailable", 1)),
            wildcard_subscriptions=bool(found.get("WildcardSubscriptionAvailable", 1)),
            shared_subscriptions=bool(found.get("SharedSubscriptionAvailable", 1)),
            receive_maximum=found.get("ReceiveMaximum", MAX_RECEIVE),
        )

    @property
    def largest_packet(self) -> int:
        """The largest packet in bytes that may be sent."""
        return MAX_PACKET if self.maximum_packet is None else min(self.maximum_packet, MAX_PACKET)

    @property
    def weaken_delivery(self) -> bool:
        """True if messages are sent in a weaker form than requested."""
        return self.maximum_qos < 2 or not self.retain

    def missing(self) -> tuple[str, ...]:
        """Describe the missing features of the broker and their effects, one sentence each."""
        found = []
        if self.maximum_packet is not None:
            origin = {
                "option": "the option `largest-packet` allows",
                "inferred": "it seems to take",
            }
            words = origin.get(self.packet_source, "it takes")
            found.append(
                f"{words} packets of at most {self.maximum_packet} bytes; larger messages are not "
                "sent"
            )
        if self.maximum_qos == 1:
            found.append(
                "no QoS 2: messages are sent with QoS 1 and may arrive twice; an order with an "
                "`idempotency-key` is still executed once"
            )
        elif self.maximum_qos == 0:
            found.append(
                "no QoS 1 and 2: messages are sent with QoS 0 and may be lost without an error"
            )
        if not self.retain:
            found.append(
                "no retained messages: a client that connects later does not see the presence of "
                "daemons until they publish it again"
            )
        if not self.wildcard_subscriptions:
            found.append("no wildcards in subscriptions: name each topic")
        if not self.shared_subscriptions:
            found.append("no shared subscriptions (`$share/…`)")
        return tuple(found)
