"""The record of one order in the journal, for the history of a daemon."""

from typing import Literal

import msgspec

State = Literal["unanswered", "answered", "confirmed"]


class Event(msgspec.Struct, frozen=True):
    """One event of an order. Times are seconds since 1970 (UTC)."""

    position: int | None
    """Position of its member; None for the whole container."""
    time: float
    kind: str
    """accepted, begun, phase, retry, recovered, ended, expired, refused, repeated, answered or
    confirmed."""
    text: str = ""
    vm_name: str | None = None
    """The domain of the event, if `Journal.note` was given one."""


class Record(msgspec.Struct, frozen=True):
    """One container, with its answer and its events. Times are seconds since 1970 (UTC)."""

    number: int
    id: str | None
    key: str | None
    """Its idempotency key."""
    host: str | None
    """The name of the host that it came to; None if an older fastlib has accepted it."""
    task: str | None
    """Its title; None if an older fastlib has accepted it."""
    vm_names: tuple[str, ...]
    """Its domains, also those that a regex or an evacuation has found."""
    accepted: float
    began: float | None
    answered: float | None
    confirmed: float | None
    state: State
    cancelled: bool
    payload: bytes | None
    """The payload as it came; None if an older fastlib has answered it."""
    answer: bytes | None
    events: tuple[Event, ...]
    """The oldest first."""
    expires: float | None = None
    """Time after which it does not begin."""
