"""A session of MQTT without a network, for tests of paho's callbacks."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, Literal

from fastlib.transport import InboundMessage, MqttOptions
from fastlib.transport.delivery import Delivery
from fastlib.transport.mqtt.connection_state import ConnectionState
from fastlib.transport.mqtt.session import MqttSession


def delivery(qos: int = 1) -> Delivery:
    """Return a message that is to be sent."""
    return Delivery("a", b"x", qos, False)


class OfflineSession:
    """A session whose paho client is not connected, with its reports."""

    def __init__(
        self, protocol: Literal["3.1.1", "5"] = "3.1.1", max_unacknowledged: int | None = None
    ) -> None:
        options = MqttOptions(
            client_id="me",
            max_inflight=10,
            protocol=protocol,
            max_unacknowledged=max_unacknowledged,
        )
        self.state = ConnectionState("me", client_id="me", retry_min=1, retry_max=2)
        self.state.start_opening(10)
        self.session = MqttSession(options, self.state, lambda command: command())
        self.client = self.session.client
        self.messages: list[InboundMessage] = []
        self.reconnects: list[None] = []
        self.session.on_message = self.messages.append
        self.session.on_reconnect = lambda: self.reconnects.append(None)

    def connack(self, code: int = 0, *, session_present: bool = False, **properties: int) -> None:
        reason = SimpleNamespace(is_failure=code >= 0x80, value=code)
        flags = SimpleNamespace(session_present=session_present)
        found: Any = SimpleNamespace(**properties)
        self._call("on_connect", flags, reason, found)

    def disconnect(self, code: int, from_server: bool) -> None:
        flags = SimpleNamespace(is_disconnect_packet_from_server=from_server)
        self._call("on_disconnect", flags, SimpleNamespace(value=code), None)

    def _call(self, callback: str, *arguments: Any) -> None:
        call: Callable[..., None] = getattr(self.client, callback)
        call(self.client, None, *arguments)
