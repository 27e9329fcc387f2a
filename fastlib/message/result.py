"""Results: how each member of a task container ended.

See docs/reference/protocol.md, "Results".
"""

from typing import Annotated, Literal, Self

from fastlib.codec.annotations import Wire

from .base import Message
from .failure import check_results
from .numbers import U64
from .timing import TimeMeasurement

Status = Literal["success", "error"]
"""How a task ended."""


class Result(Message):
    """How one member of a task container ended.

    A task may declare a subclass of its own, with what its results say beyond this; all of that
    is best optional, as an error has little more than `details` to tell.
    """

    vm_name: Annotated[str, Wire("Name of the domain.")]
    """Name of the domain."""
    status: Annotated[Status, Wire("How the task ended.")]
    """How the task ended."""
    details: Annotated[
        str | None,
        Wire("The error; after a success the number of retries.", empty_is_absent=True),
    ] = None
    """The error; after a success the number of retries."""
    time_measurement: Annotated[
        TimeMeasurement | None,
        Wire("Duration of each part, if the task requested it.", empty_is_absent=True),
    ] = None
    """Duration of each part, if the task requested it."""
    process_id: Annotated[
        U64 | None, Wire("Process of the domain; in the written specification only.")
    ] = None
    """Process of the domain; in the written specification only."""

    def raise_for_status(self, *, host: str | None = None) -> Self:
        """Return this result after a success. Raise TaskFailedError if its status is `error`.

        `host` is the host that answered, for the error: a result does not have it.
        `Handle.result(check=True)` knows it.
        """
        check_results([self], host=host)
        return self
