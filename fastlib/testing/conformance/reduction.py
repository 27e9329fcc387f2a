"""Reduce a message that shows a fault, and find the place of the fault."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from fastlib.codec.derivation import shape_of
from fastlib.codec.errors import FastlibError, Path
from fastlib.message import Message
from fastlib.testing.shrinking import smaller

from .aspects import aspects_at
from .cases import Case, of_message
from .places import ANY_TEXT, Place, place_at, place_of_type
from .spellings import PLAIN, SCALARS, Spelling
from .spots import spots_of
from .trees import at, changed, paths_of, without

MOST_TRIES = 300
"""The maximum number of tries to make a message smaller."""


class Written(NamedTuple):
    """A message as a plain tree, and its spelling."""

    tree: Any
    spelling: Spelling


def message_of(cls: type[Message], tree: Any) -> Message | None:
    """Return the message of a plain tree; None if it is invalid."""
    if tree is None:
        return None
    try:
        return cls.load(tree)
    except FastlibError:
        return None


def smallest(cls: type[Message], written: Written, fails: Callable[[Written], bool]) -> Written:
    """Return a smaller message, in a plainer spelling, that still fails."""
    tries = MOST_TRIES

    def still(tree: Any, spelling: Spelling) -> bool:
        nonlocal tries
        tries -= 1
        if tries < 0 or message_of(cls, tree) is None:
            return False
        return fails(Written(tree, spelling))

    tree, spelling = written
    for plainer in (PLAIN, *SCALARS):
        if spelling != plainer and still(tree, plainer):
            spelling = plainer
            break
    tree = _smaller_tree(cls, tree, lambda other: still(other, spelling))
    spelling = _plainer(spelling, lambda other: still(tree, other))
    for path in paths_of(tree):
        text = at(tree, path)
        if isinstance(text, str) and len(aspects_at(place_at(cls, tree, path), text)) > 1:
            tree = _with_smaller_text(tree, path, lambda other: still(other, spelling))
    return Written(tree, spelling)


def _smaller_tree(cls: type[Message], tree: Any, fails: Callable[[Any], bool]) -> Any:
    """Remove keys and entries, and replace values by ordinary ones."""
    for spot in spots_of(cls):
        # Most faults show in the smallest message with one more key.
        value = at(tree, spot.path) if spot.path else None
        if spot.path and value is not None:
            found = [spot.tree, changed(spot.tree, spot.path, value)]
            other = next((each for each in found if each is not None and fails(each)), None)
            if other is not None:
                tree = other
                break
    again = True
    while again:
        again = False
        for path in sorted(paths_of(tree), key=len):
            if at(tree, path) is None:
                continue  # its parent is already removed
            shorter = without(tree, path)
            if shorter != tree and fails(shorter):
                tree, again = shorter, True
                continue
            value = _ordinary_at(cls, tree, path)
            if value is not None and value != at(tree, path):
                plainer = changed(tree, path, value)
                if fails(plainer):
                    tree, again = plainer, True
    return tree


def _with_smaller_text(tree: Any, path: Path, fails: Callable[[Any], bool]) -> Any:
    shorter = smaller(at(tree, path), lambda part: fails(changed(tree, path, part)))
    return changed(tree, path, shorter)


def _plainer(spelling: Spelling, fails: Callable[[Spelling], bool]) -> Spelling:
    for habit in spelling.habits:
        habits = {key: way for key, way in spelling.habits.items() if key != habit}
        other = spelling._replace(habits=habits)
        if fails(other):
            spelling = other
    for turn in spelling.turns:
        turns = {key: way for key, way in spelling.turns.items() if key != turn}
        other = spelling._replace(turns=turns)
        if fails(other):
            spelling = other
    return spelling


def _ordinary_at(cls: type[Message], tree: Any, path: Path) -> Any:
    """Return an ordinary value for a place: that of the smallest message with it."""
    place = place_at(cls, tree, path)
    for spot in spots_of(cls):
        if place_at(cls, spot.tree, spot.path) == place and spot.path:
            value = at(spot.tree, spot.path)
            old = at(tree, path)
            if isinstance(old, list) == isinstance(value, list):
                return value
    return None


def special_places(cls: type[Message], tree: Any) -> Iterator[tuple[Place, tuple[str, ...]]]:
    """Yield the places and special features that a small message has beyond the smallest one."""
    bases = [spot.tree for spot in spots_of(cls) if not spot.path]
    title = getattr(shape_of(cls), "title", None)
    if isinstance(title, str) and isinstance(tree, dict):
        bases = [base for base in bases if base.get(title) == tree.get(title)]
    known = {path for base in bases for path in paths_of(base)}
    keys = []
    for path in paths_of(tree):
        value = at(tree, path)
        if isinstance(value, dict) or (value and isinstance(value, list) and path in known):
            continue
        place = place_at(cls, tree, path)
        ordinary = _ordinary_at(cls, tree, path)
        if any(at(base, path) == value for base in bases):
            continue
        if value != ordinary and not (isinstance(title, str) and path == (title,)):
            yield place, aspects_at(place, value) or ("other",)
        elif path not in known:
            keys.append(place)
    for place in keys:
        yield place, ()


def located(cls: type[Message], written: Written, text: str) -> Case | None:
    """Return the case of a small message, with its special place and aspects."""
    message = message_of(cls, written.tree)
    if message is None:
        return None
    special = list(dict.fromkeys(special_places(cls, written.tree)))
    place, aspects = special[0] if special else (place_of_type(cls), ())
    if written.spelling.aspects:
        aspects = written.spelling.aspects_with(aspects)
        numeric = place.kind in ("integer", "boolean", "number", "word", "instant")
        place = ANY_TEXT if special and not numeric else place_of_type(cls)
    elif len(special) > 1 and not aspects:
        others = sorted({other.key for other, _ in special[1:] if other != place})
        aspects = (f"with-{'-'.join(others)}",) if others else aspects
    return of_message(message, text, place, *aspects)
