"""The history of orders, from a migration daemon's journal."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated

from fastlib.codec.annotations import Wire

from .base import Message
from .numbers import U32, U64
from .result import Result, Status


class OrderEvent(Message):
    """One event in the life of an order."""

    time: Annotated[datetime, Wire("Time of the event, by the daemon's clock.")]
    """Time of the event, by the daemon's clock."""
    event: Annotated[
        str,
        Wire(
            "The kind of event: accepted, begun, phase, retry, recovered (after a "
            "restart of the daemon), ended, expired, refused, repeated, answered or "
            "confirmed. Later versions may have more."
        ),
    ]
    """The kind of event: accepted, begun, phase, retry, recovered (after a restart of the daemon),
    ended, expired, refused, repeated, answered or confirmed. Later versions may have more.
    """
    member: Annotated[
        U32 | None,
        Wire("Index of the member, from 0; absent means the whole order."),
    ] = None
    """Index of the member, from 0; absent means the whole order."""
    vm_name: Annotated[str | None, Wire("Name of the domain.", empty_is_absent=True)] = None
    """Name of the domain."""
    details: Annotated[
        str | None, Wire("Details, such as the phase or the error.", empty_is_absent=True)
    ] = None
    """Details, such as the phase or the error."""


class OrderReport(Message):
    """One order, and everything that the daemon knows about it."""

    number: Annotated[U64, Wire("Its number in the journal; later orders have higher ones.")]
    """Its number in the journal; later orders have higher ones."""
    id: Annotated[str | None, Wire("Id of the container.", empty_is_absent=True)] = None
    """Id of the container."""
    idempotency_key: Annotated[
        str | None, Wire("Idempotency key of its container.", empty_is_absent=True)
    ] = None
    """Idempotency key of its container."""
    host: Annotated[
        str | None, Wire("Name of the host that it was sent to.", empty_is_absent=True)
    ] = None
    """Name of the host that it was sent to."""
    task: Annotated[str | None, Wire("Title of the task.", empty_is_absent=True)] = None
    """Title of the task."""
    vm_names: Annotated[
        Sequence[str],
        Wire("Names of its domains, also of those that a regex or an evacuation has found."),
    ] = ()
    """Names of its domains, also of those that a regex or an evacuation has found."""
    vm_names_left_out: Annotated[
        U32 | None, Wire("Number of further domains, which this report does not name.")
    ] = None
    """Number of further domains, which this report does not name."""
    state: Annotated[
        str, Wire("Its state: queued, running, cancelling or ended. Later versions may have more.")
    ]
    """Its state: queued, running, cancelling or ended. Later versions may have more."""
    status: Annotated[
        Status | None,
        Wire(
            "Result of the order: success if all its members succeeded; absent before the answer."
        ),
    ] = None
    """Result of the order: success if all its members succeeded; absent before the answer."""
    accepted: Annotated[
        datetime, Wire("Time at which the daemon accepted it, by the daemon's clock.")
    ]
    """Time at which the daemon accepted it, by the daemon's clock."""
    began: Annotated[datetime | None, Wire("Time at which its first member began.")] = None
    """Time at which its first member began."""
    answered: Annotated[datetime | None, Wire("Time at which its answer was ready.")] = None
    """Time at which its answer was ready."""
    confirmed: Annotated[
        datetime | None, Wire("Time at which the broker confirmed the answer.")
    ] = None
    """Time at which the broker confirmed the answer."""
    expires: Annotated[datetime | None, Wire("Time after which the daemon does not begin it.")] = (
        None
    )
    """Time after which the daemon does not begin it."""
    results: Annotated[
        Sequence[Result], Wire("The results of the answer, without their further fields.")
    ] = ()
    """The results of the answer, without their further fields."""
    results_left_out: Annotated[
        U32 | None, Wire("Number of further results, which this report does not have.")
    ] = None
    """Number of further results, which this report does not have."""
    events: Annotated[Sequence[OrderEvent], Wire("Its events, the oldest first.")] = ()
    """Its events, the oldest first."""
    events_left_out: Annotated[
        U32 | None, Wire("Number of further events, which this report does not have.")
    ] = None
    """Number of further events, which this report does not have."""
    text: Annotated[
        str | None, Wire("Beginning of its text, as it arrived.", empty_is_absent=True)
    ] = None
    """Beginning of its text, as it arrived."""

    @property
    def begin_is_known(self) -> bool:
        """Whether an absent `began` means that the order has not begun.

        The journal of an older fastlib has neither the begin nor the title of the task.
        """
        return self.began is not None or self.task is not None


class HistoryReport(Message):
    """The orders in a daemon's journal that match a query."""

    host: Annotated[str, Wire("Name of the host.")]
    """Name of the host."""
    since: Annotated[
        datetime, Wire("The journal has every order that was accepted after this time.")
    ]
    """The journal has every order that was accepted after this time."""
    time: Annotated[datetime, Wire("The daemon's clock when it answered.")]
    """The daemon's clock when it answered."""
    orders: Annotated[Sequence[OrderReport], Wire("The orders, the newest first.")] = ()
    """The orders, the newest first."""
    more: Annotated[
        bool | None, Wire("Whether the journal has older orders that match; absent means false.")
    ] = None
    """Whether the journal has older orders that match; absent means false."""


class HistoryResult(Result):
    """The result of a query for the history: the report or the error."""

    vm_name: Annotated[str, Wire("Not used: a query is not about a domain.")] = "n/a"
    """Not used: a query is not about a domain."""
    history: Annotated[HistoryReport | None, Wire("The orders that were requested.")] = None
    """The orders that were requested."""
