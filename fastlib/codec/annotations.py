"""What a declaration may say beyond types: `Wire` for a field, rules for a struct."""

from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from .errors import DeclarationError, Path


class Wire(msgspec.Struct, frozen=True, repr_omit_defaults=True):
    """What the wire says of a field beyond its type: `Annotated[…, Wire("…", unit="KiB")]`.

    The wire key itself is the attribute's name in kebab-case, or `msgspec.field(name=…)`.
    """

    doc: str = ""
    """What the field means, one sentence; schemas, `describe` and the reference show it."""
    unit: str = ""
    """The unit of a number, such as KiB."""
    aliases: tuple[str, ...] = ()
    """Other keys that are understood; never written."""
    old: dict[str, str] = {}
    """Keys that once stood for this field and are not understood, with the remedy for each."""
    old_scalar: str | None = None
    """For a mapping: a bare text is understood as this key's value, with a warning."""
    empty_is_absent: bool = False
    """An empty text or list means the same as none, as it does to the C++ peers."""
    hex_digits: int = 0
    """For an integer: written as text, `0x` and that many digits."""
    own_check: bool = False
    """The struct's own `__post_init__` checks the field."""
    pairs: bool = False
    """For a mapping with free keys: a list of one-entry mappings is understood, too."""

    def __post_init__(self) -> None:
        if not isinstance(self.aliases, tuple) or not isinstance(self.doc, str):
            raise DeclarationError('Wire takes a text and keywords: Wire("…", aliases=("name",))')


class Rule:
    """A rule between the fields of one struct, checked on construction and on load.

    Structs list their rules in the class variable `rules`.
    """

    attributes: tuple[str, ...] = ()
    """The attributes that the rule is about."""
    kept: str = "False"
    """A Python expression in the struct `o`, cheap, true only if the rule is kept; constructors
    ask `broken` where it is not."""

    def broken(self, get: Callable[[str], Any]) -> tuple[str | None, str] | None:
        """What is wrong, or None if the rule is kept.

        `get` gives an attribute's value: None if it is absent, `INVALID` if it cannot be read.
        The answer is the attribute that is to blame, None for the whole struct, and the problem,
        in which `{attribute}` stands for an attribute's key on the wire.
        """
        raise NotImplementedError

    def problem(
        self, get: Callable[[str], Any], keys: Mapping[str, str]
    ) -> tuple[Path, str] | None:
        """As `broken`, in the words of the wire: the path and the problem."""
        broken = self.broken(get)
        if broken is None:
            return None
        attribute, message = broken
        path = () if attribute is None else (keys[attribute],)
        return path, message.format_map(keys)


def _key(attribute: str) -> str:
    return f"{{{attribute}}}"


class OneOf(Rule):
    """At least one of the attributes must be given."""

    def __init__(self, *attributes: str) -> None:
        self.attributes = attributes
        self.kept = " or ".join(f"o.{attribute} is not None" for attribute in attributes)

    def broken(self, get: Callable[[str], Any]) -> tuple[str | None, str] | None:
        for attribute in self.attributes:
            if get(attribute) is not None:
                return None
        return None, f"needs {' or '.join(map(_key, self.attributes))}"


class Needs(Rule):
    """If `attribute` is true, `other` must be given."""

    def __init__(self, attribute: str, other: str) -> None:
        self.attribute: Final = attribute
        self.other: Final = other
        self.attributes = (attribute, other)
        self.kept = f"o.{attribute} is not True or o.{other} is not None"

    def broken(self, get: Callable[[str], Any]) -> tuple[str | None, str] | None:
        if get(self.attribute) is not True or get(self.other) is not None:
            return None
        return self.attribute, f"needs {_key(self.other)}"


class AllOrNone(Rule):
    """The attributes are given together, or not at all."""

    def __init__(self, *attributes: str) -> None:
        self.attributes = attributes
        self.kept = " and ".join(f"o.{attribute} is None" for attribute in attributes)

    def broken(self, get: Callable[[str], Any]) -> tuple[str | None, str] | None:
        given = [attribute for attribute in self.attributes if get(attribute) is not None]
        if len(given) in (0, len(self.attributes)):
            return None
        return None, f"needs {' and '.join(map(_key, self.attributes))} together, or none of them"
