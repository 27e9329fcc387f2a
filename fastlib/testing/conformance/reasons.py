"""Short names of what two sides differ in, the same ones whatever the message is.

One fault of a program shows in many fields of many messages; the names are of the fault's kind, so
that it is reported once.
"""

import re
from functools import cache
from typing import Any

from fastlib.codec.derivation import shape_of
from fastlib.codec.envelope import Envelope
from fastlib.codec.printable import is_visible
from fastlib.codec.records import Converted, Record
from fastlib.testing.differences import ABSENT
from fastlib.testing.mutations import InvalidText
from fastlib.testing.registered import registered

_LIKE = {
    "null": re.compile(r"~|null|Null|NULL"),
    "boolean": re.compile(r"true|false|yes|no|on|off|[yn]", re.IGNORECASE),
    "hexadecimal": re.compile(r"[-+]?0x[0-9a-f_]+", re.IGNORECASE),
    "octal": re.compile(r"[-+]?0o?[0-7_]+"),
    "binary": re.compile(r"[-+]?0b[01_]+", re.IGNORECASE),
    "integer": re.compile(r"[-+]?[0-9][0-9_,]*"),
    "sexagesimal": re.compile(r"[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?"),
    "number": re.compile(
        r"[-+]?(\.[0-9]+|[0-9][0-9_]*(\.[0-9_]*)?)(e[-+]?[0-9]+)?|[-+]?\.inf|\.nan", re.IGNORECASE
    ),
    "date": re.compile(r"[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}([Tt \t].*)?"),
}
_NUMERALS = {"hexadecimal", "octal", "binary", "integer", "sexagesimal", "number"}
_KINDS: dict[type, str] = {
    bool: "boolean", int: "integer", float: "number", list: "list", dict: "mapping",
    type(None): "null",
}  # fmt: skip


def kind_of(value: Any) -> str:
    """What a value is, or of a text what it could be taken for."""
    if not isinstance(value, str):
        return _KINDS.get(type(value), "value")
    for name, pattern in _LIKE.items():
        if pattern.fullmatch(value):
            return f"text-like-{name}"
    if not value:
        return "empty-text"
    if "\n" in value:
        return "text-of-several-lines"
    if not is_visible(value):
        return "text-with-control-characters"
    if value != value.strip():
        return "text-with-outer-spaces"
    if not value.isascii():
        return "text-beyond-ascii"
    if len(value) > 100:
        return "long-text"
    if re.search("[^A-Za-z0-9._/ -]", value):
        return "text-with-indicators"
    return "text"


def of_difference(ours: Any, theirs: Any, key: str = "") -> str | None:
    """The first thing in which two trees differ; `key` is the last one that is declared."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        for name in ours | theirs:
            below = name if name in keys() else key
            found = of_difference(ours.get(name, ABSENT), theirs.get(name, ABSENT), below)
            if found is not None:
                return found
        return None
    if isinstance(ours, list) and isinstance(theirs, list):
        return _of_lists(ours, theirs, key)
    if repr(ours) == repr(theirs):
        return None
    if theirs is ABSENT:
        return f"lost-{key}"
    if ours is ABSENT:
        return f"added-{key}"
    kind = kind_of(ours)
    if isinstance(ours, str) and isinstance(theirs, str):
        if ours in theirs or theirs in ours:
            return f"changed-{kind}"
    elif type(ours) is not type(theirs):
        return f"changed-{kind}-to-{_KINDS.get(type(theirs), 'text')}"
    return f"changed-{kind}"


def _of_lists(ours: list[Any], theirs: list[Any], key: str) -> str | None:
    if len(ours) != len(theirs):
        return "list-shorter" if len(theirs) < len(ours) else "list-longer"
    if repr(ours) == repr(theirs):
        return None
    if sorted(map(repr, ours)) == sorted(map(repr, theirs)):
        return "list-reordered"
    found = (of_difference(*pair, key) for pair in zip(ours, theirs, strict=True))
    return next((reason for reason in found if reason is not None), None)


def of_mistake(mistake: InvalidText) -> str:
    """A mistake that was not found."""
    key = next(reversed(keys_of(mistake.path)), "")
    value = _at(mistake.tree, mistake.path)
    if mistake.mistake == "range":
        return "range-negative" if isinstance(value, int) and value < 0 else "range-too-large"
    if mistake.mistake == "word" and isinstance(value, str):
        kind = kind_of(value)
        if kind.removeprefix("text-like-") in _NUMERALS | {"boolean"}:
            return f"word-{slug(value)}"
        # Only of a closed set or a pattern can plain words be wrong, each of which is its own.
        return f"word-of-{key or 'a-name'}"
    if mistake.mistake == "kind":
        return f"kind-{_KINDS.get(type(value), 'text')}"
    if mistake.mistake in ("missing", "rule"):
        return f"{mistake.mistake}-{key}" if key else mistake.mistake
    return mistake.mistake


def keys_of(path: str) -> list[str]:
    """The declared keys in a path, from the root."""
    return [key for key in re.split(r"[.\[\]]+", path) if key in keys()]


def _at(tree: Any, path: str) -> Any:
    """What stands at a path; ABSENT where the path leads nowhere."""
    for step in re.findall(r"[^.\[\]]+", path):
        if isinstance(tree, list) and step.isdigit() and int(step) < len(tree):
            tree = tree[int(step)]
        elif isinstance(tree, dict) and step in tree:
            tree = tree[step]
        else:
            return ABSENT
    return tree


_QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"|`[^`]*`")
_CODE = re.compile(r"(#x|\\[xuU]|U\+|0x)[0-9a-f]+", re.IGNORECASE)
_PLACE = re.compile(r"^(?:(?:error )?(?:at )?line \d+,? column \d+: |[^\s:]+: )+(?=\S)")


def of_words(words: str) -> str:
    """A program's words, without what they say of this one text: quotes, places, numbers."""
    first = next((line.strip() for line in words.splitlines() if line.strip()), "")
    first = _PLACE.sub("", _CODE.sub("", _QUOTED.sub("", first[:300])))
    first = re.sub(r"; got .*|\(did you mean.*", "", first)
    return slug(re.sub(r"[^A-Za-z ]+", " ", first)) or "no-words"


def slug(text: str) -> str:
    """A text as a part of a name."""
    text = text.replace("+", "plus ").replace(" 1", "space 1")
    return re.sub(r"[^A-Za-z0-9._]+", "-", text).strip("-").lower()[:60].rstrip("-")


@cache
def keys() -> frozenset[str]:
    """Every key that some message declares; others are names that somebody gave."""
    found: set[str] = set()
    for cls in registered():
        shape: Any = shape_of(cls)
        if isinstance(shape, Converted):
            shape = shape.wire
        if isinstance(shape, Envelope):
            found |= {shape.title, *(field.key for field in shape.fields)}
            for title in shape.titles():
                variant = shape.variant(title)
                found |= {variant.list_key} if variant is not None else set()
        if isinstance(shape, Record):
            parts = [shape, *(shape.extensions or ())]
            found |= {field.key for part in parts for field in part.fields}
    return frozenset(found)
