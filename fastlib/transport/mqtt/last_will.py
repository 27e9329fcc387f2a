"""The last will of a client at each of its brokers."""

import logging

from fastlib.transport.options import MqttOptions

from .paho_client import PahoClient
from .will_fallback import WillFallback, WillForm

log = logging.getLogger("fastlib.transport")


class LastWill:
    """Requests the strongest form of the last will that each broker accepts."""

    def __init__(self, client: PahoClient, options: MqttOptions) -> None:
        self._client = client
        self._will = options.will
        self._qos = options.qos
        self._brokers: dict[tuple[str, int], WillFallback] = {}

    @property
    def _fallback(self) -> WillFallback | None:
        """The forms for the broker that is tried or used; None without a last will."""
        if self._will is None:
            return None
        whole = WillForm(min(self._will.qos, self._qos), self._will.retain)
        broker = self._client.host, self._client.port
        return self._brokers.setdefault(broker, WillFallback(whole))

    def before_connect(self) -> None:
        """Prepare a try to connect to the broker that is set in paho's client."""
        if (fallback := self._fallback) is not None:
            self._client.weaken_will(*fallback.form)

    def accepted(self) -> bool:
        """Note that the broker accepted. Return True if the connection must be renewed."""
        fallback = self._fallback
        return fallback is not None and fallback.accepted()

    def refused(self, code: int, name: str) -> bool:
        """Note a CONNACK with a reason code. Return True if a retry may help.

        `name` is that of the client, for the log.
        """
        fallback = self._fallback
        if fallback is None or not fallback.refused(code):
            return False
        _log_weaker(fallback, name)
        return True

    def unreachable(self) -> None:
        """Note that the broker could not be reached."""
        if (fallback := self._fallback) is not None:
            fallback.unreachable()

    def ended_without_answer(self, name: str) -> bool:
        """Note that the broker ended a connection instead of a CONNACK.

        Return True if that happened before: the last will may be the cause.
        """
        fallback = self._fallback
        if fallback is None:
            return False
        before = fallback.form
        fallback.ended_without_answer()
        if fallback.is_weaker and fallback.form != before:
            _log_weaker(fallback, name)
        return fallback.ends > 1

    def __str__(self) -> str:
        if self._will is None:
            return "no last will"
        kind = "retained " if self._will.retain else ""
        return f"a {kind}last will of {len(self._will.payload)} bytes and QoS {self._will.qos}"


def _log_weaker(fallback: WillFallback, name: str) -> None:
    log.warning(
        "%s: the last will is weaker than requested, because the broker does not "
        "accept the full one: it is published %s",
        name,
        fallback.form,
    )
