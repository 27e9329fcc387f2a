"""Declare messages in tests, and check that they travel. Use them with `isolated_registry`."""

from collections.abc import Mapping
from typing import Any, TypeVar

import fastlib
from fastlib import Message, Task
from fastlib.message import registry

M = TypeVar("M", bound=Message)


def registered_titles() -> tuple[list[str], list[str]]:
    """Return the titles of all tasks and of all results that are declared now."""
    return registry.titles("task"), registry.titles("result")


def round_trips(message: M) -> M:
    """Return the message, after it was written and read in every form."""
    for style in ("block", "literal", "flow"):
        text = message.to_yaml(style=style)
        assert type(message).from_yaml(text) == message
        assert fastlib.load(text) == message
        report = fastlib.validate(text)
        assert report.problems == ()
        assert report.message == message
    assert type(message).load(message.emit()) == message
    return message


def declare(
    hints: Mapping[str, Any] | None = None,
    base: type[Message] = Task,
    name: str = "Broken",
    members: Mapping[str, Any] | None = None,
    **keywords: Any,
) -> Any:
    """Return the class that a class statement with these hints makes."""
    namespace = {
        "__module__": __name__,
        "__qualname__": f"<declared>.{name}",  # a name that is not public
        "__annotations__": hints if hints is not None else {"vm_name": str},
        **(members or {}),
    }
    metaclass: Any = type(base)
    return metaclass(name, (base,), namespace, **keywords)
