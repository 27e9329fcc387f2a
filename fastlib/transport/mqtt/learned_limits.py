"""The limits that a broker has not stated, derived from its behaviour. No I/O."""

import time
from collections.abc import Callable
from typing import Final

import msgspec

from .broker_limits import BrokerLimits
from .suspects import ENDS_ALONE, ENDS_ALONE_OF_KNOWN, Demand, Remedy

RETAIN_NOT_SUPPORTED: Final = 0x9A
QOS_NOT_SUPPORTED: Final = 0x9B

CAPABILITY_CODES: Final = frozenset({RETAIN_NOT_SUPPORTED, QOS_NOT_SUPPORTED})
"""Reason codes of a DISCONNECT about features that the broker does not support."""

INFERRED_SECONDS: Final = 600.0
"""Seconds until a size is tried again after the broker has ended connections because of it."""


class Learned:
    """The observed limits of one broker. They belong to the broker, not to a connection."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.taken = 0
        """The size in bytes of the largest packet that it has confirmed."""
        self.maximum_qos = 2
        self.retain = True
        self.tries: dict[int, Remedy] = {}
        """The form in which messages are sent that have ended connections before, by packet id."""
        self._clock = clock
        self._taken: dict[tuple[int, bool], Demand] = {}
        """The largest message that it has accepted with each QoS and "retain"."""
        self._qos_0_ends: list[int] = []
        self._refused: int | None = None
        self._refused_at = 0.0

    def confirmed(self, packet_id: int, size: int, qos: int, retain: bool, taken: bool) -> bool:
        """Note the broker's answer to a message; `taken` is False if it has refused it.

        `size` is that of its packet. `qos` and `retain` are those with which it was to be sent at
        first. Return True if it was sent in a weaker form and the broker has accepted it: all
        further messages are sent in this form.
        """
        self.taken = max(self.taken, size)
        found = self.tries.pop(packet_id, None)
        if found is None or not taken:
            return False
        if found.qos is not None and found.qos < qos and not self._has_taken(qos=qos):
            self.maximum_qos = 1
        if found.retain < retain and not self._has_taken(retain=True):
            self.retain = False
        return True

    def _has_taken(self, *, qos: int = 0, retain: bool = False) -> bool:
        return any(taken.qos >= qos and taken.retain >= retain for taken in self._taken.values())

    def took(self, demand: Demand) -> None:
        """Note that the broker has accepted a message."""
        kind = (demand.qos, demand.retain)
        known = self._taken.get(kind)
        if known is None or demand.size > known.size:
            self._taken[kind] = demand

    def needed_ends(self, demand: Demand) -> int:
        """Return the number of ends with a message alone that prove it to be the cause."""
        return ENDS_ALONE_OF_KNOWN if self.has_taken_like(demand) else ENDS_ALONE

    def has_taken_like(self, demand: Demand) -> bool:
        """Return True if the broker has accepted a similar message."""
        return any(demand.is_like_taken(taken) for taken in self._taken.values())

    def disconnected(self, code: int | None, highest_qos: int) -> None:
        """Note the reason code of a DISCONNECT.

        `highest_qos` is that of the messages that were being sent; 0 without any.
        """
        if code == QOS_NOT_SUPPORTED and highest_qos:
            self.maximum_qos = min(self.maximum_qos, highest_qos - 1)
        elif code == RETAIN_NOT_SUPPORTED:
            self.retain = False

    def too_large(self, size: int) -> None:
        """Note that a packet of `size` bytes has ended the connections."""
        self._refused, self._refused_at = size, self._clock()

    @property
    def refused(self) -> int | None:
        """The size of the smallest packet that has ended the connections."""
        return self._refused

    def ended_after_qos_0(self, size: int) -> bool:
        """Note that a connection ended after only a packet with QoS 0.

        Return True if it happened often enough that packets of this size count as too large.
        """
        self._qos_0_ends.append(size)
        if len(self._qos_0_ends) < ENDS_ALONE:
            return False
        self.too_large(min(self._qos_0_ends))
        self._qos_0_ends.clear()
        return True

    def ended_without_qos_0(self) -> None:
        """Note that a connection ended after all packets with QoS 0 were taken, or were small."""
        self._qos_0_ends.clear()

    def unreachable(self) -> None:
        """Note that the broker could not be reached. That explains the last end."""
        if self._qos_0_ends:
            self._qos_0_ends.pop()

    def apply(self, limits: BrokerLimits) -> BrokerLimits:
        """Return the stated and the observed limits of the broker."""
        if self.maximum_qos < limits.maximum_qos:
            limits = msgspec.structs.replace(limits, maximum_qos=1 if self.maximum_qos else 0)
        if not self.retain:
            limits = msgspec.structs.replace(limits, retain=False)
        if self._refused is None or self._clock() - self._refused_at > INFERRED_SECONDS:
            return limits
        if limits.maximum_packet is None or self._refused <= limits.maximum_packet:
            return msgspec.structs.replace(
                limits, maximum_packet=self._refused - 1, packet_source="inferred"
            )
        return limits
