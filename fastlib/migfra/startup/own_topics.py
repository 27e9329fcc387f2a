"""Find out whether a broker delivers the messages to the daemon's own topics.

A broker with access rules may confirm a subscription and deliver nothing: mosquitto with `acl_file`
does.
"""

import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final
from uuid import uuid4

import msgspec

from fastlib.message import Query, TaskContainer, topics
from fastlib.message.node import Presence
from fastlib.transport import (
    Communicator,
    MqttOptions,
    ReceivedMessage,
    RefusedError,
    UndeliveredError,
    connect,
)

ECHO_SECONDS: Final = 3.0
"""The maximum time until a message comes back."""
CONNECT_SECONDS: Final = 5.0


class Missing(msgspec.Struct, frozen=True):
    """A topic from which a message has not come back."""

    topic: str
    reason: str
    is_needed: bool
    """True if the daemon cannot start without it."""


def undelivered_topics(options: MqttOptions, host: str) -> Iterator[Missing]:
    """Send a message to each topic that the daemon reads, and yield those that do not come back.

    The connection has the daemon's options, and a client id and a session of its own, so waiting
    orders stay where they are. Nobody acts on the messages: one is the claim of a daemon that does
    not start, the other one a query that has expired. Raises TransportError.
    """
    own = f"{options.client_id or 'migfra'}-check"
    own_options = msgspec.structs.replace(options, client_id=own, persistent=False)
    claim = Presence(status="online", client_id=own, instance=uuid4().hex)
    expired = datetime.fromtimestamp(0, UTC)
    query = TaskContainer(tasks=[Query()], id=f"check-{uuid4().hex}", expires=expired)
    with connect(own_options, timeout=CONNECT_SECONDS) as link:
        status, task = topics.PRESENCE(host), topics.TASK(host)
        if (reason := _echo(link, status, claim.to_yaml().encode())) is not None:
            yield Missing(status, reason, is_needed=True)
        if (reason := _echo(link, task, query.to_yaml().encode())) is not None:
            yield Missing(task, reason, is_needed=reason is _REFUSED)


_REFUSED: Final = "the broker refuses the subscription"
_SILENT: Final = (
    "the broker confirms the subscription, and does not deliver a message of the daemon's own"
)


def _echo(link: Communicator, topic: str, payload: bytes) -> str | None:
    """Send a message to oneself. Return why it does not come back, None if it does."""
    arrived = threading.Event()

    def receive(message: ReceivedMessage) -> None:
        if message.payload == payload:
            arrived.set()

    try:
        link.subscribe(topic, receive)
    except RefusedError:
        return _REFUSED
    try:
        # With QoS 0, no session keeps it for a daemon that comes later.
        link.send(payload, topic, 0)
    except UndeliveredError:  # the broker says that this user may not send it
        return _SILENT
    return None if arrived.wait(ECHO_SECONDS) else _SILENT
