"""paho's client with the parts replaced that could lose a message.

This is the only file that touches what paho keeps to itself, and `test_paho_client.py` says which
paho has all of it. Why it is needed:

- paho confirms a QoS 2 message (PUBREC) when it has it in memory and hands it over only later
  (PUBREL). A program that dies in between, or a session that ends, loses it. Here a message is
  handed over when it comes and confirmed when the consumer has acknowledged it (method B of MQTT
  3.1.1, section 4.3.3).
- paho completes a QoS 2 message that the broker had half, even if the broker has lost its session
  and with it the message. Here it is sent again then.
- paho forgets with the second try to reconnect that the broker had confirmed a QoS 2 message half,
  and sends it in full, so that it comes twice. Here it goes on where it was.
- paho takes a message that an MQTT 5 broker refuses in PUBREC for delivered.
- paho reads packets with a system call for a byte, and copies the rest of a large packet for each
  piece that it sends, which takes minutes for 64 MiB over TLS.
- paho leaves the socket of a failed TLS handshake open.
"""

import socket
import ssl
import struct
from collections.abc import Callable
from typing import Any, Final

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MessageState, MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

READ_SIZE: Final = 65536
LARGE: Final = 65536
HALF_CONFIRMED: Final = (
    MessageState.MQTT_MS_WAIT_FOR_PUBCOMP,
    MessageState.MQTT_MS_RESEND_PUBREL,
)


class PahoClient(paho.Client):
    """Used by one thread only, which also reads and writes the socket when it is ready."""

    def __init__(
        self,
        arrived: Callable[[paho.MQTTMessage], None],
        released: Callable[[int], None],
        **arguments: Any,
    ) -> None:
        """`arrived` gets each PUBLISH, `released` the number of each QoS 2 message completed."""
        self._arrived = arrived
        self._released = released
        self._confirming: int | None = None
        self._read = b""
        self._read_at = 0
        super().__init__(
            CallbackAPIVersion.VERSION2,
            reconnect_on_failure=False,
            manual_ack=True,
            **arguments,
        )
        self.on_message = lambda _client, _data, message: arrived(message)
        self.on_socket_open = _without_delay
        # With a callback for it, paho leaves writing to us, instead of doing it in the midst.
        self.on_socket_register_write = lambda _client, _data, _socket: None
        self.max_inflight_messages_set(0)  # the window is kept by what we hand over

    def acknowledge(self, mid: int, qos: int) -> None:
        """Confirm a message to the broker: PUBACK or PUBREC."""
        if qos == 1:
            self.ack(mid, 1)
        else:
            super()._send_pubrec(mid)

    def session_lost(self) -> None:
        """The broker knows nothing of us: what it had half is to be sent again in full."""
        for message in self._out_messages.values():
            message.dup = False
            if message.state == MessageState.MQTT_MS_RESEND_PUBREL:
                message.state = MessageState.MQTT_MS_PUBLISH

    def has_read(self) -> bool:
        """True if there are bytes to handle that no poll of the socket shows."""
        if self._read_at < len(self._read):
            return True
        own = self.socket()
        return isinstance(own, ssl.SSLSocket) and own.pending() > 0

    def reconnect(self) -> MQTTErrorCode:
        """Connect anew; what is left of the last connection is dropped."""
        self._read, self._read_at = b"", 0
        return super().reconnect()

    def _sock_recv(self, bufsize: int) -> bytes:
        if self._read_at == len(self._read):
            if bufsize >= READ_SIZE:
                return super()._sock_recv(bufsize)
            self._read, self._read_at = super()._sock_recv(READ_SIZE), 0
        start = self._read_at
        self._read_at = min(start + bufsize, len(self._read))
        return self._read[start : self._read_at]

    def _messages_reconnect_reset_out(self) -> None:
        half = [m for m in self._out_messages.values() if m.state in HALF_CONFIRMED]
        super()._messages_reconnect_reset_out()
        if not self._check_clean_session():
            for message in half:
                message.state = MessageState.MQTT_MS_RESEND_PUBREL

    def _ssl_wrap_socket(self, tcp_sock: socket.socket) -> ssl.SSLSocket:
        assert self._ssl_context is not None
        return self._ssl_context.wrap_socket(tcp_sock, server_hostname=self.host)

    def _packet_queue(
        self, command: int, packet: Any, mid: int, qos: int, info: Any = None
    ) -> MQTTErrorCode:
        if len(packet) > LARGE:
            packet = memoryview(packet)
        return super()._packet_queue(command, packet, mid, qos, info)

    def _send_pubrec(self, mid: int) -> MQTTErrorCode:
        self._confirming = mid
        return MQTTErrorCode.MQTT_ERR_SUCCESS

    def _handle_publish(self) -> MQTTErrorCode:
        self._confirming = None
        result = super()._handle_publish()
        if self._confirming is not None:
            self._arrived(self._in_messages.pop(self._confirming))
        return result

    def _handle_pubrel(self) -> MQTTErrorCode:
        (mid,) = struct.unpack_from("!H", self._in_packet["packet"])
        self._released(mid)
        return self._send_pubcomp(mid)

    def _handle_pubrec(self) -> MQTTErrorCode:
        packet = self._in_packet["packet"]
        if len(packet) > 2 and packet[2] >= 0x80:
            (mid,) = struct.unpack_from("!H", packet)
            if mid not in self._out_messages:
                return MQTTErrorCode.MQTT_ERR_SUCCESS
            reason = ReasonCode(PacketTypes.PUBREC, identifier=packet[2])
            with self._out_message_mutex:
                return self._do_on_publish(mid, reason, Properties(PacketTypes.PUBREC))  # type: ignore[no-untyped-call]
        return super()._handle_pubrec()


def _without_delay(_client: paho.Client, _data: object, opened: Any) -> None:
    # Else the last of several small packets waits some 40 ms for the broker's TCP to confirm the
    # one before.
    opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
