"""The link to an MQTT broker.

One thread, the network's, owns paho's client and everything else that has state; all others put
what they want into a queue and wake it up. So nothing of it needs a lock, and nothing that a user
does or does not do holds up the network.
"""

import atexit
import select
import socket
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from logging import getLogger
from typing import Any, Final
from weakref import WeakSet

import paho.mqtt.client as paho
from paho.mqtt.enums import MQTTErrorCode

from fastlib.transport.backoff import Backoff
from fastlib.transport.delivery import Delivery
from fastlib.transport.errors import (
    ClientIdTakenError,
    ClosedError,
    ConnectError,
    OptionsError,
    RefusedError,
    TransportError,
    Undelivered,
)
from fastlib.transport.messages import InboundMessage
from fastlib.transport.options import MqttOptions

from .client_factory import make_client, port_of
from .inbound import Entry, Incoming
from .outbox import Outbox
from .subscriptions import Subscribing
from .takeover import TakeOver

log = getLogger("fastlib.transport")

CONNACK_SECONDS: Final = 10.0
GOODBYE_SECONDS: Final = 2.0
TICK_SECONDS: Final = 1.0
"""How often the keep-alive is looked after when nothing happens."""

AT_ONCE: Final = 32
"""Packets that are read without writing any."""

HOPELESS: Final = frozenset({0x84, 0x85, 0x86, 0x87, 0x8A, 0x8C})
"""Reason codes of a CONNACK after which the same try would end the same way: protocol version,
client id, password, authorisation, banned, authentication method."""


class MqttLink:
    """A `Link` by paho-mqtt."""

    def __init__(self, options: MqttOptions) -> None:
        self._options = options
        self._client = make_client(options, self._on_message, self._on_release)
        self._client.on_connect = self._on_connect
        self._client.on_disconnect = self._on_disconnect
        self._client.on_publish = self._on_publish
        self._client.on_subscribe = self._on_subscribe
        self._outbox = Outbox(options.max_pending, options.max_inflight)
        self._incoming = Incoming(self._client.acknowledge)
        self._subscribing = Subscribing(self._ask, self._unask)
        self._backoff = Backoff(options.retry_min, options.retry_max)
        self._stable_after = 2 * options.retry_max
        client_id = options.client_id or ""
        self._takeover = TakeOver(client_id, self._stable_after) if client_id else None

        self._commands: deque[Callable[[], None]] = deque()
        self._wake_receiver, self._wake_sender = socket.socketpair()
        self._wake_receiver.setblocking(False)
        self._wake_sender.setblocking(False)
        self._awake = False

        self._arrived: Callable[[InboundMessage], None] | None = None
        self._tell_end: Callable[[TransportError], None] | None = None
        self._reconnected: Callable[[], None] | None = None
        self._opened: Future[None] = Future()
        self._open_until: float | None = None
        self._open_seconds = 0.0
        self._closed: Future[tuple[Undelivered, ...]] = Future()
        self._close_at: float | None = None
        self._ended = False
        self._thread: threading.Thread | None = None

        self._accepted = False
        self._accepted_at = 0.0
        self._disconnect_code: int | None = None
        self._last_error: TransportError | None = None
        self._failure: BaseException | None = None

    # What anyone may call.

    @property
    def name(self) -> str:
        """The client id and the broker."""
        options = self._options
        return f"{options.client_id or 'anonymous'} at {options.host}:{port_of(options)}"

    @property
    def resumes(self) -> bool:
        """True if the session is persistent."""
        return self._options.persistent

    @property
    def is_connected(self) -> bool:
        """True while the broker has accepted us."""
        return self._accepted

    @property
    def last_error(self) -> TransportError | None:
        """The last failure, until a connection has proved itself."""
        return self._last_error

    def open(
        self,
        arrived: Callable[[InboundMessage], None],
        ended: Callable[[TransportError], None],
        reconnected: Callable[[], None],
        timeout: float,
    ) -> "Future[None]":
        """Start the network's thread."""
        self._arrived, self._tell_end, self._reconnected = arrived, ended, reconnected
        self._open_seconds = timeout
        self._open_until = time.monotonic() + timeout
        self._thread = threading.Thread(
            target=self._run, name=f"fastlib network {self.name}", daemon=True
        )
        self._thread.start()
        _opened.add(self)
        return self._opened

    def tell_what_is_lost(self) -> None:
        """The program ends: log what it had no `close` for, as nobody else will say so."""
        if left := len(self._outbox):
            log.error(
                "%s: the program ends without `close`, before the broker has confirmed %d messages",
                self.name,
                left,
            )

    def send(self, delivery: Delivery) -> None:
        """Put into the outbox."""
        if self._close_at is not None or self._ended:
            raise ClosedError(f"{self.name} is closed")
        self._outbox.accept(delivery, self._accepted, self._last_error)
        self._wake()

    def room(self) -> "Future[None]":
        """Room in the outbox."""
        return self._outbox.room()

    def subscribe(self, pattern: str, qos: int) -> "Future[None]":
        """Ask the broker."""
        confirmed: Future[None] = Future()
        self._do(lambda: self._subscribing.add(pattern, qos, confirmed, self._accepted))
        if self._ended:  # so that nobody waits for a thread that is gone
            self._subscribing.fail(ClosedError(f"{self.name} is closed"))
            confirmed.cancel()
        return confirmed

    def unsubscribe(self, pattern: str) -> None:
        """Ask the broker."""
        self._do(lambda: self._subscribing.remove(pattern, self._accepted))

    def close(self, timeout: float) -> "Future[tuple[Undelivered, ...]]":
        """Deliver, say goodbye, end the thread."""
        if self._close_at is None:
            self._close_at = time.monotonic() + timeout
        if self._thread is None:
            self._finish()
        self._wake()
        return self._closed

    def _do(self, command: Callable[[], None]) -> None:
        self._commands.append(command)
        self._wake()

    def _wake(self) -> None:
        if not self._awake:
            self._awake = True
            with suppress(OSError):  # full, so that it is awake anyway, or closed
                self._wake_sender.send(b"x")

    # The network's thread.

    def _run(self) -> None:
        try:
            while not self._done():
                self._connect()
                if self._accepted:
                    self._converse()
                if not self._done():
                    self._pause()
        except BaseException as error:
            log.exception("%s: the network's thread failed", self.name)
            self._failure = error
        finally:
            self._finish()

    def _done(self) -> bool:
        """True if there is nothing left to do here."""
        now = time.monotonic()
        if self._close_at is not None and (not len(self._outbox) or now >= self._close_at):
            return True
        if self._opened.done():
            return self._opened.exception() is not None
        assert self._open_until is not None
        if now >= self._open_until:
            text = f"{self.name}: no connection within {self._open_seconds:g} s"
            if self._last_error is not None:
                text += f": {self._last_error}"
            self._opened.set_exception(ConnectError(text, self._last_error))
            return True
        return False

    def _connect(self) -> None:
        self._disconnect_code = None
        try:
            self._client.reconnect()
        except ssl.SSLCertVerificationError as error:
            self._hopeless(RefusedError(f"{self.name}: {error}", last=error))
        except (OSError, ValueError) as error:
            if self._takeover is not None:
                self._takeover.broker_gone()
            self._failed(ConnectError(f"cannot reach {self.name}: {error}", error))
        else:
            latest = time.monotonic() + CONNACK_SECONDS
            while self._client.socket() is not None and not self._accepted and not self._done():
                if time.monotonic() > latest:
                    self._failed(ConnectError(f"{self.name} does not answer"))
                    return
                self._turn(TICK_SECONDS)
            if not self._accepted and self._last_error is None:
                self._failed(ConnectError(f"{self.name} ended the connection at once"))

    def _converse(self) -> None:
        while self._client.socket() is not None and not self._done():
            self._outbox.feed(self._publish)
            self._turn(TICK_SECONDS)
            if self._last_error and time.monotonic() - self._accepted_at > self._stable_after:
                self._last_error = None
        if self._client.socket() is not None:
            return  # done: `_finish` says goodbye
        lifetime = time.monotonic() - self._accepted_at
        self._accepted = False
        self._outbox.connection_lost()
        if lifetime > self._stable_after:
            self._backoff.reset()
        taken = self._takeover and self._takeover.ended(lifetime, self._disconnect_code)
        if taken:
            if not isinstance(self._last_error, ClientIdTakenError):
                log.error("%s: %s", self.name, taken)
            self._last_error = taken
            if taken.certain:
                self._backoff.slowest()
        else:
            self._failed(ConnectError(f"the connection of {self.name} broke"))

    def _turn(self, timeout: float) -> None:
        """Wait for something to do, at most `timeout` seconds, and do it."""
        if self._close_at is not None:
            timeout = min(timeout, max(0.0, self._close_at - time.monotonic()))
        client = self._client
        if client.want_write():
            client.loop_write()
        own = client.socket()
        if own is None:
            return
        poll = select.poll()
        poll.register(self._wake_receiver, select.POLLIN)
        poll.register(own, select.POLLIN | (select.POLLOUT if client.want_write() else 0))
        busy = client.has_read() or (self._accepted and self._outbox.hungry)
        ready = dict(poll.poll(0 if busy else timeout * 1000))
        self._run_commands(self._wake_receiver.fileno() in ready)
        number = own.fileno()
        if ready.get(number, 0) & ~select.POLLOUT or client.has_read():
            for _ in range(AT_ONCE):  # and then what they made us answer is written
                client.loop_read()
                if not client.has_read() or client.socket() is None:
                    break
        client.loop_misc()

    def _pause(self) -> None:
        """Wait before the next try, until there is something to decide."""
        until = time.monotonic() + self._backoff.pause()
        while not self._done() and (rest := until - time.monotonic()) > 0:
            if self._close_at is not None:
                rest = min(rest, max(0.0, self._close_at - time.monotonic()))
            if not self._opened.done() and self._open_until is not None:
                rest = min(rest, max(0.0, self._open_until - time.monotonic()))
            poll = select.poll()
            poll.register(self._wake_receiver, select.POLLIN)
            self._run_commands(bool(poll.poll(rest * 1000 + 1)))

    def _run_commands(self, woken: bool) -> None:
        if woken:
            self._wake_receiver.recv(64)
            # Before the commands are looked at, so that none slips in unnoticed.
            self._awake = False
        while self._commands:
            self._commands.popleft()()

    def _finish(self) -> None:
        """Say goodbye and let go of everyone who waits."""
        undelivered: tuple[Undelivered, ...] = ()
        self._ended = True
        try:
            undelivered = self._outbox.give_up("closed")
            if self._accepted:
                self._run_commands(False)  # acknowledgements and unsubscriptions
                self._client.disconnect()
                latest = time.monotonic() + GOODBYE_SECONDS
                while self._client.socket() is not None and time.monotonic() < latest:
                    self._turn_goodbye()
        except Exception:
            log.exception("%s: could not say goodbye", self.name)
        finally:
            self._accepted = False
            own = self._client.socket()
            if own is not None:
                own.close()
            cause = f": {self._failure!r}" if self._failure else ""
            closed = ClosedError(f"{self.name} is closed{cause}")
            self._run_commands(False)
            self._subscribing.fail(closed)
            if not self._opened.done():
                self._opened.set_exception(closed)
            self._wake_receiver.close()
            self._wake_sender.close()
            if self._tell_end is not None:
                self._tell_end(closed)
            self._closed.set_result(undelivered)

    def _turn_goodbye(self) -> None:
        client = self._client
        client.loop_write()
        own = client.socket()
        if own is not None:
            poll = select.poll()
            poll.register(own, select.POLLOUT)
            poll.poll(100)

    def _failed(self, last_error: TransportError) -> None:
        """A try or a connection failed, and another follows."""
        if not isinstance(self._last_error, ClientIdTakenError):
            if type(self._last_error) is not type(last_error) or str(self._last_error) != str(
                last_error
            ):
                log.warning("%s; trying again", last_error)
            self._last_error = last_error

    def _hopeless(self, last_error: RefusedError) -> None:
        """On opening that is the end; later the broker may change its mind, slowly."""
        if not self._opened.done():
            self._last_error = last_error
            self._opened.set_exception(last_error)
        else:
            self._failed(last_error)
            self._backoff.slowest()

    # What paho calls, within `_turn`.

    def _on_connect(
        self, client: paho.Client, data: Any, flags: Any, reason: Any, properties: Any
    ) -> None:
        if reason.is_failure:
            text = f"{self.name}: the broker refuses the connection: {reason}"
            if reason.value in HOPELESS:
                self._hopeless(RefusedError(text, reason.value))
            else:
                self._failed(ConnectError(text))
            return
        if not flags.session_present:
            self._client.session_lost()
            self._incoming.session_lost()
        allowed = getattr(properties, "ReceiveMaximum", self._options.max_inflight)
        self._outbox.window = min(self._options.max_inflight, allowed)
        self._accepted_at = time.monotonic()
        self._accepted = True
        if not isinstance(self._last_error, ClientIdTakenError):
            if self._last_error is not None:
                log.info("%s is connected again", self.name)
            self._last_error = None
        self._subscribing.connected()
        if not self._opened.done():
            self._opened.set_result(None)
        elif self._reconnected is not None:
            self._reconnected()

    def _on_disconnect(
        self, client: paho.Client, data: Any, flags: Any, reason: Any, properties: Any
    ) -> None:
        if flags.is_disconnect_packet_from_server:
            self._disconnect_code = reason.value
        elif self._ended and (own := client.socket()) is not None:
            _read_to_the_end(own)

    def _on_publish(
        self, client: paho.Client, data: Any, mid: int, reason: Any, properties: Any
    ) -> None:
        self._outbox.confirmed(mid, reason.value)

    def _on_subscribe(
        self, client: paho.Client, data: Any, mid: int, reasons: Any, properties: Any
    ) -> None:
        self._subscribing.answered(mid, [reason.value for reason in reasons])

    def _on_message(self, message: paho.MQTTMessage) -> None:
        assert self._arrived is not None
        try:
            topic = message.topic
        except UnicodeDecodeError:
            log.error("%s: a message came with a topic that is no UTF-8", self.name)
            if message.qos:
                self._client.acknowledge(message.mid, message.qos)
            return
        payload = bytes(message.payload)
        ack = _nothing
        if message.qos:
            entry = self._incoming.arrived(message.mid, message.qos, topic, payload, message.dup)
            if entry is None:
                return
            ack = self._acknowledgement(entry)
        self._arrived(InboundMessage(topic, payload, message.qos, message.retain, message.dup, ack))

    def _on_release(self, mid: int) -> None:
        self._incoming.released(mid)

    # What goes to paho.

    def _acknowledgement(self, entry: Entry) -> Callable[[], None]:
        def ack() -> None:
            if threading.current_thread() is self._thread:
                self._incoming.acknowledged(entry, self._accepted)
            else:
                self._do(lambda: self._incoming.acknowledged(entry, self._accepted))

        return ack

    def _publish(self, delivery: Delivery) -> int | None:
        while True:
            info = self._client.publish(
                delivery.topic, delivery.payload, delivery.qos, delivery.retain
            )
            if info.rc == MQTTErrorCode.MQTT_ERR_QUEUE_SIZE:
                continue  # an old message has this number still; the next one has another
            if info.rc == MQTTErrorCode.MQTT_ERR_NO_CONN and delivery.qos == 0:
                return None
            return info.mid

    def _ask(self, filters: list[tuple[str, int]]) -> int:
        _, mid = self._client.subscribe(filters)
        return mid or 0

    def _unask(self, filters: list[str]) -> None:
        self._client.unsubscribe(filters)


def _read_to_the_end(own: Any) -> None:
    """Let the broker close the connection, after it has read all of ours.

    To close it with something unread makes TCP drop what the broker has not read yet: our last
    acknowledgements, and the goodbye, so that it would send our will.
    """
    with suppress(OSError):
        own.shutdown(socket.SHUT_WR)
        own.settimeout(GOODBYE_SECONDS)
        latest = time.monotonic() + GOODBYE_SECONDS
        while own.recv(65536) and time.monotonic() < latest:
            pass


_opened: WeakSet[MqttLink] = WeakSet()


@atexit.register
def _tell_what_is_lost() -> None:
    for link in list(_opened):
        link.tell_what_is_lost()


def _nothing() -> None:
    """QoS 0 is not acknowledged."""


def mqtt_link(options: MqttOptions) -> MqttLink:
    """A link that is ready to be opened. Raises OptionsError."""
    try:
        return MqttLink(options)
    except ValueError as error:  # paho's word on options that only it knows to be wrong
        raise OptionsError(str(error)) from error
