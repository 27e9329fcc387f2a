"""A session with a peer: asks, compares the answers, and stops when more would tell nothing."""

from fastlib.message import Message

from .cases import Case
from .peer import Peer, PeerError
from .protocol import PeerRequest, type_name
from .report import Findings
from .verdict import Finding, judge, of_peer_error

MOST_SECONDS = 60.0
"""So long at most a program is waited for, and started again, to make one text smaller."""
MOST_SECONDS_OF_ALL = 600.0
MOST_UNANSWERED = 3
"""So often at most, where it has never answered anything."""


class StopAsking(BaseException):
    """Ends a series: not an Exception, so that Hypothesis takes it for no failure to shrink."""


class Session:
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

        Raises StopAsking if more of the same would tell nothing new. `given_up` is set if nothing
        else would either.
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
        """Raises StopAsking where what has been found takes too long to find again."""
        self._unanswered += 1
        self._seconds[name] = self._seconds.get(name, 0.0) + finding.seconds
        total = sum(self._seconds.values())
        if not self._answered and self._unanswered >= MOST_UNANSWERED:
            self.given_up = f"nothing was answered, {self._unanswered} times: {finding.words}"
        elif total >= MOST_SECONDS_OF_ALL:
            self.given_up = f"{total:.0f} s were spent on waiting and starting again"
        if self.given_up or self._seconds[name] >= MOST_SECONDS:
            raise StopAsking

    def _finding(self, case: Case) -> Finding | None:
        self.requests += 1
        try:
            answer = self._peer.ask(PeerRequest(type=type_name(case.cls), yaml=case.text))
        except PeerError as error:
            return of_peer_error(error)
        self._answered = True
        return judge(case, answer)
