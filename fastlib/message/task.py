"""Tasks: what a scheduler asks a migration daemon to do, and how they are declared.

A task is one class. Its title, its result's title and its place in a container stand in the class
statement, and nowhere else::

    class Snapshot(
        Task, task="snapshot vm", result="vm snapshotted", layout="list", key="snapshots"
    ):
        vm_name: str

From then on containers, `fastlib.load`, results and schemas know it.
"""

from collections.abc import Iterator, Sequence
from typing import Annotated, Any, ClassVar, NoReturn

import msgspec

from ..codec.check import check
from ..codec.declare import Wire
from ..codec.envelope import Envelope, Layout, Variant
from ..codec.errors import DeclarationError, Problem, ValidationError
from ..codec.reading import shorten
from ..codec.records import Record, fields_of, shape_of
from ..codec.shapes import Shape, is_sequence
from .base import Message, check_shape
from .registry import check_title, register


class Declaration(msgspec.Struct, frozen=True, kw_only=True):
    """What a task's class statement says of it."""

    task: str
    """Title of its containers, such as `start vm`."""
    result: str
    """Title of the containers of its results, such as `vm started`."""
    type: type["Task"]
    layouts: tuple[Layout, ...]
    """How its members may stand in a container; the first is how they are written."""
    key: str
    """The key of the list of members."""
    result_layouts: tuple[Layout, ...]
    """How its results may stand in a container; the first is how they are written."""
    variant: Variant
    """The same for the codec."""


_by_task: dict[str, Declaration] = {}
_by_result: dict[str, Declaration] = {}
_by_type: dict[type["Task"], Declaration] = {}


def declarations() -> Iterator[Declaration]:
    """Every declared task, in the order of declaration."""
    return iter(tuple(_by_task.values()))


def declaration_of_task(title: str) -> Declaration | None:
    """The task with this title."""
    return _by_task.get(title)


def declaration_of_result(title: str) -> Declaration | None:
    """The task whose results have this title."""
    return _by_result.get(title)


def _layouts(layout: Layout | tuple[Layout, ...]) -> tuple[Layout, ...]:
    layouts = (layout,) if isinstance(layout, str) else tuple(layout)
    if not layouts or not set(layouts) <= {"list", "inline"}:
        raise DeclarationError(f"a layout is 'list' or 'inline', not {layout!r}")
    return layouts


class Task(Message):
    """What every member of a task container has.

    Alone, a task reads and writes as the member that it is; a `TaskContainer` is what travels.
    """

    declaration: ClassVar[Declaration]

    concurrent_execution: Annotated[
        bool | None, Wire("Whether the member runs in its own thread; absent means true.")
    ] = None
    time_measurement: Annotated[
        bool | None, Wire("Whether the result tells how long each part took; absent means false.")
    ] = None
    driver: Annotated[str | None, Wire("Driver of the hypervisor, such as qemu or lxctools.")] = (
        None
    )

    @classmethod
    def __declare__(cls, **keywords: Any) -> None:
        cls.__declare_task(**keywords)

    @classmethod
    def __declare_task(
        cls,
        *,
        task: str,
        result: str,
        layout: Layout | tuple[Layout, ...] = "list",
        key: str = "list",
        result_layout: Layout | tuple[Layout, ...] = "list",
    ) -> None:
        """Takes the class statement's keywords. Raises DeclarationError.

        `layout` says where members stand in a container: in a list under `key`, or one inline
        beside the title. Of several layouts all are read and the first is written; so for
        `result_layout`, which says where the results stand.
        """
        declared = Declaration(
            task=task,
            result=result,
            type=cls,
            layouts=_layouts(layout),
            key=key,
            result_layouts=_layouts(result_layout),
            variant=Variant(title=task, member=cls, layouts=_layouts(layout), list_key=key),
        )
        check_title("task", task, cls)
        check_title("result", result, cls)
        cls.__check_keys(declared)
        register("task", task, cls)
        register("result", result, cls)
        cls.declaration = declared
        _by_task[task] = declared
        _by_type[cls] = declared
        _by_result[result] = declared

    @classmethod
    def __check_keys(cls, declared: Declaration) -> None:
        """Raises DeclarationError where a container could not tell its keys from the members'."""
        if not isinstance(declared.key, str) or not declared.key:
            raise DeclarationError(f"{cls.__qualname__}: a key is text; got {declared.key!r}")
        own = {"task", "tasks", "concurrent-execution", "id", "host"}
        if "list" in declared.layouts and declared.key in own:
            raise DeclarationError(
                f"{cls.__qualname__}: the key {declared.key!r} is the container's own; "
                "the list of members needs another"
            )
        shape = check_shape(cls)
        if shape is None or "inline" not in declared.layouts:
            return
        taken = own - {"concurrent-execution"}
        if "list" in declared.layouts:
            taken.add(declared.key)
        for field in shape.fields if isinstance(shape, Record) else ():
            clash = taken & {*field.keys, field.attribute}
            if clash:
                raise DeclarationError(
                    f"{cls.__qualname__}.{field.attribute}: {min(clash)!r} is the container's own; "
                    "an inline member cannot have it"
                )


def _record(cls: type[Any]) -> Record:
    shape = shape_of(cls)
    if not isinstance(shape, Record):
        raise DeclarationError(f"{cls.__qualname__}: a task has the wire form of its own fields")
    return shape


class TaskContainer(Message):
    """Tasks of one type, to be executed together."""

    task: Annotated[str, Wire("Title of the tasks; given by their type if there is one.")] = ""
    tasks: Annotated[Sequence[Task], Wire("The members, all of one type.", own_check=True)]
    concurrent_execution: Annotated[
        bool | None, Wire("Whether the container runs in its own thread; absent means true.")
    ] = None
    id: Annotated[str | None, Wire("Echoed in the result container.", empty_is_absent=True)] = None
    host: Annotated[
        str | None, Wire("The host that is meant; in the written specification, ignored by peers.")
    ] = None

    def __post_init__(self) -> None:
        tasks = self.tasks
        if type(tasks) is not tuple:
            if not is_sequence(tasks):
                self._refuse("tasks", f"expected a list of tasks; got {shorten(tasks)}")
            tasks = tuple(tasks)
            msgspec.structs.force_setattr(self, "tasks", tasks)
        if tasks:
            kind = type(tasks[0])
            if len(tasks) > 1 and set(map(type, tasks)) != {kind}:
                names = ", ".join(sorted({type(task).__name__ for task in tasks}))
                self._refuse("tasks", f"all members of a container are of one type; got {names}")
            declared = _by_type.get(kind)
            if declared is None:
                self._refuse("tasks", f"{kind.__name__} is not declared as a task with a title")
            if self.task != declared.task:
                if self.task != "":
                    self._refuse("task", f"expected {declared.task!r}, the members' title")
                msgspec.structs.force_setattr(self, "task", declared.task)
        else:
            declared = _by_task.get(self.task) if isinstance(self.task, str) else None
            if declared is None:
                known = ", ".join(sorted(_by_task))
                if self.task == "":
                    self._refuse("task", f"give the title, one of {known}, as no tasks tell it")
                got = shorten(self.task)
                self._refuse("task", f"expected one of {known}, as there are no tasks; got {got}")
        if declared.layouts[0] == "inline" and (
            len(tasks) != 1 or tasks[0].concurrent_execution is not self.concurrent_execution
        ):
            self._normalise_inline(declared)
        check(self)

    def _normalise_inline(self, declared: Declaration) -> None:
        """The member's keys and the container's are one mapping, so what both have is one value."""
        if len(self.tasks) != 1:
            self._refuse(
                "tasks", f"{declared.task} takes exactly one member; got {len(self.tasks)}"
            )
        task = self.tasks[0]
        value = task.concurrent_execution
        if value is None:
            value = self.concurrent_execution
            if value is not None:
                task = msgspec.structs.replace(task, concurrent_execution=value)
                msgspec.structs.force_setattr(self, "tasks", (task,))
        elif self.concurrent_execution is not value:
            msgspec.structs.force_setattr(self, "concurrent_execution", value)

    def _refuse(self, path: str, message: str) -> NoReturn:
        problem = Problem(code="value", message=message, path=path)
        raise ValidationError(type(self).__name__, [problem])

    @property
    def declaration(self) -> Declaration:
        """What the members' class statement says: titles and layouts."""
        return _by_task[self.task]

    @staticmethod
    def __shape__() -> Shape:
        def variant(title: str) -> Variant | None:
            declared = _by_task.get(title)
            return None if declared is None else declared.variant

        return Envelope(
            TaskContainer,
            title="task",
            members="tasks",
            fields=[f for f in fields_of(TaskContainer) if f.key not in ("task", "tasks")],
            variant=variant,
            titles=lambda: _by_task,
            record=_record,
        )
