"""A simulated MQTT broker: sessions, QoS 0 to 2, DUP, retained messages, wills, keep-alive.

Packets travel on connections that keep their order, as TCP does. A connection may be slow, it may
break, and it may go silent until the keep-alive ends it. A message is repeated where MQTT repeats
it, after a reconnect. Messages of different clients overtake each other, since each connection has
its own delays.
"""

import asyncio
import random
from collections import OrderedDict, deque
from collections.abc import Callable
from contextvars import Context
from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple, Protocol

from fastlib.transport import Will, matches

from .process import Process

KEEP_ALIVE_FACTOR: Final = 1.5
"""After so many times the keep-alive without a packet, the broker ends a connection."""

SHORTEST_DISTANCE: Final = 1e-6
"""Seconds between two packets of a connection, at least."""

REFUSAL: Final = 0x80
"""The code of SUBACK for a filter that the broker does not grant."""

MAX_IN_FLIGHT: Final = 20
"""The maximum number of messages that the broker has sent to a client and that are not complete."""

Kind = Literal[
    "connect",
    "connack",
    "publish",
    "puback",
    "pubrec",
    "pubrel",
    "pubcomp",
    "subscribe",
    "suback",
    "unsubscribe",
    "pingreq",
    "pingresp",
    "disconnect",
]


@dataclass(slots=True)
class Packet:
    """An MQTT packet, with the fields that its kind uses."""

    kind: Kind
    mid: int = 0
    """The packet id."""
    topic: str = ""
    payload: bytes = b""
    qos: int = 0
    retain: bool = False
    dup: bool = False
    expiry: int | None = None
    """MQTT 5: after so many seconds the broker drops the message."""
    filters: tuple[tuple[str, int], ...] = ()
    codes: tuple[int, ...] = ()
    session_present: bool = False


class End(Protocol):
    """One end of a connection."""

    def receive(self, connection: "Connection", packet: Packet) -> None:
        """Handle a packet."""

    def lost(self, connection: "Connection") -> None:
        """Handle that the connection is lost."""


class Link(Protocol):
    """A client, with and without a connection."""

    @property
    def name(self) -> str:
        """The client id."""

    @property
    def unconfirmed(self) -> int:
        """The number of its messages that the broker has not confirmed."""


class Direction:
    """The packets from one end of a connection to the other."""

    def __init__(self, connection: "Connection", end: End, context: Context) -> None:
        """`context` is that of the process at the receiving `end`."""
        self._connection = connection
        self._end = end
        self._context = context
        self._latest = 0.0
        self._travelling: deque[asyncio.Handle] = deque()
        self.open = True
        """False once the receiving end knows of the end of the connection."""

    def send(self, packet: Packet) -> None:
        """Let a packet arrive later, after all earlier ones."""
        loop = self._connection.loop
        arrival = loop.time() + self._connection.network.delay()
        self._latest = max(arrival, self._latest + SHORTEST_DISTANCE)  # timers do not keep ties
        self._travelling.append(
            loop.call_at(self._latest, self._arrive, packet, context=self._context)
        )

    def _arrive(self, packet: Packet) -> None:
        self._travelling.popleft()
        if self.open:
            self._end.receive(self._connection, packet)

    def lose(self, first: int | None = 0) -> None:
        """Lose all packets in flight but the `first` ones."""
        while len(self._travelling) > (first or 0):
            self._travelling.pop().cancel()

    @property
    def travelling(self) -> int:
        """The number of packets in flight."""
        return len(self._travelling)

    def end(self, seconds: float) -> None:
        """Report the lost connection to the receiving end, after some seconds."""
        if self.open:
            self._connection.loop.call_later(seconds, self._tell, context=self._context)

    def _tell(self) -> None:
        if self.open:
            self.open = False
            self.lose()
            self._end.lost(self._connection)


class Connection:
    """A connection of a client to the broker."""

    def __init__(self, network: "Network", client_id: str, client: End, context: Context) -> None:
        self.network: Final = network
        self.loop: Final = network.loop
        self.client_id: Final = client_id
        self.keep_alive = 60.0
        self.will: Will | None = None
        self.clean = True
        self.session: Session | None = None
        self._silent = False
        self._up = Direction(self, network.broker, network.context)
        self._down = Direction(self, client, context)

    def up(self, packet: Packet) -> None:
        """Send a packet to the broker."""
        if not self._silent:
            self._up.send(packet)

    def down(self, packet: Packet) -> None:
        """Send a packet to the client."""
        if not self._silent:
            self._down.send(packet)

    def cut(self, *, silent: bool) -> None:
        """Break the connection. Some of the packets in flight may still arrive.

        With `silent`, both ends notice only by the keep-alive.
        """
        if self._silent:
            return
        self._silent = True
        for direction in (self._up, self._down):
            direction.lose(self.network.dice.randint(0, direction.travelling))
            patience = self.keep_alive * KEEP_ALIVE_FACTOR
            seconds = patience if silent else self.network.largest_delay * 2
            direction.end(seconds)

    @property
    def passes(self) -> bool:
        """True while packets pass in both directions."""
        return not self._silent and self._up.open and self._down.open

    def close(self, *, told: bool) -> None:
        """End the connection from the client's side; with `told`, it has sent DISCONNECT."""
        self._down.open = False
        self._down.lose()
        if told:
            return  # the broker ends it when the packet arrives
        self._silent = True
        self._up.lose(self.network.dice.randint(0, self._up.travelling))
        self._up.end(self.network.largest_delay * 2)

    def end_by_broker(self) -> None:
        """End the connection from the broker's side."""
        self._silent = True
        self._up.open = False
        self._up.lose()
        self._down.end(self.network.delay())


@dataclass(slots=True)
class Message:
    """A published message."""

    topic: str
    payload: bytes
    qos: int
    retain: bool = False
    latest: float | None = None
    """The time of the loop at which it expires."""


class Received(NamedTuple):
    """A QoS 2 message of a client that is not released yet."""

    message: Message
    published: bool
    """Whether it was published at once, or waits for PUBREL."""


@dataclass(slots=True)
class Session:
    """The broker's state of a client."""

    client_id: str
    persistent: bool
    connection: Connection | None = None
    subscriptions: dict[str, int] = field(default_factory=dict)
    queue: deque[Message] = field(default_factory=deque)
    in_flight: OrderedDict[int, Message | None] = field(default_factory=OrderedDict)
    """Sent messages by packet id; None once the client has sent PUBREC."""
    received: dict[int, "Received"] = field(default_factory=dict)
    """QoS 2 messages of the client, until PUBREL."""
    last_mid: int = 0

    @property
    def empty(self) -> bool:
        """True if the client has confirmed everything."""
        return not self.queue and not self.in_flight


class Broker:
    """The broker. It keeps persistent sessions until it is restarted without them."""

    def __init__(self, network: "Network") -> None:
        self._network = network
        self.sessions: Final[dict[str, Session]] = {}
        self.retained: Final[dict[str, Message]] = {}
        self.listeners: Final[list[Callable[[str, Message, int], object]]] = []
        """Called when a message is published: with the client id, the message, and how many
        sessions it was for."""
        self.dropped: Final[list[tuple[float, Message]]] = []
        """The messages that have expired before they were sent, with the time of the loop."""
        self.on_drop: Callable[[Message], object] = _ignore
        """Called with each of them."""
        self.on_acknowledgement: Callable[[str, Message], object] = _ignore
        """Called when a client has acknowledged a message: with its id and the message."""
        self.forgotten: Final[set[tuple[str, str]]] = set()
        """The client ids and filters of the subscriptions that ended with a restart, and that were
        not made again."""
        self.refused: Final[set[str]] = set()
        """The filters that nobody may subscribe to."""
        self.publishes_at_release = True
        """Whether a QoS 2 message is published with PUBREL, or with its first packet."""
        self.reuses_packet_ids = False
        """Whether the lowest free packet id is used, or the next one."""

    def receive(self, connection: Connection, packet: Packet) -> None:
        """See `End`."""
        if packet.kind == "connect":
            self._connect(connection)
            return
        session = connection.session
        if session is None or session.connection is not connection:
            return
        match packet.kind:
            case "publish":
                self._published(connection, session, packet)
            case "pubrel":
                received = session.received.pop(packet.mid, None)
                if received is not None and not received.published:
                    self.publish(connection.client_id, received.message)
                connection.down(Packet("pubcomp", packet.mid))
            case "puback" | "pubcomp":
                self._acknowledged(session, session.in_flight.pop(packet.mid, None))
                self._pump(session)
            case "pubrec":
                if packet.mid in session.in_flight:
                    self._acknowledged(session, session.in_flight[packet.mid])
                    session.in_flight[packet.mid] = None
                connection.down(Packet("pubrel", packet.mid))
            case "pingreq":
                connection.down(Packet("pingresp"))
            case "subscribe":
                self._subscribe(connection, session, packet)
            case "unsubscribe":
                for pattern, _ in packet.filters:
                    session.subscriptions.pop(pattern, None)
            case "disconnect":
                connection.will = None
                connection.end_by_broker()
                self.lost(connection)

    def _acknowledged(self, session: Session, message: Message | None) -> None:
        if message is not None:
            self.on_acknowledgement(session.client_id, message)

    def _connect(self, connection: Connection) -> None:
        session = self.sessions.get(connection.client_id)
        if session is not None and session.connection is not None:
            old = session.connection
            old.end_by_broker()
            self.lost(old)
            session = self.sessions.get(connection.client_id)
        present = session is not None and not connection.clean
        if session is None or not present:
            session = Session(connection.client_id, not connection.clean)
            self.sessions[connection.client_id] = session
        session.connection, connection.session = connection, session
        connection.down(Packet("connack", session_present=present))
        for mid, message in session.in_flight.items():
            if message is None:
                connection.down(Packet("pubrel", mid))
            else:
                self._send(session, mid, message, dup=True)
        self._pump(session)

    def _published(self, connection: Connection, session: Session, packet: Packet) -> None:
        latest = None if packet.expiry is None else connection.loop.time() + packet.expiry
        message = Message(packet.topic, packet.payload, packet.qos, packet.retain, latest)
        if packet.qos < 2:
            self.publish(connection.client_id, message)
            if packet.qos == 1:
                connection.down(Packet("puback", packet.mid))
            return
        before = session.received.get(packet.mid)
        # A client that has lost its state uses the id again for another message. mosquitto looks.
        if before is None or before.message.payload != message.payload:
            at_once = not self.publishes_at_release
            session.received[packet.mid] = Received(message, at_once)
            if at_once:
                self.publish(connection.client_id, message)
        connection.down(Packet("pubrec", packet.mid))

    def _subscribe(self, connection: Connection, session: Session, packet: Packet) -> None:
        granted = [(pattern, qos) for pattern, qos in packet.filters if pattern not in self.refused]
        codes = tuple(REFUSAL if p in self.refused else qos for p, qos in packet.filters)
        connection.down(Packet("suback", packet.mid, codes=codes))
        for pattern, qos in granted:
            session.subscriptions[pattern] = qos
            self.forgotten.discard((connection.client_id, pattern))
            for topic, message in list(self.retained.items()):
                if matches(pattern, topic):
                    kept = Message(topic, message.payload, min(message.qos, qos), retain=True)
                    session.queue.append(kept)
        self._pump(session)

    def publish(self, client_id: str, message: Message) -> None:
        """Give a message to all sessions with a subscription for it."""
        if message.retain:
            if message.payload:
                self.retained[message.topic] = message
            else:
                self.retained.pop(message.topic, None)
        receivers = 0
        for session in list(self.sessions.values()):
            granted = [
                qos
                for pattern, qos in session.subscriptions.items()
                if matches(pattern, message.topic)
            ]
            if not granted:
                continue
            qos = min(message.qos, max(granted))
            if qos > 0 or session.connection is not None:
                receivers += 1
                copy = Message(message.topic, message.payload, qos, latest=message.latest)
                session.queue.append(copy)
                self._pump(session)
        for listener in self.listeners:
            listener(client_id, message, receivers)

    def _pump(self, session: Session) -> None:
        """Send queued messages, as many as may be in flight."""
        while session.connection is not None and session.queue:
            if session.queue[0].qos > 0 and len(session.in_flight) >= MAX_IN_FLIGHT:
                return
            message = session.queue.popleft()
            if message.latest is not None and message.latest <= self._network.loop.time():
                self.dropped.append((self._network.loop.time(), message))
                self.on_drop(message)
                continue
            mid = 0
            if message.qos > 0:
                mid = self._free_mid(session)
                session.in_flight[mid] = message
            self._send(session, mid, message, dup=False)

    def _free_mid(self, session: Session) -> int:
        mid = 0 if self.reuses_packet_ids else session.last_mid
        while True:
            mid = mid % 65535 + 1
            if mid not in session.in_flight:
                session.last_mid = mid
                return mid

    @staticmethod
    def _send(session: Session, mid: int, message: Message, *, dup: bool) -> None:
        assert session.connection is not None
        session.connection.down(
            Packet("publish", mid, message.topic, message.payload, message.qos, message.retain, dup)
        )

    def end(self, *, keeps_sessions: bool) -> None:
        """End without a message, and lose everything that is not on the disk."""
        for session in self.sessions.values():
            if session.connection is not None:
                session.connection.end_by_broker()
                session.connection = None
        if keeps_sessions:
            for client_id in [c for c, s in self.sessions.items() if not s.persistent]:
                del self.sessions[client_id]
        else:
            self.forgotten.update(
                (client_id, pattern)
                for client_id, session in self.sessions.items()
                for pattern in session.subscriptions
            )
            self.sessions.clear()
            self.retained.clear()

    def lost(self, connection: Connection) -> None:
        """See `End`. Publish the last will, unless the client has said goodbye."""
        session = connection.session
        if session is None or session.connection is not connection:
            return
        session.connection = None
        if not session.persistent:
            self.sessions.pop(session.client_id, None)
        will = connection.will
        if will is not None:
            self.publish(
                connection.client_id, Message(will.topic, will.payload, will.qos, will.retain)
            )


class Network:
    """The broker, and the connections of all clients to it."""

    def __init__(self, loop: asyncio.AbstractEventLoop, dice: random.Random) -> None:
        self.loop: Final = loop
        self.dice: Final = dice
        self.context: Final = Context()
        self.broker: Final = Broker(self)
        self.largest_delay = 0.002
        """Seconds that a packet travels at most."""
        self.blocked: Final[set[str]] = set()
        """The ids of clients that cannot reach the broker."""
        self.on_delivery: Callable[[Process | None, Packet], object] = _ignore
        """Called when a message arrives at a client, with the process of it."""
        self.links: Final[list[Link]] = []
        """The clients that have not ended."""
        self.losses = 0
        """How many connections were lost, and tries to connect failed."""
        self._connections: dict[str, Connection] = {}
        self._down: asyncio.TimerHandle | None = None

    @property
    def senders(self) -> list[str]:
        """The ids of the clients with messages that the broker has not confirmed."""
        return [link.name for link in self.links if link.unconfirmed]

    def delay(self) -> float:
        """Return the seconds that a packet travels."""
        return self.dice.random() * self.largest_delay

    def connect(
        self, client_id: str, client: End, context: Context, *, keep_alive: float,
        will: Will | None, clean: bool,
    ) -> Connection | None:  # fmt: skip
        """Open a connection and send CONNECT; None if the broker cannot be reached."""
        if client_id in self.blocked or self._down is not None:
            self.losses += 1
            return None
        connection = Connection(self, client_id, client, context)
        connection.keep_alive, connection.will, connection.clean = keep_alive, will, clean
        self._connections[client_id] = connection
        connection.up(Packet("connect"))
        return connection

    def cut(self, client_id: str, *, silent: bool = False) -> None:
        """Break the connection of a client, if it has one."""
        connection = self._connections.get(client_id)
        if connection is not None:
            self.losses += 1
            connection.cut(silent=silent)

    def connection(self, client_id: str) -> Connection | None:
        """Return the connection of a client if packets pass through it."""
        connection = self._connections.get(client_id)
        return connection if connection is not None and connection.passes else None

    def restart_broker(self, down: float, *, keeps_sessions: bool) -> None:
        """End the broker and all connections, and start it again after some seconds.

        It publishes no last will. Without `keeps_sessions` it also forgets what it has retained.
        """
        for client_id in tuple(self._connections):
            self.cut(client_id)
        self.broker.end(keeps_sessions=keeps_sessions)
        if self._down is not None:
            self._down.cancel()
        self._down = self.loop.call_later(down, self.start_broker, context=self.context)

    def start_broker(self) -> None:
        """Start the broker if it does not run."""
        if self._down is not None:
            self._down.cancel()
            self._down = None


def _ignore(*_: object) -> None:
    """Do nothing."""
