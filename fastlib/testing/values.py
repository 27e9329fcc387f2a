"""Values of every shape, derived from the codec's shapes. Messages are made from them.

Every declared message is generated. This module only names `TimeMeasurement`, which has its own
wire form.
"""

from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from hypothesis import assume, reject
from hypothesis import strategies as st

from fastlib.codec.derivation import fields_of, shape_of
from fastlib.codec.envelope import Envelope
from fastlib.codec.extensions import extensions_of
from fastlib.codec.records import Converted, Field
from fastlib.codec.rules import AllOrNone, Needs, OneOf, Rule
from fastlib.codec.shapes import Bool, Choice, Float, Instant, Int, List, Map, Shape, Text
from fastlib.codec.tree_shape import Tree
from fastlib.message import TimeMeasurement, Timing

Texts = st.SearchStrategy[str]

MOST: int = 4
"""The maximum number of entries of a list or a mapping; more find few new faults."""


def _texts(shape: Text, texts: Texts) -> Texts:
    if shape.free:
        return texts
    if shape.pattern is not None:
        return st.from_regex(shape.pattern).filter(shape.fits)
    return st.one_of(texts.filter(shape.fits), st.text(min_size=shape.min, max_size=shape.max))


def _integers(low: int, high: int) -> st.SearchStrategy[int]:
    """Return integers: small ones, any, and those that readers often get wrong."""
    near = (low, low + 1, 7, 8, 2**31, 2**32 - 1, 2**63, high)
    edges = [edge for edge in near if low <= edge <= high]
    return st.one_of(
        st.integers(low, min(high, max(low, 64))), st.integers(low, high), st.sampled_from(edges)
    )


_FLOATS = st.one_of(
    st.integers(0, 100).map(float),
    st.floats(),
    st.sampled_from([0.0, -0.0, 0.33, 1.5, 1e22, 1e16, 5e-324, 1.7976931348623157e308, 0.004711]),
)


_INSTANTS = st.one_of(
    st.datetimes(
        datetime(2026, 1, 1),
        datetime(2027, 1, 1),
        timezones=st.just(UTC),
    ),
    st.datetimes(timezones=st.just(UTC)),
    st.sampled_from([datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)]),
)


def _trees(texts: Texts) -> st.SearchStrategy[Any]:
    leaves = st.one_of(texts, texts, st.none(), st.integers(), st.booleans(), _FLOATS)
    return st.recursive(
        leaves,
        lambda below: st.one_of(
            st.lists(below, max_size=MOST), st.dictionaries(texts, below, max_size=MOST)
        ),
        max_leaves=8,
    )


def _measurements(texts: Texts) -> st.SearchStrategy[TimeMeasurement]:
    timings = st.dictionaries(texts, structs(Timing, texts), max_size=MOST)
    return timings.map(lambda each: TimeMeasurement(each, enabled=False))


@lru_cache(maxsize=1024)
def values(shape: Shape, texts: Texts) -> st.SearchStrategy[Any]:
    """Return values of a shape; `texts` is the strategy of its free text fields."""
    if isinstance(shape, Text):
        return _texts(shape, texts)
    if isinstance(shape, Bool):
        return st.booleans()
    if isinstance(shape, Int):
        return _integers(shape.low, shape.high)
    if isinstance(shape, Float):
        return _FLOATS
    if isinstance(shape, Instant):
        return _INSTANTS
    if isinstance(shape, Choice):
        return st.sampled_from(list(shape.values.values()))
    if isinstance(shape, List):
        return st.lists(values(shape.item, texts), max_size=MOST)
    if isinstance(shape, Map):
        return st.dictionaries(texts, values(shape.value, texts), max_size=MOST)
    if isinstance(shape, Tree):
        return _trees(texts).filter(lambda tree: tree is not None)
    cls = getattr(shape, "cls", None)
    if not isinstance(cls, type):
        raise TypeError(f"there is no strategy for the shape {type(shape).__name__}")
    return structs(cls, texts)


def structs(cls: type[Any], texts: Texts) -> st.SearchStrategy[Any]:
    """Return messages of one type, or other values in messages."""
    of_type: Any = cls  # for the type checker, types are not hashable
    return _structs_of(of_type, texts)


@lru_cache(maxsize=1024)
def _structs_of(cls: Any, texts: Texts) -> st.SearchStrategy[Any]:
    shape = shape_of(cls)
    if issubclass(cls, TimeMeasurement):
        return _measurements(texts)
    if isinstance(shape, Envelope):
        return _containers(shape, texts)
    if isinstance(shape, Converted) and not hasattr(cls, "__struct_fields__"):
        return _converted(shape, texts)
    # Also for a type whose wire form differs from its fields.
    return _structs(cls, tuple(fields_of(cls)), tuple(getattr(cls, "rules", ())), texts)


@lru_cache(maxsize=64)
def one_of_types(classes: tuple[Any, ...]) -> st.SearchStrategy[Any]:
    """Return instances of one of some types."""
    return st.sampled_from(classes)


@lru_cache(maxsize=64)
def _one_of(attributes: tuple[str, ...]) -> st.SearchStrategy[str]:
    return st.sampled_from(attributes)


_EITHER = st.booleans()


@lru_cache(maxsize=64)
def _titles(titles: tuple[str, ...]) -> st.SearchStrategy[str]:
    # The shortest first: failures shrink towards it.
    return st.sampled_from(sorted(titles, key=lambda each: (len(each), each)))


@lru_cache(maxsize=1024)
def _members(member: st.SearchStrategy[Any], one: bool) -> st.SearchStrategy[list[Any]]:
    return st.lists(member, min_size=int(one), max_size=1 if one else MOST)


@st.composite
def _converted(draw: st.DrawFn, shape: Converted, texts: Texts) -> Any:
    try:
        return shape.cls.from_wire(draw(values(shape.wire, texts)))
    except ValueError:
        reject()


@st.composite
def _structs(
    draw: st.DrawFn,
    cls: type[Any],
    fields: tuple[Field, ...],
    rules: tuple[Rule, ...],
    texts: Texts,
) -> Any:
    return _struct(draw, cls, fields, rules, texts, {})


def _struct(
    draw: st.DrawFn,
    cls: type[Any],
    fields: tuple[Field, ...],
    rules: tuple[Rule, ...],
    texts: Texts,
    drawn: dict[str, Any],
) -> Any:
    """Draw a struct. `drawn` has existing values by attribute.

    Half of the optional fields are absent, except those that a rule requires.
    """
    by_attribute = {field.attribute: field for field in fields}
    for field in fields:
        # Drawn right before its value, so shrinking removes both.
        if field.attribute not in drawn and (field.required or draw(_EITHER)):
            drawn[field.attribute] = draw(values(field.shape, texts))
    for rule in rules:
        for attribute in _needed(draw, rule, drawn):
            drawn[attribute] = draw(values(by_attribute[attribute].shape, texts))
    if rules:
        # The rules treat an empty value as absent if it means that.
        seen = {
            attribute: value
            for attribute, value in drawn.items()
            if value is not None and not by_attribute[attribute].is_empty(value)
        }
        # For another package's rule, only its answer is known.
        assume(all(rule.broken(seen.get) is None for rule in rules))
    extensions = extensions_of(cls)
    if extensions is not None:
        parts = [record.cls for record in extensions if draw(_EITHER)]
        drawn[extensions.attribute] = [draw(structs(part, texts)) for part in parts]
    return cls(**drawn)


def _needed(draw: st.DrawFn, rule: Rule, drawn: dict[str, Any]) -> list[str]:
    """Return the absent attributes that must be given for a rule to be kept."""
    absent = [attribute for attribute in rule.attributes if drawn.get(attribute) is None]
    if isinstance(rule, OneOf) and len(absent) == len(rule.attributes):
        return [draw(_one_of(rule.attributes))]
    if isinstance(rule, Needs) and drawn.get(rule.attribute) is True and rule.other in absent:
        return [rule.other]
    if isinstance(rule, AllOrNone) and len(absent) < len(rule.attributes):
        return absent
    return []


@st.composite
def _containers(draw: st.DrawFn, envelope: Envelope, texts: Texts) -> Any:
    """Draw a container. Its title is a declared one, or any text that has members."""
    title = draw(_titles(tuple(envelope.titles())))
    if draw(_TEN) == 9:
        other = draw(texts)
        title = other if envelope.variant(other) is not None else title
    variant = envelope.variant(title)
    assert variant is not None
    members = draw(_members(structs(variant.member, texts), variant.layouts[0] == "inline"))
    given = {envelope.title: title, envelope.members: members}
    return _struct(draw, envelope.cls, envelope.fields, (), texts, given)


_TEN = st.integers(0, 9)
