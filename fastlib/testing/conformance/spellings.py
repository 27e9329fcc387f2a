"""Spellings: the features of a YAML text, each with a name, alone or with another one.

A program that refuses comments gets this one fault, for any message with a comment.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

from fastlib.testing.choices import Choices, CountedChoices, PlainChoices, Way
from fastlib.testing.yaml_variants import Writer

_HABITS = (
    "head", "tail", "break", "text", "step", "list step", "dash", "key", "flow", "anchored",
)  # fmt: skip
"""The subjects of a writer's habits, in its order."""

_NAMES: dict[tuple[str, Any], str] = {
    ("head", ""): "no-document-start",
    ("head", "%YAML 1.1\n---\n"): "directive",
    ("head", "\n"): "empty-line-before-document",
    ("head", "---\n\n"): "empty-line-after-document-start",
    ("head", "\ufeff"): "byte-order-mark",
    ("head", "\ufeff---\n"): "byte-order-mark",
    ("tail", ""): "no-document-end",
    ("tail", "\n\n"): "empty-line-after-document",
    ("tail", "...\n"): "document-end-marker",
    ("break", "\r\n"): "crlf",
    ("text", "bare"): "no-quotes",
    ("text", '"'): "double-quotes",
    ("text", "'"): "single-quotes",
    ("text", "|"): "literal-block",
    ("text", ">"): "folded-block",
    ("text", "escaped"): "escapes",
    ("text", "broken"): "escaped-line-break",
    ("flow", True): "flow-style",
    ("flow", "all"): "flow-style",
    ("flow", "none"): "block-style-numbers",
    ("flow", False): "block-style-numbers",
}
_SCALARS = (
    "no-quotes", "double-quotes", "single-quotes", "literal-block", "folded-block", "escapes",
    "escaped-line-break",
)  # fmt: skip
_OTHERS = {
    "tail": "second-document", "step": "indentation", "list step": "list-indentation",
    "dash": "spaces-after-dash", "key": "quoted-key", "anchored": "anchor", "anchor": "anchor",
    "alias": "alias", "tag": "tag", "comment": "trailing-space", "between": "empty-line-between",
    "pair": "explicit-key", "gap": "wide-gap", "escapes": "escapes", "escape": "escapes",
    "fold": "folded-text", "folded": "folded-block", "header": "block-header",
    "depth": "block-indentation", "line": "flow-over-lines", "comma": "trailing-comma",
    "bracket": "space-in-bracket", "flow pair": "explicit-key", "end": "no-last-line-end",
}  # fmt: skip
_SIGNS = {
    "crlf": r"\r\n", "byte-order-mark": "\ufeff", "anchor": r"(^|[\s\[{,:-])&\w",
    "alias": r"(^|[\s\[{,:-])\*\w", "tag": r"(^|[\s\[{,:-])!", "flow-style": r"[\[{]",
    "double-quotes": '"', "single-quotes": "'", "literal-block": r"\|", "folded-block": ">",
    "escapes": r"\\", "directive": "^%", "second-document": r"\n---", "document-end": r"\n---\s*$",
    "document-end-marker": r"\n\.\.\.", "explicit-key": r"(^|[\s\[{,])\?\s",
    "no-document-start": r"\A(?!---)", "no-document-end": r"(?<!---)\s*\Z",
    "document-start": r"\A---", "escaped-line-break": r"\\\n", "wide-gap": r":( {2,}|\t)",
    "tab": "\t",
    "trailing-comma": r",\s*[\]}]", "no-quotes": r":\s[^\s\"']", "hexadecimal": r"\b0[xX]",
    "octal": r"\b0[0-7]", "quoted-number": r"[\"'][0-9]", "quoted-key": r"[\"']\s*:",
    "empty-line-before-document": r"\A\n", "empty-line-after-document": r"\n\n\Z",
    "no-last-line-end": r"[^\n]\Z", "folded-text": r"\n +\S+$", "flow-over-lines": r"[,\[{]\s*\n",
}  # fmt: skip
"""Patterns of features, for texts from other writers."""
_DEEPER = {
    "text": (
        "fold", "folded", "header", "depth", "escapes", "escape", "comment", "tag", "anchor", "gap",
    ),
    "flow": ("line", "comma", "bracket", "flow pair", "text", "comment", "anchor"),
    "anchored": ("alias", "text", "flow"),
    "key": ("pair",),
}  # fmt: skip
"""Further habits that a habit needs, because its features appear only with them."""


@cache
def signs_of(text: str) -> frozenset[str]:
    """Return the features that a text may have."""
    found = {name for name, sign in _SIGNS.items() if re.search(sign, text, re.MULTILINE)}
    if "#" in text:
        found |= {
            "comment",
            *(f"comment-in-{what.replace(' ', '-')}" for what in ("tail", *_OTHERS)),
        }
        found.add("comment-in-head")
    found |= {f"written-{word.lower()}" for word in re.findall("[a-zA-Z]+", text)}
    return frozenset(found)


class Spelling(NamedTuple):
    """The features of a text; without any it is plain."""

    habits: Mapping[int, int] = {}
    turns: Mapping[tuple[str, int], int] = {}
    names: tuple[str, ...] = ()

    def write(self, tree: Any) -> str:
        """Return the text of a tree in this spelling."""
        return Writer(CountedChoices(self.habits, self.turns)).document(tree)

    @property
    def aspects(self) -> tuple[str, ...]:
        """Return the name of all features together, then of each one."""
        names = sorted({name for name in self.names if name})
        whole = "+".join(names)
        names += ["comment"] if any(name.startswith("comment-in-") for name in names) else []
        return tuple(dict.fromkeys((whole, *names))) if names else ()

    def aspects_with(self, aspects: tuple[str, ...]) -> tuple[str, ...]:
        """Return the features with the first of some aspects, and all names that explain them."""
        names = self.aspects
        if {"escapes", "escaped-line-break"} & {*names}:
            names = (*names, "double-quotes")
        together = ("+".join((name, *aspects[:1])) for name in names)
        return tuple(dict.fromkeys((*together, *names, *aspects)))

    def _named(self, tree: Any) -> "tuple[dict[int, str], dict[tuple[str, int], str]]":
        """Return the name of each feature of a tree in this spelling."""
        recorder = recorded(tree, self)
        habits = {
            number: _name_chosen(_HABITS[number], recorder.habit_ways[number], way)
            for number, way in self.habits.items()
        }
        turns = {
            key: _name_chosen(key[0], recorder.turn_ways[key], way)
            for key, way in self.turns.items()
            if key in recorder.turn_ways
        }
        return habits, turns

    def renamed(self, tree: Any) -> "Spelling":
        """Return the spelling with the names of its features in this tree."""
        habits, turns = self._named(tree)
        names = tuple(dict.fromkeys((*habits.values(), *turns.values())))
        return self._replace(names=tuple(name for name in names if name))

    def without_texts(self) -> "Spelling":
        """Return the spelling with plain texts."""
        text = _HABITS.index("text")
        habits = {number: way for number, way in self.habits.items() if number != text}
        whats = {"text", "escape", "escapes", "key"}
        turns = {key: way for key, way in self.turns.items() if key[0] not in whats}
        return Spelling(habits, turns)

    def without(self, tree: Any, bad: "set[str]") -> "Spelling":
        """Return the spelling without features of some names, alone or with another one."""
        habits, turns = self._named(tree)
        names = {*habits.values(), *turns.values()}
        alone = {name for each in bad if {*each.split("+")} <= names for name in each.split("+")}
        kept_habits = {key: way for key, way in self.habits.items() if habits[key] not in alone}
        kept_turns = {key: way for key, way in self.turns.items() if turns.get(key) not in alone}
        return Spelling(kept_habits, kept_turns).renamed(tree)


PLAIN = Spelling()
BARE = Spelling({3: 0}, {}, ("no-quotes",))
"""The spelling of a C++ peer, which quotes almost nothing."""

SCALARS = (
    *(Spelling({3: way - 1}, {}, (name,)) for way, name in enumerate(_SCALARS, 1)),
    Spelling({8: 1}, {}, ("flow-style",)),
)
"""All ways to write a text."""

FALLBACKS = (
    Spelling({1: 0}, {}, ("document-end",)),
    Spelling({0: 0}, {}, ("document-start",)),
    Spelling({0: 0, 1: 0}, {}, ("document-start-and-end",)),
    Spelling({0: 0, 1: 0, 8: 1}, {}, ("block-style",)),
    Spelling({0: 0, 1: 0, 3: 1}, {}, ("text-without-quotes",)),
)
"""Simpler spellings than the plain one, each with its omission: for programs that refuse that."""


class _Recorder(PlainChoices):
    """Follows a spelling, and records the available ways."""

    def __init__(self, spelling: Spelling) -> None:
        super().__init__()
        self._choices = CountedChoices(spelling.habits, spelling.turns)
        self.habit_ways: list[Sequence[Any]] = []
        self.turn_ways: dict[tuple[str, int], Sequence[Any]] = {}

    def habit(self, ways: Sequence[Way]) -> Way:
        self.habit_ways.append(ways)
        return self._choices.habit(ways)

    def turn(self, what: str, ways: Sequence[Way]) -> Way:
        self.turn_ways[what, self.turns[what]] = ways
        super().turn(what, ways)
        return self._choices.turn(what, ways)


def name_of_way(what: str, way: Any) -> str:
    """Return the name of one way; empty if it has no name."""
    if "#" in str(way):
        return "comment" if what == "comment" else f"comment-in-{what.replace(' ', '-')}"
    if "\t" in str(way):
        return "tab"
    return _NAMES.get((what, way)) or _OTHERS.get(what, "")


def _name_chosen(what: str, ways: Sequence[Any], way: int) -> str:
    if len(ways) < 2:
        return ""
    chosen_way = ways[1 + way % (len(ways) - 1)]
    return _name_of_leaf(str(chosen_way)) if what == "leaf" else name_of_way(what, chosen_way)


class _Noted(PlainChoices):
    """Follows other choices, and records those that are not plain."""

    def __init__(self, choices: Choices) -> None:
        super().__init__()
        self._choices = choices
        self.noted_habits: dict[int, int] = {}
        self.noted_turns: dict[tuple[str, int], int] = {}

    def habit(self, ways: Sequence[Way]) -> Way:
        way = self._choices.habit(ways)
        number = self.habits
        super().habit(ways)
        if ways.index(way):
            self.noted_habits[number] = ways.index(way) - 1
        return way

    def turn(self, what: str, ways: Sequence[Way]) -> Way:
        way = self._choices.turn(what, ways)
        number = self.turns[what]
        super().turn(what, ways)
        if ways.index(way):
            self.noted_turns[what, number] = ways.index(way) - 1
        return way


def chosen(tree: Any, choices: Choices) -> Spelling:
    """Return the spelling that some choices make of a tree."""
    noted = _Noted(choices)
    Writer(noted).document(tree)
    return Spelling(noted.noted_habits, noted.noted_turns).renamed(tree)


def recorded(tree: Any, spelling: Spelling = PLAIN) -> _Recorder:
    """Return the available ways in a tree."""
    recorder = _Recorder(spelling)
    Writer(recorder).document(tree)
    return recorder


def spellings_of(tree: Any) -> Iterator[Spelling]:
    """Yield a tree in each spelling with one feature, and with needed pairs of features."""
    first = recorded(tree)
    habits: list[tuple[str, Spelling]] = []
    for number, ways in enumerate(first.habit_ways):
        what = _HABITS[number]
        for way in range(len(ways) - 1):
            name = name_of_way(what, ways[way + 1])
            habits.append((what, Spelling({number: way}, {}, (name,))))
    # Single features first: a failing one explains all pairs with it.
    everything = tuple(dict.fromkeys(what for what, _ in first.turn_ways if what != "leaf"))
    singles = [*(spelling for _, spelling in habits), *_turns(first, everything, PLAIN)]
    yield from sorted(singles, key=lambda spelling: "comment" not in spelling.names)
    for what, spelling in habits:
        if what in _DEEPER:
            yield from _turns(recorded(tree, spelling), _DEEPER[what], spelling)


def _turns(recorder: _Recorder, whats: Sequence[str], spelling: Spelling) -> Iterator[Spelling]:
    seen: set[tuple[str, Any]] = set()
    for (what, number), ways in recorder.turn_ways.items():
        if what not in whats:
            continue
        for way in range(len(ways) - 1):
            # The first place with this way. The others are the same feature.
            if (what, way) in seen:
                continue
            seen.add((what, way))
            name = name_of_way(what, ways[way + 1])
            names = tuple(dict.fromkeys((*spelling.names, *([name] if name else []))))
            yield Spelling(spelling.habits, {**spelling.turns, (what, number): way}, names)


def leaf_spellings(tree: Any, value: Any) -> Iterator[Spelling]:
    """Yield the spellings of a number or truth value that occurs once in a tree."""
    for (what, number), ways in recorded(tree).turn_ways.items():
        if what != "leaf" or not _is(ways, value):
            continue
        for way in range(len(ways) - 1):
            yield Spelling({}, {(what, number): way}, (_name_of_leaf(str(ways[way + 1])),))


def _is(ways: Sequence[Any], value: Any) -> bool:
    if isinstance(value, bool):
        return "true" in ways and "TRUE" in ways if value else "false" in ways
    return bool(str(value) == ways[0])


def _name_of_leaf(text: str) -> str:
    if text[:1] in "\"'":
        return "quoted-number" if text[1:2].isdigit() or text[1:2] in "-." else "quoted-boolean"
    if text[:2] in ("0x", "0X"):
        return "hexadecimal"
    if text.isdigit():
        return "octal"
    return f"written-{text.lower()}"
