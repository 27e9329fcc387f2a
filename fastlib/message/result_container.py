"""The container of results: a title, which gives their type, and one result for each member."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Annotated, Any, ClassVar, NoReturn, Self

import msgspec

from fastlib.codec.annotations import Wire
from fastlib.codec.check import check
from fastlib.codec.derivation import fields_of
from fastlib.codec.envelope import Envelope, Variant
from fastlib.codec.errors import Problem, ValidationError
from fastlib.codec.load_context import shorten
from fastlib.codec.shapes import Shape, is_sequence

from . import topics
from .base import Message
from .result import Result, check_results
from .task import TaskContainer, TaskDeclaration, declaration_of_result, declarations, record_of
from .topics import Topic

UNREADABLE = "unknown"
"""The title of the answer to a message that cannot be read."""
NOT_BEGUN = "never begun, and never will be"
"""The first words of the details of a task that was not begun because its order had expired."""

CANCELLED_BEFORE = "cancelled before it began"
"""The first words of the details of a task that was cancelled before it had begun."""


class ResultContainer(Message):
    """The results of one task container.

    The results have the type that the task declares. A plain `Result` is converted to it. If no
    task declares the title, the results are plain ones.
    """

    __topics__: ClassVar[tuple[Topic, ...]] = (topics.RESULT,)

    result: Annotated[str, Wire("Title of the results, such as vm started.")]
    """Title of the results, such as vm started."""
    results: Annotated[
        Sequence[Result],
        Wire("One result for each member, in their order.", own_check=True),
    ]
    """One result for each member, in their order."""
    id: Annotated[str | None, Wire("The task container's id.", empty_is_absent=True)] = None
    """The task container's id."""
    scheduler: Annotated[
        str | None, Wire("The scheduler that sent the tasks; in the written specification only.")
    ] = None
    """The scheduler that sent the tasks; in the written specification only."""
    executed: Annotated[
        datetime | None,
        Wire(
            "Time at which the order was executed; only in the answer from the daemon's "
            "journal to a repeated order."
        ),
    ] = None
    """Time at which the order was executed; only in the answer from the daemon's journal to a
    repeated order.
    """
    idempotency_key: Annotated[
        str | None, Wire("The task container's idempotency key.", empty_is_absent=True)
    ] = None
    """The task container's idempotency key."""
    request_digest: Annotated[
        str | None,
        Wire(
            "Digest of the message that this answers: the first 32 hexadecimal digits of "
            "the SHA-256 of its bytes. Absent for an accepted order with an idempotency "
            "key.",
            empty_is_absent=True,
        ),
    ] = None
    """Digest of the message that this answers: the first 32 hexadecimal digits of the SHA-256 of
    its bytes. Absent for an accepted order with an idempotency key.
    """

    def __post_init__(self) -> None:
        results = self.results
        title = self.result
        declared = declaration_of_result(title) if isinstance(title, str) else None
        kind = Result if declared is None else declared.result_type
        if type(results) is not tuple or (results and set(map(type, results)) != {kind}):
            results = self._normalised(results, kind)
            msgspec.structs.force_setattr(self, "results", results)
        if declared and declared.result_layouts[0] == "inline" and len(results) != 1:
            self._refuse("results", f"{title} has exactly one result; got {len(results)}")
        check(self)

    def _normalised(self, results: Any, kind: type[Result]) -> tuple[Result, ...]:
        """Return the results as a tuple of one type."""
        if not is_sequence(results):
            self._refuse("results", f"expected a list; got {shorten(results)}")
        given = tuple(results)
        for index, result in enumerate(given):
            if type(result) is not kind and type(result) is not Result:
                self._refuse(
                    f"results[{index}]", f"expected a {kind.__name__}; got {shorten(result)}"
                )
        asdict = msgspec.structs.asdict
        return tuple(result if type(result) is kind else kind(**asdict(result)) for result in given)

    def _refuse(self, path: str, message: str) -> NoReturn:
        problem = Problem(code="value", message=message, path=path)
        raise ValidationError(type(self).__name__, [problem])

    @classmethod
    def answer(cls, container: TaskContainer, results: Iterable[Result]) -> Self:
        """Return the results of a task container, with its result title, id and idempotency key."""
        return cls(
            result=container.declaration.result,
            results=tuple(results),
            id=container.id,
            idempotency_key=container.idempotency_key,
        )

    def raise_for_status(self, *, host: str | None = None) -> Self:
        """Return this container if no result failed. Raise TaskFailedError for all that failed.

        `host` is the host that answered, for the error: a container does not have it.
        """
        declared = declaration_of_result(self.result)
        task = None if declared is None else declared.task
        check_results(self.results, task=task, host=host, id=self.id)
        return self

    @staticmethod
    def __shape__() -> Shape:
        variants: dict[str, tuple[TaskDeclaration, Variant]] = {}

        def variant(title: str) -> Variant:
            declared = declaration_of_result(title)
            if declared is None:  # possibly the task of another site
                return Variant(title=title, member=Result, layouts=("list",))
            known = variants.get(title)
            if known is None or known[0] is not declared:
                layouts = declared.result_layouts
                member = declared.result_type
                known = (declared, Variant(title=title, member=member, layouts=layouts))
                variants[title] = known
            return known[1]

        return Envelope(
            ResultContainer,
            title="result",
            members="results",
            fields=[f for f in fields_of(ResultContainer) if f.key not in ("result", "results")],
            variant=variant,
            titles=lambda: [*(declared.result for declared in declarations()), UNREADABLE],
            record=record_of,
        )
