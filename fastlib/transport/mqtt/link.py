"""The link to an MQTT broker: the methods that any thread may call.

Three other files have the rest: `network_thread.py` has the thread with its poll loop,
`connection_state.py` the state of the connection, and `session.py` paho's callbacks and the objects
for each part of the session.
"""

import atexit
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from functools import partial
from logging import getLogger
from weakref import WeakSet

import msgspec

from fastlib.transport.broker_url import address_text
from fastlib.transport.delivery import Delivery
from fastlib.transport.errors import (
    ClosedError,
    OptionsError,
    RefusedError,
    TransportError,
    Undelivered,
)
from fastlib.transport.messages import InboundMessage
from fastlib.transport.options import MqttOptions
from fastlib.transport.own_process import OwnProcess

from .broker_order import BrokerOrder
from .client_factory import random_client_id
from .connection_state import ConnectionState
from .network_thread import CommandQueue, NetworkThread
from .session import MqttSession

log = getLogger("fastlib.transport")


class MqttLink:
    """A `Link` by paho-mqtt."""

    def __init__(self, options: MqttOptions) -> None:
        """Raises OptionsError."""
        # The name also has a random id, because the broker's log has it.
        client_id = options.client_id or random_client_id()
        self._state = ConnectionState(
            f"{client_id} at {address_text(*options.brokers[0])}",
            client_id=options.client_id,
            retry_min=options.retry_min,
            retry_max=options.retry_max,
        )
        self._persistent = options.persistent
        self._process = OwnProcess()
        self._commands = CommandQueue()
        try:
            self._session = MqttSession(
                msgspec.structs.replace(options, client_id=client_id),
                self._state,
                self._commands.run,
            )
        except BaseException:
            self._commands.close()
            raise
        self._thread = NetworkThread(
            self._session, self._state, self._commands, BrokerOrder(options.brokers)
        )

    @property
    def name(self) -> str:
        """The client id and the broker."""
        return self._state.name

    @property
    def resumes(self) -> bool:
        """True if the session is persistent."""
        return self._persistent

    @property
    def session_start(self) -> int:
        """The connection that began the broker's session; 0 if it is older."""
        return self._session.session_start

    @property
    def is_connected(self) -> bool:
        """True while the broker has accepted the connection."""
        return self._state.accepted

    @property
    def last_error(self) -> TransportError | None:
        """The last failure, until a connection has been stable."""
        return self._state.last_error

    def open(
        self,
        on_message: Callable[[InboundMessage], None],
        on_end: Callable[[ClosedError], None],
        on_reconnect: Callable[[], None],
        timeout: float,
    ) -> "Future[None]":
        """Start the network thread, which connects."""
        self._session.on_message = on_message
        self._session.on_reconnect = on_reconnect
        self._thread.on_end = on_end
        self._state.start_opening(timeout)
        self._thread.start()
        _opened.add(self)
        return self._state.opened

    def send(self, delivery: Delivery) -> None:
        """Queue a message in the outbox."""
        if self._state.closing or self._state.ended:
            raise self._state.closed_error()
        self._session.check_size(delivery)
        self._session.outbox.accept(delivery, self._state.accepted, self._state.last_error)
        self._commands.wake()

    def room(self) -> "Future[None]":
        """Return a future that is done when the outbox has room."""
        return self._session.outbox.room()

    def subscribe(self, pattern: str, qos: int, retained: bool = True) -> "Future[None]":
        """Request a filter from the broker."""
        confirmed: Future[None] = Future()
        self._commands.add(lambda: self._session.subscribe(pattern, qos, confirmed, retained))
        if self._state.ended:  # the thread may already have run its last command
            self._thread.closed.add_done_callback(partial(self._fail, confirmed))
        return confirmed

    def _fail(self, confirmed: "Future[None]", _: object) -> None:
        """Fail a subscription that the thread has not completed before its end."""
        with suppress(InvalidStateError):
            confirmed.set_exception(self._state.closed_error())

    def listen_for_refusals(self, on_refused: Callable[[str, RefusedError], None]) -> None:
        """See `Link.listen_for_refusals`."""
        self._session.listen_for_refusals(on_refused)

    def call_each_second(self, tick: Callable[[], None]) -> None:
        """See `Link.call_each_second`."""
        self._thread.on_turn = tick

    def unsubscribe(self, pattern: str) -> None:
        """Withdraw a filter."""
        self._commands.add(lambda: self._session.unsubscribe(pattern))

    def forget(self, pattern: str) -> None:
        """Withdraw a filter of an earlier program."""
        self._commands.add(lambda: self._session.forget(pattern))

    def close(
        self, timeout: float | None, publish_will: bool = False
    ) -> "Future[tuple[Undelivered, ...]]":
        """See `Link.close`; ends the thread."""
        if not self._state.closing:
            self._thread.publish_will = publish_will
        if self._state.start_closing(timeout) and not self._thread.is_started:
            self._thread.finish()
        self._commands.wake()
        return self._thread.closed

    def log_unconfirmed(self) -> None:
        """Log the number of lost messages at the end of a program that has not called `close`."""
        if self._process.is_here and (left := len(self._session.outbox)):
            log.error(
                "%s: the program ends without `close`, before the broker has confirmed %d messages",
                self.name,
                left,
            )


_opened: WeakSet[MqttLink] = WeakSet()


@atexit.register
def _log_unconfirmed() -> None:
    for link in list(_opened):
        link.log_unconfirmed()


def mqtt_link(options: MqttOptions) -> MqttLink:
    """Return a link that is ready to be opened. Raises OptionsError."""
    try:
        return MqttLink(options)
    except ValueError as error:  # paho's own check of the options
        raise OptionsError(str(error)) from error
