"""The answers of brokers to CONNECT packets."""

from typing import Any, Final

from fastlib.transport.errors import ConnectError, RefusedError, shown_reason, user_hint
from fastlib.transport.options import MqttOptions

from .client_factory import connect_size_of
from .connection_state import ConnectionState
from .last_will import LastWill
from .paho_client import PahoClient

PERMANENT_REFUSALS: Final = frozenset({0x84, 0x85, 0x86, 0x87, 0x8A, 0x8C})
"""Reason codes of a CONNACK for which a retry would not help: protocol version, client id,
password, authorization, banned, authentication method."""

PACKET_TOO_LARGE: Final = 0x95

LARGE_CONNECT: Final = 1000
"""Bytes. An error names the size of a CONNECT packet that is at least this large."""


class ConnectAnswers:
    """Records the answers of brokers to CONNECT, and finds reasons for refused connections."""

    def __init__(self, client: PahoClient, options: MqttOptions, state: ConnectionState) -> None:
        self._client = client
        self._state = state
        self._last_will = LastWill(client, options)
        self._size = connect_size_of(options)
        self._has_user = options.username is not None
        self._tls_hint = _tls_hint(options)
        self._hints = {
            "HTTP": _websocket_hint(options),
            "SSH": "its port is that of an SSH server: use the port of the broker",
            "TLS": self._tls_hint,
        }
        """By what the other side speaks."""
        self._answered = False
        """True if the broker has answered the last CONNECT."""
        self._known: set[str] = set()
        """The names of the brokers that have accepted a connection: they fit the options."""

    def before_connect(self) -> None:
        """Prepare a try to connect to the broker that is set in paho's client."""
        self._answered = False
        self._last_will.before_connect()

    def accepted(self) -> bool:
        """Note that the broker accepted. Return True if the connection must be renewed."""
        self._answered = True
        self._known.add(self._state.name)
        return self._last_will.accepted()

    def refused(self, reason: Any) -> None:
        """Note a CONNACK with a reason code of 0x80 and more."""
        self._answered = True
        text = f"{self._state.name}: the broker refuses the connection: {reason}"
        if self._client.said:
            text += f": the broker says {shown_reason(self._client.said)}"
        text += user_hint(reason.value, self._has_user)
        if reason.value == PACKET_TOO_LARGE or self._size > LARGE_CONNECT:
            text += self._size_hint()
        if self._last_will.refused(reason.value, self._state.name):
            self._state.failed(ConnectError(text))
        elif reason.value in PERMANENT_REFUSALS:
            self._state.refused(RefusedError(text, reason.value))
        else:
            self._state.failed(ConnectError(text))

    def ended_without_answer(self) -> str:
        """Note that a connection ended before the broker accepted it.

        Return the possible reason for the error if the broker gave none.
        """
        if self._client.other_protocol is not None and not self._answered:
            return f"; {self._hints[self._client.other_protocol]}"
        if self._answered or self._client.violation is not None:
            return ""
        again = self._last_will.ended_without_answer(self._state.name)
        if again or self._size > LARGE_CONNECT:
            return self._size_hint()
        if self._state.name in self._known:  # it is restarted
            return ""
        hints = ["it may accept no more clients", self._tls_hint]
        if self._client.is_five:
            hints.append("it may not know MQTT 5: try the option `protocol` with 3.1.1")
        return "".join(f"; {hint}" for hint in hints if hint)

    def silence_hint(self) -> str:
        """Return the possible reason of a broker that accepts a connection, and does not answer."""
        if self._client.other_protocol is not None:
            return f"; {self._hints[self._client.other_protocol]}"
        if self._state.name in self._known:  # it is overloaded or frozen
            return ""
        tls = f"; {self._tls_hint}" if self._tls_hint else ""
        return f"; its port may be that of another program{tls}"

    def unreachable(self) -> None:
        """Note that the broker could not be reached."""
        self._last_will.unreachable()

    def _size_hint(self) -> str:
        return (
            f"; the CONNECT packet has {self._size} bytes, with {self._last_will}, which "
            "the broker may not take"
        )


def _tls_hint(options: MqttOptions) -> str:
    """Return the TLS option that may be missing if a broker ends the connection at once."""
    if options.tls is None:
        scheme = "mqtts://" if options.websocket_path is None else "wss://"
        return f"its port may expect TLS: use {scheme} or the option `tls`"
    if options.tls.certificate is None:
        return "it may require a certificate of the client: set the option `certificate` of `tls`"
    return ""


def _websocket_hint(options: MqttOptions) -> str:
    scheme = "ws://" if options.tls is None else "wss://"
    return (
        f"its port may expect WebSockets: use {scheme} or the option `websocket_path`; or it is "
        "that of a web server"
    )
