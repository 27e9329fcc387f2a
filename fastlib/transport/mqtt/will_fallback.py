"""Which last will to ask for at a broker that does not take the whole one. Pure.

The last will is part of the CONNECT packet. A broker without retained messages or with a lower QoS
refuses the connection because of it. With MQTT 5 it says why. With 3.1.1, mosquitto ends the
connection without an answer. There:

| event | consequence |
|---|---|
| two tries in a row ended without an answer | the next ones ask for weaker wills, in turns |
| the broker accepts a weaker one | it is asked once more for the whole one, to be sure |
| that try ends without an answer as well | the weaker one is asked for from now on |
| the broker accepts the whole one | it was only not ready before |
| the broker could not be reached | the tries before do not count |
"""

from typing import Final, NamedTuple

RETAIN_NOT_SUPPORTED: Final = 0x9A
QOS_NOT_SUPPORTED: Final = 0x9B

ENDS: Final = 2
"""Tries in a row that ended without an answer, from which a weaker will is tried."""


class WillForm(NamedTuple):
    """How the last will is to be published."""

    qos: int
    retain: bool

    def __str__(self) -> str:
        return f"with QoS {self.qos}, {'retained' if self.retain else 'not retained'}"


class WillFallback:
    """The forms of the last will that one broker was asked for, and its answers."""

    def __init__(self, whole: WillForm) -> None:
        self._whole: Final = whole
        self._weaker: Final = [
            WillForm(qos, retain)
            for qos in range(whole.qos, -1, -1)
            for retain in ((True, False) if whole.retain else (False,))
        ][1:]
        self._ends = 0
        self._known: WillForm | None = None
        """The form that the broker takes, if it does not take the whole one."""
        self._checked: WillForm | None = None
        """The form that it has taken, while it is asked for the whole one again."""

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
        """True if the broker is known not to take the whole will."""
        return self._known is not None

    @property
    def ends(self) -> int:
        """How many tries in a row have ended without an answer."""
        return self._ends

    def refused(self, code: int) -> bool:
        """Note a CONNACK with a reason code. Return True if it is worth another try."""
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
        """Note that the broker accepted. Return True if it must be asked for the whole will again.

        The connection must be renewed for that.
        """
        found, self._ends = self.form, 0
        if self._known is not None or self._checked is not None or found == self._whole:
            self._checked = None
            return False
        self._checked = found
        return True
