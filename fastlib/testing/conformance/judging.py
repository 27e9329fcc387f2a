"""What is wrong with an answer: nothing, or one difference with its name and words."""

import msgspec

from ...codec.errors import MessageError
from ...message import validate
from ..differences import differences, same
from . import reasons
from .cases import Case
from .peer import Trouble
from .protocol import Answer

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
    is_costly: bool = False

    @property
    def name(self) -> str:
        """The same for all that is probably one fault."""
        return f"{self.check}/{self.reason}"


def of_trouble(trouble: Trouble) -> Finding:
    """What is said of a program that gave no answer."""
    return Finding(
        check="answer",
        reason=trouble.kind,
        words=trouble.words,
        theirs=trouble.words,
        stderr=trouble.stderr,
        is_costly=trouble.is_costly,
    )


def judge(case: Case, answer: Answer) -> Finding | None:
    """What is wrong with an answer."""
    if case.message is None:
        return _accepted_wrongly(case, answer) if answer.ok else None
    unknown = "unknown-key-" if case.mistake is not None else ""
    if not answer.ok:
        return Finding(
            check="accepted",
            reason=unknown + reasons.of_words(answer.error),
            words=f"it is refused: {answer.error}",
            theirs=f"refused: {answer.error}",
        )
    found = _differs(case, answer.emit)
    if found is None:
        return None
    reason, words = found
    return Finding(check="equal", reason=unknown + reason, words=words, theirs=answer.emit)


def _accepted_wrongly(case: Case, answer: Answer) -> Finding:
    if case.mistake is not None:
        reason = reasons.of_mistake(case.mistake)
    else:
        assert isinstance(case.error, MessageError)
        reason = f"accepts-{case.error.problems[0].code}"
    return Finding(
        check="refused" if case.source == "mistake" else "golden",
        reason=reason,
        words=f"it is accepted, though: {case.error}",
        theirs=answer.emit,
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
