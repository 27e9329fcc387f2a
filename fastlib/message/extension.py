"""Extensions: options that a package adds to a task that it did not declare.

::

    class Tpm(Extension, of=Start):
        \"\"\"A trusted platform module.\"\"\"

        tpm: Annotated[bool | None, Wire("Whether the domain has one.")] = None

    task = Start(vm_name="vm1", extensions=[Tpm(tpm=True)])
    Tpm.of(task).tpm

On the wire `tpm` is beside the task's own keys. A program that has not imported the
module ignores it, like any unknown key.
"""

from typing import Any, ClassVar, Self

from fastlib.codec.errors import DeclarationError
from fastlib.codec.extensions import extensions_of

from .base import Message


class Extension(Message):
    """Fields of a package beside a task's own. Each may be absent: not every peer knows them."""

    __needs_declaration__: ClassVar[bool] = True

    @classmethod
    def __declare__(cls, **keywords: Any) -> None:
        if not keywords:
            raise DeclarationError(
                f"{cls.__qualname__}: the class statement must name the task that it extends, such "
                f"as `class {cls.__name__}(Extension, of=Start)`; else no task would have its keys"
            )
        cls.__extend(**keywords)

    @classmethod
    def __extend(cls, *, of: type[Message] | tuple[type[Message], ...]) -> None:
        """`of` is the task to extend, or several. Raises DeclarationError."""
        if "of" in cls.__struct_fields__:
            raise DeclarationError(
                f"{cls.__qualname__}.of: the name is reserved; use another "
                "and give the key by msgspec.field(name='of')"
            )
        steps = []
        for task in of if isinstance(of, tuple) else (of,):
            extend = getattr(task, "__extend__", None)
            if not isinstance(task, type) or extend is None:
                raise DeclarationError(
                    f"{cls.__qualname__}: `of` must be a task or a tuple of tasks, not {task!r}"
                )
            steps.append(extend(cls))
        for step in steps:  # when nothing can fail any more
            step()

    @classmethod
    def of(cls, task: Message) -> Self:
        """Return this extension of a task; without any value if the task has none.

        Raises TypeError for a task that it does not extend.
        """
        extensions = extensions_of(type(task))
        if extensions is None or cls not in extensions:
            raise TypeError(f"{cls.__qualname__} does not extend {type(task).__qualname__}")
        for extension in getattr(task, extensions.attribute):
            if type(extension) is cls:
                return extension
        return cls()
