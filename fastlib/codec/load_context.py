"""One load: what was found wrong so far, in words for people, and what is left of the limits."""

from collections.abc import Iterable
from typing import Any, Final, Literal

from .errors import LimitError, Path, Problem, Severity, render_path
from .limits import Limits
from .nodes import Mapping, Node, Scalar, Sequence
from .scalars import NULLS

Unknown = Literal["ignore", "warn", "error"]
"""What happens to a key that nobody reads."""


class _Invalid:
    """The value of what could not be read; its problem is already known."""

    def __repr__(self) -> str:
        return "INVALID"


INVALID: Final = _Invalid()


MAX_PROBLEMS = 1000
"""So many errors, and so many warnings, are told of one text; nobody reads more."""
TEXT_PER_NODE = 1024
"""So many characters of a text count as a node more, as an alias may repeat them."""
_LONGEST_WORD = 200
"""What is longer is no misspelt word, and comparing takes long."""
MAX_SUGGESTIONS = 100
"""After so many problems, what was meant instead is not looked for any more."""


class Reading:
    """One load: what was found wrong so far, and what is left of the limits."""

    def __init__(self, what: str, limits: Limits, unknown: Unknown = "ignore") -> None:
        self.what = what
        self.problems: list[Problem] = []
        self._left = {"error": MAX_PROBLEMS, "warning": MAX_PROBLEMS}
        self._unknown: Severity = "error" if unknown == "error" else "warning"
        self._max_nodes = limits.max_nodes
        self._nodes = limits.max_nodes

    def spend(self, node: Node) -> None:
        """Counts a node each time it is visited, so that aliases count for what they stand for."""
        self._nodes -= 1
        if isinstance(node, Scalar) and isinstance(node.value, str):
            self._nodes -= len(node.value) // TEXT_PER_NODE
        if self._nodes < 0:
            message = f"more than {self._max_nodes} nodes, each alias counted for all it stands for"
            problem = Problem(
                code="limit-nodes", message=message, line=node.line, column=node.column
            )
            raise LimitError(self.what, [problem])

    def problem(
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

    def unfit(self, node: Node, path: Path, expected: str, suggestion: str | None = None) -> Any:
        """The node is not what belongs there."""
        got = describe(node)
        return self.problem(
            node,
            path,
            "value" if isinstance(node, Scalar) else "type",
            f"expected {expected}; got {got}",
            expected=expected,
            got=got,
            suggestion=suggestion,
        )

    def unknown_key(self, key: Node, path: Path, known: Iterable[str], remedy: str | None) -> None:
        name = str(path[-1])
        few = len(self.problems) < MAX_SUGGESTIONS
        nearest = nearest_word(name, known) if few and not remedy else None
        self.problem(
            key,
            path,
            "old-key" if remedy else "unknown-key",
            remedy or "unknown key, ignored by every peer",
            severity=self._unknown,
            got=name if len(name) <= _LONGEST_WORD else shorten(name),
            suggestion=nearest,
        )


def nearest_word(word: str, known: Iterable[str]) -> str | None:
    """The known word that was probably meant, if one is near."""
    import difflib

    if len(word) > _LONGEST_WORD:
        return None
    folded = {k.lower().replace("_", "-"): k for k in known if len(k) <= _LONGEST_WORD}
    near = difflib.get_close_matches(word.lower().replace("_", "-"), folded, n=1, cutoff=0.6)
    return folded[near[0]] if near else None


def describe(node: Node) -> str:
    """A node in a few words, for an error."""
    if isinstance(node, Mapping):
        return "a mapping" if node.pairs else "an empty mapping"
    if isinstance(node, Sequence):
        return "a list" if node.items else "an empty list"
    assert isinstance(node, Scalar)
    return "null" if is_null(node) else shorten(node.value)


def shorten(value: object) -> str:
    """A value as Python would write it, of bounded length."""
    if isinstance(value, str) and len(value) > 60:
        return f"{value[:40]!r}… ({len(value)} characters)"
    if isinstance(value, int) and value.bit_length() > 1000:
        return f"an integer of {value.bit_length()} bits"
    if not _is_small(value):
        return f"a {type(value).__name__} of {len(value)} items"  # type: ignore[arg-type]
    try:
        text = repr(value)
    except Exception:  # somebody's __repr__; the error that is being told matters more
        return f"a {type(value).__name__}"
    return text if len(text) <= 80 else f"{text[:60]}…"


def _is_small(value: object) -> bool:
    """Whether lists and mappings, whatever stands in them several times, are soon written out."""
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
    """True for `~`, `null` or nothing, unquoted."""
    if not isinstance(node, Scalar):
        return False
    return node.value is None or (node.plain and node.value in NULLS)


def key_text(key: Node, reading: Reading, path: Path) -> str | None:
    """The text of a mapping's key, or None after saying that it is none."""
    if isinstance(key, Scalar) and isinstance(key.value, str):
        return key.value
    reading.problem(key, path, "key", f"a key must be text; got {describe(key)}")
    return None


def duplicate_key(key: Node, reading: Reading, path: Path, other: str | None = None) -> None:
    twice = f"{other} stands there already" if other else "this key stands there already"
    reading.problem(key, path, "duplicate-key", f"{twice}; remove one of the two")
