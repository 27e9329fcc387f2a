"""Find all declared messages, including those of other packages."""

from typing import Any

from fastlib.codec.derivation import shape_of
from fastlib.codec.envelope import Envelope
from fastlib.codec.errors import DeclarationError
from fastlib.message import Message, Task
from fastlib.message.base import Serializable
from fastlib.message.describe import message_types
from fastlib.message.registry import class_of_title, titles


def registered() -> list[type[Message]]:
    """Return every message that is declared so far, those with the fewest fields first.

    `fastlib.message.entry_points.load_entry_points` loads those of installed packages.
    """
    found = dict.fromkeys(message_types())
    for title in titles("task"):  # also those that are declared in a function
        cls = class_of_title("task", title)
        if cls is not None:
            found[cls] = None
    return sorted(found, key=_number_of_fields)


def _number_of_fields(cls: type[Message]) -> int:
    """Count the fields without deriving their shapes: this is called for each drawn message."""
    return sum(name != getattr(cls, "__extensions__", None) for name in cls.__struct_fields__)


def is_titled(cls: type[Any]) -> bool:
    """Return True if a text of this type identifies its type."""
    shape = shape_of(cls)
    return isinstance(shape, Envelope) or getattr(shape, "written_title", None) is not None


def declared_tasks() -> list[type[Task]]:
    """Return every task that a container can hold."""
    classes = (class_of_title("task", title) for title in titles("task"))
    return [cls for cls in classes if cls is not None and issubclass(cls, Task)]


def check_type(cls: object) -> type[Any]:
    """Return the type of a message, or of a part of one. Raises TypeError for other values."""
    if not isinstance(cls, type) or not issubclass(cls, Serializable):
        raise TypeError(f"expected a type of message, such as fastlib.Start; got {cls!r:.80}")
    try:
        shape_of(cls)
    except NameError as error:
        raise DeclarationError(f"{cls.__name__}: its types must be known: {error}") from None
    return cls
