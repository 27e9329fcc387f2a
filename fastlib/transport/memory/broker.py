"""A broker in this process: the rules of MQTT without a network, for tests and demonstrations."""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from itertools import count
from typing import Protocol

from fastlib.transport.filters import is_shared, matches, overlap, own_filter
from fastlib.transport.messages import InboundMessage
from fastlib.transport.packet_size import check_largest_packet


class PublishedMessage:
    """A message from a client, or one copy of it for another client."""

    __slots__ = ("duplicate", "latest", "payload", "qos", "retain", "topic")

    def __init__(
        self, topic: str, payload: bytes, qos: int, retain: bool, latest: float | None = None
    ) -> None:
        """`latest` is the monotonic time at which it expires; None is never."""
        self.topic = topic
        self.payload = payload
        self.qos = qos
        self.retain = retain
        self.latest = latest
        self.duplicate = False

    @property
    def has_expired(self) -> bool:
        """True if its expiry has passed."""
        return self.latest is not None and self.latest <= time.monotonic()


class Client(Protocol):
    """The methods of a connected client that the broker calls."""

    def on_message(self, message: InboundMessage) -> None:
        """Handle a message for the client. Only enqueues."""

    def on_taken_over(self) -> None:
        """Handle the connection of another client with the same id."""

    def on_cut(self) -> None:
        """Handle a cut of the connection."""

    def on_mend(self) -> None:
        """Connect again after `mend`."""

    def will(self) -> PublishedMessage | None:
        """Return the message to publish if the client vanishes."""


class Session:
    """The broker's state of a client, connected or not."""

    def __init__(self, client_id: str, persistent: bool) -> None:
        self.client_id = client_id
        self.persistent = persistent
        self.client: Client | None = None
        self.subscriptions: dict[str, int] = {}
        self.waiting: OrderedDict[int, PublishedMessage] = OrderedDict()
        """Messages with QoS 1 and 2 that the client has not acknowledged, oldest first."""
        self.connections = 0
        """Connections of the session so far."""
        self.place = (0, 0)
        """The `connection` and `session_start` of messages, set by the link."""
        self._numbers = count(1)

    def deliver(self, message: PublishedMessage) -> None:
        """Give a message to the client, or keep it until it connects."""
        number = next(self._numbers)
        if message.qos > 0:
            self.waiting[number] = message
        if self.client is not None:
            self._send(number, message)

    def _send(self, number: int, message: PublishedMessage) -> None:
        assert self.client is not None

        def ack() -> None:
            self.waiting.pop(number, None)

        self.client.on_message(
            InboundMessage(
                message.topic,
                message.payload,
                message.qos,
                message.retain,
                message.duplicate,
                ack,
                number if message.qos else None,
                *self.place,
            )
        )
        message.duplicate = True

    def resume(self) -> None:
        """Give all waiting messages to the client, except expired ones that are new to it."""
        for number, message in list(self.waiting.items()):
            if message.has_expired and not message.duplicate:
                del self.waiting[number]
            else:
                self._send(number, message)


class MemoryBroker:
    """A broker for any number of clients: `connect(MemoryOptions(broker=broker))`.

    A disconnected client loses messages with QoS 0. Messages with QoS 1 and 2 wait in its session
    if that is persistent, until they expire. The newest retained message of a topic is kept; an
    empty one deletes it.
    The broker publishes the will of a client that is cut off. `cut` and `mend` simulate faults.
    """

    def __init__(self, *, largest_packet: int | None = None) -> None:
        """`largest_packet` is the largest packet of MQTT in bytes that it takes; None is MQTT's."""
        self.largest_packet = check_largest_packet(largest_packet)
        self.lock = threading.RLock()
        """Guards the broker and its links, so all messages keep their order."""
        self._sessions: dict[str, Session] = {}
        self._retained: dict[str, PublishedMessage] = {}
        self._turns: dict[str, int] = {}
        """By shared subscription, the number of the last message."""
        self._cut: dict[str, list[Callable[[], None]]] = {}

    def attach(self, client: Client, client_id: str, persistent: bool) -> Session | None:
        """Connect a client; return None while its id is cut off. Called by links."""
        with self.lock:
            if client_id in self._cut:
                self._cut[client_id].append(client.on_mend)
                return None
            old = self._sessions.get(client_id)
            if old is not None and old.client is not None and old.client is not client:
                gone, old.client = old.client, None
                self._send_will(gone)
                gone.on_taken_over()
            if old is None or not (persistent and old.persistent):
                old = self._sessions[client_id] = Session(client_id, persistent)
            old.client = client
            old.connections += 1
            return old

    def detach(self, session: Session, client: Client, publish_will: bool = False) -> None:
        """Disconnect a client, by default without its will. Called by links."""
        with self.lock:
            if session.client is not client:
                return
            session.client = None
            if not session.persistent:
                self._sessions.pop(session.client_id, None)
            if publish_will:
                self._send_will(client)

    def publish(self, message: PublishedMessage) -> None:
        """Publish a message of a client. Called by links."""
        with self.lock:
            if message.retain:
                if message.payload:
                    self._retained[message.topic] = message
                else:
                    self._retained.pop(message.topic, None)
            groups: dict[str, list[tuple[Session, int]]] = {}
            for session in list(self._sessions.values()):
                granted = []
                for pattern, qos in session.subscriptions.items():
                    if not matches(own_filter(pattern), message.topic):
                        continue
                    if is_shared(pattern):
                        groups.setdefault(pattern, []).append((session, qos))
                    else:
                        granted.append(qos)
                if granted and (session.client is not None or min(message.qos, max(granted)) > 0):
                    session.deliver(
                        PublishedMessage(
                            message.topic,
                            message.payload,
                            min(message.qos, max(granted)),
                            False,
                            message.latest,
                        )
                    )

            for pattern, members in groups.items():
                self._deliver_to_one(pattern, members, message)

    def _deliver_to_one(
        self, pattern: str, members: list[tuple[Session, int]], message: PublishedMessage
    ) -> None:
        """Deliver a message to one session of a shared subscription, each in turn."""
        connected = [member for member in members if member[0].client is not None]
        turn = self._turns[pattern] = self._turns.get(pattern, -1) + 1
        session, qos = (connected or members)[turn % len(connected or members)]
        qos = min(message.qos, qos)
        if connected or qos > 0:
            session.deliver(
                PublishedMessage(message.topic, message.payload, qos, False, message.latest)
            )

    def subscribe(self, session: Session, pattern: str, qos: int, retained: bool = True) -> None:
        """Subscribe a session, and deliver the retained messages. Called by links."""
        with self.lock:
            covered = any(overlap(other, pattern) for other in session.subscriptions)
            session.subscriptions[pattern] = qos
            if covered and not retained:
                return
            if is_shared(pattern):
                return  # gets no retained messages (MQTT 5, section 4.8.2)
            for topic, message in list(self._retained.items()):
                if message.has_expired:
                    del self._retained[topic]
                elif matches(pattern, topic):
                    qos_of_copy = min(message.qos, qos)
                    session.deliver(
                        PublishedMessage(topic, message.payload, qos_of_copy, True, message.latest)
                    )

    def unsubscribe(self, session: Session, pattern: str) -> None:
        """End a subscription. Called by links."""
        with self.lock:
            session.subscriptions.pop(pattern, None)

    def cut(self, client_id: str) -> None:
        """Cut the connection of a client until `mend`, and publish its will."""
        with self.lock:
            self._cut.setdefault(client_id, [])
            session = self._sessions.get(client_id)
            if session is None or session.client is None:
                return
            client, session.client = session.client, None
            if not session.persistent:
                del self._sessions[client_id]
            self._cut[client_id].append(client.on_mend)
            client.on_cut()
            self._send_will(client)

    def mend(self, client_id: str) -> None:
        """End a `cut`: the client connects again at once."""
        with self.lock:
            waiting = self._cut.pop(client_id, [])
        for reconnect in waiting:
            reconnect()

    def _send_will(self, client: Client) -> None:
        will = client.will()
        if will is not None:
            self.publish(will)
