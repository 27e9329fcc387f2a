"""Derives shapes from types: from a struct, and from the annotation of a field."""

import enum
import types
import typing
from collections.abc import Iterable
from collections.abc import Mapping as MappingABC
from collections.abc import Sequence as SequenceABC
from contextvars import ContextVar
from datetime import datetime
from typing import Any, Final, Literal

import msgspec

from .annotations import Wire
from .caches import derived_cache
from .errors import DeclarationError
from .extensions import extensions_of
from .records import Converted, Field, Record
from .shapes import Bool, Choice, Float, Instant, Int, InvalidValue, List, Map, Shape, Text
from .tree_shape import Tree

_shapes: dict[type[Any], Shape] = derived_cache()
_fields: dict[type[Any], list[Field]] = derived_cache()
_deriving: Final[ContextVar[frozenset[type[Any]]]] = ContextVar("deriving", default=frozenset())
"""The types of which this thread derives the shape now. `threading` would slow the start down."""

_INT_BOUNDS: Final = ("ge", "le")
_TEXT_BOUNDS: Final = ("min_length", "max_length", "pattern")
_BOUNDS: Final = ("gt", "ge", "lt", "le", "multiple_of", "pattern", "min_length", "max_length")
"""The properties of `msgspec.Meta` that restrict values, except `tz`: instants have a zone."""


def shape_of(cls: type[Any]) -> Shape:
    """Return the shape of a struct, derived at its first use. Raises DeclarationError.

    Two threads may derive it at the same time. Both then return one of the two equal shapes.
    """
    shape = _shapes.get(cls)
    if shape is None:
        if cls in _deriving.get():
            raise DeclarationError(f"{cls.__name__}: a message cannot hold one of its own type")
        own = cls.__dict__.get("__shape__")
        before = _deriving.set(_deriving.get() | {cls})
        try:
            shape = _shapes.setdefault(cls, own() if own is not None else _derive(cls))
        finally:
            _deriving.reset(before)
    return shape


def _derive(cls: type[Any]) -> Shape:
    wire = getattr(cls, "__wire__", None)
    if wire is not None:
        return Converted(cls, shape_of(wire))
    return Record(
        cls,
        fields_of(cls),
        title=getattr(cls, "__title__", None),
        title_is_written=getattr(cls, "__title_is_written__", True),
        rules=getattr(cls, "rules", ()),
        extensions=extensions_of(cls),
    )


def fields_of(cls: type[Any]) -> list[Field]:
    """Return the fields of a struct, in wire order.

    That is the order of declaration, except for the fields in `__first__`: a subclass may have
    fields before the inherited ones.
    """
    known = _fields.get(cls)
    if known is None:
        known = _fields[cls] = _derive_fields(cls)
    return [*known]


def _derive_fields(cls: type[Any]) -> list[Field]:
    fields = []
    for info in msgspec.structs.fields(cls):
        if info.name == getattr(cls, "__extensions__", None):
            continue
        where = f"{cls.__name__}.{info.name}"
        hint, optional, wire = _unwrap(info.type)
        shape = shape_of_type(hint, where, wire)
        if optional and (info.required or info.default is not None):
            raise DeclarationError(f"{where}: a field that may be absent has the default None")
        if wire.empty_is_absent and not optional:
            raise DeclarationError(
                f"{where}: it must not be absent, so an empty value cannot mean absent"
            )
        if not info.required and info.default is not msgspec.NODEFAULT:
            _check_default(where, shape, info.default, optional)
        fields.append(
            Field(
                info.name,
                info.encode_name,
                shape,
                wire,
                required=info.required,
                optional=optional,
                default=None if info.default is msgspec.NODEFAULT else info.default,
            )
        )
    first = getattr(cls, "__first__", ())
    return sorted(fields, key=lambda field: field.attribute not in first)


def _check_default(where: str, shape: Shape, default: Any, optional: bool) -> None:
    if default is None and optional:
        return
    try:
        shape.check(default)
    except InvalidValue as error:
        raise DeclarationError(f"{where}: its default does not fit: {error.message}") from None


def _unwrap(hint: Any) -> tuple[Any, bool, Wire]:
    """Split a hint into its type, whether None is allowed, and its `Wire`."""
    wire = Wire()
    meta: list[Any] = []
    optional = False
    while True:
        origin = typing.get_origin(hint)
        if origin is typing.Annotated:
            hint, *extras = typing.get_args(hint)
            wire = next((extra for extra in extras if isinstance(extra, Wire)), wire)
            meta += [extra for extra in extras if isinstance(extra, msgspec.Meta)]
        elif origin in (typing.Union, types.UnionType) and type(None) in typing.get_args(hint):
            optional = True
            rest = tuple(arg for arg in typing.get_args(hint) if arg is not type(None))
            hint = typing.Union[rest]  # noqa: UP007 - of a tuple
        else:
            for extra in reversed(meta):
                hint = typing.Annotated[hint, extra]
            return hint, optional, wire


def shape_of_type(hint: Any, where: str, wire: Wire | None = None) -> Shape:
    """Return the shape of any type that a field may have.

    `where` names the field in errors. Raises DeclarationError for other types.
    """
    wire = wire or Wire()
    extras: list[Any] = []
    if typing.get_origin(hint) is typing.Annotated:
        hint, *extras = typing.get_args(hint)
    meta = _meta_of(hint, extras, where)
    shape = (
        _scalar_shape(hint, meta, where, wire)
        or _collection_shape(hint, where, wire)
        or _class_shape(hint, where)
    )
    if shape is None:
        raise DeclarationError(
            f"{where}: {hint} cannot be sent; use str, bool, float, "
            "datetime, Annotated[int, Meta(…)], a Literal or enum of texts, Sequence, "
            "Mapping[str, …], another message, or these | None"
        )
    return shape


def _meta_of(hint: Any, extras: Iterable[Any], where: str) -> msgspec.Meta | None:
    """Return the bounds of all annotations of a type as one. Raises DeclarationError.

    A bound that no shape checks would be a promise that fastlib does not keep.
    """
    checked = _INT_BOUNDS if hint is int else _TEXT_BOUNDS if hint is str else ()
    bounds: dict[str, Any] = {}
    for extra in extras:
        if not isinstance(extra, msgspec.Meta):
            continue
        for name in _BOUNDS:
            value = getattr(extra, name)
            if value is None:
                continue
            if name not in checked:
                raise DeclarationError(
                    f"{where}: Meta({name}=…) is not checked here; int has ge and le, str has "
                    "min_length, max_length and pattern, and a Rule can check the rest"
                )
            if bounds.setdefault(name, value) != value:
                raise DeclarationError(f"{where}: Meta({name}=…) is given twice, and differs")
    return msgspec.Meta(**bounds) if bounds else None


def _scalar_shape(hint: Any, meta: msgspec.Meta | None, where: str, wire: Wire) -> Shape | None:
    """Return the shape of a type without parameters, or of a Literal; else None."""
    if hint is str:
        return Text(meta)
    if hint is bool:
        return Bool()
    if hint is int:
        if meta is None or meta.ge is None or meta.le is None:
            message = "an integer needs a range: Annotated[int, Meta(ge=…, le=…)]"
            raise DeclarationError(f"{where}: {message}")
        if meta.ge < 0:
            raise DeclarationError(f"{where}: the integers of the protocol have no sign")
        return Int(int(meta.ge), int(meta.le), wire.hex_digits)
    if hint is float:
        return Float(wire.decimals)
    if hint is datetime:
        return Instant()
    if hint is Any:
        return Tree()
    if typing.get_origin(hint) is Literal:
        texts = typing.get_args(hint)
        if all(isinstance(text, str) for text in texts):
            return Choice({text: text for text in texts})
    return None


def _collection_shape(hint: Any, where: str, wire: Wire) -> Shape | None:
    """Return the shape of a sequence, or of a mapping from texts; else None."""
    origin = typing.get_origin(hint)
    args = typing.get_args(hint)
    if origin in (SequenceABC, list) or (origin is tuple and args[1:] == (...,)):
        return List(shape_of_type(args[0], where))
    if origin in (MappingABC, dict) and args[0] is str:
        return Map(shape_of_type(args[1], where), wire.pairs)
    return None


def _class_shape(hint: Any, where: str) -> Shape | None:
    """Return the shape of an enum, a struct, or a class with a shape of its own; else None."""
    if not isinstance(hint, type):
        return None
    if issubclass(hint, enum.Enum):
        return Choice({str(member.value): member for member in hint})
    if issubclass(hint, msgspec.Struct):
        if not hasattr(hint, "__post_init__"):
            raise DeclarationError(f"{where}: {hint.__name__} checks nothing; make it a Message")
        return shape_of(hint)
    return shape_of(hint) if hasattr(hint, "__shape__") else None
