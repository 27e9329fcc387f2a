"""What a constructor was given, checked against the declaration.

For each struct one function is compiled from its shape: the common case is a few type tests and
comparisons inline, everything else goes to the shapes. A message is constructed for every member
of every text read, so this is a hot path.
"""

import math
from collections.abc import Callable, Collection
from functools import partial
from typing import Any

import msgspec

from .caches import derived_cache
from .derivation import fields_of
from .errors import Problem, ValidationError, render_path
from .extensions import extensions_of
from .records import Field, Record
from .rules import AllOrNone, Needs, OneOf, Rule
from .shapes import Bool, Choice, Float, Int, InvalidValue, List, Text

Checker = Callable[[Any], None]

_checkers: dict[type[Any], Checker] = derived_cache()


def check(value: Any) -> None:
    """Checks a struct that has just been constructed, and normalises its fields in place.

    Lists become tuples, an empty text or list that means "absent" becomes None. Raises
    ValidationError with every problem.
    """
    cls = type(value)
    try:
        checker = _checkers[cls]
    except KeyError:
        checker = _checkers[cls] = _compile(cls)
    checker(value)


def _condition(field: Field) -> str | None:
    """An expression in `v` that is true for a value that needs no further check."""
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
        tests = ["type(v) is float", "v == v"]
    elif type(shape) is Choice and all(key == text for key, text in shape.values.items()):
        tests = ["type(v) is str", f"v in {tuple(shape.values)!r}"]
    elif isinstance(shape, List) and shape.integers is not None:
        tests = [f"{field.attribute}_integers(v)"]
    elif isinstance(shape, Record):
        tests = [f"type(v) is {field.attribute}_class"]
        if field.wire.empty_is_absent:
            tests.append(f"v != {field.attribute}_class()")
    else:
        return None
    return " and ".join(tests)


def _rule_condition(rule: Rule, attributes: Collection[str]) -> str:
    """An expression in `o` that is true only if the struct follows the rule.

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
        # Called if some are given, also if all are.
        return " and ".join(f"o.{attribute} is None" for attribute in rule.attributes)
    if kind is Needs:
        attribute, other = rule.attributes
        return f"(o.{attribute} is not True or o.{other} is not None)"
    return "False"


def _compile(cls: type[Any]) -> Checker:
    fields = fields_of(cls)
    rules: tuple[Rule, ...] = tuple(getattr(cls, "rules", ()))
    names: dict[str, Any] = {"fix": _fix, "refuse": _refuse, "rules": rules}
    names["check_rules"] = _check_rules
    names["put"] = msgspec.structs.force_setattr
    names["keys"] = {field.attribute: field.key for field in fields}
    lines = ["def checker(o):", "    bad = None"]
    for field in fields:
        if field.wire.own_check:
            continue
        names[f"{field.attribute}_field"] = field
        if isinstance(field.shape, List) and field.shape.integers is not None:
            names[f"{field.attribute}_integers"] = field.shape.holds
        if isinstance(field.shape, Record):
            names[f"{field.attribute}_class"] = field.shape.cls
        condition = _condition(field)
        tests = ["v is not None"] if field.optional else []
        if condition is not None:
            tests.append(f"not ({condition})")
        lines.append(f"    v = o.{field.attribute}")
        lines.append(f"    if {' and '.join(tests) or 'True'}:")
        lines.append(f"        bad = fix(o, {field.attribute}_field, v, bad)")
    extensions = extensions_of(cls)
    if extensions is not None:
        names["extensions"] = extensions.check
        lines.append(f"    v = o.{extensions.attribute}")
        lines.append("    if v != (): bad = extensions(o, v, bad)")
    lines.append("    if bad is not None: refuse(o, bad)")
    for info in msgspec.structs.fields(cls):
        if isinstance(info.default, str) and info.default:
            # The same text, as a repr leaves out what is the very default.
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


def _fix(
    value: Any, field: Field, item: Any, problems: list[Problem] | None
) -> list[Problem] | None:
    """Normalises one field, or adds its problem to the list."""
    try:
        if item is None:
            raise InvalidValue((), field.shape.expected, "None")
        new = field.shape.check(item)
        if field.is_empty(new):
            new = None
    except InvalidValue as error:
        problem = Problem(
            code="value",
            message=error.message,
            path=render_path((field.key, *error.path)),
            expected=error.expected,
            got=error.got,
        )
        return [*(problems or ()), problem]
    if new is not item or (isinstance(new, float) and math.isnan(new)):
        msgspec.structs.force_setattr(value, field.attribute, new)
    return problems


def _check_rules(value: Any, rules: tuple[Rule, ...], keys: dict[str, str]) -> None:
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
