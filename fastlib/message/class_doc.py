"""The docstring of a message or a configuration section: its own text and its fields.

`help(fastlib.Migrate)` shows it. It is derived from the declaration at the first access.
"""

import functools
import inspect
import operator
import textwrap
import types
import typing
from inspect import cleandoc
from typing import Any, Final

import msgspec

from fastlib.codec.derivation import fields_of
from fastlib.codec.errors import DeclarationError
from fastlib.codec.extensions import extensions_of
from fastlib.codec.own_doc import own_doc
from fastlib.codec.records import Converted, Field, Record
from fastlib.codec.shapes import List, Shape

_WIDTH: Final = 92


def class_doc(cls: type[Any]) -> str | None:
    """Return the docstring of a class with a list of its fields; None if it would be empty.

    `cls.__dict__["__doc__"]` is only the class's own docstring.
    """
    own = own_doc(cls)
    try:
        lines = [line for field in fields_of(cls) for line in _field_lines(field)]
        extensions = extensions_of(cls)
    except (DeclarationError, NameError, TypeError):
        return own  # hints that cannot be resolved, or a class that is not complete yet
    if extensions is not None:
        lines += _entry(extensions.attribute, "Fields that other packages have added to the task.")
    if not lines:
        return own
    parts = [cleandoc(own)] if own else []
    keys = {field.attribute: field.attribute for field in fields_of(cls)}
    rules = [f"- {rule.describe(keys)}" for rule in getattr(cls, "rules", ())]
    parts.append("\n".join(["Fields, as keyword arguments:", *lines]))
    if rules:
        parts.append("\n".join(["Rules:", *rules]))
    return "\n\n".join(parts)


def signature_of(cls: type[Any]) -> inspect.Signature:
    """Return the signature of a constructor, with the types of the fields and without `Wire`."""
    signature: inspect.Signature = msgspec.StructMeta.__dict__["__signature__"].__get__(cls)
    return signature.replace(
        parameters=[
            parameter.replace(annotation=_without_wire(parameter.annotation))
            for parameter in signature.parameters.values()
        ]
    )


def _without_wire(hint: Any) -> Any:
    """Return a type without `Wire`, and without the ranges of numbers."""
    while typing.get_origin(hint) is typing.Annotated:
        hint = typing.get_args(hint)[0]
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        parts = tuple(map(_without_wire, typing.get_args(hint)))
        return functools.reduce(operator.or_, parts) if _can_join(parts) else typing.Union[parts]  # noqa: UP007
    return hint


def _can_join(parts: tuple[Any, ...]) -> bool:
    return all(isinstance(part, type | types.GenericAlias) for part in parts)


def _field_lines(field: Field) -> list[str]:
    words = [_kind(field.shape)]
    if field.wire.unit:
        words.append(f"in {field.wire.unit}")
    if not field.required:
        default = "" if field.default is None else f", by default {field.default!r}"
        words.append(f"optional{default}")
    return _entry(field.attribute, f"{field.wire.doc} ({', '.join(words)})".strip())


def _kind(shape: Shape) -> str:
    """Return the values that a field takes: the class of a struct, or the words of the errors."""
    if isinstance(shape, Record | Converted):
        return f"a {shape.cls.__name__}"
    if isinstance(shape, List) and isinstance(shape.item, Record | Converted):
        return f"a list of {shape.item.cls.__name__}"
    return shape.expected


def _entry(name: str, text: str) -> list[str]:
    return textwrap.wrap(f"{name}: {text}", _WIDTH, initial_indent="  ", subsequent_indent="      ")
