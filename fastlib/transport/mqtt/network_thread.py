"""The thread that connects to the broker, waits for the socket, and runs queued commands.

It owns paho's client and all state of the session. Other threads only queue commands and wake it
up. So the session needs no lock, and no user code can block the network.
"""

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
from typing import Final

from fastlib.transport.broker_url import address_text
from fastlib.transport.errors import (
    ClosedError,
    ConnectError,
    RefusedError,
    Undelivered,
)
from fastlib.transport.tls_files import refused_certificate

from .broker_order import BrokerOrder, try_seconds
from .connection_state import ConnectionState
from .disconnecting import DISCONNECT_SECONDS, read_to_the_end
from .session import MqttSession

log = getLogger("fastlib.transport")

CONNECT_SECONDS: Final = 5.0
"""The maximum time for one TCP connection to the broker."""

CONNACK_SECONDS: Final = 10.0
"""The maximum time until the broker must accept or refuse a connection."""

TICK_SECONDS: Final = 1.0
"""The maximum time between two checks of the keep-alive."""

MAX_READS: Final = 32
"""The maximum number of packets to read before the answers are written."""

Command = Callable[[], None]


class CommandQueue:
    """Commands for a thread that waits in `poll`. Any thread may call `add`, `run` and `wake`."""

    def __init__(self) -> None:
        self.owner: threading.Thread | None = None
        """The thread that runs the commands."""
        self._commands: deque[Command] = deque()
        self._receiver, self._sender = socket.socketpair()
        self._receiver.setblocking(False)
        self._sender.setblocking(False)
        self._awake = False
        self._is_closed = False
        self._sending = threading.RLock()
        """Held while a thread uses the sender. A signal handler may wake the owner meanwhile."""

    def run(self, command: Command) -> None:
        """Run a command in the owner: at once if that is the current thread."""
        if threading.current_thread() is self.owner:
            command()
        else:
            self.add(command)

    def add(self, command: Command) -> None:
        """Queue a command."""
        self._commands.append(command)
        self.wake()

    def wake(self) -> None:
        """End the owner's current or next `poll`."""
        if not self._awake:
            self._awake = True
            # Not while another thread closes it: a new socket could have its file descriptor.
            with self._sending, suppress(OSError):  # full: the owner wakes up anyway
                if not self._is_closed:
                    self._sender.send(b"\0")

    def fileno(self) -> int:
        """Return the file descriptor that is readable after `wake`."""
        return self._receiver.fileno()

    def run_all(self, woken: bool) -> None:
        """Run all queued commands. `woken` says that the file descriptor is readable."""
        if woken:
            self._receiver.recv(64)
            # Before the queue is read, so every later command wakes the thread up again.
            self._awake = False
        while self._commands:
            self._commands.popleft()()

    def close(self) -> None:
        """Close the file descriptors."""
        with self._sending:
            self._is_closed = True
            self._sender.close()
        self._receiver.close()


class NetworkThread:
    """Keeps the session connected until its state is done, then disconnects."""

    def __init__(
        self,
        session: MqttSession,
        state: ConnectionState,
        commands: CommandQueue,
        order: BrokerOrder,
    ) -> None:
        self.closed: Final[Future[tuple[Undelivered, ...]]] = Future()
        """Done at the end of the thread, with the messages that were not confirmed."""
        self.on_end: Callable[[ClosedError], None] | None = None
        """Called once at the end of the thread, with the reason."""
        self.on_turn: Callable[[], None] | None = None
        """Called at least every second while connected."""
        self.publish_will = False
        """True if the broker shall publish the last will at the end of the thread."""
        self._session = session
        self._client = session.client
        self._state = state
        self._commands = commands
        self._order = order
        self._broker = order.current
        """The broker of the last accepted connection, at first the preferred one."""
        self._next_address = False
        session.run_commands = lambda: commands.run_all(woken=False)

    @property
    def is_started(self) -> bool:
        """True from `start` on."""
        return self._commands.owner is not None

    def start(self) -> None:
        """Start the thread."""
        name = f"fastlib network {self._state.name}"
        thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._commands.owner = thread
        thread.start()

    def _run(self) -> None:
        try:
            while not self._is_done():
                self._connect()
                self._next_address = not self._state.accepted
                if self._state.accepted:
                    self._log_change()
                    self._exchange()
                    self._order.lost(worked=self._state.has_worked)
                elif not self._order.failed():
                    continue  # the next broker of this round, without a pause
                else:
                    self._state.try_ended()
                if not self._is_done():
                    self._pause()
        except BaseException as error:
            log.exception("%s: the network thread failed", self._state.name)
            self._state.failure = error
        finally:
            self.finish()

    def _is_done(self) -> bool:
        return self._state.is_done(outbox_empty=not len(self._session.outbox))

    def _connect(self) -> None:
        """Try once to connect, until the broker has accepted or refused the connection."""
        state = self._state
        host, port = self._order.current
        opening, left = state.opening_seconds_left(), self._order.left
        several = len(self._order) > 1
        state.connecting(
            f"{self._session.client_id} at {address_text(host, port)}" if several else None
        )
        self._client.use_broker(
            host,
            port,
            try_seconds(CONNECT_SECONDS, opening, left),
            next_address=self._next_address,
        )
        self._session.before_connect()
        latest = time.monotonic() + try_seconds(CONNACK_SECONDS, opening, left)
        try:
            self._client.reconnect()
        except ssl.SSLCertVerificationError as error:
            state.refused(RefusedError(f"{state.name}: {refused_certificate(error)}", last=error))
        except (OSError, ValueError) as error:
            self._session.unreachable()
            state.unreachable(error)
        else:
            while self._client.socket() is not None and not state.accepted and not self._is_done():
                if time.monotonic() > latest or state.is_silent:
                    silence = f"the broker does not answer{state.silence_hint()}"
                    state.failed(ConnectError(f"{state.name}: {silence}"))
                    return
                self._session.drop_expired()
                self._turn()
            # Without an answer, the deadline has ended the opening, and not the broker.
            if not state.accepted and self._client.socket() is None:
                hint = self._session.ended_without_answer()
                state.ended_at_once(self._client.violation, hint)

    def _log_change(self) -> None:
        """Log that another broker is used, which has another session."""
        last, self._broker = self._broker, self._order.current
        if last != self._broker:
            log.warning("%s is used instead of %s", self._state.name, address_text(*last))

    def _exchange(self) -> None:
        """Send and receive until the connection is lost or the state is done."""
        while self._client.socket() is not None and not self._is_done():
            self._session.drop_expired()
            self._session.send_queued()
            if self._state.wants_ping and not self._client.is_pinging:
                self._client.ping()
            self._turn()
            self._state.check_stable()
            if self.on_turn is not None:
                self.on_turn()
        if self._client.socket() is None:
            self._session.connection_ended()

    def _turn(self) -> None:
        """Wait for the next work, at most one tick, and do it."""
        client = self._client
        if client.want_write():
            client.loop_write()
        own = client.socket()
        if own is None:
            return
        self._note_traffic()
        poll = select.poll()
        poll.register(self._commands, select.POLLIN)
        poll.register(own, select.POLLIN | (select.POLLOUT if client.want_write() else 0))
        busy = client.has_read() or (self._state.accepted and self._session.can_send)
        seconds = 0.0 if busy else self._wait_seconds(TICK_SECONDS)
        ready = dict(poll.poll(seconds * 1000))
        self._commands.run_all(woken=self._commands.fileno() in ready)
        if ready.get(own.fileno(), 0) & ~select.POLLOUT or client.has_read():
            for _ in range(MAX_READS):
                client.loop_read()
                if not client.has_read() or client.socket() is None:
                    break
        client.loop_misc()
        self._note_traffic()

    def _note_traffic(self) -> None:
        if self._state.waits_for_broker:  # else each turn would cost a system call for nothing
            self._state.moved(self._client.traffic())

    def _wait_seconds(self, most: float) -> float:
        return self._session.outbox.seconds_to_expiry(self._state.wait_seconds(most))

    def _pause(self) -> None:
        """Wait until the next try, or until the state is done or needs a try at once."""
        until = time.monotonic() + self._state.retry_pause()
        while (
            not (self._is_done() or self._state.must_try_now)
            and (rest := until - time.monotonic()) > 0
        ):
            poll = select.poll()
            poll.register(self._commands, select.POLLIN)
            ready = poll.poll(self._wait_seconds(rest) * 1000 + 1)
            self._commands.run_all(woken=bool(ready))
            self._session.drop_expired()

    def finish(self) -> None:
        """Disconnect, and complete all futures. Also works if the thread was never started."""
        undelivered: tuple[Undelivered, ...] = ()
        self._state.ended = True
        try:
            failure = self._state.failure
            why = "closed" if failure is None else f"the network thread has failed: {failure!r}"
            undelivered = self._session.outbox.fail_all(why)
            if self._state.accepted:
                self._commands.run_all(woken=False)  # acknowledgements and unsubscriptions
                if self.publish_will or self._state.failure is not None:
                    self._end_without_goodbye()
                else:
                    self._disconnect()
        except Exception:
            log.exception("%s: the disconnect failed", self._state.name)
        finally:
            closed = self._state.closed_error()
            self._state.end(closed)
            own = self._client.socket()
            if own is not None:
                own.close()
            self._commands.run_all(woken=False)
            self._session.fail_subscriptions(closed)
            self._commands.close()
            if self.on_end is not None:
                self.on_end(closed)
            self.closed.set_result(undelivered)

    def _disconnect(self) -> None:
        """Send DISCONNECT after everything that is queued for the socket."""
        if self._state.is_silent:
            return  # no data reaches the broker
        self._client.disconnect()
        self._write(lambda: self._client.socket() is not None)

    def _end_without_goodbye(self) -> None:
        """End the connection after everything that is queued for the socket, without DISCONNECT.

        The broker publishes the last will then.
        """
        self._write(self._client.want_write)
        own = self._client.socket()
        if own is not None:
            read_to_the_end(own)

    def _write(self, goes_on: Callable[[], bool]) -> None:
        client = self._client
        latest = time.monotonic() + DISCONNECT_SECONDS
        while goes_on() and time.monotonic() < latest:
            client.loop_write()
            own = client.socket()
            if own is not None:
                poll = select.poll()
                poll.register(own, select.POLLOUT)
                poll.poll(100)
