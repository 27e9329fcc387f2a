"""Judge an answer: find its faults, each with its place, its name and its words."""

from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any

import msgspec
import yaml

from fastlib.codec.errors import Path, Problem, Report
from fastlib.message import Message, validate
from fastlib.testing.differences import ABSENT, same

from .aspects import aspects_at
from .cases import Case, place_of_problem
from .peer import UNASKED, PeerError
from .places import Place, place_at
from .protocol import PeerAnswer

CHECKS = {
    "answer": "the program answers each request by one line, in time",
    "accepted": "the program understands each message, in every spelling",
    "equal": "the text that the program would send reads as the same message",
    "refused": "the program refuses a text that is not a message",
    "golden": "the golden vectors give the same, if no other check has found the difference",
}
"""The question and the answer."""

_LONGEST_LOCATED = 100_000
"""The maximum number of characters of a text in which values are located, which is slow."""
_LONGEST_ANSWER = 16 * 1024
"""Characters by which an answer may exceed `_LARGEST_RATIO`. Reading longer ones takes long."""
_LARGEST_RATIO = 20
"""An answer with 20 times more characters than fastlib's text cannot be the message."""
_Loader: Any = getattr(yaml, "CBaseLoader", yaml.BaseLoader)
_SHOWN = 500
"""Characters of a very long answer that are shown."""
OTHER = ("other",)
"""The aspects of an ordinary value if its place accepts a shorter one."""
_PROGRAM = Place("any", "", "program")


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """One difference between an answer and ours."""

    check: str
    place: Place
    """The place to which it belongs."""
    loss: str
    """The effect: `lost`, `changed`, `refused` …; empty if the aspect names it."""
    aspects: tuple[str, ...] = ()
    """Special features of the value or the text, rarest first; empty if there are none."""
    words: str
    theirs: str
    above: tuple[Place, ...] = ()
    """See `Case.above`."""
    stderr: str = ""
    seconds: float = 0.0
    """Seconds of waiting for a program that gave no answer."""

    @property
    def kind(self) -> str:
        """Return the name of the fault without its place."""
        return "-".join(part for part in (self.loss, *self.aspects[:1]) if part)

    @property
    def is_total(self) -> bool:
        """Return True if no value in the place is understood, or only the shortest one."""
        losses = ("lost", "changed", "unreadable", "refused")
        return self.aspects in ((), OTHER) and (self.loss in losses or self.check == "answer")

    @property
    def name(self) -> str:
        """Return a key that is the same for every example of the fault."""
        return f"{self.check}/{self.place}/{self.kind}"


def of_peer_error(case: Case, error: PeerError) -> Fault:
    """Return the fault of a program that gave no answer."""
    unasked = error.kind == UNASKED
    return Fault(
        check="answer",
        place=_PROGRAM if unasked else case.place,
        loss=error.kind,
        aspects=() if unasked else case.aspects,
        words=error.words,
        theirs=error.words,
        stderr=error.stderr,
        seconds=error.seconds,
    )


def of_unsteady(one: list[Fault], other: list[Fault]) -> Fault:
    """Return the fault of a program that answers the same request in two ways."""
    answers = [faults[0].words if faults else "the right answer" for faults in (one, other)]
    stderr = next((fault.stderr for fault in one + other if fault.stderr), "")
    words = f"the same request, twice: first {answers[0]}; then {answers[1]}"
    return Fault(
        check="answer", place=_PROGRAM, loss="unsteady", words=words, theirs=words, stderr=stderr
    )


def judge(case: Case, answer: PeerAnswer) -> list[Fault]:
    """Return the faults of an answer."""
    if case.message is None:
        return [_accepted_wrongly(case, answer)] if answer.ok else []
    if not answer.ok:
        words = f"refused: {answer.error}"
        return [
            Fault(
                check=_check(case, "accepted"),
                place=case.place,
                loss="refused",
                aspects=case.aspects,
                words=words,
                theirs=words,
            )
        ]
    # An answer with exactly fastlib's bytes is also judged: the text counts, not its writer.
    return _differences(case, answer.emit)


def _check(case: Case, check: str) -> str:
    return "golden" if case.source == "golden" else check


def _accepted_wrongly(case: Case, answer: PeerAnswer) -> Fault:
    problem = next(each for each in case.problems if each.severity == "error")
    place, loss, aspects = case.place, "", case.aspects
    if case.source == "golden":
        place, loss, aspects = _place_of(case.cls, case.text, problem), "accepts", (problem.code,)
    return Fault(
        check=_check(case, "refused"),
        place=place,
        loss=loss,
        aspects=aspects,
        words=f"it is accepted, but: {problem}",
        theirs=answer.emit,
        above=case.above,
    )


def _differences(case: Case, emit: str) -> list[Fault]:
    """Return the differences of a text from the message."""
    message = case.message
    assert message is not None
    longest = _LONGEST_ANSWER + _LARGEST_RATIO * len(message.to_yaml())
    if len(emit) > longest:
        words = f"the text that it would send has {len(emit)} characters, more than {longest}"
        shown = f"{emit[:_SHOWN]}…"
        return [
            Fault(
                check=_check(case, "equal"), place=case.place, loss="unreadable",
                aspects=case.aspects, words=words, theirs=shown,
            )
        ]  # fmt: skip
    report = _read(emit, case.cls)
    faults: dict[tuple[Place, str], Fault] = {}

    def add(place: Place, loss: str, aspects: tuple[str, ...], words: str) -> None:
        fault = Fault(
            check=_check(case, "equal"),
            place=place,
            loss=loss,
            aspects=aspects,
            words=words,
            theirs=emit,
        )
        faults.setdefault((place, fault.kind), fault)

    tree = message.emit()
    if report.errors:
        other_tree = _plain_tree(emit)
        is_other_kind = isinstance(tree, dict) and not isinstance(other_tree, dict)
        lost = list(_lost_keys(tree, other_tree))
        for path in lost:
            add(place_at(case.cls, tree, path), "lost", (), _absent(tree, path))
        for problem in report.errors:
            place = _place_of(case.cls, emit, problem)
            if problem.code == "missing" and lost:
                continue
            if is_other_kind:
                place = case.place
            elif problem.code in ("missing", "rule"):
                place = place if problem.code == "missing" else case.place
            elif not place.key:
                place = case.place
            aspects = case.aspects if place == case.place else ()
            words = f"the text that it would send cannot be read: {problem}"
            add(place, "unreadable", aspects, words)
        return list(faults.values())
    theirs = report.message
    is_same = same(message, theirs)
    if not is_same or repr(message) != repr(theirs):  # -0.0 equals 0.0
        assert isinstance(theirs, Message)
        found = list(_pairs(tree, theirs.emit()))
        for path, ours, other in found:
            place = place_at(case.cls, tree, path)
            loss, aspects = _loss(place, ours, other)
            if place == case.place and case.aspects and not loss.startswith("list-"):
                aspects = case.aspects
            at = ".".join(map(str, path))
            words = f"expected {_word(ours)}; got {_word(other)}"
            add(place, loss, aspects, f"{at}: {words}" if at else words)
        if not found and not is_same:
            add(case.place, "changed", case.aspects, f"expected {message!r}; got {theirs!r}")
    # A warning that also applies to the sent text is not a fault of the program.
    sent = validate(case.text, case.cls).warnings if report.warnings else ()
    known = {_kind(case.cls, case.text, problem) for problem in sent}
    for problem in _distinct(report.warnings):
        place, code = _kind(case.cls, emit, problem)
        if (place, code) not in known:
            words = f"the text that it would send is read with a warning: {problem}"
            add(place, f"warning-{code}", case.aspects if place == case.place else (), words)
    return list(faults.values())


def _distinct(warnings: Iterable[Problem]) -> Iterator[Problem]:
    """Yield the first warning of each code and mapping. An answer may have a thousand of them."""
    seen: set[tuple[str, str]] = set()
    for problem in warnings:
        is_unknown = problem.code == "unknown-key"
        above = problem.path.rpartition(".")[0] if is_unknown else problem.path
        kind = problem.code, above
        if problem.code != "too-many" and kind not in seen:
            seen.add(kind)
            yield problem


@lru_cache(maxsize=256)
def _read(text: str, cls: Any) -> Report:
    """Return the message in an answer. Cached: all spellings of a message have the same answer."""
    return validate(text, cls)


def _kind(cls: type[Message], text: str, problem: Problem) -> tuple[Place, str]:
    return _place_of(cls, text, problem), problem.code


def _place_of(cls: type[Message], text: str, problem: Problem) -> Place:
    return place_of_problem(cls, _plain_tree(text), problem)


@lru_cache(maxsize=16)
def _plain_tree(text: str) -> Any:
    """Return a tree of texts, only to locate values; None if it is too long or not YAML."""
    if len(text) > _LONGEST_LOCATED:
        return None
    try:
        return next(yaml.load_all(text, _Loader), None)
    except (yaml.YAMLError, ValueError, RecursionError):
        return None


def _absent(tree: Any, path: Path) -> str:
    for step in path:
        tree = tree[step]
    return f"{'.'.join(map(str, path))}: expected {_word(tree)}; got nothing"


def _word(value: Any) -> str:
    return "nothing" if value is ABSENT else repr(value)


def _lost_keys(ours: Any, theirs: Any, path: Path = ()) -> Iterator[Path]:
    """Yield the paths of keys that only one tree has."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        for key, item in ours.items():
            if key in theirs:
                yield from _lost_keys(item, theirs[key], (*path, key))
            else:
                yield (*path, key)
    elif isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        for index, (one, other) in enumerate(zip(ours, theirs, strict=True)):
            yield from _lost_keys(one, other, (*path, index))


def _pairs(ours: Any, theirs: Any, path: Path = ()) -> Iterator[tuple[Path, Any, Any]]:
    """Yield the paths at which two trees differ, with both values; ABSENT for a missing one."""
    if repr(ours) == repr(theirs):
        return
    if isinstance(ours, dict) and isinstance(theirs, dict):
        for key in ours | theirs:
            yield from _pairs(ours.get(key, ABSENT), theirs.get(key, ABSENT), (*path, key))
    elif isinstance(ours, list) and isinstance(theirs, list) and not _reordered(ours, theirs):
        if len(ours) == len(theirs):
            for index, (one, other) in enumerate(zip(ours, theirs, strict=True)):
                yield from _pairs(one, other, (*path, index))
        else:
            yield path, ours, theirs
    else:
        yield path, ours, theirs


def _reordered(ours: list[Any], theirs: list[Any]) -> bool:
    return len(ours) == len(theirs) and sorted(map(repr, ours)) == sorted(map(repr, theirs))


def _loss(place: Place, ours: Any, theirs: Any) -> tuple[str, tuple[str, ...]]:
    """Return the effect on a value, and its special features."""
    if theirs is ABSENT:
        return "lost", aspects_at(place, ours)
    if ours is ABSENT:
        return "added", ()
    if isinstance(ours, list) and isinstance(theirs, list):
        if len(theirs) < len(ours):
            return "list-shorter", ()
        return ("list-longer" if len(theirs) > len(ours) else "list-reordered"), ()
    return "changed", aspects_at(place, ours)
