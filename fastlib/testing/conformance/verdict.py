"""What is wrong with an answer: nothing, or one difference with its name and words."""

import msgspec

from fastlib.codec.errors import MessageError
from fastlib.message import validate
from fastlib.testing.differences import differences, same

from . import reasons
from .cases import Case
from .peer import PeerError
from .protocol import PeerAnswer

CHECKS = {
    "answer": "each request is answered, by one line and in time",
    "accepted": "what is a message is understood, in every spelling",
    "equal": "what is understood is the very message, and is written so that it reads as such",
    "refused": "what is no message is refused",
    "golden": "the golden vectors, where none of the others has found the same",
}
"""What is looked at."""


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """In what an answer differs from ours."""

    check: str
    reason: str
    words: str
    theirs: str
    stderr: str = ""
    seconds: float = 0.0
    """How long a program that gave no answer was waited for."""
    parts_of: tuple[str, ...] = ()
    """Names of other findings of which this is but an instance, where they are known."""

    @property
    def name(self) -> str:
        """The same for all that is probably one fault."""
        return f"{self.check}/{self.reason}"


def of_peer_error(error: PeerError) -> Finding:
    """What is said of a program that gave no answer."""
    return Finding(
        check="answer",
        reason=error.kind,
        words=error.words,
        theirs=error.words,
        stderr=error.stderr,
        seconds=error.seconds,
    )


def judge(case: Case, answer: PeerAnswer) -> Finding | None:
    """What is wrong with an answer."""
    if case.message is None:
        return _accepted_wrongly(case, answer) if answer.ok else None
    if not answer.ok:
        words = f"refused: {answer.error}"
        return _finding(case, "accepted", reasons.of_words(answer.error), words, words)
    found = _differs(case, answer.emit)
    return None if found is None else _finding(case, "equal", *found, answer.emit)


def _finding(case: Case, check: str, reason: str, words: str, theirs: str) -> Finding:
    name = f"{check}/{reason}"
    if case.source == "golden":
        # Asked last, so what it shows is often known.
        return Finding(check="golden", reason=reason, words=words, theirs=theirs, parts_of=(name,))
    if case.mistake is not None:
        reason = f"unknown-key-{reason}"
    return Finding(check=check, reason=reason, words=words, theirs=theirs, parts_of=(name,))


def _accepted_wrongly(case: Case, answer: PeerAnswer) -> Finding:
    words = f"it is accepted, though: {case.error}"
    if case.mistake is None:
        assert isinstance(case.error, MessageError)
        reason = f"accepts-{case.error.problems[0].code}"
        return Finding(check="golden", reason=reason, words=words, theirs=answer.emit)
    return Finding(
        check="refused",
        reason=reasons.of_mistake(case.mistake),
        words=words,
        theirs=answer.emit,
        # Who does not know a key cannot find a mistake in what stands there.
        parts_of=tuple(f"equal/lost-{key}" for key in reasons.keys_of(case.mistake.path)),
    )


def _differs(case: Case, emit: str) -> tuple[str, str] | None:
    """A short name and the words of how a text is not the message."""
    assert case.message is not None
    if emit == case.message.to_yaml():
        return None
    report = validate(emit, case.cls)
    if report.errors:
        problem = report.errors[0]
        reason = f"unreadable-{problem.code}-{reasons.of_words(problem.message)}"
        return reason, f"what it would send cannot be read: {problem}"
    theirs = case.cls.from_yaml(emit)
    if not same(case.message, theirs):
        ours, other = case.message.emit(), theirs.emit()
        reason = reasons.of_difference(ours, other) or "changed"
        words = "; ".join(differences(ours, other))
        return reason, words or f"{case.message!r}, not {theirs!r}"
    if report.warnings:
        problem = report.warnings[0]
        return f"warning-{problem.code}", f"what it would send is read with a warning: {problem}"
    return None
