"""The state of the connection to an MQTT broker, and the decisions that follow from it. No I/O."""

import logging
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Final

from fastlib.transport.backoff import Backoff
from fastlib.transport.errors import (
    ClientIdTakenError,
    ClosedError,
    ConnectError,
    RefusedError,
    TransportError,
    closed_by_defect,
    closed_by_failed_open,
    closed_by_program,
    reason,
)
from fastlib.transport.link import CLOSE_SECONDS
from fastlib.transport.log_rate import LogRate

from .takeover import TakeoverDetector

log = logging.getLogger("fastlib.transport")

SHORT_PAUSES: Final = 3
"""The number of shortest pauses before the pauses grow: most brokers return soon."""

LOG_LINES: Final = 20
"""The number of losses of the connection that are logged in a row; the same for reconnects."""

LOG_SECONDS: Final = 30.0
"""Seconds until one further loss is logged after these."""

REMINDER_SECONDS: Final = 60.0
"""Seconds until a continuing failure is logged again."""

PING_SECONDS: Final = 1.0
"""Seconds without a byte to or from the broker after which closing sends it a PINGREQ."""

SILENT_SECONDS: Final = 5.0
"""Seconds without a byte to or from the broker after which closing stops waiting for it."""


class ConnectionState:
    """Whether the link is connected, its last error, and its deadlines.

    Only the network thread calls the methods, except for `start_opening` and `start_closing`. Any
    thread may read the attributes.
    """

    def __init__(
        self,
        name: str,
        *,
        client_id: str | None,
        retry_min: float,
        retry_max: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`name` is for logs and errors; the retry pauses are in seconds."""
        self.name = name
        self.accepted = False
        """True while the broker has accepted the connection."""
        self.last_error: TransportError | None = None
        """The last failure, until a connection has been stable."""
        self.disconnect_code: int | None = None
        """The reason code of the broker's DISCONNECT on this connection (MQTT 5)."""
        self.disconnect_reason: object = ""
        """The broker's own words in that DISCONNECT."""
        self.was_unreachable = False
        """True if a try since the last accepted connection did not reach the broker."""
        self.silence_hint: Callable[[], str] = str
        """Returns a possible reason why a broker does not answer, such as `; …`."""
        self.opened: Future[None] = Future()
        """Done after the first accepted connection, or with the error of opening."""
        self.closing = False
        """True from `start_closing` on."""
        self.ended = False
        """True when the network thread begins to end."""
        self.failure: BaseException | None = None
        """The exception that has ended the network thread: a defect."""
        self.clock: Final = clock
        self._backoff = Backoff(retry_min, retry_max, short_pauses=SHORT_PAUSES)
        self._stable_seconds = 2 * retry_max
        self._takeover = TakeoverDetector(client_id, self._stable_seconds) if client_id else None
        self._accepted_at = 0.0
        self._exchanged = False
        self._at_once = False
        self._away_since: float | None = None
        self._losses = LogRate(LOG_LINES, LOG_SECONDS, clock)
        self._returns = LogRate(LOG_LINES, LOG_SECONDS, clock)
        self._said: tuple[type[TransportError], str] | None = None
        self._said_at = 0.0
        self._open_seconds = 0.0
        self._open_deadline: float | None = None
        self._close_deadline: float | None = None
        self._closes_while_reachable = False
        """True if the closing ends with the first try that does not reach the broker."""
        self._tried_to_close = False
        """True if a try to connect has begun since `start_closing`."""
        self._hopeless = False
        """True if such a try has failed."""
        self._failures: dict[str, TransportError] = {}
        """The last failure at each broker since the last accepted connection, by name."""
        self._has_tried = False
        self._traffic: object = None
        self._moved_at = 0.0
        """The time of the last byte to or from the broker, or of the beginning of closing."""

    # Opening and closing.

    def start_opening(self, timeout: float) -> None:
        """Begin to connect; `is_done` fails `opened` after `timeout` seconds."""
        self._open_seconds = timeout
        self._open_deadline = self.clock() + timeout

    def start_closing(self, timeout: float | None) -> bool:
        """Begin to close; the deadline is in `timeout` seconds. Return False if it had begun.

        With None the closing also ends when a try to connect fails.
        """
        if self.closing:
            return False
        self._closes_while_reachable = timeout is None
        self._close_deadline = self.clock() + (CLOSE_SECONDS if timeout is None else timeout)
        self.closing, self._moved_at = True, self.clock()
        return True

    @property
    def wants_ping(self) -> bool:
        """True if the broker must show that it is there, because the closing waits for it."""
        return self.waits_for_broker and self._moved_at + PING_SECONDS <= self.clock()

    @property
    def waits_for_broker(self) -> bool:
        """True if the closing ends early when no bytes move: only then `moved` counts."""
        return self.closing and self._closes_while_reachable

    def moved(self, traffic: object) -> None:
        """Note the progress of the socket: the value changes if bytes have moved."""
        if traffic != self._traffic:
            self._traffic, self._moved_at = traffic, self.clock()

    @property
    def is_silent(self) -> bool:
        """True if the closing waits for the broker, and nothing moves."""
        return self.waits_for_broker and self._silent_at <= self.clock()

    @property
    def _silent_at(self) -> float:
        return self._moved_at + SILENT_SECONDS

    def is_done(self, outbox_empty: bool) -> bool:
        """Return True if the network thread must end: the link is closed or could not be opened."""
        now = self.clock()
        if self.accepted and self.is_silent and not outbox_empty:
            text = (
                f"{self.name}: the broker does not answer: nothing came or went for "
                f"{SILENT_SECONDS:g} s"
            )
            self.last_error = ConnectError(text)
            self._hopeless = True
        if self._close_deadline is not None and (
            outbox_empty or self._hopeless or now >= self._close_deadline
        ):
            return True
        if self.opened.done():
            return self.opened.exception() is not None
        if self._open_deadline is not None and now >= self._open_deadline:
            failures = [
                str(error).removeprefix(f"{name}: ") for name, error in self._failures.items()
            ]
            name = self.name
            if len(failures) > 1:
                name = self.name.rpartition(" at ")[0]
                failures = [
                    f"{_place(name)}: {text}"
                    for name, text in zip(self._failures, failures, strict=True)
                ]
            text = f"{name}: no connection within {self._open_seconds:g} s"
            if failures or self._has_tried:
                silence = f"the broker does not answer{self.silence_hint()}"
                text += f": {'; '.join(failures) or silence}"
            self.opened.set_exception(ConnectError(text, self.last_error))
            return True
        return False

    def wait_seconds(self, most: float) -> float:
        """Return how long the network thread may wait until `is_done` can change."""
        deadlines = [self._close_deadline]
        if self.accepted and self.waits_for_broker:
            deadlines.append(self._silent_at)
        if not self.opened.done():
            deadlines.append(self._open_deadline)
        rest = [deadline - self.clock() for deadline in deadlines if deadline is not None]
        return max(0.0, min([most, *rest]))

    def closed_error(self) -> ClosedError:
        """Return the error of a link that is closing or has ended, with the reason."""
        if self.failure is not None:
            return closed_by_defect(self.name, self.failure)
        if self.opened.done() and (failure := self.opened.exception()) is not None:
            return (
                failure.again()
                if isinstance(failure, ClosedError)
                else (closed_by_failed_open(self.name, failure))
            )
        return closed_by_program(self.name)

    def end(self, error: ClosedError) -> None:
        """Note that the link is closed permanently. Fail `opened` if it is not done."""
        self.accepted = False
        if not self.opened.done():
            self.opened.set_exception(error)

    # Connecting.

    def connecting(self, name: str | None = None) -> None:
        """Note that a new try begins. `name` is the new name if it is another broker."""
        self.disconnect_code, self.disconnect_reason = None, ""
        self.name = name or self.name
        self._tried_to_close = self.closing
        self._has_tried = True
        self._moved_at = self.clock()

    def try_ended(self) -> None:
        """Note that a try has ended without an accepted connection."""
        self._hopeless = self.closing and self._closes_while_reachable

    @property
    def must_try_now(self) -> bool:
        """True if the closing waits for the result of a try to connect."""
        return self.closing and self._closes_while_reachable and not self._tried_to_close

    def opening_seconds_left(self) -> float | None:
        """Return the seconds until opening fails; None if it is done."""
        if self.opened.done() or self._open_deadline is None:
            return None
        return max(0.0, self._open_deadline - self.clock())

    @property
    def has_worked(self) -> bool:
        """True if the last accepted connection was of use."""
        return self._exchanged or self._lifetime() >= 1.0

    def retry_pause(self) -> float:
        """Return the seconds until the next try."""
        self._at_once = self._takeover is not None and self._takeover.wants_check
        return 0.0 if self._at_once else self._backoff.pause()

    def unreachable(self, error: BaseException) -> None:
        """Note that a try did not reach the broker."""
        self.was_unreachable = True
        self.failed(ConnectError(f"{self.name}: cannot reach the broker: {error}", error))

    def ended_at_once(self, violation: str | None = None, hint: str = "") -> None:
        """Note that the connection ended before the broker accepted or refused it.

        `violation` describes data of the broker that MQTT does not allow. `hint` is a possible
        reason.
        """
        if violation is not None:
            self.failed(ConnectError(_violated(self.name, violation) + hint))
        elif self.last_error is None or hint:
            self.failed(ConnectError(f"{self.name}: the broker ended the connection at once{hint}"))

    def failed(self, error: TransportError) -> None:
        """Note that a try failed. Another try follows."""
        if self._takeover is not None:
            self._takeover.explained()
        self._failures[self.name] = error
        self._note(error)

    def _note(self, error: TransportError) -> None:
        if isinstance(self.last_error, ClientIdTakenError):
            return
        self._log_loss(logging.WARNING, error, "; trying again")
        self.last_error = error

    def refused(self, error: RefusedError) -> None:
        """Note a refusal for which a retry would not help. It ends the opening.

        After the opening, the link retries with the longest pause: the broker's settings may
        change.
        """
        if not self.opened.done():
            self.last_error = error
            self.opened.set_exception(error)
        else:
            self.failed(error)
            self._backoff.use_longest()

    def _log_loss(self, level: int, error: TransportError, end: str = "") -> None:
        """Log a failure, unless it was the last failure logged within a minute."""
        now = self.clock()
        if self._away_since is None:
            self._away_since = now
        said = (type(error), str(error))
        if said == self._said and now - self._said_at < REMINDER_SECONDS:
            return
        if (left_out := self._losses.take()) is not None:
            self._said, self._said_at = said, now
            text = str(error) if self.name in str(error) else f"{self.name}: {error}"
            log.log(level, "%s%s%s", text, end, _more(left_out))

    # Connected.

    def connected(self) -> None:
        """Note that the broker has accepted the connection."""
        self.was_unreachable = False
        self._accepted_at = self.clock()
        self._failures.clear()
        self.accepted = True
        self._exchanged = False
        if self._takeover is not None:
            self._takeover.connected(at_once=self._at_once)
        self._at_once = False
        if self._away_since is not None:
            away, self._away_since = self._accepted_at - self._away_since, None
            if (left_out := self._returns.take()) is not None:
                text = "%s is connected again after %.1f s%s"
                log.info(text, self.name, away, _more(left_out))
        if not isinstance(self.last_error, ClientIdTakenError):
            self.last_error = self._said = None

    def exchanged(self) -> None:
        """Note that the broker has confirmed or sent something: the connection works."""
        self._exchanged = True

    def check_stable(self) -> None:
        """Clear the last error if the connection has lasted long enough."""
        if self.last_error is not None and self._lifetime() > self._stable_seconds:
            self.last_error = None

    def connection_lost(
        self, violation: str | None = None, *, renewed: bool = False, sending: str = ""
    ) -> None:
        """Note that an accepted connection ended, which `close` did not cause.

        `violation` describes data of the broker that MQTT does not allow. `renewed` is True if this
        client has ended the connection for a new one. `sending` says which messages were being
        sent.
        """
        lifetime = self._lifetime()
        self.accepted = False
        if lifetime > self._stable_seconds:
            self._backoff.reset()
        elif self._exchanged:
            self._backoff.reset_after_early_end(lifetime)
        if renewed:
            return
        taken = None
        if self._takeover is not None and violation is None:
            taken = self._takeover.connection_ended(
                lifetime, self.disconnect_code, idle=not sending
            )
        if taken is None:
            self._note(ConnectError(self._why_lost(violation, sending)))
            return
        self._log_loss(logging.ERROR, taken)
        self.last_error = taken
        if taken.certain:
            self._backoff.use_longest()
        else:  # a network that ends idle connections must not prevent reconnects
            self._backoff.limit_rate(lifetime)

    def _why_lost(self, violation: str | None, sending: str) -> str:
        if violation:
            return _violated(self.name, violation)
        text = f"the connection of {self.name} broke"
        if self.disconnect_code is not None:
            text += f": {reason(self.disconnect_code, self.disconnect_reason)}"
        return f"{text}, while it sent {sending}" if sending else text

    def _lifetime(self) -> float:
        return self.clock() - self._accepted_at


def _place(name: str) -> str:
    """Return the address of the broker in the name of a connection to it."""
    return name.rpartition(" at ")[2]


def _violated(name: str, violation: str) -> str:
    return f"{name}: the broker sent {violation}; the connection was ended"


def _more(left_out: int) -> str:
    return f" (and {left_out} times more since the last such line)" if left_out else ""
