"""The report of a run."""

import re
from collections.abc import Iterable, Iterator, Mapping

import msgspec

from .aspects import aspects_at
from .cases import Case
from .places import ANY_TEXT, Place, place_at, place_of_title
from .protocol import type_name
from .spellings import signs_of
from .trees import at, paths_of
from .verdict import Fault
from .written import Scalar, covers, scalars_in


class Difference(msgspec.Struct, kw_only=True):
    """Probably one fault, with the smallest message that shows it."""

    name: str
    """The name in files of allowed differences. It is the same in every run."""
    check: str
    places: list[str]
    """The places to which it belongs: types, or keys of types. Its name covers all of them."""
    types: list[str]
    """The types of message in which it appears, in the order of the requests."""
    type: str
    """The type of the smallest message."""
    text: str
    """The text that was sent."""
    ours: str
    """fastlib's understanding of the text, or why it refuses it."""
    theirs: str
    """The text that the program would send, or its error."""
    words: str
    """The differences between the two."""
    stderr: str = ""
    """The end of the program's standard error before it ended."""
    golden: list[str]
    """The golden vectors in which it appears, each by its file and line."""
    golden_note: str = ""
    """The behaviour of a C++ peer for the text, if it is known."""
    allowed: str | None = None
    """The reason why it is allowed, if it is."""


class ConformanceReport(msgspec.Struct, kw_only=True):
    """The result of a run. The two sides agree if all differences are allowed."""

    command: list[str]
    seed: int
    examples: int
    types: list[str]
    requests: int = 0
    differences: list[Difference] = []
    unsupported: dict[str, int] = {}
    """Types and options that the program reports as unsupported, with the number of requests."""
    unfinished: list[str] = []
    """Types that were not fully tested, because restarts of the program took too long."""
    given_up: str = ""
    """The reason why the run was ended early."""
    unused: list[str] = []
    """Names of allowed differences that were not found."""

    @property
    def failures(self) -> list[Difference]:
        """Return the differences that are not allowed."""
        return [each for each in self.differences if each.allowed is None]

    @property
    def ok(self) -> bool:
        """Whether the two sides agree."""
        return not self.failures and not self.given_up


class _Found(msgspec.Struct):
    """A fault in one place, with its smallest example."""

    fault: Fault
    case: Case
    types: list[str]
    golden: list[str]


class Findings:
    """Collects faults by place, and keeps the smallest text of each.

    If all tested places have a fault, it becomes one difference: `*.driver` for a key in all types,
    `any-text` for all texts, `any` for all places.
    """

    def __init__(self) -> None:
        self._found: dict[str, _Found] = {}
        self._asked: dict[str, set[Place]] = {}
        """The places that were tested for an aspect."""

    def note_asked(self, aspect: str, place: Place) -> None:
        """Note that a place was tested for an aspect, with any result."""
        self._asked.setdefault(aspect, set()).add(place)

    def explained(self, fault: Fault) -> str | None:
        """Return the name of a known fault of which this fault is an instance."""
        if fault.name in self._found:
            return fault.name
        return next(
            (name for name, each in self._found.items() if _explains(each.fault, fault)), None
        )

    def of_spelling(self, text: str) -> Fault | None:
        """Return a known fault of a spelling that a scalar of a text shows, in any message."""
        known = [each.fault for each in self._found.values() if each.fault.place == ANY_TEXT]
        scalars = scalars_in(text) if known else ()
        return next((fault for fault in known if _is_shown(fault, scalars)), None)

    def is_misspelt(self, scalar: Scalar) -> bool:
        """Return True if the program is known not to read a scalar in its spelling."""
        known = (each.fault for each in self._found.values() if each.fault.place == ANY_TEXT)
        return any(_is_shown(fault, (scalar,)) for fault in known)

    def add(self, fault: Fault, case: Case) -> bool:
        """Add a fault. Return True if it is an instance of a known one."""
        name = self.explained(fault)
        known = self._found.get(name or fault.name)
        new = known is None
        if known is None:
            known = self._found[fault.name] = _Found(fault, case, [], [])
        elif known.fault.name == fault.name and len(case.text) < len(known.case.text):
            known.fault, known.case = fault, case
        self._note(known, case)
        return not new

    def _note(self, known: _Found, case: Case) -> None:
        cls = type_name(case.cls)
        if cls not in known.types:
            known.types.append(cls)
        if case.vector and case.vector not in known.golden:
            known.golden.append(case.vector)

    def add_golden(self, fault: Fault, case: Case) -> None:
        """Add the fault of a golden vector, unless it is already known."""
        name = next((name for name, each in self._found.items() if _shows(case, fault, each)), None)
        if name is None:
            self.add(fault, case)
        else:
            self._note(self._found[name], case)

    def __len__(self) -> int:
        return len(self._found)

    def names(self) -> list[str]:
        """Return the names of all faults, place by place."""
        return list(self._found)

    def faults(self) -> Iterator[tuple[Fault, Case]]:
        """Yield all faults, place by place."""
        for each in self._found.values():
            yield each.fault, each.case

    def finish(self, report: ConformanceReport, allowed: Mapping[str, str]) -> None:
        """Write the faults into a report."""
        used: set[str] = set()
        rest: dict[tuple[str, str], list[_Found]] = {}
        differences: list[Difference] = []
        for name, each in self._found.items():
            if name in allowed:
                used.add(name)
                differences.append(_difference(name, [each], allowed[name]))
            else:
                rest.setdefault((each.fault.check, each.fault.kind), []).append(each)
        for (check, kind), members in rest.items():
            for group, found in self._grouped(members):
                names = [f"{check}/{group}/{kind}", *_wider(check, kind, found)]
                known = next((name for name in names if name in allowed), None)
                used |= {known} if known is not None else set()
                why = None if known is None else allowed[known]
                differences.append(_difference(names[0], found, why))
        report.differences = differences
        report.unused = [name for name in allowed if name not in used]

    def _grouped(self, members: list[_Found]) -> Iterator[tuple[str, list[_Found]]]:
        """Group faults of one kind if they appear in all places of a group."""
        first = members[0].fault
        aspect = first.aspects[0] if first.aspects else ""
        asked = self._asked.get(aspect, set())
        failing = {
            each.fault.place
            for each in self._found.values()
            if not each.fault.aspects or each.fault.aspects[0] == aspect
        }
        counter = asked - failing
        left = list(members)
        for grouping in (_by_everything, _by_kind, _by_key):
            by_group: dict[str, list[_Found]] = {}
            for each in left:
                by_group.setdefault(grouping(each.fault.place), []).append(each)
            spared = {grouping(place) for place in counter}
            for group, found in by_group.items():
                places = {each.fault.place for each in found}
                if len(places) > 1 and group and group not in spared:
                    yield _narrowest(places), found
                    left = [each for each in left if each not in found]
        for each in left:
            yield str(each.fault.place), [each]


def _is_shown(fault: Fault, scalars: Iterable[Scalar]) -> bool:
    """Return True if a scalar has all features that a fault of a spelling needs."""
    return any(covers(scalar.features, fault.aspects[0]) for scalar in scalars)


def _explains(known: Fault, fault: Fault) -> bool:
    """Return True if a fault is an instance of a known one."""
    if fault.check == "refused":
        if known.check == "refused":
            # A reader that accepts any word also accepts a strange one.
            is_word = known.aspects == ("word",) and fault.aspects[0].startswith("word-")
            return is_word and known.place == fault.place
        return known.loss == "lost" and known.is_total and known.place in fault.above
    if known.check == "refused":
        return False
    if fault.place == ANY_TEXT and known.aspects:
        return known.check == fault.check and covers(fault.aspects, known.aspects[0])
    if known.place != fault.place:
        return False
    # A refused place cannot be compared.
    if known.check not in (fault.check, "accepted", "answer"):
        return False
    if not known.aspects and known.loss == fault.loss:
        return True
    return known.is_total or (bool(known.aspects) and known.aspects[0] in fault.aspects)


def _shows(case: Case, fault: Fault, known: _Found) -> bool:
    """Return True if a known fault explains a golden vector."""
    other = known.fault
    aspect = other.aspects[0] if other.aspects else ""
    if _hides(case, other):
        return True
    if fault.loss == "accepts":
        problem = next((each for each in known.case.problems if each.severity == "error"), None)
        codes = () if problem is None else (problem.code,)
        return other.check == "refused" and other.place == fault.place and fault.aspects == codes
    if other.check == "refused" or other.check == "golden":
        return False
    if fault.place == other.place and fault.kind == other.kind:
        return True
    if other.place == ANY_TEXT and _is_shown(other, scalars_in(case.text)):
        return True
    spelled = aspect != "" and {*aspect.split("+")} <= signs_of(case.text)
    if fault.loss == "refused" or fault.check == "answer":
        return spelled or (other.check != "equal" and _has(case, other))
    if fault.place != other.place:
        return False
    return spelled or (_explains(other, msgspec.structs.replace(fault, check="equal")))


def _hides(case: Case, fault: Fault) -> bool:
    """Return True if a text has a key with which no answer of the program can be read."""
    if not fault.is_total or not (fault.check == "answer" or fault.loss == "unreadable"):
        return False
    # The text need not be YAML.
    key = fault.place.key
    return key != "" and re.search(rf"\b{re.escape(key)}\b", case.text) is not None


def _has(case: Case, fault: Fault) -> bool:
    """Return True if a text has a part that the program cannot read."""
    if case.message is None:
        return False
    tree = case.message.emit()
    for path in paths_of(tree):
        place = place_at(case.cls, tree, path)
        if place == fault.place:
            aspects = aspects_at(place, at(tree, path))
            if not fault.aspects or fault.aspects[0] in aspects:
                return True
    return fault.is_total and fault.place in (case.place, place_of_title(case.cls, tree))


def _by_everything(place: Place) -> str:
    return "any" if place.key else "any-message"


def _by_kind(place: Place) -> str:
    return f"any-{place.kind}" if place.key else ""


def _by_key(place: Place) -> str:
    return f"*.{place.key}" if place.key else ""


def _narrowest(places: set[Place]) -> str:
    """Return the name of the smallest group that contains all these places."""
    for grouping in (_by_key, _by_kind):
        names = {grouping(place) for place in places}
        if len(names) == 1 and "" not in names:
            return names.pop()
    return "any" if any(place.key for place in places) else "any-message"


def _wider(check: str, kind: str, found: list[_Found]) -> list[str]:
    """Return the names of wider groups that may also allow these faults."""
    groups = (
        {grouping(each.fault.place) for each in found}
        for grouping in (_by_key, _by_kind, _by_everything)
    )
    return [
        f"{check}/{group}/{kind}" for names in groups if len(names) == 1 for group in names if group
    ]


def _difference(name: str, found: list[_Found], allowed: str | None) -> Difference:
    smallest = min(found, key=lambda each: (len(each.case.text), str(each.fault.place)))
    fault, case = smallest.fault, smallest.case
    return Difference(
        name=name,
        check=fault.check,
        places=list(dict.fromkeys(str(each.fault.place) for each in found)),
        types=list(dict.fromkeys(cls for each in found for cls in each.types)),
        type=type_name(case.cls),
        text=case.text,
        ours=case.ours,
        theirs=fault.theirs,
        words=fault.words,
        stderr=fault.stderr,
        golden=list(dict.fromkeys(vector for each in found for vector in each.golden)),
        golden_note=_note(case),
        allowed=allowed,
    )


def _note(case: Case) -> str:
    row = case.row
    if row is None:
        return ""
    if row.ok:
        return f"a C++ peer reads it, and writes {row.echo!r}"
    if row.error:
        return f"a C++ peer refuses it: {row.error}"
    return "a C++ peer crashes, or hangs"
