"""Asks one thing, looks at the answer, and knows when it is no use to go on."""

from .cases import Case
from .judging import Finding, judge, of_trouble
from .peer import Peer, Trouble
from .protocol import Request, type_name
from .report import Findings

MOST_COSTLY = 30
"""So often at most a program has to be waited for, or started again, to make one text smaller."""
MOST_COSTLY_OF_ALL = 150
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
        self._answered = False
        self._costly: dict[str, int] = {}

    def ask(self, case: Case) -> str | None:
        """The name of what is wrong with the answer, which is kept; None if nothing is.

        Raises Enough if it is no use to ask more of the same, with `given_up` set if it is none to
        ask anything more.
        """
        finding = self._finding(case)
        if finding is None:
            return None
        name = self.findings.name_of(finding, case)
        self.findings.add(finding, case)
        if finding.is_costly:
            self._costly[name] = self._costly.get(name, 0) + 1
            total = sum(self._costly.values())
            if not self._answered and total >= MOST_UNANSWERED:
                self.given_up = f"it has not answered anything, {total} times: {finding.words}"
            elif total >= MOST_COSTLY_OF_ALL:
                self.given_up = f"it was started again {total} times"
            if self.given_up or self._costly[name] == MOST_COSTLY:
                raise Enough
        return name

    def _finding(self, case: Case) -> Finding | None:
        self.requests += 1
        try:
            answer = self._peer.ask(Request(type=type_name(case.cls), yaml=case.text))
        except Trouble as trouble:
            return of_trouble(trouble)
        self._answered = True
        return judge(case, answer)
