"""The presence of one host's daemon, and the decision when to repeat requests to it. No I/O."""

from typing import Final

from fastlib.message import Message
from fastlib.message.node import Presence

from .observed import ObservedMessage
from .request import Absence

_UNNAMED: Final = ""
"""The run of a daemon that does not name its runs."""


def run_of(presence: Presence) -> str | None:
    """Return the identifier of a daemon's run; None if the daemon does not report one."""
    if presence.instance is not None:
        return presence.instance
    return None if presence.started is None else repr(presence.started)


def honours_expiry(presence: Presence) -> bool:
    """Return True if the daemon of a presence never begins an expired order."""
    return presence.instance is not None or presence.time is not None


class HostPresence:
    """The last presence of a host's daemon, and whether it or this client missed messages.

    A daemon may have missed a task while it was away, and this client may have missed a result
    while its own connection was lost.
    """

    __slots__ = (
        "_away",
        "_connection",
        "_from_the_start",
        "_missed",
        "_run",
        "absence",
        "knows_expires",
        "observed",
        "returned",
    )

    def __init__(self, *, missed: bool, from_the_start: Absence | None = None) -> None:
        """`missed` is True if this client has lost its connection before.

        `from_the_start` is the absence of a daemon that was offline before this client sent
        anything.
        """
        self.observed: ObservedMessage[Message] | None = None
        """The last presence that could be read."""
        self.absence: Absence | None = None
        """The absence of the daemon, while it is known to be continuously offline."""
        self.knows_expires = False
        """True if the daemon honours `expires`."""
        self.returned = False
        """True if this presence ends an absence of the same run."""
        self._run: str | None = None
        """The last run that was online."""
        self._connection = 0
        """The number of times that this client has connected again."""
        self._away = True
        self._from_the_start = from_the_start or Absence()
        self._missed = missed
        """True if this client was disconnected, and the daemon has not reported its presence
        since."""

    def reconnected(self) -> None:
        """Note that this client lost its connection and has reconnected."""
        self._missed = True
        self._connection += 1
        self.absence = None

    @property
    def incarnation(self) -> tuple[str, int] | None:
        """The daemon's run and this client's connection: a request is sent once for each.

        None while no fastlib daemon is known to run. After a reconnect, the daemon may not be back
        at the broker, which then drops a request, until it reports its presence.
        """
        if self._away or self._missed or self._run is None:
            return None
        return self._run, self._connection

    def shows_again(self, payload: bytes, *, retained: bool) -> bool:
        """Return True for a retained presence that is already known: the client requested it."""
        same = self.observed is not None and self.observed.payload == payload
        return retained and same and not self._missed

    def claimed(self) -> None:
        """Note that a daemon is starting."""
        self.absence = None

    def show(
        self, observed: ObservedMessage[Message], presence: Presence, *, retained: bool
    ) -> bool:
        """Note a presence. Return True if the requests that its `incarnation` never got are due.

        They are due when a daemon was offline or has restarted, and after a reconnect of this
        client. A daemon also publishes its presence for other reasons, such as to report its time.
        A presence without a run counts only after such a reconnect, and only with a version: it may
        belong to a C++ peer's host, where each repetition is executed.
        """
        first = self.observed is None
        self.observed = observed
        self.returned = False
        if presence.status != "online":
            self._away = True
            if self.absence is None:
                known_before = first and retained and not self._missed
                self.absence = self._from_the_start if known_before else Absence()
            self.knows_expires = self.knows_expires or honours_expiry(presence)
            return False
        self.absence = None
        self.knows_expires = honours_expiry(presence)
        run = run_of(presence)
        self.returned = self._away and run == self._run
        if run is not None:
            due = self._missed or ((self._away or run != self._run) and not (first and retained))
        elif presence.version is not None:
            run, due = _UNNAMED, self._missed
        else:
            due = False
        self._run, self._away = run, False
        if run is not None:
            self._missed = False
        return due
