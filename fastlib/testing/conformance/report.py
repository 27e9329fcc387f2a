"""What a run has found."""

from collections.abc import Mapping

import msgspec

from .cases import Case
from .protocol import type_name
from .verdict import Finding


class Difference(msgspec.Struct, kw_only=True):
    """What is probably one fault, with the smallest message that shows it."""

    name: str
    """The same in every run: what a file of allowed differences has."""
    check: str
    types: list[str]
    """The types of message in which it shows, in the order in which they were asked."""
    type: str
    """Of the smallest message."""
    text: str
    """What was sent."""
    ours: str
    """What fastlib understands, or why it refuses the text."""
    theirs: str
    """What the program would send for what it understood, or its words."""
    words: str
    """In what the two differ."""
    stderr: str = ""
    """The last that the program said on its standard error before it ended."""
    golden: list[str]
    """The golden vectors in which it shows, each by its file and line."""
    golden_note: str = ""
    """What a C++ peer does with the text, where that is known."""
    allowed: str | None = None
    """Why it is allowed, if it is."""


class ConformanceReport(msgspec.Struct, kw_only=True):
    """What a run has found; it agrees where nothing that is not allowed was."""

    command: list[str]
    seed: int
    examples: int
    types: list[str]
    requests: int = 0
    differences: list[Difference] = []
    unfinished: list[str] = []
    """Types of which not all was asked, as the program took too long to start again."""
    given_up: str = ""
    """Why the run was ended."""
    unused: list[str] = []
    """Names of allowed differences that were not found."""

    @property
    def failures(self) -> list[Difference]:
        """The differences that are not allowed."""
        return [each for each in self.differences if each.allowed is None]

    @property
    def ok(self) -> bool:
        """Whether the two sides agree."""
        return not self.failures and not self.given_up


class Findings:
    """Collects what is found, under one name each, and keeps the smallest text of each."""

    def __init__(self) -> None:
        self._found: dict[str, Difference] = {}

    def name_of(self, finding: Finding) -> str:
        """The name under which a finding is kept: its own, or that of which it is a part."""
        return next((name for name in finding.parts_of if name in self._found), finding.name)

    def add(self, finding: Finding, case: Case) -> None:
        """Keeps one more."""
        name = self.name_of(finding)
        known = self._found.get(name)
        cls = type_name(case.cls)
        new = Difference(
            name=name,
            check=name.partition("/")[0],
            types=[*(known.types if known else ())],
            type=cls,
            text=case.text,
            ours=case.ours,
            theirs=finding.theirs,
            words=finding.words,
            stderr=finding.stderr,
            golden=[*(known.golden if known else ())],
            golden_note=_note(case),
        )
        kept = new if known is None or len(case.text) < len(known.text) else known
        if cls not in kept.types:
            kept.types.append(cls)
        if case.vector and case.vector not in kept.golden:
            kept.golden.append(case.vector)
        self._found[name] = kept

    def names(self) -> list[str]:
        """All of them, in the order in which they were found."""
        return list(self._found)

    def __len__(self) -> int:
        return len(self._found)

    def finish(self, report: ConformanceReport, allowed: Mapping[str, str]) -> None:
        """Puts what was found into a report."""
        for difference in self._found.values():
            difference.allowed = allowed.get(difference.name)
        report.differences = list(self._found.values())
        report.unused = [name for name in allowed if name not in self._found]


def _note(case: Case) -> str:
    row = case.row
    if row is None:
        return ""
    if row.ok:
        return f"a C++ peer reads it, and writes {row.echo!r}"
    if row.error:
        return f"a C++ peer refuses it: {row.error}"
    return "a C++ peer crashes, or hangs"
