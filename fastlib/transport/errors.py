"""Every error of the transport, in one tree::

FastlibError
└── TransportError
    ├── OptionsError          the options contradict each other or are out of range
    ├── TopicError            an invalid topic or filter by the rules of MQTT
    ├── SubscriptionError     no such subscription, or its messages go to a callback
    ├── ConnectError          no connection in time; has `.last`
    │   └── RefusedError      the broker refuses the connection; a retry would not help
    ├── ListenError           a broker of this process cannot listen, or end
    │   └── MosquittoMissingError   mosquitto is not installed
    ├── ClientIdTakenError    another client uses the same client id
    ├── WaitTimeoutError      a timeout passed
    ├── QueueFullError        no room for a further message; it was not accepted
    ├── ForkedError           another process has made the communicator, before a fork
    ├── LoopError             a communicator for coroutines is used without its event loop
    ├── UndeliveredError      messages that no broker has confirmed; has `.messages`
    │   ├── ExpiredError      a message whose expiry passed before it could be sent
    │   └── MessageTooLargeError  a message that the broker does not take, as far as it is known
    └── ClosedError           the communicator is closed; the text says why; has `.failure`
"""

from collections.abc import Iterable
from typing import Final, Literal

import msgspec

from fastlib.codec.errors import FastlibError
from fastlib.codec.printable import printable

WRONG_USER: Final = frozenset({0x86, 0x87})
"""Reason codes of a CONNACK about the user: password, authorization."""
USER_MISSING: Final = "; give the name and the password of a user"
"""The remedy if a connection without a user was refused."""


class TransportError(FastlibError):
    """Base of all errors of the transport."""


class OptionsError(TransportError, ValueError):
    """The options contradict each other or are out of range."""


class TopicError(TransportError, ValueError):
    """A topic or a filter breaks the rules of MQTT."""

    def __init__(self, topic: str, why: str) -> None:
        self.topic: Final = topic
        self.why: Final = why
        super().__init__(f"{topic[:200]!r} {why}")


class SubscriptionError(TransportError):
    """There is no such subscription, or its messages go to a callback."""


class ConnectError(TransportError, ConnectionError):
    """There was no connection in time. `last` is the last failure, if there was one."""

    def __init__(self, text: str, last: BaseException | None = None) -> None:
        self.last: Final = last
        super().__init__(text)


INSTALL_MOSQUITTO: Final = "apt-get install mosquitto"


class RefusedError(ConnectError):
    """The broker refuses, or its certificate is invalid: a retry would fail in the same way.

    `code` is the MQTT 5 reason code (MQTT 3.1.1 codes are translated), or None.
    """

    def __init__(
        self, text: str, code: int | None = None, last: BaseException | None = None
    ) -> None:
        self.code: Final = code
        super().__init__(text, last)


class ListenError(TransportError, OSError):
    """A broker of this process cannot listen, for example on a port in use, or does not end."""


class MosquittoMissingError(ListenError):
    """mosquitto is not installed; the text has the command that installs it."""

    def __init__(self) -> None:
        super().__init__(f"mosquitto is not installed: {INSTALL_MOSQUITTO}")


MAX_REASON: Final = 200
"""The maximum number of characters of a broker's reason string that are shown."""

_REASONS: Final = {
    0x80: "no reason given",
    0x81: "malformed packet",
    0x82: "protocol error",
    0x83: "implementation specific error",
    0x87: "not authorized",
    0x89: "server busy",
    0x8B: "server shutting down",
    0x8D: "keep alive timeout",
    0x8E: "session taken over",
    0x8F: "topic filter invalid",
    0x90: "topic name invalid",
    0x91: "packet identifier in use",
    0x93: "receive maximum exceeded",
    0x95: "packet too large",
    0x96: "message rate too high",
    0x97: "quota exceeded",
    0x98: "administrative action",
    0x99: "payload format invalid",
    0x9A: "retained messages not supported",
    0x9B: "quality of service not supported",
    0x9C: "use another server",
    0x9D: "server moved",
    0x9E: "shared subscriptions not supported",
    0x9F: "connection rate exceeded",
    0xA0: "maximum connect time",
    0xA1: "subscription identifiers not supported",
    0xA2: "wildcard subscriptions not supported",
}


def reason(code: int, said: object = "") -> str:
    """Return a reason code of a refusal in words (MQTT 5, section 2.4).

    `said` is the broker's reason string, in its own words: it is escaped and bounded.
    """
    text = f"{_REASONS.get(code, 'refused')} ({code:#x})"
    return f"{text}: the broker says {shown_reason(said)}" if said else text


def user_hint(code: int, has_user: bool) -> str:
    """Return the remedy for a refusal with a reason code, if it is about the user."""
    if code not in WRONG_USER:
        return ""
    return "; check the name and the password of the user" if has_user else USER_MISSING


def shown_reason(said: object) -> str:
    """Return a broker's reason string for people, in quotes."""
    text = str(said)
    short = text if len(text) <= MAX_REASON else text[:MAX_REASON] + "..."
    return f'"{printable(short)}"'


class ClientIdTakenError(TransportError):
    """Another client uses the same client id, and the broker keeps only the newest connection.

    Without `certain`, the network may be the cause.
    """

    def __init__(self, client_id: str, certain: bool) -> None:
        """`certain` is False if the broker gave no reason (MQTT 3.1.1)."""
        self.client_id: Final = client_id
        self.certain: Final = certain
        super().__init__(
            f"another client uses the client id {client_id!r}: the broker ends the older "
            "connection each time; give each program an id of its own"
            if certain
            else "connections ended several times in a row while nothing was being sent, and the "
            f"broker kept running: another client may use the client id {client_id!r} (give each "
            "program an id of its own), or the network ends connections"
        )


class WaitTimeoutError(TransportError, TimeoutError):
    """A timeout passed."""


class ForkedError(TransportError):
    """Another process has made the communicator, and a fork has copied it. Nothing was sent.

    A fork copies neither the connection nor the threads. Each process needs its own communicator.
    """

    def __init__(self, name: str, owner: int, own: int) -> None:
        """`name` is the client and the broker; `owner` and `own` are process ids."""
        super().__init__(
            f"{name}: process {owner} has opened it, and this is process {own}: a fork copies "
            "neither its connection nor its threads; connect in each process, after the fork"
        )


class LoopError(TransportError):
    """A communicator for coroutines is used in another event loop, or its loop has ended."""


class QueueFullError(TransportError):
    """The maximum number of messages waits for the broker; this one was not accepted."""


class Undelivered(msgspec.Struct, frozen=True):
    """An accepted message that no broker has confirmed."""

    topic: str
    qos: int
    size: int
    """The size of the payload in bytes."""
    sent: bool
    """True if it was in flight, so it may have arrived."""


class UndeliveredError(TransportError):
    """`close` could not deliver all messages; `messages` lists them, oldest first."""

    def __init__(self, messages: Iterable[Undelivered], why: str) -> None:
        self.messages: Final = tuple(messages)
        first = ", ".join(sorted({message.topic for message in self.messages[:100]})[:5])
        super().__init__(f"{len(self.messages)} messages not confirmed ({why}), topics: {first}")


class ExpiredError(UndeliveredError):
    """The expiry of a message passed before a broker has confirmed it.

    `messages[0].sent` is False if it was never sent; it will not be sent later. It is True only if
    the message was in flight when the broker lost the session. Then it may have arrived.
    """

    def __init__(self, message: Undelivered, expiry: float, last_error: object = None) -> None:
        super().__init__((message,), "expired")
        how = "sent, not confirmed, and may have arrived" if message.sent else "not sent"
        why = "" if last_error is None else f": {last_error}"
        self.args = (f"a message to {message.topic} expired after {expiry:g} s; it was {how}{why}",)


class MessageTooLargeError(UndeliveredError):
    """A message is larger than the broker accepts. It is not sent, or not sent again.

    `packet` is the size of its packet in bytes: the payload, the topic and the header. `limit` is
    the largest packet that may be sent; None if the broker does not say. `source` is where the
    limit comes from: `broker`, `option` (`largest_packet`), `MQTT`, or `inferred` if the broker
    ended the connection each time while it was being sent.
    """

    def __init__(
        self,
        message: Undelivered,
        packet: int,
        limit: int | None,
        source: Literal["MQTT", "broker", "option", "inferred"],
        why: str = "",
    ) -> None:
        """`why` is the broker's answer or action, if there is no limit."""
        super().__init__((message,), "too large")
        self.packet: Final = packet
        self.limit: Final = limit
        self.source: Final = source
        text = f"a message to {message.topic} is too large: {message.size} bytes"
        if packet != message.size:
            text += f", {packet} with its topic and header"
        if limit is not None:
            text += f"; {_LIMIT_OF[source]} at most {limit} bytes"
        self.args = (text + why,)


_LIMIT_OF: Final = {
    "MQTT": "MQTT allows",
    "broker": "the broker takes",
    "option": "the option `largest-packet` allows",
    "inferred": "the broker seems to take",
}


class ClosedError(TransportError):
    """The communicator is closed, or was closed while this waited. The text says why it ended.

    `failure` is None if the program has closed it. Otherwise the communicator has ended without
    `close`. Then `failure` is the cause: the ConnectError with which it could not be opened, or any
    exception that its network thread has raised, which is a defect.
    """

    def __init__(self, text: str, failure: BaseException | None = None) -> None:
        self.failure: Final = failure
        super().__init__(text)
        self.__cause__ = failure

    def again(self) -> "ClosedError":
        """Return an equal error for another caller, because raising one adds to its traceback."""
        return ClosedError(str(self), self.failure)


def closed_by_program(name: str) -> ClosedError:
    """Return the error of a communicator that the program has closed."""
    return ClosedError(f"{name} is closed: the program has closed it")


def closed_by_failed_open(name: str, failure: BaseException) -> ClosedError:
    """Return the error of a communicator that could not be opened."""
    why = str(failure).removeprefix(f"{name}: ")
    return ClosedError(f"{name} is closed: it could not be opened: {why}", failure)


def closed_by_defect(name: str, failure: BaseException) -> ClosedError:
    """Return the error of a communicator whose network thread has raised an exception."""
    return ClosedError(
        f"{name} is closed: its network thread has failed, which is a defect of fastlib: "
        f"{failure!r}; the log has the traceback",
        failure,
    )
