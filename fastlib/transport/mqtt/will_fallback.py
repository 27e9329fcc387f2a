"""Choose a last will for a broker that does not accept the full one. No I/O.

The last will is part of the CONNECT packet. A broker without retained messages or with a lower QoS
refuses the connection because of it. With MQTT 5 it says why. With 3.1.1, mosquitto ends the
connection without an answer. Then:

| event | consequence |
|---|---|
| two tries in a row ended without an answer | the next ones request weaker wills, in turns |
| the broker accepts a weaker one | the full one is requested again, to be sure |
| that try also ends without an answer | the weaker one is requested from now on |
| the broker accepts the full one | it was only not ready before |
| the broker could not be reached | the tries before do not count |
"""

from typing import Final, NamedTuple

RETAIN_NOT_SUPPORTED: Final = 0x9A
QOS_NOT_SUPPORTED: Final = 0x9B

ENDS: Final = 2
"""The number of tries in a row without an answer, after which a weaker will is tried."""


class WillForm(NamedTuple):
    """The form in which to publish the last will."""

    qos: int
    retain: bool

    def __str__(self) -> str:
        return f"with QoS {self.qos}, {'retained' if self.retain else 'not retained'}"


class WillFallback:
    """The requested forms of the last will at one broker, and its answers."""

    def __init__(self, whole: WillForm) -> None:
        self._whole: Final = whole
        self._weaker: Final = [
            WillForm(qos, retain)
            for qos in range(whole.qos, -1, -1)
            for retain in ((True, False) if whole.retain else (False,))
        ][1:]
        self._ends = 0
        self._known: WillForm | None = None
        """The form that the broker accepts, if it does not accept the full one."""
        self._checked: WillForm | None = None
        """The form that it has accepted, while the full one is requested again."""

    @property
    def form(self) -> WillForm:
        """The form for the next try."""
        if self._known is not None:
            return self._known
        turn = self._ends - ENDS
        if self._checked is not None or turn < 0:
            return self._whole
        return [*self._weaker, self._whole][turn % (len(self._weaker) + 1)]

    @property
    def is_weaker(self) -> bool:
        """True if the broker is known not to accept the full will."""
        return self._known is not None

    @property
    def ends(self) -> int:
        """The number of tries in a row that ended without an answer."""
        return self._ends

    def refused(self, code: int) -> bool:
        """Note a CONNACK with a reason code. Return True if a retry may help."""
        now = self.form
        if code == RETAIN_NOT_SUPPORTED and now.retain:
            self._known = now._replace(retain=False)
        elif code == QOS_NOT_SUPPORTED and now.qos:
            self._known = now._replace(qos=now.qos - 1)
        else:
            return False
        return True

    def ended_without_answer(self) -> None:
        """Note that the broker ended a connection instead of a CONNACK."""
        if self._checked is not None:
            self._known, self._checked = self._checked, None
        self._ends += 1

    def unreachable(self) -> None:
        """Note that the broker could not be reached."""
        self._ends = 0
        self._checked = None

    def accepted(self) -> bool:
        """Note that the broker accepted. Return True if the full will must be requested again.

        The connection must be renewed for that.
        """
        found, self._ends = self.form, 0
        if self._known is not None or self._checked is not None or found == self._whole:
            self._checked = None
            return False
        self._checked = found
        return True
