"""A session with a peer: send requests, compare the answers, and stop when more prove nothing."""

from typing import Any, Protocol

import msgspec

from fastlib.message import Message

from .cases import Case
from .peer import PeerError
from .places import ANY_TEXT, Place
from .protocol import PeerAnswer, PeerRequest, type_name
from .report import Findings
from .spellings import PLAIN, Spelling
from .verdict import OTHER, Fault, judge, of_peer_error, of_unsteady

MOST_SECONDS = 60.0
"""The maximum seconds to wait for a program, with restarts, for one fault."""
MOST_SECONDS_OF_ALL = 600.0
MOST_UNANSWERED = 3
"""The maximum number of tries if it has never answered."""
MOST_UNSTEADY = 10
"""The maximum number of requests with two different answers, crashes not counted."""


class Asked(Protocol):
    """The answering side: a program, or a function in this process."""

    def ask(self, request: PeerRequest) -> PeerAnswer:
        """Return the answer. Raises PeerError."""


class StopAsking(BaseException):
    """Ends the requests of a type. It is not an Exception, so Hypothesis sees no failure."""


class Session:
    """The requests and findings of one run."""

    def __init__(self, peer: Asked, findings: Findings) -> None:
        self._peer = peer
        self.findings = findings
        self.requests = 0
        self.given_up = ""
        self.unfinished: list[str] = []
        self.unsupported: dict[str, int] = {}
        """Features that the program reports as unsupported, with the number of requests."""
        self.spelling: dict[type[Message], Spelling] = {}
        """For types whose plain spelling the program refuses: a spelling that it reads."""
        self.agreed: set[Place] = set()
        """Places with an ordinary value that the program understands."""
        self.has_option = True
        """Whether the program supports the subject of the last request."""
        self._without: set[type[Message]] = set()
        self._answered = False
        self._compared = False
        self._unanswered = 0
        self._confirmed: set[str] = set()
        """Names of faults that the same request has shown twice."""
        self._unsteady = 0
        self._seconds: dict[str, float] = {}

    def ask(self, case: Case) -> list[Fault]:
        """Return the faults of the answer, without known ones.

        The faults are recorded. Raises StopAsking if further similar requests would not find
        another fault. `given_up` is set if this holds for all requests.
        """
        return [fault for fault in self.judge(case) if not self.findings.add(fault, case)]

    def judge(self, case: Case) -> list[Fault]:
        """Return the faults of the answer without recording them. Raises like `ask`."""
        if case.cls in self._without:
            raise StopAsking
        faults = self._judge(case)
        new = {fault.name for fault in faults if not self.findings.explained(fault)}
        if not self._answered or new <= self._confirmed:
            return faults
        # A failure costs a restart, so it is repeated only once.
        failed = any(fault.check == "answer" for fault in faults)
        for _ in range(1 if failed else 2):
            again = self._judge(case)
            if {fault.name for fault in faults} != {fault.name for fault in again}:
                self._note_unsteady(case, faults, again)
                return []
        self._confirmed |= new
        return faults

    def _judge(self, case: Case) -> list[Fault]:
        self.requests += 1
        try:
            answer = self._peer.ask(PeerRequest(type=type_name(case.cls), yaml=case.text))
        except PeerError as error:
            fault = of_peer_error(case, error)
            self._weigh(fault, case)
            return [fault]
        self._answered = True
        self.has_option = not answer.unsupported
        if answer.unsupported:
            self._leave_out(case.cls, answer.unsupported)
            return []
        self._compared = True
        return [self._named(fault, case) for fault in judge(case, answer)]

    def _note_unsteady(self, case: Case, one: list[Fault], other: list[Fault]) -> None:
        """Record that the same request had two different answers.

        The faults of such answers say nothing about the request.
        """
        self.findings.add(of_unsteady(one, other), case)
        if not any(fault.check == "answer" for fault in one + other):
            self._unsteady += 1
        if self._unsteady >= MOST_UNSTEADY:
            self.given_up = f"{self._unsteady} requests were answered differently when repeated"
            raise StopAsking

    def _named(self, fault: Fault, case: Case) -> Fault:
        """Return a fault with the place and the aspects that its name needs.

        A fault of a spelling belongs to no place. A fault of an ordinary value gets an aspect if
        its place accepts other values.
        """
        if case.source == "message" and case.aspects and fault.check != "answer":
            known = self.findings.of_spelling(case.text)
            if known is not None:
                return msgspec.structs.replace(fault, place=ANY_TEXT, aspects=known.aspects)
        if case.place == ANY_TEXT and self.findings.explained(fault) is None:
            return msgspec.structs.replace(fault, place=ANY_TEXT, aspects=case.aspects)
        ordinary = not fault.aspects and fault.loss in ("changed", "lost")
        if ordinary and fault.place in self.agreed and fault.check == "equal":
            return msgspec.structs.replace(fault, aspects=case.aspects or OTHER)
        return fault

    def _leave_out(self, cls: type[Message], name: str) -> None:
        self.unsupported[name] = self.unsupported.get(name, 0) + 1
        if name == type_name(cls):
            self._without.add(cls)
            raise StopAsking

    def finish(self) -> None:
        """Set `given_up` if the program has supported nothing, so nothing was compared."""
        if self.unsupported and not self._compared:
            self.given_up = "the program supports none of the messages"

    def leave(self, cls: type[Message]) -> None:
        """Note that a type is not fully tested, unless the program does not support it."""
        if cls not in self._without and type_name(cls) not in self.unfinished:
            self.unfinished.append(type_name(cls))

    def _weigh(self, fault: Fault, case: Case) -> None:
        """Raise StopAsking if finding a known fault again takes too long."""
        self._unanswered += 1
        name = self.findings.explained(fault) or fault.name
        self._seconds[name] = self._seconds.get(name, 0.0) + fault.seconds
        total = sum(self._seconds.values())
        if not self._answered and self._unanswered >= MOST_UNANSWERED:
            self.given_up = f"{self._unanswered} requests were not answered: {fault.words}"
        elif total >= MOST_SECONDS_OF_ALL:
            self.given_up = f"{total:.0f} s were spent on waiting and on restarts"
        if self.given_up or self._seconds[name] >= MOST_SECONDS:
            self.findings.add(fault, case)
            raise StopAsking

    def spell(self, message: Message, tree: Any, spelling: Spelling = PLAIN) -> str:
        """Return the text of a plain tree in a spelling that the program can read."""
        own = self.spelling.get(type(message), PLAIN)
        if own is PLAIN and spelling is PLAIN:
            return message.to_yaml()
        habits = {**own.habits, **spelling.habits}
        return Spelling(habits, spelling.turns).write(tree)

    def respell(self, cls: type[Message], text: str) -> str:
        """Return a text without the document markers that the program does not read."""
        own = self.spelling.get(cls, PLAIN)
        if 0 in own.habits:
            text = text.removeprefix("---\n")
        return text.removesuffix("---\n").removesuffix("---") if 1 in own.habits else text
