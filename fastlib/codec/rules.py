"""Rules between the fields of one struct: the base class `Rule` and the rules for general use.

A struct lists its rules in the class variable `rules`::

    class Snapshot(Task, task="snapshot vm"):
        rules: ClassVar[tuple[Rule, ...]] = (Needs("external", "label"), Positive("timeout"))

They are checked when a struct is constructed and when one is loaded. An attribute is *given* if its
value is not None.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

from .errors import Path
from .load_context import INVALID

Get = Callable[[str], Any]
"""Returns the value of an attribute: None if it is absent, INVALID if it could not be loaded."""


class Facts(Protocol):
    """The facts about a field that a rule may use when its struct is declared."""

    @property
    def kind(self) -> str:
        """The kind of its values: `bool`, `number`, `text`, `list`, `mapping` or `other`."""

    @property
    def may_be_absent(self) -> bool:
        """Whether its value may be None."""

    @property
    def may_be_empty(self) -> bool:
        """Whether a text, list or mapping may be empty; False if that is read as None."""

    @property
    def bounds(self) -> tuple[float, float] | None:
        """The lowest and the highest value of an integer."""


class Rule:
    """Base class of all rules. A rule of your own implements `broken`; see also `ValueRule`."""

    attributes: tuple[str, ...] = ()
    """Names of the attributes that the rule checks."""

    def broken(self, get: Get) -> tuple[str | None, str] | None:
        """Return the problem, or None if the struct follows the rule.

        The problem is a pair: the attribute with the wrong value (None for the whole struct) and a
        text. In the text, `{attribute}` is replaced by the attribute's key on the wire.
        """
        raise NotImplementedError

    def mistake(self, facts: Mapping[str, "Facts"]) -> str | None:
        """Return why the rule makes no sense for the fields of a declaration, None if it does.

        `facts` has the fields by attribute. A rule that never applies, or cannot be checked, is a
        mistake. The declaration of the struct then raises a DeclarationError with this text.
        """
        return None

    def problem(self, get: Get, keys: Mapping[str, str]) -> tuple[Path, str] | None:
        """Return the problem with wire keys instead of attributes: a path and a text."""
        broken = self.broken(get)
        if broken is None:
            return None
        attribute, message = broken
        path = () if attribute is None else (keys[attribute],)
        return path, message.format_map(keys)

    def describe(self, keys: Mapping[str, str]) -> str:
        """Return the rule in words, for the reference; `keys` are the wire keys by attribute.

        By default this is the docstring of the class.
        """
        from inspect import cleandoc  # slow to import, and only needed for documentation

        return cleandoc(type(self).__doc__ or type(self).__name__)


class ValueRule(Rule):
    """Base class of rules about the value of one attribute.

    The value is checked only if it is given and could be loaded.
    """

    def __init__(self, attribute: str) -> None:
        self.attributes = (attribute,)

    @property
    def attribute(self) -> str:
        """Name of the attribute that the rule checks."""
        return self.attributes[0]

    def broken(self, get: Get) -> tuple[str | None, str] | None:
        value = get(self.attribute)
        if value is None or value is INVALID:
            return None
        message = self.problem_with(value)
        if message is None:
            return None
        return self.attribute, message.replace("{", "{{").replace("}", "}}")

    def problem_with(self, value: Any) -> str | None:
        """Return the problem of the value, or None. The text is shown unchanged."""
        raise NotImplementedError

    def value_schema(self) -> dict[str, Any]:
        """Return a JSON Schema that refuses wrong values; an empty one if none can do so.

        It must admit each value that follows the rule, and may admit others.
        """
        return {}


# --- which attributes are given -------------------------------------------------------------------


class OneOf(Rule):
    """At least one of the attributes must be given."""

    def __init__(self, *attributes: str) -> None:
        self.attributes = attributes

    def broken(self, get: Get) -> tuple[str | None, str] | None:
        for attribute in self.attributes:
            if get(attribute) is not None:
                return None
        return None, f"needs {' or '.join(map(_placeholder, self.attributes))}"

    def mistake(self, facts: Mapping[str, Facts]) -> str | None:
        always = [name for name in self.attributes if not facts[name].may_be_absent]
        if always:
            return f"it never applies, as {always[0]!r} is always given"
        return None if self.attributes else "it has no attributes"

    def describe(self, keys: Mapping[str, str]) -> str:
        return f"needs {' or '.join(keys[name] for name in self.attributes)}"


class AllOrNone(Rule):
    """The attributes must be given together, or not at all."""

    def __init__(self, *attributes: str) -> None:
        self.attributes = attributes

    def broken(self, get: Get) -> tuple[str | None, str] | None:
        given = [attribute for attribute in self.attributes if get(attribute) is not None]
        if len(given) in (0, len(self.attributes)):
            return None
        names = " and ".join(map(_placeholder, self.attributes))
        return None, f"needs {names} together, or none of them"

    def mistake(self, facts: Mapping[str, Facts]) -> str | None:
        if len(set(self.attributes)) < 2:
            return "it never applies, as it needs two attributes"
        if not any(facts[name].may_be_absent for name in self.attributes):
            return "it never applies, as all of them are always given"
        return None

    def describe(self, keys: Mapping[str, str]) -> str:
        names = " and ".join(keys[name] for name in self.attributes)
        return f"needs {names} together, or none of them"


class _Dependency(Rule):
    """One attribute needs another."""

    def __init__(self, attribute: str, other: str) -> None:
        self.attribute: Final = attribute
        self.other: Final = other
        self.attributes = (attribute, other)

    def mistake(self, facts: Mapping[str, Facts]) -> str | None:
        if self.attribute == self.other:
            return "it never applies, as both attributes are the same"
        if not facts[self.other].may_be_absent:
            return f"it never applies, as {self.other!r} is always given"
        return None

    def describe(self, keys: Mapping[str, str]) -> str:
        return f"{keys[self.attribute]} needs {keys[self.other]}"


class Needs(_Dependency):
    """If `attribute` is true, `other` must be given."""

    def broken(self, get: Get) -> tuple[str | None, str] | None:
        if get(self.attribute) is not True or get(self.other) is not None:
            return None
        return self.attribute, f"needs {_placeholder(self.other)}"

    def mistake(self, facts: Mapping[str, Facts]) -> str | None:
        if facts[self.attribute].kind != "bool":
            return (
                f"it never applies, as it is for a field that is true or false, and "
                f"{self.attribute!r} is none; for any value, use "
                f"Requires({self.attribute!r}, {self.other!r})"
            )
        return super().mistake(facts)


class Requires(_Dependency):
    """If `attribute` is given, with any value, `other` must be given."""

    def broken(self, get: Get) -> tuple[str | None, str] | None:
        if get(self.attribute) is None or get(self.other) is not None:
            return None
        return self.attribute, f"needs {_placeholder(self.other)}"


class Exclusive(Rule):
    """At most one of two attributes may be given."""

    def __init__(self, one: str, other: str) -> None:
        self.attributes = (one, other)

    def broken(self, get: Get) -> tuple[str | None, str] | None:
        one, other = self.attributes
        if get(one) is None or get(other) is None:
            return None
        return other, f"{_placeholder(one)} is given as well; remove one of the two"

    def mistake(self, facts: Mapping[str, Facts]) -> str | None:
        one, other = self.attributes
        if one == other:
            return "both attributes are the same, so it refuses every value"
        for name in self.attributes:
            if not facts[name].may_be_absent:
                return f"{name!r} is always given, so the other could never be"
        return None

    def describe(self, keys: Mapping[str, str]) -> str:
        one, other = self.attributes
        return f"takes {keys[one]} or {keys[other]}, not both"


# --- values ---------------------------------------------------------------------------------------


class Positive(ValueRule):
    """A number, if it is given, must be greater than 0 and finite."""

    def problem_with(self, value: Any) -> str | None:
        return None if 0 < value < math.inf else "expected a number greater than 0"

    def mistake(self, facts: Mapping[str, Facts]) -> str | None:
        bounds = facts[self.attribute].bounds
        if bounds is not None and bounds[0] > 0:
            return f"it never applies, as the type of {self.attribute!r} begins at {bounds[0]:g}"
        return _no_number(self.attribute, facts)

    def describe(self, keys: Mapping[str, str]) -> str:
        return f"{keys[self.attribute]} must be a number greater than 0"


class Between(ValueRule):
    """A number, if it is given, must be finite and in a range that includes its bounds.

    Without a maximum, any finite number from the minimum on is allowed.
    """

    def __init__(self, attribute: str, minimum: float, maximum: float = math.inf) -> None:
        super().__init__(attribute)
        self.minimum: Final = minimum
        self.maximum: Final = maximum

    def problem_with(self, value: Any) -> str | None:
        if self.minimum <= value <= self.maximum and math.isfinite(value):
            return None
        return f"expected {self._range}"

    def mistake(self, facts: Mapping[str, Facts]) -> str | None:
        bounds = facts[self.attribute].bounds
        if bounds is not None and self.minimum <= bounds[0] and bounds[1] <= self.maximum:
            return f"it never applies, as the type of {self.attribute!r} allows no other value"
        return _no_number(self.attribute, facts)

    def describe(self, keys: Mapping[str, str]) -> str:
        return f"{keys[self.attribute]} must be {self._range}"

    @property
    def _range(self) -> str:
        if self.maximum == math.inf:
            return f"a number from {self.minimum:g} on"
        return f"a number from {self.minimum:g} to {self.maximum:g}"


class AtMost(Rule):
    """If both numbers are given, `smaller` must not be greater than `larger`."""

    def __init__(self, smaller: str, larger: str) -> None:
        self.attributes = (smaller, larger)

    def broken(self, get: Get) -> tuple[str | None, str] | None:
        smaller, larger = map(get, self.attributes)
        if smaller is None or larger is None or smaller is INVALID or larger is INVALID:
            return None
        if smaller <= larger:
            return None
        return self.attributes[0], f"is greater than {_placeholder(self.attributes[1])}"

    def mistake(self, facts: Mapping[str, Facts]) -> str | None:
        smaller, larger = self.attributes
        if smaller == larger:
            return "it never applies, as both attributes are the same"
        return _no_number(smaller, facts) or _no_number(larger, facts)

    def describe(self, keys: Mapping[str, str]) -> str:
        smaller, larger = self.attributes
        return f"{keys[smaller]} must not be greater than {keys[larger]}"


class NotEmpty(ValueRule):
    """A text, list or mapping, if it is given, must not be empty."""

    def problem_with(self, value: Any) -> str | None:
        return None if len(value) else "is empty"

    def mistake(self, facts: Mapping[str, Facts]) -> str | None:
        found = facts[self.attribute]
        if found.kind in ("bool", "number"):
            return f"{self.attribute!r} is neither a text nor a list nor a mapping"
        if not found.may_be_empty:
            return f"it never applies, as an empty {self.attribute!r} is read as absent"
        return None

    def describe(self, keys: Mapping[str, str]) -> str:
        return f"{keys[self.attribute]} must not be empty"


def _no_number(attribute: str, facts: Mapping[str, Facts]) -> str | None:
    return (
        None
        if facts[attribute].kind in ("number", "other")
        else (f"{attribute!r} must be a number")
    )


def _placeholder(attribute: str) -> str:
    return f"{{{attribute}}}"
