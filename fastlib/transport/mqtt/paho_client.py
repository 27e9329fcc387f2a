"""A paho client without the parts of paho that can lose or repeat a message.

Only this file and `paho_sockets.py` (the socket) use private parts of paho.
`test_paho_client.py` checks that they exist. They are needed because paho has these defects:

- paho confirms a QoS 2 message (PUBREC) when it has it in memory, and delivers it only later
  (PUBREL). A program that dies in the meantime loses it. Here a message is delivered when it
  arrives, and confirmed when the consumer has acknowledged it (MQTT 3.1.1, section 4.3.3, method
  B).
- paho completes a QoS 2 message that the broker has confirmed with PUBREC, even if the broker has
  lost the session and the message. Here the message is sent again.
- paho forgets at the second try to reconnect that the broker has sent PUBREC, and sends the
  message again, so it arrives twice. Here the exchange continues with PUBREL.
- paho reports a message as delivered that an MQTT 5 broker refuses in PUBREC.
- paho copies the rest of a large packet for each part that it sends. This takes minutes for 64 MiB
  over TLS.
- paho keeps a packet of any size in memory. Here only the beginning of a large PUBLISH is kept, and
  any other large packet ends the connection.
- paho begins with packet id 1. A program that died during a QoS 2 message, and resumes its session,
  would use the same id again. The broker would treat its message as a repetition.
- paho raises errors for malformed packets, or accepts them. It accepts packets before the
  CONNACK, a second CONNACK, and packets that only a client may send. Here `packet_check.py` reads
  each packet first, and a packet that MQTT does not allow ends the connection.
- paho keeps the keep-alive that a broker has demanded for all later connections.
- paho makes objects for the properties and the reason code of each PUBREC and PUBCOMP. They take a
  fifth of the function calls of a message. Here one of each serves all messages.
"""

import hashlib
import math
import secrets
import struct
from collections.abc import Callable
from typing import Any, Final

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MessageState, MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from .packet_check import (
    CONNACK,
    TOLERATED_CODES,
    PacketError,
    check_packet,
    payload_start,
    reason_string,
)
from .paho_sockets import READ_SIZE, PahoSockets

OVERHEAD: Final = 1 << 17
"""The maximum number of bytes of a PUBLISH besides its payload: the topic, and the properties of
MQTT 5."""
LARGE: Final = 65536
MAX_PACKET: Final = 268_435_455
"""Bytes; no packet of MQTT is larger, without its header."""
HALF_CONFIRMED: Final = (
    MessageState.MQTT_MS_WAIT_FOR_PUBCOMP,
    MessageState.MQTT_MS_RESEND_PUBREL,
)


_SUCCESS: Final = (ReasonCode(PacketTypes.PUBACK), Properties(PacketTypes.PUBACK))  # type: ignore[no-untyped-call]
"""The answer to a message that the broker has taken."""


class PahoClient(PahoSockets):
    """Used by one thread only, which also reads and writes the socket when it is ready."""

    def __init__(
        self,
        on_publish_received: Callable[[paho.MQTTMessage], None],
        on_pubrel: Callable[[int], None],
        *,
        max_payload: int | None = None,
        **arguments: Any,
    ) -> None:
        """`on_publish_received` gets each PUBLISH, `on_pubrel` the packet id of each PUBREL.

        If a payload is much larger than `max_payload` bytes, the rest is read and dropped.
        """
        self._largest = None if max_payload is None else largest_packet(max_payload)
        self._on_publish_received = on_publish_received
        self._on_pubrel = on_pubrel
        self._pubrec_due: int | None = None
        """The packet id of the QoS 2 PUBLISH that is being handled."""
        self._accepted = False
        """True once the broker has accepted the current connection."""
        self._own_keep_alive: int | None = None
        self.skipped = 0
        """The number of dropped bytes of the PUBLISH that is being handled."""
        self.sha256: str | None = None
        """The SHA-256 of its whole payload if bytes of it were dropped; None if it is not known."""
        self._digest = hashlib.sha256()
        """The SHA-256 of the received part of a large PUBLISH's payload."""
        self._digest_is_whole = False
        self.held: dict[int, paho.MQTTMessage] = {}
        """Incomplete messages that are not sent again before `release`, by packet id."""
        self.on_pingresp: Callable[[], None] = _ignore
        """Called for each PINGRESP."""
        self.ping_answered = False
        """True once the broker has answered a PINGREQ on this connection."""
        self.sent_since_read = 0
        """The size in bytes of the largest packet with QoS 0 since the last packet was read."""
        self.said = ""
        """The broker's reason string in the packet that is being handled."""
        self.violation: str | None = None
        """Data that the broker has sent on this connection and MQTT does not allow."""
        super().__init__(
            CallbackAPIVersion.VERSION2,
            reconnect_on_failure=False,
            manual_ack=True,
            **arguments,
        )
        self._last_mid = secrets.randbelow(65535)
        self.on_message = lambda _client, _data, message: on_publish_received(message)
        self.max_inflight_messages_set(0)  # unlimited: the outbox limits the messages in flight

    @property
    def is_five(self) -> bool:
        """True with MQTT 5."""
        return bool(self._protocol == paho.MQTTv5)

    def acknowledge(self, mid: int, qos: int) -> None:
        """Confirm a message to the broker: PUBACK or PUBREC."""
        if qos == 1:
            self.ack(mid, 1)
        else:
            super()._send_pubrec(mid)

    def session_lost(self) -> None:
        """Send all incomplete messages again in full: the broker has lost the session."""
        for message in self._out_messages.values():
            message.dup = False
            if message.state == MessageState.MQTT_MS_RESEND_PUBREL:
                message.state = MessageState.MQTT_MS_PUBLISH

    def expiry_properties(self, seconds: float) -> Properties | None:
        """Return the properties of a message that expires, or None with MQTT 3.1.1.

        A broker counts full seconds, and some brokers treat 0 as no expiry.
        """
        if not self.is_five:
            return None
        properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
        properties.MessageExpiryInterval = max(1, math.ceil(seconds))
        return properties

    def text_properties(self, properties: Properties | None, content_type: str) -> Properties:
        """Return the properties of a message with MQTT 5 that is UTF-8 text of a media type."""
        if properties is None:
            properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
        properties.PayloadFormatIndicator = 1
        properties.ContentType = content_type
        return properties

    def properties_size(self, properties: Properties | None) -> int:
        """Return the size in bytes of the properties of a message, with their length."""
        if properties is None:
            return int(self.is_five)
        return len(properties.pack())  # type: ignore[no-untyped-call]

    def set_expiry(self, packet_id: int, seconds: float) -> None:
        """Change the expiry of a message that is sent again."""
        message = self._out_messages.get(packet_id)
        changed = self.expiry_properties(seconds)
        if message is None or changed is None:
            return
        content_type = getattr(message.properties, "ContentType", None)
        message.properties = (
            changed if content_type is None else self.text_properties(changed, content_type)
        )

    def forget(self, packet_id: int) -> None:
        """Do not send a message again."""
        self._out_messages.pop(packet_id, None)
        self.held.pop(packet_id, None)

    def hold(self) -> None:
        """Do not send incomplete messages again on this connection, until `release`.

        Those that the broker has confirmed with PUBREC continue. Called while the CONNACK is
        handled. Paho then sends the remaining messages.
        """
        for packet_id, message in list(self._out_messages.items()):
            if message.state == MessageState.MQTT_MS_PUBLISH:
                self.held[packet_id] = self._out_messages.pop(packet_id)

    def release(self, packet_id: int) -> None:
        """Send a held message again."""
        message = self._out_messages[packet_id] = self.held.pop(packet_id)
        one = message.qos == 1
        message.state = (
            MessageState.MQTT_MS_WAIT_FOR_PUBACK if one else MessageState.MQTT_MS_WAIT_FOR_PUBREC
        )
        self._inflight_messages += 1
        self._send_publish(
            packet_id,
            message.topic.encode(),
            message.payload,
            message.qos,
            message.retain,
            message.dup,
            properties=message.properties,
        )

    def change(self, packet_id: int, qos: int, retain: bool) -> None:
        """Change how an incomplete message is sent again."""
        message = self.held.get(packet_id) or self._out_messages[packet_id]
        message.qos, message.retain = qos, retain

    def weaken_will(self, qos: int, retain: bool) -> None:
        """Change how the broker shall publish the last will, from the next connection on."""
        self.will_set(self._will_topic.decode(), self._will_payload, qos, retain)

    def ping(self) -> None:
        """Send a PINGREQ."""
        self._send_pingreq()

    @property
    def is_pinging(self) -> bool:
        """True if the broker has not answered a PINGREQ yet."""
        return self._ping_t > 0

    def half_confirmed(self) -> set[int]:
        """Return the packet ids of messages that the broker has confirmed with PUBREC."""
        return {i for i, each in self._out_messages.items() if each.state in HALF_CONFIRMED}

    def unwritten(self) -> set[int]:
        """Return the packet ids of messages of which no byte was passed to the socket."""
        return {
            packet["mid"]
            for packet in list(self._out_packet)
            if packet["command"] & 0xF0 == paho.PUBLISH and packet["pos"] == 0
        }

    def reconnect(self) -> MQTTErrorCode:
        """Connect again, without data of the last connection."""
        self._accepted, self.violation = False, None
        self.ping_answered, self.sent_since_read = False, 0
        if self.held:  # the next CONNACK decides again
            incomplete = {**self.held, **self._out_messages}
            self._out_messages.clear()
            self._out_messages.update(incomplete)
            self.held.clear()
        if self._own_keep_alive is None:
            self._own_keep_alive = self._keepalive
        self._keepalive = self._own_keep_alive
        return super().reconnect()

    def _sock_recv(self, bufsize: int) -> bytes:
        packet = self._in_packet
        if (
            self._largest is not None
            and packet["have_remaining"]
            and packet["remaining_length"] > self._largest
        ):
            return self._receive_large(bufsize)
        return self._receive(bufsize)

    def _receive_large(self, bufsize: int) -> bytes:
        """Return the next bytes of a large packet; of the dropped part only the last byte.

        Paho treats an empty result as the end of the connection.
        """
        packet, largest = self._in_packet, self._largest
        assert largest is not None
        if packet["command"] & 0xF0 != paho.PUBLISH:
            raise OSError(f"the broker sent a control packet of {packet['remaining_length']} bytes")
        room = largest - len(packet["packet"])
        if room > 0:
            return self._receive(min(bufsize, room))
        data = self._receive(min(bufsize, READ_SIZE))
        if room == 0:
            self._begin_digest(packet["command"], packet["packet"])
        self._digest.update(data)
        packet["to_process"] -= max(0, len(data) - 1)
        return data[-1:]

    def _begin_digest(self, command: int, body: bytearray) -> None:
        try:
            start = payload_start(command, body, self.is_five)
        except PacketError:  # its properties are as large
            self._digest_is_whole = False
            return
        self._digest = hashlib.sha256(memoryview(body)[start:])
        self._digest_is_whole = True

    def _messages_reconnect_reset_out(self) -> None:
        half_confirmed = [m for m in self._out_messages.values() if m.state in HALF_CONFIRMED]
        super()._messages_reconnect_reset_out()
        if not self._check_clean_session():
            for message in half_confirmed:
                message.state = MessageState.MQTT_MS_RESEND_PUBREL

    def _packet_queue(
        self, command: int, packet: Any, mid: int, qos: int, info: Any = None
    ) -> MQTTErrorCode:
        if len(packet) > LARGE:
            packet = memoryview(packet)
        if command & 0xF0 == paho.PUBLISH and qos == 0:
            self.sent_since_read = max(self.sent_since_read, len(packet))
        return super()._packet_queue(command, packet, mid, qos, info)

    def _send_pubrec(self, mid: int) -> MQTTErrorCode:
        self._pubrec_due = mid
        return MQTTErrorCode.MQTT_ERR_SUCCESS

    def _packet_handle(self) -> MQTTErrorCode:
        packet = self._in_packet
        body, size = packet["packet"], int(packet["remaining_length"])
        if self._largest is not None and size > self._largest:
            del body[self._largest :]  # the last bytes of the dropped part
        try:
            is_connack = packet["command"] >> 4 == CONNACK
            if is_connack == self._accepted:
                raise PacketError(self._misplaced())
            packet["packet"] = check_packet(packet["command"], body, self.is_five)
            self.said = reason_string(packet["command"], body) if self.is_five else ""
        except PacketError as error:
            self.violation = str(error)
            return MQTTErrorCode.MQTT_ERR_PROTOCOL
        self.skipped = size - len(body)
        self.sha256 = self._digest.hexdigest() if self.skipped and self._digest_is_whole else None
        self._accepted = self._accepted or body[1] == 0  # the reason code of a CONNACK
        self.sent_since_read = 0
        result = super()._packet_handle()
        return result if self.violation is None else MQTTErrorCode.MQTT_ERR_PROTOCOL

    def _misplaced(self) -> str:
        """Describe a packet that must not come now."""
        if self._accepted:
            return "a second CONNACK"
        other = self.other_protocol
        return "a packet before CONNACK" if other is None else f"an answer in {other}, not in MQTT"

    def _mid_generate(self) -> int:
        while (mid := super()._mid_generate()) in self.held:
            pass
        return mid

    def _handle_pingresp(self) -> MQTTErrorCode:
        self.ping_answered = True
        self.on_pingresp()
        return super()._handle_pingresp()

    def _handle_publish(self) -> MQTTErrorCode:
        self._pubrec_due = None
        result = super()._handle_publish()
        if self._pubrec_due is not None:
            self._on_publish_received(self._in_messages.pop(self._pubrec_due))
        return result

    def _handle_pubrel(self) -> MQTTErrorCode:
        (mid,) = struct.unpack_from("!H", self._in_packet["packet"])
        self._on_pubrel(mid)
        return self._send_pubcomp(mid)

    def _handle_pubrec(self) -> MQTTErrorCode:
        packet = self._in_packet["packet"]
        (mid,) = struct.unpack_from("!H", packet)
        if len(packet) > 2 and packet[2] >= 0x80:
            return self._refused(mid, packet[2])
        with self._out_message_mutex:
            message = self._out_messages.get(mid)
            if message is None:
                return MQTTErrorCode.MQTT_ERR_SUCCESS
            message.state = MessageState.MQTT_MS_WAIT_FOR_PUBCOMP
            return self._send_pubrel(mid)

    def _handle_pubackcomp(self, cmd: Any) -> MQTTErrorCode:
        packet = self._in_packet["packet"]
        (mid,) = struct.unpack_from("!H", packet)
        code = packet[2] if len(packet) > 2 else 0
        if code in TOLERATED_CODES:
            return self._refused(mid, code)
        if code:
            return super()._handle_pubackcomp(cmd)
        with self._out_message_mutex:
            if mid not in self._out_messages:
                return MQTTErrorCode.MQTT_ERR_SUCCESS
            return self._do_on_publish(mid, *_SUCCESS)

    def _refused(self, mid: int, code: int) -> MQTTErrorCode:
        if mid not in self._out_messages:
            return MQTTErrorCode.MQTT_ERR_SUCCESS
        # Paho makes no reason code for a packet that must not have it.
        kind = PacketTypes.DISCONNECT if code in TOLERATED_CODES else PacketTypes.PUBREC
        reason = ReasonCode(kind, identifier=code)
        with self._out_message_mutex:
            return self._do_on_publish(mid, reason, Properties(PacketTypes.PUBREC))  # type: ignore[no-untyped-call]


def largest_packet(max_payload: int) -> int:
    """Return the bytes of the largest packet that is kept whole."""
    return min(max_payload + OVERHEAD, MAX_PACKET)


def _ignore() -> None:
    """Do nothing: no thread waits for a PINGRESP."""
