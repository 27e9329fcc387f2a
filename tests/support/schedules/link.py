"""A transport link to the simulated broker: the real MQTT session, without paho and its thread."""

import asyncio
import math
from collections import OrderedDict
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from contextvars import copy_context
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, Final
from unittest import mock

from fastlib.transport import ClosedError, MqttOptions, RefusedError, TransportError, Undelivered
from fastlib.transport import connect as connect_function
from fastlib.transport.delivery import Delivery
from fastlib.transport.link import CLOSE_SECONDS
from fastlib.transport.messages import InboundMessage
from fastlib.transport.mqtt import session as session_module
from fastlib.transport.mqtt.connection_state import ConnectionState
from fastlib.transport.mqtt.session import MqttSession

from .broker import Connection, Network, Packet
from .process import PROCESS

CONNACK_SECONDS: Final = 10.0
"""The maximum time until the broker must accept a connection, as in `network_thread.py`."""

TICK_SECONDS: Final = 1.0
"""The maximum time between two calls of `send_queued`, as in `network_thread.py`."""

_ACCEPTED: Final = SimpleNamespace(is_failure=False, value=0)


@dataclass(slots=True)
class _Outgoing:
    """A message of the client that the broker has not completed."""

    packet: Packet
    released: bool = False
    """QoS 2: the broker has sent PUBREC."""


class SimulatedPaho:
    """Replaces paho's client below `MqttSession`: packet ids, DUP, and the QoS 2 exchange."""

    def __init__(
        self,
        on_message: Callable[[Any], None],
        on_pubrel: Callable[[int], None],
        *,
        first_mid: int,
        is_five: bool,
    ) -> None:
        """The packet ids begin after `first_mid`. `is_five` is True with MQTT 5."""
        self.on_connect: Callable[..., None] = _nothing
        self.on_disconnect: Callable[..., None] = _nothing
        self.on_publish: Callable[..., None] = _nothing
        self.on_subscribe: Callable[..., None] = _nothing
        self.on_pingresp: Callable[..., None] = _nothing
        self.connection: Connection | None = None
        self._on_message = on_message
        self._on_pubrel = on_pubrel
        self.is_five = is_five
        self._last_mid = first_mid
        self._outgoing: OrderedDict[int, _Outgoing] = OrderedDict()
        self.held: OrderedDict[int, _Outgoing] = OrderedDict()
        """Incomplete messages that are not sent again before `release`, by packet id."""
        self.ping_answered = self.is_pinging = False
        self.said = ""
        self.sent_since_read = False
        """True if a message of QoS 0 was sent, and nothing has arrived since."""

    host, port = "broker", 1883
    broker = (host, port, "")
    skipped = 0
    sha256 = None
    """The bytes of the last message that were not kept: all messages here are short."""
    violation = None
    other_protocol = None
    """The simulated broker sends nothing that MQTT does not allow."""

    # The methods of paho that the session calls.

    def socket(self) -> None:
        """There is none."""

    def publish(
        self, topic: str, payload: bytes, qos: int, retain: bool, properties: int | None
    ) -> Any:
        mid = self._next_mid()
        packet = Packet("publish", mid, topic, payload, qos, retain, expiry=properties)
        if qos > 0:
            self._outgoing[mid] = _Outgoing(packet)
        self._up(packet)
        if qos == 0:
            self.sent_since_read = True
            asyncio.get_event_loop().call_soon(self.on_publish, self, None, mid, _ACCEPTED, None)
        return SimpleNamespace(rc=0, mid=mid)

    def subscribe(self, filters: list[tuple[str, int]]) -> tuple[int, int]:
        mid = self._next_mid()
        self._up(Packet("subscribe", mid, filters=tuple(filters)))
        return 0, mid

    def unsubscribe(self, filters: list[str]) -> None:
        self._up(Packet("unsubscribe", filters=tuple((pattern, 0) for pattern in filters)))

    def acknowledge(self, mid: int, qos: int) -> None:
        self._up(Packet("puback" if qos == 1 else "pubrec", mid))

    def expiry_properties(self, seconds: float) -> int | None:
        return max(1, math.ceil(seconds)) if self.is_five else None

    def text_properties(self, properties: int | None, content_type: str) -> int | None:
        """The simulated broker does not look at the media type."""
        return properties

    def properties_size(self, properties: int | None) -> int:
        return int(self.is_five) if properties is None else 6

    def set_expiry(self, packet_id: int, seconds: float) -> None:
        if packet_id in self._outgoing:
            self._outgoing[packet_id].packet.expiry = self.expiry_properties(seconds)

    def forget(self, packet_id: int) -> None:
        self._outgoing.pop(packet_id, None)
        self.held.pop(packet_id, None)

    def hold(self) -> None:
        for mid in [mid for mid, each in self._outgoing.items() if not each.released]:
            self.held[mid] = self._outgoing.pop(mid)

    def release(self, packet_id: int) -> None:
        outgoing = self._outgoing[packet_id] = self.held.pop(packet_id)
        self._up(outgoing.packet)

    def change(self, packet_id: int, qos: int, retain: bool) -> None:
        outgoing = self.held.get(packet_id) or self._outgoing[packet_id]
        outgoing.packet.qos, outgoing.packet.retain = qos, retain

    def half_confirmed(self) -> set[int]:
        return {mid for mid, outgoing in self._outgoing.items() if outgoing.released}

    def unwritten(self) -> set[int]:
        return set()  # each packet is under way at once

    def ping(self) -> None:
        self.is_pinging = True
        self._up(Packet("pingreq"))

    def session_lost(self) -> None:
        """Send all incomplete messages again in full: the broker has lost the session."""
        for outgoing in self._outgoing.values():
            outgoing.released = False
            outgoing.packet.dup = False

    # What the link calls.

    def receive(self, packet: Packet) -> None:
        """Handle a packet of the broker."""
        self.sent_since_read = False
        match packet.kind:
            case "connack":
                flags = SimpleNamespace(session_present=packet.session_present)
                self.on_connect(self, None, flags, _ACCEPTED, None)
                self._send_again()
            case "publish":
                self._on_message(packet)
            case "pubrel":
                self._on_pubrel(packet.mid)
                self._up(Packet("pubcomp", packet.mid))
            case "pubrec":
                outgoing = self._outgoing.get(packet.mid)
                if outgoing is not None:
                    outgoing.released = True
                self._up(Packet("pubrel", packet.mid))
            case "puback" | "pubcomp":
                if self._outgoing.pop(packet.mid, None) is not None:
                    self.on_publish(self, None, packet.mid, _ACCEPTED, None)
            case "pingresp":
                self.is_pinging, self.ping_answered = False, True
                self.on_pingresp()
            case "suback":
                reasons = [SimpleNamespace(value=code) for code in packet.codes]
                self.on_subscribe(self, None, packet.mid, reasons, None)

    def connection_lost(self) -> None:
        """Record the messages that must be sent again."""
        self.connection = None
        self.ping_answered = self.is_pinging = self.sent_since_read = False
        self._outgoing = OrderedDict([*self.held.items(), *self._outgoing.items()])
        self.held.clear()
        for outgoing in self._outgoing.values():
            outgoing.packet.dup = True

    def _send_again(self) -> None:
        for mid, outgoing in self._outgoing.items():
            self._up(Packet("pubrel", mid) if outgoing.released else outgoing.packet)

    def _up(self, packet: Packet) -> None:
        if self.connection is not None:
            self.connection.up(packet)

    def _next_mid(self) -> int:
        while True:
            self._last_mid = self._last_mid % 65535 + 1
            if self._last_mid not in self._outgoing and self._last_mid not in self.held:
                return self._last_mid


class SimulatedLink:
    """A `Link` to the simulated broker. It belongs to the process that makes it."""

    def __init__(self, options: MqttOptions, network: Network) -> None:
        assert options.client_id is not None
        self._options = options
        self._network = network
        self._loop = network.loop
        self._process = PROCESS.get(None)
        self._context = copy_context()
        self._state = ConnectionState(
            options.client_id,
            client_id=options.client_id,
            retry_min=options.retry_min,
            retry_max=options.retry_max,
            clock=self._loop.time,
        )
        with mock.patch.object(session_module, "make_client", self._make_client):
            self._session = MqttSession(options, self._state, lambda command: command())
        self._client: SimulatedPaho
        self._connection: Connection | None = None
        self._on_end: Callable[[ClosedError], None] = _nothing
        self._closed: Future[tuple[Undelivered, ...]] = Future()
        self._says_goodbye = True
        self._ticks = False
        self._received = 0
        network.links.append(self)
        if self._process is not None:
            self._process.at_end(self._crash)

    def _make_client(
        self,
        options: MqttOptions,
        on_message: Callable[[Any], None],
        on_pubrel: Callable[[int], None],
    ) -> SimulatedPaho:
        five = options.protocol == "5"
        first_mid = self._network.dice.randrange(65535)
        self._client = SimulatedPaho(on_message, on_pubrel, first_mid=first_mid, is_five=five)
        return self._client

    @property
    def name(self) -> str:
        """The client id."""
        return self._state.name

    @property
    def unconfirmed(self) -> int:
        """The number of messages that the broker has not confirmed."""
        return len(self._session.outbox)

    @property
    def resumes(self) -> bool:
        """True if the session is persistent."""
        return self._options.persistent

    @property
    def is_connected(self) -> bool:
        """True while the broker has accepted the connection."""
        return self._state.accepted

    @property
    def last_error(self) -> TransportError | None:
        """The last failure of the connection."""
        return self._state.last_error

    @property
    def session_start(self) -> int:
        """See `Link`."""
        return self._session.session_start

    def open(
        self,
        on_message: Callable[[InboundMessage], None],
        on_end: Callable[[ClosedError], None],
        on_reconnect: Callable[[], None],
        timeout: float,
    ) -> "Future[None]":
        """Begin to connect."""
        self._session.on_message = on_message
        self._session.on_reconnect = on_reconnect
        self._on_end = on_end
        self._state.start_opening(timeout)
        self._later(0.0, self._connect)
        self._later(timeout, self._check_done)
        return self._state.opened

    def send(self, delivery: Delivery) -> None:
        """Queue a message in the outbox."""
        if self._process is not None and not self._process.goes_on("before send"):
            raise asyncio.CancelledError
        if self._state.closing or self._state.ended:
            raise self._state.closed_error()
        self._session.outbox.accept(delivery, self._state.accepted, self._state.last_error)
        self._later(0.0, self._send_queued)
        if (seconds := delivery.seconds_left()) is not None:
            self._later(max(0.0, seconds) + 0.001, self._session.drop_expired)
        if self._process is not None:
            self._process.goes_on("after send")

    def room(self) -> "Future[None]":
        """Return a future that is done when the outbox has room."""
        return self._session.outbox.room()

    def subscribe(self, pattern: str, qos: int, retained: bool = True) -> "Future[None]":
        """Request a filter from the broker."""
        confirmed: Future[None] = Future()
        if self._state.ended:
            confirmed.cancel()
        else:
            self._session.subscribe(pattern, qos, confirmed, retained)
        return confirmed

    def listen_for_refusals(self, on_refused: Callable[[str, RefusedError], None]) -> None:
        """See `Link`."""
        self._session.listen_for_refusals(on_refused)

    def call_each_second(self, tick: Callable[[], None]) -> None:
        """Do nothing: the simulated broker has no window."""

    def unsubscribe(self, pattern: str) -> None:
        """Withdraw a filter."""
        if not self._state.ended:
            self._session.unsubscribe(pattern)

    def forget(self, pattern: str) -> None:
        """Withdraw a filter of an earlier program."""
        if not self._state.ended:
            self._session.forget(pattern)

    def close(
        self, timeout: float | None, publish_will: bool = False
    ) -> "Future[tuple[Undelivered, ...]]":
        """Deliver the queued messages, and disconnect."""
        if not self._state.closing:
            self._says_goodbye = not publish_will
        if self._state.start_closing(timeout):
            self._later(CLOSE_SECONDS if timeout is None else timeout, self._check_done)
            self._later(0.0, self._check_done)
        return self._closed

    # What the network thread does for a real link.

    def _later(self, seconds: float, callback: Callable[[], object]) -> None:
        if seconds:
            self._loop.call_later(seconds, callback, context=self._context)
        else:
            self._loop.call_soon(callback, context=self._context)

    def _connect(self) -> None:
        if self._check_done():
            return
        self._state.connecting()
        connection = self._network.connect(
            self.name,
            self,
            self._context,
            keep_alive=self._options.keep_alive,
            will=self._options.will,
            clean=not self._options.persistent,
        )
        if connection is None:
            self._session.unreachable()
            self._state.unreachable(OSError("no route to the broker"))
            self._state.try_ended()
            self._later(self._state.retry_pause(), self._connect)
            return
        self._connection = self._client.connection = connection
        self._later(CONNACK_SECONDS, lambda: self._check_accepted(connection))

    def _check_accepted(self, connection: Connection) -> None:
        if self._connection is connection and not self._state.accepted:
            connection.close(told=False)
            self.lost(connection)

    def receive(self, connection: Connection, packet: Packet) -> None:
        """See `End`."""
        if connection is not self._connection or self._state.ended:
            return
        self._received += 1
        self._state.moved(self._received)
        if packet.kind == "publish":
            self._network.on_delivery(self._process, packet)
        self._client.receive(packet)
        self._send_queued()

    def _send_queued(self) -> None:
        if self._state.accepted and not self._state.ended:
            self._session.send_queued()
            if self._session.holds_back and not self._ticks:
                self._ticks = True
                self._later(TICK_SECONDS, self._tick)
        self._check_done()

    def _tick(self) -> None:
        self._ticks = False
        self._send_queued()

    def lost(self, connection: Connection) -> None:
        """See `End`."""
        if connection is not self._connection or self._state.ended:
            return
        self._connection = None
        self._client.connection_lost()
        if self._state.accepted:
            self._session.connection_ended()
        else:
            self._session.unreachable()
            self._state.ended_at_once()
            self._state.try_ended()
        self._later(self._state.retry_pause(), self._connect)

    def _check_done(self) -> bool:
        if self._state.ended:
            return True
        if not self._state.is_done(outbox_empty=not len(self._session.outbox)):
            return False
        self._finish(told=self._says_goodbye)
        return True

    def _finish(self, *, told: bool) -> None:
        self._state.ended = True
        self._network.links.remove(self)
        undelivered = self._session.outbox.fail_all("closed")
        if self._connection is not None:
            if told and self._state.accepted:
                self._connection.up(Packet("disconnect"))
                self._connection.close(told=True)
            else:
                self._connection.close(told=False)
        self._connection = self._client.connection = None
        closed = self._state.closed_error()
        self._state.end(closed)
        self._session.fail_subscriptions(closed)
        self._on_end(closed)
        self._closed.set_result(undelivered)

    def _crash(self) -> None:
        """End with the process. The broker notices that the connection is lost."""
        if not self._state.ended:
            self._context.copy().run(self._finish, told=False)


def _nothing(*_: object) -> None:
    """Do nothing."""


@contextmanager
def simulated_links(network: Network) -> Iterator[None]:
    """Let `connect_async` make links to the simulated broker."""
    module: Any = __import__(connect_function.__module__, fromlist=["_link"])
    with mock.patch.object(module, "_link", lambda options: SimulatedLink(options, network)):
        yield
