"""Results: what a migration daemon answers (PROTOCOL.md section 4)."""

from collections.abc import Iterable, Sequence
from typing import Annotated, Any, Literal, Self

from ..codec.check import check
from ..codec.declare import Wire
from ..codec.envelope import Envelope, Variant
from ..codec.errors import Problem, ValidationError
from ..codec.records import Record, fields_of, shape_of
from ..codec.shapes import Shape
from .base import Message
from .numbers import U64
from .task import Declaration, TaskContainer, declaration_of_result, declarations
from .timing import TimeMeasurement

Status = Literal["success", "error"]
"""How a task ended."""


class Result(Message):
    """How one member of a task container ended."""

    vm_name: Annotated[str, Wire("Name of the domain.")]
    status: Annotated[Status, Wire("How the task ended.")]
    details: Annotated[
        str | None,
        Wire("The error; after a success the number of retries.", empty_is_absent=True),
    ] = None
    time_measurement: Annotated[
        TimeMeasurement | None,
        Wire("How long each part took, if the task asked for it.", empty_is_absent=True),
    ] = None
    process_id: Annotated[
        U64 | None, Wire("Process of the domain; in the written specification only.")
    ] = None


class ResultContainer(Message):
    """The results of one task container."""

    result: Annotated[str, Wire("Title of the results, such as vm started.")]
    results: Annotated[Sequence[Result], Wire("One result for each member, in their order.")]
    id: Annotated[str | None, Wire("The task container's id.", empty_is_absent=True)] = None
    scheduler: Annotated[
        str | None, Wire("The scheduler that asked; in the written specification only.")
    ] = None

    def __post_init__(self) -> None:
        check(self)
        declared = declaration_of_result(self.result)
        if declared and declared.result_layouts[0] == "inline" and len(self.results) != 1:
            message = f"{self.result} has exactly one result; got {len(self.results)}"
            raise ValidationError(
                type(self).__name__, [Problem(code="value", message=message, path="results")]
            )

    @classmethod
    def answer(cls, container: TaskContainer, results: Iterable[Result]) -> Self:
        """The results of a task container, with its result title and id."""
        return cls(result=container.declaration.result, results=tuple(results), id=container.id)

    @staticmethod
    def __shape__() -> Shape:
        variants: dict[str, tuple[Declaration, Variant]] = {}

        def variant(title: str) -> Variant:
            declared = declaration_of_result(title)
            if declared is None:  # another site's task, perhaps
                return Variant(title=title, member=Result, layouts=("list",))
            known = variants.get(title)
            if known is None or known[0] is not declared:
                layouts = declared.result_layouts
                known = (declared, Variant(title=title, member=Result, layouts=layouts))
                variants[title] = known
            return known[1]

        def record(cls: type[Any]) -> Record:
            shape = shape_of(cls)
            assert isinstance(shape, Record)
            return shape

        return Envelope(
            ResultContainer,
            title="result",
            members="results",
            fields=[f for f in fields_of(ResultContainer) if f.key not in ("result", "results")],
            variant=variant,
            titles=lambda: [declared.result for declared in declarations()],
            record=record,
        )
