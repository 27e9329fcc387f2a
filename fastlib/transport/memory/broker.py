"""A broker in this process: the rules of MQTT without a network, for tests and demonstrations."""

import threading
from collections import OrderedDict
from collections.abc import Callable
from itertools import count
from typing import Protocol

from fastlib.transport.filters import matches
from fastlib.transport.messages import InboundMessage


class Post:
    """A message on its way to one client."""

    __slots__ = ("duplicate", "payload", "qos", "retain", "topic")

    def __init__(self, topic: str, payload: bytes, qos: int, retain: bool) -> None:
        self.topic = topic
        self.payload = payload
        self.qos = qos
        self.retain = retain
        self.duplicate = False


class Client(Protocol):
    """What the broker needs to know of a connected client."""

    def arrived(self, arrival: InboundMessage) -> None:
        """A message for the client. Only enqueues."""

    def taken_over(self) -> None:
        """Another client has connected with the same id."""

    def cut_off(self) -> None:
        """The connection is cut."""

    def mended(self) -> None:
        """A connection that was cut may be made again."""

    def last_will(self) -> Post | None:
        """What is to be sent if the client vanishes."""


class Session:
    """What the broker knows of a client, connected or not."""

    def __init__(self, client_id: str, persistent: bool) -> None:
        self.client_id = client_id
        self.persistent = persistent
        self.client: Client | None = None
        self.subscriptions: dict[str, int] = {}
        self.waiting: OrderedDict[int, Post] = OrderedDict()
        """Posts with QoS 1 and 2 that the client has not acknowledged, oldest first."""
        self._numbers = count(1)

    def post(self, post: Post) -> None:
        """Hand a post to the client, or keep it for later."""
        number = next(self._numbers)
        if post.qos > 0:
            self.waiting[number] = post
        if self.client is not None:
            self._hand(number, post)

    def _hand(self, number: int, post: Post) -> None:
        assert self.client is not None

        def ack() -> None:
            self.waiting.pop(number, None)

        self.client.arrived(
            InboundMessage(post.topic, post.payload, post.qos, post.retain, post.duplicate, ack)
        )
        post.duplicate = True

    def resume(self) -> None:
        """Hand over what waits."""
        for number, post in list(self.waiting.items()):
            self._hand(number, post)


class MemoryBroker:
    """Clients connect with `connect(MemoryOptions(broker=broker))`, as many as you like.

    QoS 0 is lost for a client that is away, QoS 1 and 2 wait in its session if that is
    persistent; the newest retained message of a topic is kept, an empty one deletes it; a client
    that is cut off has its will sent. `cut` and `mend` play faults.
    """

    def __init__(self) -> None:
        self.lock = threading.RLock()
        """Guards the broker and its links: one at a time, so that order is what it was."""
        self._sessions: dict[str, Session] = {}
        self._retained: dict[str, Post] = {}
        self._cut: dict[str, list[Callable[[], None]]] = {}

    def attach(self, client: Client, client_id: str, persistent: bool) -> Session | None:
        """Connect a client; None while its id is cut off. For links."""
        with self.lock:
            if client_id in self._cut:
                self._cut[client_id].append(client.mended)
                return None
            old = self._sessions.get(client_id)
            if old is not None and old.client is not None and old.client is not client:
                gone, old.client = old.client, None
                self._send_will(gone)
                gone.taken_over()
            if old is None or not (persistent and old.persistent):
                old = self._sessions[client_id] = Session(client_id, persistent)
            old.client = client
            return old

    def detach(self, session: Session, client: Client) -> None:
        """A client says goodbye. For links."""
        with self.lock:
            if session.client is not client:
                return
            session.client = None
            if not session.persistent:
                self._sessions.pop(session.client_id, None)

    def publish(self, post: Post) -> None:
        """A message from a client. For links."""
        with self.lock:
            if post.retain:
                if post.payload:
                    self._retained[post.topic] = post
                else:
                    self._retained.pop(post.topic, None)
            for session in list(self._sessions.values()):
                granted = [
                    qos
                    for pattern, qos in session.subscriptions.items()
                    if matches(pattern, post.topic)
                ]
                if granted and (session.client is not None or min(post.qos, max(granted)) > 0):
                    session.post(Post(post.topic, post.payload, min(post.qos, max(granted)), False))

    def subscribe(self, session: Session, pattern: str, qos: int) -> None:
        """Subscribe a session and hand over what was retained. For links."""
        with self.lock:
            session.subscriptions[pattern] = qos
            for topic, post in list(self._retained.items()):
                if matches(pattern, topic):
                    session.post(Post(topic, post.payload, min(post.qos, qos), True))

    def unsubscribe(self, session: Session, pattern: str) -> None:
        """End a subscription. For links."""
        with self.lock:
            session.subscriptions.pop(pattern, None)

    def cut(self, client_id: str) -> None:
        """Cut a client off, as if its cable were pulled, until `mend`. Its will is sent."""
        with self.lock:
            self._cut.setdefault(client_id, [])
            session = self._sessions.get(client_id)
            if session is None or session.client is None:
                return
            client, session.client = session.client, None
            if not session.persistent:
                del self._sessions[client_id]
            self._cut[client_id].append(client.mended)
            client.cut_off()
            self._send_will(client)

    def mend(self, client_id: str) -> None:
        """Let a client that was cut off connect again, which it does at once."""
        with self.lock:
            waiting = self._cut.pop(client_id, [])
        for mended in waiting:
            mended()

    def _send_will(self, client: Client) -> None:
        will = client.last_will()
        if will is not None:
            self.publish(will)
