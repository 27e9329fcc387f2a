"""Tasks that a scheduler sends to a migration daemon, and their declaration.

A task is one class. Its title, its result's title and its place in a container are in the class
statement, and nowhere else::

    class Snapshot(
        Task, task="snapshot vm", result="vm snapshotted", layout="list", key="snapshots"
    ):
        vm_name: str

After that, containers, `fastlib.load`, results and schemas know it.
"""

import builtins
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from functools import partial
from typing import Annotated, Any, ClassVar, Final, NoReturn

import msgspec

from fastlib.codec.annotations import Wire
from fastlib.codec.check import check
from fastlib.codec.derivation import fields_of, shape_of
from fastlib.codec.envelope import Envelope, Layout, Variant
from fastlib.codec.errors import DeclarationError, Problem, ValidationError
from fastlib.codec.extensions import extensions_of
from fastlib.codec.load_context import shorten
from fastlib.codec.records import Record
from fastlib.codec.shapes import Shape, is_sequence

from . import topics
from .base import Message, check_shape
from .extension import Extension
from .registry import REGISTRY, check_title, register
from .result import Result
from .topics import Topic


class TaskDeclaration(msgspec.Struct, frozen=True, kw_only=True):
    """The declaration of a task in its class statement."""

    task: str
    """Title of its containers, such as `start vm`."""
    result: str
    """Title of the containers of its results, such as `vm started`."""
    type: type["Task"]
    layouts: tuple[Layout, ...]
    """Layouts of its members in a container; the first one is written."""
    key: str
    """The key of the list of members."""
    result_layouts: tuple[Layout, ...]
    """Layouts of its results in a container; the first one is written."""
    result_type: builtins.type[Result]
    """The type of its results."""
    has_command: bool
    """False if another command sends it, so it has no own command."""
    variant: Variant
    """The same for the codec."""


# The registry's own tables, because every container reads them.
_by_task: Final[dict[str, TaskDeclaration]] = REGISTRY.tasks
_by_result: Final[dict[str, TaskDeclaration]] = REGISTRY.tasks_by_result
_by_type: Final[dict[type[Any], TaskDeclaration]] = REGISTRY.tasks_by_type


def declarations() -> Iterator[TaskDeclaration]:
    """Iterate over all declared tasks, in the order of declaration."""
    return iter(tuple(_by_task.values()))


def declaration_of_task(title: str) -> TaskDeclaration | None:
    """Return the task with this title."""
    return _by_task.get(title)


def declaration_of_result(title: str) -> TaskDeclaration | None:
    """Return the task whose results have this title."""
    return _by_result.get(title)


_CONTAINERS_OWN = frozenset(
    {
        *("task", "tasks", "concurrent-execution", "id", "host", "expires"),
        *("idempotency-key", "idempotency_key"),
    }
)
"""Keys of a container that an inline member cannot use for something else."""


def _layouts(layout: Layout | tuple[Layout, ...]) -> tuple[Layout, ...]:
    layouts = (layout,) if isinstance(layout, str) else tuple(layout)
    if not layouts or not set(layouts) <= {"list", "inline"}:
        raise DeclarationError(f"a layout must be 'list' or 'inline', not {layout!r}")
    return layouts


class Task(Message):
    """A member of a task container: the fields that all tasks have.

    Alone, a task reads and writes as a member. Peers send a `TaskContainer`.
    """

    declaration: ClassVar[TaskDeclaration]
    names_its_domain: ClassVar[bool] = True
    """Whether `vm_name`, if the task has it, names the domain whose result is in the answer."""
    __extensions__: ClassVar[str] = "extensions"

    concurrent_execution: Annotated[
        bool | None, Wire("Whether the member runs in its own thread; absent means true.")
    ] = None
    """Whether the member runs in its own thread; absent means true."""
    time_measurement: Annotated[
        bool | None, Wire("Whether the result has the duration of each part; absent means false.")
    ] = None
    """Whether the result has the duration of each part; absent means false."""
    driver: Annotated[str | None, Wire("Driver of the hypervisor, such as qemu or lxctools.")] = (
        None
    )
    """Driver of the hypervisor, such as qemu or lxctools."""
    extensions: Sequence[Extension] = ()
    """Fields that other packages have added to the task; on the wire beside its own keys."""

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
        result_type: type[Result] = Result,
        has_command: bool = True,
    ) -> None:
        """Read the keywords of the class statement. Raises DeclarationError.

        `layout` is the place of the members in a container: in a list under `key`, or one inline
        beside the title. If there are several layouts, all are read and the first is written.
        `result_layout` is the same for the results. `result_type` is a subclass of
        `Result` whose fields beyond those of a result have defaults. `has_command` is False if
        `fastlib` has another command that sends the task.
        """
        declared = TaskDeclaration(
            task=task,
            result=result,
            type=cls,
            layouts=_layouts(layout),
            key=key,
            result_layouts=_layouts(result_layout),
            result_type=result_type,
            has_command=has_command,
            variant=Variant(title=task, member=cls, layouts=_layouts(layout), list_key=key),
        )
        check_title("task", task, cls)
        check_title("result", result, cls)
        cls.__check_keys(declared)
        cls.__check_result(declared)
        register("task", task, cls)
        register("result", result, cls)
        cls.declaration = declared
        _by_task[task] = declared
        _by_type[cls] = declared
        _by_result[result] = declared

    @classmethod
    def __check_keys(cls, declared: TaskDeclaration) -> None:
        """Raise DeclarationError if a container and its members have the same key."""
        if not isinstance(declared.key, str) or not declared.key:
            raise DeclarationError(f"{cls.__qualname__}: a key must be text; got {declared.key!r}")
        own = _CONTAINERS_OWN
        if "list" in declared.layouts and declared.key in own:
            raise DeclarationError(
                f"{cls.__qualname__}: the key {declared.key!r} belongs to the container; use "
                "another key for the list"
            )
        shape = check_shape(cls)
        if shape is None or "inline" not in declared.layouts:
            return
        taken = {*own} - {"concurrent-execution"}
        if "list" in declared.layouts:
            taken.add(declared.key)
        for field in shape.fields if isinstance(shape, Record) else ():
            clash = taken & {*field.keys, field.attribute}
            if clash:
                raise DeclarationError(
                    f"{cls.__qualname__}.{field.attribute}: {min(clash)!r} is the container's own; "
                    "an inline member cannot have it"
                )

    @classmethod
    def __extend__(cls, extension: type[Extension]) -> Callable[[], None]:
        """Return a function that adds the keys of an extension. Raises DeclarationError."""
        name = extension.__qualname__
        declared = cls.__dict__.get("declaration")
        extensions = extensions_of(cls)
        if declared is None or extensions is None:
            raise DeclarationError(f"{name}: {cls.__qualname__} is not a task with a title")
        try:
            record, own = record_of(extension), record_of(cls)
        except NameError as error:
            raise DeclarationError(f"{name}: its types must be known: {error}") from None
        for field in record.fields:
            if not field.optional:
                raise DeclarationError(
                    f"{name}.{field.attribute}: not every peer knows it, so its type must allow "
                    "None, which must be the default"
                )
        taken = {*own.by_key, *own.old}
        if "inline" in declared.layouts:
            taken |= _CONTAINERS_OWN
            if "list" in declared.layouts:
                taken.add(declared.key)
        extensions.check_keys(record, taken)
        return partial(extensions.add, record)

    @classmethod
    def __check_result(cls, declared: TaskDeclaration) -> None:
        """Raise DeclarationError for a type of results that a container cannot have."""
        kind = declared.result_type
        if not isinstance(kind, type) or not issubclass(kind, Result):
            raise DeclarationError(
                f"{cls.__qualname__}: its results are of a subclass of Result, not {shorten(kind)}"
            )
        shape = check_shape(kind)
        if shape is None:
            return
        taken = {
            *("result", "results", "id", "scheduler", "executed"),
            *("idempotency-key", "idempotency_key"),
        }
        if "inline" not in declared.result_layouts:
            taken.clear()
        elif "list" in declared.result_layouts:
            taken.add("list")
        own = set(Result.__struct_fields__)
        for field in record_of(kind).fields:
            clash = taken & {*field.keys, field.attribute}
            if clash:
                raise DeclarationError(
                    f"{kind.__qualname__}.{field.attribute}: {min(clash)!r} is the container's "
                    "own; an inline result cannot have it"
                )
            if field.required and field.attribute not in own:
                raise DeclarationError(
                    f"{kind.__qualname__}.{field.attribute}: the result of a task that failed does "
                    "not have it; give it a default"
                )


def record_of(cls: type[Any]) -> Record:
    """Return the shape of a member.

    Raises DeclarationError if the shape is not that of the member's fields.
    """
    shape = shape_of(cls)
    if not isinstance(shape, Record) or shape.title is not None:
        raise DeclarationError(f"{cls.__qualname__}: a member has the wire form of its own fields")
    return shape


def named_domains(tasks: Iterable[Task]) -> list[str]:
    """Return the domains that tasks name, each as often as they do.

    An evacuation and a regex name no domain.
    """
    return [
        str(name)
        for task in tasks
        if task.names_its_domain and (name := getattr(task, "vm_name", None))
    ]


class TaskContainer(Message):
    """Tasks of one type, to be executed together."""

    __topics__: ClassVar[tuple[Topic, ...]] = (topics.TASK,)

    task: Annotated[str, Wire("Title of the tasks; their type gives it if there are any.")] = ""
    """Title of the tasks; their type gives it if there are any."""
    tasks: Annotated[Sequence[Task], Wire("The members, all of one type.", own_check=True)]
    """The members, all of one type."""
    concurrent_execution: Annotated[
        bool | None, Wire("Whether the container runs in its own thread; absent means true.")
    ] = None
    """Whether the container runs in its own thread; absent means true."""
    id: Annotated[
        str | None,
        Wire("Id of the container; the result container has it, too.", empty_is_absent=True),
    ] = None
    """Id of the container; the result container has it, too."""
    host: Annotated[
        str | None, Wire("Host of the tasks; in the written specification only, ignored by peers.")
    ] = None
    """Host of the tasks; in the written specification only, ignored by peers."""
    expires: Annotated[
        datetime | None,
        Wire(
            "Time after which the daemon does not begin the order; absent means that the "
            "order never expires."
        ),
    ] = None
    """Time after which the daemon does not begin the order; absent means that the order never
    expires.
    """
    idempotency_key: Annotated[
        str | None,
        Wire(
            "A text that the sender uses for this order only; the daemon executes the order once.",
            empty_is_absent=True,
        ),
    ] = None
    """A text that the sender uses for this order only; the daemon executes the order once."""

    def __post_init__(self) -> None:
        # Each text that is read makes a container, so this does nothing twice.
        if type(self.tasks) is not tuple:
            self._make_tuple()
        declared = self._declared_by_members() if self.tasks else self._declared_by_title()
        if declared.layouts[0] == "inline":
            self._merge_inline(declared)
        check(self)

    def _make_tuple(self) -> None:
        if not is_sequence(self.tasks):
            self._refuse("tasks", f"expected a list of tasks; got {shorten(self.tasks)}")
        msgspec.structs.force_setattr(self, "tasks", tuple(self.tasks))

    def _declared_by_members(self) -> TaskDeclaration:
        """Return the declaration of the members' one type, and give the container its title."""
        tasks = self.tasks
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
        return declared

    def _declared_by_title(self) -> TaskDeclaration:
        """Return the declaration of a container without members."""
        declared = _by_task.get(self.task) if isinstance(self.task, str) else None
        if declared is None:
            known = ", ".join(sorted(_by_task))
            if self.task == "":
                self._refuse("task", f"give the title, one of {known}: without tasks it is unknown")
            got = shorten(self.task)
            self._refuse("task", f"expected one of {known}, as there are no tasks; got {got}")
        return declared

    def _merge_inline(self, declared: TaskDeclaration) -> None:
        """Give the one member and the container the same value of the key that they share."""
        if len(self.tasks) != 1:
            self._refuse(
                "tasks", f"{declared.task} takes exactly one member; got {len(self.tasks)}"
            )
        task = self.tasks[0]
        value = task.concurrent_execution
        if value is self.concurrent_execution:
            return
        if value is None:
            value = self.concurrent_execution
            task = msgspec.structs.replace(task, concurrent_execution=value)
            msgspec.structs.force_setattr(self, "tasks", (task,))
        else:
            msgspec.structs.force_setattr(self, "concurrent_execution", value)

    def _refuse(self, path: str, message: str) -> NoReturn:
        problem = Problem(code="value", message=message, path=path)
        raise ValidationError(type(self).__name__, [problem])

    @property
    def declaration(self) -> TaskDeclaration:
        """The declaration of the members: titles and layouts."""
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
            record=record_of,
        )
