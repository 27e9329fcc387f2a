"""The state of one load by the exact reader: the problems so far, and the limits that remain."""

from collections.abc import Collection, Iterable
from typing import Any, Final, Literal

import msgspec

from .errors import LimitError, Path, Problem, Severity, render_path
from .limits import Limits
from .missing_space import hint_of_key, hint_of_value
from .nodes import Mapping, Node, Scalar, Sequence
from .printable import printable
from .scalars import NULLS

Unknown = Literal["ignore", "warn", "error"]
"""How an unknown key is handled: ignore it, warn, or raise an error."""


class _Invalid:
    """The type of INVALID."""

    def __repr__(self) -> str:
        return "INVALID"


INVALID: Final = _Invalid()
"""Marks a value that could not be loaded, after its problem was reported."""
UNSUPPORTED: Final = object()
"""The result of the fast reader for a text that only the exact reader supports."""


MAX_PROBLEMS = 1000
"""Maximum number of errors, and of warnings, that are reported for one text."""
TEXT_PER_NODE = 1024
"""Characters of a scalar that count as one more node, because aliases may repeat the scalar."""
_LONGEST_WORD = 200
"""Characters. A longer word is not compared with others, because that would take long."""
MAX_SUGGESTIONS = 100
"""Number of problems after which the search for suggestions ends."""


class LoadContext:
    """Collects the problems of one load, and counts its nodes."""

    def __init__(self, what: str, limits: Limits, unknown: Unknown = "ignore") -> None:
        self.what = what
        self.problems: list[Problem] = []
        self._left = {"error": MAX_PROBLEMS, "warning": MAX_PROBLEMS}
        self._unknown: Severity = "error" if unknown == "error" else "warning"
        self._max_nodes = limits.max_nodes
        self._nodes = limits.max_nodes

    def count_node(self, node: Node) -> None:
        """Count one visit of a node; an alias is one more visit. Raises LimitError."""
        self._nodes -= 1
        if isinstance(node, Scalar) and isinstance(node.value, str):
            self._nodes -= len(node.value) // TEXT_PER_NODE
        if self._nodes < 0:
            message = (
                f"more than {self._max_nodes} nodes, each alias counted as all that it refers to"
            )
            problem = Problem(
                code="limit-nodes", message=message, line=node.line, column=node.column
            )
            raise LimitError(self.what, [problem])

    def add_problem(
        self,
        node: Node,
        path: Path,
        code: str,
        message: str,
        *,
        severity: Severity = "error",
        expected: str | None = None,
        got: str | None = None,
        suggestion: str | None = None,
    ) -> _Invalid:
        """Report a problem of a node. Return INVALID."""
        left = self._left[severity] = self._left[severity] - 1
        if left == 0:
            code, suggestion = "too-many", None
            message = f"more than {MAX_PROBLEMS - 1} {severity}s; the rest is left out"
        if left < 0:
            return INVALID
        self.problems.append(
            Problem(
                code=code,
                message=message,
                severity=severity,
                path=render_path(path),
                line=node.line,
                column=node.column,
                expected=expected,
                got=got,
                suggestion=suggestion,
            )
        )
        return INVALID

    def add_mismatch(
        self, node: Node, path: Path, expected: str, suggestion: str | None = None
    ) -> Any:
        """Report a node of a wrong type or with a wrong value. Return INVALID."""
        got = describe(node)
        hint = hint_of_value(node, expected)
        return self.add_problem(
            node,
            path,
            "value" if isinstance(node, Scalar) else "type",
            f"expected {expected}; got {got}{hint}",
            expected=expected,
            got=got,
            suggestion=suggestion,
        )

    def name_unit(self, path: Path, unit: str) -> None:
        """Add the unit of a number to the problem of its value, if that is the last problem."""
        last = self.problems[-1] if self.problems else None
        if last is not None and last.code in ("value", "type") and last.path == render_path(path):
            self.problems[-1] = with_unit(last, unit)

    def add_unknown_key(
        self,
        key: Node,
        path: Path,
        known: Collection[str],
        remedy: str | None,
        *,
        is_refused: bool = False,
    ) -> None:
        """Report an unknown key. `remedy` is the advice for an obsolete key.

        With `is_refused`, it is an error for every reader.
        """
        name = str(path[-1])
        few = len(self.problems) < MAX_SUGGESTIONS
        nearest = nearest_word(name, known) if few and not remedy else None
        self.add_problem(
            key,
            path,
            "old-key" if remedy else "unknown-key",
            remedy or f"unknown key, ignored by every peer{hint_of_key(name, known)}",
            severity="error" if is_refused else self._unknown,
            got=name if len(name) <= _LONGEST_WORD else shorten(name),
            suggestion=nearest,
        )

    def add_key_without_text(self, key: Node, path: Path) -> None:
        """Report a key of a struct that is null, a list or a mapping: an unknown key."""
        got = describe(key)
        message = f"unknown key ({got}), ignored by every peer"
        self.add_problem(key, path, "unknown-key", message, severity=self._unknown, got=got)


def with_unit(problem: Problem, unit: str) -> Problem:
    """Return the problem of a value with the unit of its field, if it has one."""
    if not unit or problem.expected is None:
        return problem
    expected = f"{problem.expected}, in {unit}"
    message = problem.message.replace(problem.expected, expected, 1)
    return msgspec.structs.replace(problem, message=message, expected=expected)


def nearest_word(word: str, known: Iterable[str]) -> str | None:
    """Return the most similar known word, or None if no word is similar."""
    import difflib

    if len(word) > _LONGEST_WORD:
        return None
    folded = {k.lower().replace("_", "-"): k for k in known if len(k) <= _LONGEST_WORD}
    near = difflib.get_close_matches(word.lower().replace("_", "-"), folded, n=1, cutoff=0.6)
    return folded[near[0]] if near else None


def describe(node: Node) -> str:
    """Describe a node in a few words, for an error."""
    if isinstance(node, Mapping):
        return "a mapping" if node.pairs else "an empty mapping"
    if isinstance(node, Sequence):
        return "a list" if node.items else "an empty list"
    assert isinstance(node, Scalar)
    return "null" if is_null(node) else shorten(node.value)


def shorten(value: object) -> str:
    """Return the `repr` of a value on one line, shortened if it is long."""
    if isinstance(value, str) and len(value) > 60:
        return f"{printable(repr(value[:40]))}… ({len(value)} characters)"
    if isinstance(value, int) and value.bit_length() > 1000:
        return f"an integer of {value.bit_length()} bits"
    if not _is_small(value):
        return f"a {type(value).__name__} of {len(value)} items"  # type: ignore[arg-type]
    try:
        text = printable(repr(value))
    except Exception:  # from a foreign __repr__; the error that is being reported is more important
        return f"a {type(value).__name__}"
    return text if len(text) <= 80 else f"{text[:60]}…"


def _is_small(value: object) -> bool:
    """Return whether a value has few items, with the items of all lists and mappings in it."""
    left = 200
    stack = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, dict | list | tuple | set | frozenset):
            left -= 1 + len(item)
            if left < 0:
                return False
            stack += item
            if isinstance(item, dict):
                stack += item.values()
    return True


def is_null(node: Node) -> bool:
    """Return whether a node is `~`, `null` or nothing, unquoted."""
    if not isinstance(node, Scalar):
        return False
    return node.value is None or (node.plain and node.value in NULLS)


def key_text(key: Node, context: LoadContext, path: Path) -> str | None:
    """Return the text of a key, or None after reporting that the key is not a text."""
    if isinstance(key, Scalar) and isinstance(key.value, str) and not is_null(key):
        return key.value
    context.add_problem(key, path, "key", f"a key must be text; got {describe(key)}")
    return None


def add_duplicate_key(
    key: Node, context: LoadContext, path: Path, other: str | None = None
) -> None:
    """Report a key that occurs twice; `other` is the other spelling, if it differs."""
    twice = f"{other} is given already" if other else "this key is a duplicate"
    context.add_problem(key, path, "duplicate-key", f"{twice}; remove one of the two")
