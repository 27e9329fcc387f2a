"""The constructor of users: it reports every wrong argument at once.

`msgspec` reports the first one, without the name of the class. The metaclass of messages and of
sections of a configuration has `construct` as its `__call__`.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

from .derivation import fields_of
from .errors import ArgumentError, Problem
from .extensions import extensions_of
from .load_context import nearest_word, shorten
from .records import Field, Record
from .shapes import InvalidValue

_call: Final[Any] = msgspec.StructMeta.__call__


def construct(cls: Any, *arguments: Any, **named: Any) -> Any:
    """Construct a struct. Raises ArgumentError with every wrong argument, and ValidationError."""
    try:
        return _call(cls, *arguments, **named)
    except TypeError as error:
        if isinstance(error, ArgumentError) or not _names_are_wrong(cls, arguments, named):
            raise  # from a rule, or from a type of another package
    raise ArgumentError(cls.__name__, _problems(cls, arguments, named))


def _names_are_wrong(cls: type[Any], arguments: tuple[Any, ...], named: Mapping[str, Any]) -> bool:
    """Return whether msgspec refuses the names of the arguments."""
    fields = {info.name: info.required for info in msgspec.structs.fields(cls)}
    required = {name for name, is_required in fields.items() if is_required}
    return bool(arguments) or not required <= named.keys() <= fields.keys()


def _problems(
    cls: type[Any], arguments: tuple[Any, ...], named: Mapping[str, Any]
) -> list[Problem]:
    """Return the problems of the arguments of a constructor, in the order of the call."""
    inherited = {name for base in cls.__bases__ for name in getattr(base, "__struct_fields__", ())}
    fields = {
        field.attribute: field
        for field in sorted(fields_of(cls), key=lambda field: field.attribute in inherited)
    }
    extensions = extensions_of(cls)
    known = [*fields] if extensions is None else [*fields, extensions.attribute]
    problems = []
    unknown = [name for name in named if name not in known]
    missing = [name for name, field in fields.items() if field.required and name not in named]
    if arguments:
        given = ", ".join(map(shorten, arguments[:3])) + (", …" if len(arguments) > 3 else "")
        such_as = f", such as {(missing or known)[0]}=…" if known else ""
        message = f"arguments must have names{such_as}; without a name came {given}"
        problems.append(Problem(code="positional-argument", message=message))
    for name in unknown:
        problems.append(_unknown_argument(name, fields.values(), known))
    for name, value in named.items():
        if name in fields and not (value is None and fields[name].optional):
            problems += _wrong_value(fields[name], value)
    for name in missing:
        expected = fields[name].shape.expected
        near = _meant_for(fields[name], unknown)
        hint = "" if near is None else f"; there is {near!r} instead"
        message = f"missing; expected {expected}{hint}"
        problems.append(Problem(code="missing", message=message, path=name, expected=expected))
    return problems


def _unknown_argument(name: str, fields: Iterable[Field], known: Iterable[str]) -> Problem:
    """Return the problem of an unknown argument, with the probable field."""
    message, suggestion = "unknown argument", None
    fields = list(fields)
    for field in fields:
        if name in field.keys or name in field.wire.old:
            suggestion = field.attribute
    parts = [(field, field.shape) for field in fields if isinstance(field.shape, Record)]
    if suggestion is None and not any(name in shape.keys for _, shape in parts):
        suggestion = nearest_word(name, known)
    if suggestion is None:
        message += _inside(name, parts)
    return Problem(
        code="unknown-argument", message=message, path=_shown(name), suggestion=suggestion
    )


def _inside(name: str, parts: Iterable[tuple[Field, Record]]) -> str:
    """Return the advice for an argument that belongs to a struct in the struct."""
    for field, shape in parts:
        inner = nearest_word(name, shape.keys)
        if inner is not None:
            of = shape.cls.__name__
            return f"; it belongs to {field.attribute}: {field.attribute}={of}({inner}=…)"
    return ""


def _shown(name: str) -> str:
    """Return the name of an argument for an error; a very long one is shortened."""
    return name if name.isidentifier() and len(name) <= 60 else shorten(name)


def _meant_for(field: Field, unknown: Iterable[str]) -> str | None:
    """Return the unknown argument that was probably meant for a field."""
    names = list(unknown)
    for name in names:
        if name in field.keys or name in field.wire.old:
            return name
    return nearest_word(field.attribute, names)


def _wrong_value(field: Field, value: Any) -> list[Problem]:
    """Return the problem of the value of a field, if there is one."""
    if field.wire.own_check:
        return []  # the struct's constructor has not checked the value
    try:
        if value is None:
            raise InvalidValue((), field.shape.expected, "None")
        field.shape.check(value)
    except InvalidValue as error:
        path = field.attribute + "".join(f"[{step!r}]" for step in error.path)
        return [error.problem(path, field.wire.unit)]
    return []
