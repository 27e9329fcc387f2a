"""The base classes of all errors of fastlib::

    FastlibError
    ├── MessageError            a text or a value is not a valid message; has `.problems`
    │   ├── ParseError          the text is not YAML, or the bytes are not text
    │   ├── ValidationError     it is YAML, but not a valid message of this type
    │   └── LimitError          it exceeds one of the limits
    ├── ArgumentError           a constructor has wrong arguments; has `.problems`
    ├── DeclarationError        the declaration of a message type is wrong
    └── TaskFailedError         a task was answered with an error; `raise_for_status` raises it

`problems` is a tuple of `Problem`. Each has the path in the message, line and column, what was
expected and what was found.
"""

from collections.abc import Iterable
from typing import Any, Final, Literal, TypeVar

import msgspec

from .printable import printable

Severity = Literal["error", "warning"]

Path = tuple[str | int, ...]
"""A place in a message: wire keys and list indices, from the root."""


def render_path(path: Path) -> str:
    """Return `("parameter", "vcpu-map", 0, 1)` as `parameter.vcpu-map[0][1]`; the root is empty."""
    text = ""
    for step in path:
        if isinstance(step, str) and len(step) > 100:
            step = f"{step[:60]}…"
        if isinstance(step, int):
            text += f"[{step}]"
        elif text:
            text += f".{step}"
        else:
            text = step
    return text


class Problem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One error or warning about a message."""

    message: str
    """The problem in one sentence, without the position."""
    code: str
    """The kind of problem, stable across versions: `unknown-key`, `type`, `range`, …"""
    severity: Severity = "error"
    path: str = ""
    """The place in the message, such as `parameter.vcpu-map[0][1]`; empty for the root."""
    line: int | None = None
    """Line in the text, from 1; None without a text."""
    column: int | None = None
    """Column in the line, in characters, from 1."""
    expected: str | None = None
    """The expected value."""
    got: str | None = None
    """The value that was found, shortened."""
    suggestion: str | None = None
    """The probable intention, such as the nearest known key."""

    def __str__(self) -> str:
        place = "" if self.line is None else f"line {self.line}, column {self.column}: "
        path = f"{printable(self.path)}: " if self.path else ""
        hint = f" (did you mean {self.suggestion!r}?)" if self.suggestion else ""
        return f"{place}{path}{self.message}{hint}"

    def at(self, line: int | None, column: int | None, prefix: str = "") -> "Problem":
        """Return the same problem at another position, with `prefix` before its path."""
        path = self.path
        if prefix:
            path = prefix + (path if not path or path.startswith("[") else f".{path}")
        return msgspec.structs.replace(self, line=line, column=column, path=path)


def in_order(problems: Iterable[Problem]) -> tuple[Problem, ...]:
    """Return the problems in the order of the text."""
    return tuple(sorted(problems, key=lambda p: (p.line or 0, p.column or 0)))


def _text_of(what: str, problems: tuple[Problem, ...]) -> str:
    """Return all problems of a subject as one text, one on each line if there are several."""
    if len(problems) == 1:
        return f"{what}: {problems[0]}"
    lines = "".join(f"\n  {problem}" for problem in problems)
    return f"{what}: {len(problems)} problems{lines}"


class FastlibError(Exception):
    """The base class of every error that fastlib raises on purpose.

    Each can be pickled and copied, so a worker process can raise it in the process that waits.
    """

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (type(self), self.args), vars(self)


E = TypeVar("E", bound=FastlibError)


def _restore(kind: type[E], arguments: tuple[Any, ...]) -> E:
    """Return an error that was pickled, without its constructor: that has other arguments."""
    error = kind.__new__(kind, *arguments)
    error.args = arguments
    return error


class DeclarationError(FastlibError, TypeError):
    """The declaration of a message type is wrong, for example a title is used twice."""


class ArgumentError(FastlibError, TypeError):
    """A constructor was called with unknown arguments, or without required ones.

    `problems` has every wrong argument, with the name of the argument as its path.
    """

    def __init__(self, what: str, problems: Iterable[Problem]) -> None:
        """`what` names the class, such as `Migrate`."""
        self.what: Final = what
        self.problems: Final = tuple(problems)
        super().__init__(what, self.problems)

    def __str__(self) -> str:
        return _text_of(self.what, self.problems)


class MessageError(FastlibError, ValueError):
    """A text or a value is not a valid message. `problems` lists all reasons."""

    what: Final[str]
    problems: Final[tuple[Problem, ...]]

    def __init__(self, what: str, problems: Iterable[Problem]) -> None:
        """`what` names the message that was expected, such as `Migrate`."""
        self.what = what
        self.problems = in_order(problems)
        super().__init__(what, self.problems)

    def __str__(self) -> str:
        return _text_of(self.what, self.problems)

    @property
    def line(self) -> int | None:
        """Line of the first problem, from 1."""
        return self.problems[0].line if self.problems else None

    @property
    def column(self) -> int | None:
        """Column of the first problem, from 1."""
        return self.problems[0].column if self.problems else None


class ParseError(MessageError):
    """The text is not YAML, or its bytes are not text."""


class ValidationError(MessageError):
    """A well-formed text, a tree or a set of values is not a valid message of its type."""


class LimitError(MessageError):
    """The text exceeds one of the `Limits`: bytes, depth, nodes or the length of a scalar."""


class UnknownKeyWarning(UserWarning):
    """A message has an unknown key; issued with `unknown="warn"`."""


class Report:
    """The result of `validate`: the message, if it could be loaded, and every problem."""

    def __init__(self, message: object | None, problems: Iterable[Problem]) -> None:
        self.message = message
        self.problems = in_order(problems)

    @property
    def errors(self) -> tuple[Problem, ...]:
        """The problems because of which the message cannot be loaded."""
        return tuple(p for p in self.problems if p.severity == "error")

    @property
    def warnings(self) -> tuple[Problem, ...]:
        """The warnings: probable mistakes, and forms that some peers cannot read."""
        return tuple(p for p in self.problems if p.severity == "warning")

    @property
    def ok(self) -> bool:
        """True if the message can be loaded, with or without warnings."""
        return not self.errors

    def __bool__(self) -> bool:
        """The same as `ok`."""
        return self.ok

    def __repr__(self) -> str:
        return f"<Report: errors: {len(self.errors)}, warnings: {len(self.warnings)}>"
