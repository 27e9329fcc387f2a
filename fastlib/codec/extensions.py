"""Extensions of a struct: other structs, often of other packages, whose keys are beside its own.

::

    vm-name: vm1      # Start's own
    tpm: true         # of an extension of Start

A struct that can be extended has the class variable `__extensions__`. It names the attribute that
holds the extensions; that attribute has no key. New extensions may be declared at any time, so do
not copy the set of extensions.
"""

from collections.abc import Iterable, Iterator
from typing import Any, Final

import msgspec

from .errors import DeclarationError, Path, Problem, render_path
from .load_context import INVALID, LoadContext, shorten
from .nodes import Mapping, Node, Scalar
from .records import ExtensionPart, Pair, Record
from .shapes import is_sequence


class Extensions:
    """The extensions of one struct."""

    def __init__(self, cls: type[Any], attribute: str) -> None:
        """`attribute` is the name of the field of `cls` that holds them."""
        self.cls: Final = cls
        self.attribute: Final = attribute
        self._records: dict[type[Any], Record] = {}
        self._by_key: dict[str, Record] = {}

    def _others(self, record: Record) -> list[Record]:
        """Return all extensions without that of the same name, which exists after a reload."""
        name = _name(record.cls)
        return [other for cls, other in self._records.items() if _name(cls) != name]

    def check_keys(self, record: Record, taken: Iterable[str]) -> None:
        """Raise DeclarationError if a key of `record` is in `taken`, or is of another extension."""
        name = _name(record.cls)
        owners = dict.fromkeys(taken, self.cls.__qualname__)
        for other in self._others(record):
            owners |= dict.fromkeys(other.by_key, _name(other.cls))
        for field in record.fields:
            for key in field.keys:
                if key in owners:
                    raise DeclarationError(
                        f"{name}.{field.attribute}: the key {key!r} is taken by {owners[key]}"
                    )

    def add(self, record: Record) -> None:
        """Add an extension. It replaces one of the same name."""
        self.replace({other.cls: other for other in (*self._others(record), record)})

    def records(self) -> dict[type[Any], Record]:
        """Return a copy of the shapes by their classes, for `replace`."""
        return dict(self._records)

    def replace(self, records: dict[type[Any], Record]) -> None:
        """Replace all extensions by these."""
        self._records = dict(records)
        self._by_key = {key: other for other in self._records.values() for key in other.by_key}

    def __iter__(self) -> Iterator[Record]:
        """Iterate over their shapes in the order of declaration. They are written in this order."""
        return iter(tuple(self._records.values()))

    def __contains__(self, cls: object) -> bool:
        return cls in self._records

    def keys(self) -> list[str]:
        """Return all keys of all extensions."""
        return list(self._by_key)

    def split(self, node: Node, pairs: list[Pair]) -> tuple[list[Pair], list[ExtensionPart]]:
        """Split the pairs of a mapping: those of the struct, and those of each extension."""
        known = self._by_key
        if not known:
            return pairs, []
        own: list[Pair] = []
        parts: dict[type[Any], Mapping] = {}
        for key, item in pairs:
            found = known.get(key.value) if isinstance(key, Scalar) and key.value else None
            if found is None:
                own.append((key, item))
            else:
                part = parts.setdefault(found.cls, Mapping(node.line, node.column))
                part.pairs.append((key, item))
        return own, [(self._records[cls], parts[cls]) for cls in self._records if cls in parts]

    @staticmethod
    def load(parts: list[ExtensionPart], context: LoadContext, path: Path) -> Any:
        """Return the extensions that `split` has found as a tuple, or INVALID."""
        values = [record.load(node, context, path) for record, node in parts]
        return INVALID if INVALID in values else tuple(values)

    def dump(self, value: Any) -> dict[str, Any]:
        """Return the keys of all extensions of a struct."""
        tree: dict[str, Any] = {}
        for extension in getattr(value, self.attribute):
            tree.update(self._records[type(extension)].dump(extension))
        return tree

    def check(self, value: Any, held: Any, problems: list[Problem] | None) -> list[Problem] | None:
        """Store the extensions of a struct in their order, without those that have no value.

        Return `problems` with the new problem, if `held` is not a list of extensions.
        """
        held = () if held is None else held
        if not is_sequence(held) or not all(type(item) in self._records for item in held):
            known = ", ".join(cls.__qualname__ for cls in self._records) or "there is none"
            message = (
                f"expected a list of extensions of {self.cls.__qualname__} ({known}); "
                f"got {shorten(held)}"
            )
            return [*(problems or ()), self._problem(message)]
        by_type = {type(item): item for item in held}
        if len(by_type) < len(held):
            return [*(problems or ()), self._problem("each extension is given once")]
        given = (by_type.get(cls) for cls in self._records)
        kept = tuple(item for item in given if item is not None and item != type(item)())
        msgspec.structs.force_setattr(value, self.attribute, kept)
        return problems

    def _problem(self, message: str) -> Problem:
        return Problem(code="value", message=message, path=render_path((self.attribute,)))


def _name(cls: type[Any]) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


_extensions: dict[type[Any], Extensions] = {}


Snapshot = dict[type[Any], tuple[Extensions, dict[type[Any], Record]]]
"""For each struct, its extensions object with its contents."""


def snapshot() -> Snapshot:
    """Return the current extensions of every struct, for `restore`."""
    return {cls: (found, found.records()) for cls, found in _extensions.items()}


def restore(saved: Snapshot) -> None:
    """Let every struct have the extensions of a snapshot, and no others."""
    for cls in _extensions.keys() - saved.keys():
        del _extensions[cls]
    for cls, (found, records) in saved.items():
        _extensions[cls] = found
        found.replace(records)


def extensions_of(cls: type[Any]) -> Extensions | None:
    """Return the extensions of a struct, always the same object; None if it cannot have any."""
    found = _extensions.get(cls)
    if found is None:
        attribute: str | None = getattr(cls, "__extensions__", None)
        if attribute is None:
            return None
        found = _extensions[cls] = Extensions(cls, attribute)
    return found
