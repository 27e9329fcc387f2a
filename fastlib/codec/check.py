"""Checks the values of a struct that was just constructed against its declaration.

For each struct, one function is compiled from its shape. It tests the common cases inline by a few
type tests and comparisons, and calls the shapes for the rest. This is a hot path, because a struct
is constructed for each member of each text.
"""

import math
from collections.abc import Callable, Collection
from datetime import UTC, datetime
from functools import partial
from typing import Any

import msgspec

from .caches import derived_cache
from .derivation import fields_of
from .errors import Problem, ValidationError, render_path
from .extensions import extensions_of
from .records import Converted, Field, Record
from .rules import AllOrNone, Needs, OneOf, Rule
from .shapes import Bool, Choice, Float, Instant, Int, InvalidValue, List, Text

Checker = Callable[[Any], None]

_checkers: dict[type[Any], Checker] = derived_cache()


def check(value: Any) -> None:
    """Check a struct that was just constructed, and normalise its fields in place.

    Lists become tuples. An empty text or list becomes None where it means "absent". Raises
    ValidationError with every problem.
    """
    cls = type(value)
    try:
        checker = _checkers[cls]
    except KeyError:
        checker = _checkers[cls] = _compile(cls)
    checker(value)


def _condition(field: Field) -> str | None:
    """Return a source expression in `v`, true only for values that need no further check."""
    shape = field.shape
    if type(shape) is Text and shape.free:
        tests = ["type(v) is str", "v.isascii()"]
        if field.wire.empty_is_absent:
            tests.append("v")
    elif type(shape) is Bool:
        tests = ["(v is True or v is False)"]
    elif type(shape) is Int:
        tests = ["type(v) is int", f"{shape.low} <= v <= {shape.high}"]
    elif type(shape) is Float:
        rounded = "v" if shape.decimals is None else f"round(v, {shape.decimals})"
        tests = ["type(v) is float", f"v == {rounded}"]
    elif type(shape) is Instant:
        tests = ["type(v) is datetime", "v.tzinfo is UTC", "not v.fold"]
    elif type(shape) is Choice and all(key == text for key, text in shape.values.items()):
        tests = ["type(v) is str", f"v in {tuple(shape.values)!r}"]
    elif isinstance(shape, List) and shape.integers is not None:
        name = f"{field.attribute}_list"
        tests = [f"(v is {name}.accepted or {name}.accepts_unchanged(v))"]
    elif isinstance(shape, List) and isinstance(shape.item, Record | Converted):
        tests = ["type(v) is tuple", f"{{*map(type, v)}} == {{{field.attribute}_class}}"]
    elif isinstance(shape, Record):
        tests = [f"type(v) is {field.attribute}_class"]
        if field.wire.empty_is_absent:
            tests.append(f"v != {field.attribute}_class()")
    else:
        return None
    return " and ".join(tests)


def _rule_condition(rule: Rule, attributes: Collection[str]) -> str:
    """Return a source expression in `o`, true only if the struct follows the rule.

    Only rules of the types named here are compiled. Any other rule is called each time, so no text
    of a plug-in ever becomes source code.
    """
    kind = type(rule)
    if not set(rule.attributes) <= set(attributes):
        return "False"  # the names may have changed since the declaration was checked
    if kind is OneOf:
        tests = [f"o.{attribute} is not None" for attribute in rule.attributes]
        return f"({' or '.join(tests)})" if tests else "False"
    if kind is AllOrNone and rule.attributes:
        # Called if some or all are given.
        return " and ".join(f"o.{attribute} is None" for attribute in rule.attributes)
    if kind is Needs:
        attribute, other = rule.attributes
        return f"(o.{attribute} is not True or o.{other} is not None)"
    return "False"


def _compile(cls: type[Any]) -> Checker:
    """Return the compiled checker of a struct.

    For a struct with a text and an optional integer, the source is::

        def checker(o):
            bad = None
            v = o.name
            if not (type(v) is str and v.isascii()):
                bad = normalize(o, name_field, v, bad)
            v = o.count
            if v is not None and not (type(v) is int and 0 <= v <= 100):
                bad = normalize(o, count_field, v, bad)
            if bad is not None: refuse(o, bad)

    It consists of names and literals of the declaration only.
    """
    fields = fields_of(cls)
    rules: tuple[Rule, ...] = tuple(getattr(cls, "rules", ()))
    names: dict[str, Any] = {"normalize": _normalize, "refuse": _refuse, "rules": rules}
    names["check_rules"] = _check_rules
    names |= {"datetime": datetime, "UTC": UTC}
    names["put"] = msgspec.structs.force_setattr
    names["keys"] = {field.attribute: field.key for field in fields}
    lines = ["def checker(o):", "    bad = None"]
    for field in fields:
        if field.wire.own_check:
            continue
        names[f"{field.attribute}_field"] = field
        if isinstance(field.shape, List) and field.shape.integers is not None:
            names[f"{field.attribute}_list"] = field.shape
        shape = field.shape.item if isinstance(field.shape, List) else field.shape
        if isinstance(shape, Record | Converted):
            names[f"{field.attribute}_class"] = shape.cls
        condition = _condition(field)
        tests = ["v is not None"] if field.optional else []
        if condition is not None:
            tests.append(f"not ({condition})")
        lines.append(f"    v = o.{field.attribute}")
        lines.append(f"    if {' and '.join(tests) or 'True'}:")
        lines.append(f"        bad = normalize(o, {field.attribute}_field, v, bad)")
    extensions = extensions_of(cls)
    if extensions is not None:
        names["extensions"] = extensions.check
        lines.append(f"    v = o.{extensions.attribute}")
        lines.append("    if v != (): bad = extensions(o, v, bad)")
    lines.append("    if bad is not None: refuse(o, bad)")
    for info in msgspec.structs.fields(cls):
        if isinstance(info.default, str) and info.default:
            # Store the very object of the default, because repr omits a field by identity.
            names[f"{info.name}_default"] = info.default
            lines.append(f"    v = o.{info.name}")
            lines.append(
                f"    if v == {info.name}_default: put(o, {info.name!r}, {info.name}_default)"
            )
    if rules:
        conditions = [_rule_condition(rule, names["keys"]) for rule in rules]
        lines.append(f"    if not ({' and '.join(conditions)}): check_rules(o, rules, keys)")
    exec("\n".join(lines), names)  # noqa: S102 - of identifiers from a declaration
    checker: Checker = names["checker"]
    return checker


def _normalize(
    value: Any, field: Field, item: Any, problems: list[Problem] | None
) -> list[Problem] | None:
    """Normalise one field, or add its problem to the list. Return the list."""
    try:
        if item is None:
            raise InvalidValue((), field.shape.expected, "None")
        new = field.shape.check(item)
        if field.is_empty(new):
            new = None
    except InvalidValue as error:
        problem = error.problem(render_path((field.key, *error.path)), field.wire.unit)
        return [*(problems or ()), problem]
    if new is not item or (isinstance(new, float) and math.isnan(new)):
        msgspec.structs.force_setattr(value, field.attribute, new)
    return problems


def _check_rules(value: Any, rules: tuple[Rule, ...], keys: dict[str, str]) -> None:
    """Raise ValidationError if a struct breaks rules."""
    get = partial(getattr, value)
    problems = []
    for rule in rules:
        broken = rule.problem(get, keys)
        if broken is not None:
            path, message = broken
            problems.append(Problem(code="rule", message=message, path=render_path(path)))
    if problems:
        _refuse(value, problems)


def _refuse(value: Any, problems: list[Problem]) -> None:
    raise ValidationError(type(value).__name__, problems)
