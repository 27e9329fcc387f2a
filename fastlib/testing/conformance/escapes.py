"""Test each escape of a text in double quotes, in one place.

An escape is at fault only if the program reads the same character in another spelling. Else the
character is, and each place is tested with it.
"""

from typing import Any

from fastlib.message import Message

from .aspects import aspects_of_text
from .cases import Case, of_message
from .places import ANY_TEXT
from .reduction import message_of
from .session import Session
from .spots import Spot
from .trees import changed
from .verdict import Fault
from .written import escape_name

NAMED = {
    "\\0": "\0", "\\a": "\a", "\\b": "\b", "\\t": "\t", "\\n": "\n", "\\v": "\v", "\\f": "\f",
    "\\r": "\r", "\\e": "\x1b", "\\ ": " ", '\\"': '"', "\\/": "/", "\\\\": "\\", "\\N": "\x85",
    "\\_": "\xa0", "\\L": "\u2028", "\\P": "\u2029",
}  # fmt: skip
"""Escapes of one character each."""
NUMBERED = {
    "\\x41": "A", "\\u0041": "A", "\\U00000041": "A", "\\xe9": "é", "\\u00e9": "é",
    "\\U000000e9": "é", "\\u65e5": "日", "\\U000065e5": "日", "\\U0001f600": "\U0001f600",
}  # fmt: skip
"""Escapes of any character, by its code. Those of an ordinary character come first."""

_SUBJECT = "subject-of-the-test"
"""A text that each spelling writes without quotes."""


def is_testable(cls: type[Message], spot: Spot) -> bool:
    """Return True if the text in a place may contain any character."""
    texts = [*NAMED.values(), *NUMBERED.values()]
    return all(message_of(cls, changed(spot.tree, spot.path, text)) is not None for text in texts)


class Escapes:
    """Tests all escapes in a text field of a type."""

    def __init__(self, session: Session, cls: type[Message], spot: Spot) -> None:
        self._session = session
        self._cls = cls
        self._spot = spot

    def ask(self) -> None:
        """Test each escape, and record the faults. Raises StopAsking."""
        wrong: list[tuple[Fault, Case]] = []
        right = False
        for escape, char in (NAMED | NUMBERED).items():
            case, faults = self._judge(f'"{escape}"', char, *_names(escape, char))
            if not faults:
                right = True
            elif self._reads_otherwise(escape, char):
                wrong += [(fault, case) for fault in faults]
        for fault, case in wrong:
            if not right and fault.check != "answer":
                case, faults = self._judge('"\\x41"', "A", "escapes")
                wrong = [(each, case) for each in faults]
                break
        for fault, case in wrong:
            self._session.findings.add(fault, case)

    def _reads_otherwise(self, escape: str, char: str) -> bool:
        """Return True if the program reads the character of an escape in another spelling."""
        code = ord(char)
        others = [f'"\\U{code:08x}"', *([f'"\\u{code:04x}"'] if code < 0x10000 else [])]
        others += [f'"\\x{code:02x}"'] if code < 0x100 else []
        if char.isprintable() and char not in ' "\\':
            others.insert(0, f'"{char}"')
        return any(
            not self._judge(other, char)[1]
            for other in others
            if not other.startswith(f'"{escape[:2]}')
        )

    def _judge(self, written: str, char: str, *aspects: str) -> tuple[Case, list[Fault]]:
        """Return the faults of the answer to a text in exactly this spelling."""
        subject = changed(self._spot.tree, self._spot.path, _SUBJECT)
        tree: Any = changed(self._spot.tree, self._spot.path, char)
        message, around = message_of(self._cls, tree), message_of(self._cls, subject)
        assert message is not None
        assert around is not None
        text = self._session.spell(around, subject).replace(_SUBJECT, written)
        case = of_message(message, text, ANY_TEXT, *aspects)
        return case, self._session.judge(case)


def _names(escape: str, char: str) -> tuple[str, ...]:
    name = escape_name(escape)
    aspects = aspects_of_text(char)
    joined = tuple(f"{name}+{aspect}" for aspect in aspects[:1]) if escape in NUMBERED else ()
    return (*joined, name, "double-quotes")
