"""`TaskFailedError`: an error with the results of failed tasks."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from fastlib.codec.errors import FastlibError
from fastlib.codec.printable import printable

if TYPE_CHECKING:
    from .result import Result


class TaskFailedError(FastlibError):
    """A task, alone or among others of its container, was answered with the status `error`.

    `Result.raise_for_status`, `ResultContainer.raise_for_status` and `Handle.result(check=True)`
    raise it. The text names the task, the domain, the host, the status and the details, if known.
    """

    def __init__(
        self,
        failed: "Sequence[Result]",
        *,
        task: str | None = None,
        host: str | None = None,
        id: str | None = None,
        total: int | None = None,
    ) -> None:
        """`failed` is at least one result; `total` is the number of results of the container."""
        self.failed: Final = tuple(failed)
        """The results with the status `error`, in the order of the answer."""
        self.task: Final = task
        """Title of the task, such as `migrate vm`; None if it is not known."""
        self.host: Final = host
        """The host that answered; None if it is not known, as a result does not have it."""
        self.id: Final = id
        """Id of the container; None if it is not known or has none."""
        self.total: Final = len(self.failed) if total is None else total
        """Number of results of the container, including those that did not fail."""
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

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (self.failed, self.task, self.host, self.id, self.total)


def _restore(
    failed: "Sequence[Result]",
    task: str | None,
    host: str | None,
    id: str | None,
    total: int | None,
) -> TaskFailedError:
    """Return the error that was pickled or copied."""
    return TaskFailedError(failed, task=task, host=host, id=id, total=total)


def _reason(result: "Result") -> str:
    return f"{result.status}: {printable(result.details or 'the answer has no details')}"


def check_results(
    results: "Sequence[Result]",
    *,
    task: str | None = None,
    host: str | None = None,
    id: str | None = None,
) -> None:
    """Raise TaskFailedError if a result has the status `error`."""
    failed = [result for result in results if result.status == "error"]
    if failed:
        raise TaskFailedError(failed, task=task, host=host, id=id, total=len(results))
