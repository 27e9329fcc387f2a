"""Results of the members of a task container.

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
    """The result of one member of a task container.

    A task may declare a subclass with further fields. They should be optional, because the result
    of a failed task often has only `details`.
    """

    vm_name: Annotated[str, Wire("Name of the domain.")]
    """Name of the domain."""
    status: Annotated[Status, Wire("Status of the task.")]
    """Status of the task."""
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


class MigrationResult(Result):
    """Result of the migration of one domain, or of a swap."""

    encrypted: Annotated[
        bool | None,
        Wire(
            "Whether the memory was sent encrypted; of a swap, that of both domains. Absent after "
            "a failure, after an offline migration, and from a hypervisor that cannot encrypt."
        ),
    ] = None
    """Whether the memory was sent encrypted; of a swap, that of both domains. Absent after a
    failure, after an offline migration, and from a hypervisor that cannot encrypt.
    """
