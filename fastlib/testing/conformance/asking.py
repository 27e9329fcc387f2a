"""Asks one thing, looks at the answer, and knows when it is no use to go on."""

from fastlib.message import Message

from .cases import Case
from .judging import Finding, judge, of_trouble
from .peer import Peer, Trouble
from .protocol import Request, type_name
from .report import Findings

MOST_SECONDS = 60.0
"""So long at most a program is waited for, and started again, to make one text smaller."""
MOST_SECONDS_OF_ALL = 600.0
MOST_UNANSWERED = 3
"""So often at most, where it has never answered anything."""


class Enough(BaseException):
    """Ends a series: not an Exception, so that Hypothesis takes it for no failure to shrink."""


class Asking:
    """One run's questions and findings."""

    def __init__(self, peer: Peer, findings: Findings) -> None:
        self._peer = peer
        self.findings = findings
        self.requests = 0
        self.given_up = ""
        self.unfinished: list[str] = []
        self._answered = False
        self._unanswered = 0
        self._seconds: dict[str, float] = {}

    def ask(self, case: Case) -> str | None:
        """The name of what is wrong with the answer, which is kept; None if nothing is.

        Raises Enough if it is no use to ask more of the same, with `given_up` set if it is none to
        ask anything more.
        """
        finding = self._finding(case)
        if finding is None:
            return None
        name = self.findings.name_of(finding)
        self.findings.add(finding, case)
        if finding.check == "answer":
            self._weigh(name, finding)
        return name

    def leave(self, cls: type[Message]) -> None:
        """Remembers that not all is asked of a type."""
        if type_name(cls) not in self.unfinished:
            self.unfinished.append(type_name(cls))

    def _weigh(self, name: str, finding: Finding) -> None:
        """Raises Enough where what has been found takes too long to find again."""
        self._unanswered += 1
        self._seconds[name] = self._seconds.get(name, 0.0) + finding.seconds
        total = sum(self._seconds.values())
        if not self._answered and self._unanswered >= MOST_UNANSWERED:
            self.given_up = f"nothing was answered, {self._unanswered} times: {finding.words}"
        elif total >= MOST_SECONDS_OF_ALL:
            self.given_up = f"{total:.0f} s were spent on waiting and starting again"
        if self.given_up or self._seconds[name] >= MOST_SECONDS:
            raise Enough

    def _finding(self, case: Case) -> Finding | None:
        self.requests += 1
        try:
            answer = self._peer.ask(Request(type=type_name(case.cls), yaml=case.text))
        except Trouble as trouble:
            return of_trouble(trouble)
        self._answered = True
        return judge(case, answer)
