"""Results of the members of a task container, and the error about failed ones.

See docs/reference/protocol.md, "Results".
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Annotated, Final, Literal, Self

from fastlib.codec.annotations import Wire
from fastlib.codec.errors import FastlibError
from fastlib.codec.printable import printable

from .base import Message
from .numbers import U64
from .timing import TimeMeasurement

NO_RESULT: Final = (
    "the answer has no result for this domain; query the host to see the domain's state"
)
"""The details of a missing result."""

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


class TaskFailedError(FastlibError):
    """A task, alone or among others of its container, was answered with the status `error`.

    `Result.raise_for_status`, `ResultContainer.raise_for_status` and `Handle.result(check=True)`
    raise it. The text names the task, the domain, the host, the status and the details, if known.
    """

    def __init__(
        self,
        failed: Sequence[Result],
        *,
        task: str | None = None,
        host: str | None = None,
        id: str | None = None,
        total: int | None = None,
    ) -> None:
        """`failed` is at least one result; `total` is the number of results of the container."""
        self.failed: Final = tuple(failed)
        """The results with the status `error`, in the order of the answer.

        After them, one with the details `NO_RESULT` for each domain whose result is missing.
        """
        self.task: Final = task
        """Title of the task, such as `migrate vm`; None if it is not known."""
        self.host: Final = host
        """The host that answered; None if it is not known, as a result does not have it."""
        self.id: Final = id
        """Id of the container; None if it is not known or has none."""
        self.total: Final = len(self.failed) if total is None else total
        """Number of results of the container, including those that did not fail or are missing."""
        super().__init__(self.failed)

    @property
    def vm_name(self) -> str:
        """Name of the domain of the first result that failed."""
        return self.failed[0].vm_name

    @property
    def status(self) -> str:
        """Status of the first result that failed."""
        return self.failed[0].status

    @property
    def details(self) -> str | None:
        """Details of the first result that failed; None if it has none."""
        return self.failed[0].details

    def __str__(self) -> str:
        task = "the task" if self.task is None else f"'{printable(self.task)}'"
        host = "" if self.host is None else f" on {self.host!r}"
        order = "" if self.id is None else f" (id {self.id!r})"
        if self.total == 1:
            of = f" of {printable(self.vm_name)}"
            return f"{task}{of}{host} has the status {_reason(self.failed[0])}{order}"
        lines = "".join(
            f"\n  {printable(result.vm_name)}: {_reason(result)}" for result in self.failed
        )
        return f"{task}{host}: {len(self.failed)} of {self.total} results failed{order}{lines}"


def _reason(result: Result) -> str:
    return f"{result.status}: {printable(result.details or 'the answer has no details')}"


def names_without_result(named: Iterable[str], results: Sequence[Result]) -> list[str]:
    """Return the domains that an order names and that have no result in its answer.

    A name counts as often as the order has it. If there is a further error, about another domain or
    the whole order, it explains the missing results, and the list is empty.
    """
    missing = Counter(named)
    for result in results:
        if missing[result.vm_name] > 0:
            missing[result.vm_name] -= 1
        elif result.status == "error":
            return []
    return list(missing.elements())


def check_results(
    results: Sequence[Result],
    *,
    named: Iterable[str] = (),
    task: str | None = None,
    host: str | None = None,
    id: str | None = None,
) -> None:
    """Raise TaskFailedError if a result is an error, or if one of the `named` domains has none."""
    failed = [result for result in results if result.status == "error"]
    missing = [
        Result(vm_name=name, status="error", details=NO_RESULT)
        for name in names_without_result(named, results)
    ]
    if failed or missing:
        total = len(results) + len(missing)
        raise TaskFailedError([*failed, *missing], task=task, host=host, id=id, total=total)
