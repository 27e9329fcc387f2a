"""Read and write messages: dispatch between the fast and the exact reader, and the writers.

The fast reader (`fast_reader`) reads what peers usually send. It either returns what the exact
reader (`composer`, `nodes` and `shapes`) would return, or it does not support the text. Every error
comes from the exact reader.
"""

import sys
import warnings
from collections.abc import Callable
from types import FrameType
from typing import Any, Literal

from .compiled import outdated_files
from .errors import (
    MessageError,
    Problem,
    Report,
    UnknownKeyWarning,
    ValidationError,
)
from .limits import DEFAULT_LIMITS, Limits
from .load_context import INVALID, UNSUPPORTED, LoadContext, Unknown
from .nodes import Node, Scalar, from_tree
from .records import Record
from .shapes import Shape
from .text import decode

Style = Literal["block", "literal", "flow"]
"""The layout of a text. `block`: as the C++ fast-lib writes it, each text on one line. `literal`:
the same, but texts of several lines as literal blocks, for people. `flow`: all on one line."""


def _import_fast_reader(shape: Shape, text: str, limits: Limits) -> Any:
    """Import the fast reader, and read by it. Programs that only validate never need it.

    If it was compiled from other sources than those beside it, the exact reader reads everything.
    """
    global read_fast
    outdated = outdated_files()
    if outdated:
        read_fast = _read_nothing
        warnings.warn(
            "fastlib reads slowly, because these compiled modules belong to another version of"
            f" fastlib; remove them: {', '.join(outdated)}",
            RuntimeWarning,
            stacklevel=_callers_level(sys._getframe()),
        )
        return UNSUPPORTED
    from .fast_reader import read_fast as imported

    read_fast = imported
    return imported(shape, text, limits)


def _read_nothing(shape: Shape, text: str, limits: Limits) -> Any:
    """Leave every text to the exact reader."""
    return UNSUPPORTED


read_fast: Callable[[Shape, str, Limits], Any] = _import_fast_reader
"""Reads a text by the fast reader; see `fast_reader.read_fast`. The first call imports it."""


def read(
    shape: Shape, text: str | bytes, what: str, unknown: Unknown, limits: Limits | None
) -> Any:
    """Read the message of a text. Raises ParseError, ValidationError and LimitError."""
    if unknown != "ignore":
        check_unknown(unknown)
    if limits is None:
        limits = DEFAULT_LIMITS
    decoded = decode(text, limits, what)
    value = read_fast(shape, decoded, limits)
    if value is not UNSUPPORTED:
        return value
    return read_exact(shape, decoded, what=what, unknown=unknown, limits=limits)


def read_exact(
    shape: Shape,
    text: str,
    *,
    what: str,
    unknown: Unknown = "ignore",
    limits: Limits = DEFAULT_LIMITS,
    ignored: list[Problem] | None = None,
) -> Any:
    """Read the message of a text by the exact reader alone. Raises the same errors as `read`.

    `ignored` gets a problem for each unknown key of a text without errors.
    """
    from .composer import compose  # imports PyYAML, which most programs never need

    node = compose(text, limits, what)
    context = LoadContext(what, limits, unknown)
    value = load_root(shape, node or Scalar(None, True, 1, 1), context)
    value = _outcome(value, context, unknown)
    if ignored is not None:
        ignored.extend(filter(_is_unknown_key, context.problems))
    return value


def read_tree(
    shape: Shape,
    tree: Any,
    *,
    what: str,
    unknown: Unknown = "ignore",
    limits: Limits | None = None,
) -> Any:
    """Read the message of a plain tree of dicts, lists and leaves. Raises ValidationError."""
    check_unknown(unknown)
    limits = limits or DEFAULT_LIMITS
    context = LoadContext(what, limits, unknown)
    value = load_root(shape, from_tree(tree, limits, what), context)
    return _outcome(value, context, unknown)


def check_unknown(unknown: str) -> None:
    """Raise ValueError if `unknown` is not one of the values of `Unknown`."""
    if unknown not in ("ignore", "warn", "error"):
        raise ValueError(f"unknown must be 'ignore', 'warn' or 'error', not {unknown!r}")


def load_root(shape: Shape, node: Any, context: LoadContext) -> Any:
    """Load the root of a document. An empty document is an empty mapping."""
    if isinstance(shape, Record):
        return shape.load(node, context, (), null_is_empty=True)
    return shape.load(node, context, ())


def _outcome(value: Any, context: LoadContext, unknown: Unknown) -> Any:
    """Return a loaded value, or raise the errors of its load. May warn about unknown keys."""
    errors = [p for p in context.problems if p.severity == "error"]
    if errors or value is INVALID:
        raise ValidationError(context.what, errors)
    if unknown == "warn":
        for problem in filter(_is_unknown_key, context.problems):
            message = f"{context.what}: {problem}"
            warnings.warn(message, UnknownKeyWarning, stacklevel=_callers_level(sys._getframe()))
    return value


def _is_unknown_key(problem: Problem) -> bool:
    return problem.code in ("unknown-key", "old-key")


def _callers_level(frame: FrameType) -> int:
    """Return the stack level, seen from a frame, of the first function outside this package."""
    package = __name__.partition(".")[0]
    level = 1
    while frame.f_back is not None and frame.f_globals["__name__"].partition(".")[0] == package:
        frame = frame.f_back
        level += 1
    return level


def inspect(
    choose: Callable[[Any, LoadContext], Shape | None],
    text: str | bytes,
    *,
    what: str,
    limits: Limits | None = None,
) -> list[Report]:
    """Return a report for each document that is not empty, at least one. Never raises.

    `choose` returns the shape of a root node, or None after it has reported a problem.
    """
    from .composer import compose_all

    limits = limits or DEFAULT_LIMITS
    reports: list[Report] = []
    try:
        for node in compose_all(decode(text, limits, what), limits, what):
            if node is not None or not reports:  # a peer's closing "---" opens an empty document
                reports.append(_report(choose, node, what, limits))
    except MessageError as error:
        reports.append(Report(None, error.problems))
    return reports or [_report(choose, None, what, limits)]


def _report(
    choose: Callable[[Any, LoadContext], Shape | None], node: Node | None, what: str, limits: Limits
) -> Report:
    context = LoadContext(what, limits)
    value: Any = INVALID
    root = node or Scalar(None, True, 1, 1)
    try:
        shape = choose(root, context)
        if shape is not None:
            value = load_root(shape, root, context)
    except MessageError as error:
        context.problems += error.problems
    failed = value is INVALID or any(p.severity == "error" for p in context.problems)
    return Report(None if failed else value, context.problems)


def _import_writer(value: Any, shape: Shape) -> str:
    """Import the writer, and write by it. Programs that only validate never need it."""
    global _write_block
    from .writer import write_block

    _write_block = write_block
    return write_block(value, shape)


_write_block: Callable[[Any, Shape], str] = _import_writer


def write(value: Any, shape: Shape, style: Style = "block") -> str:
    """Return the text of a message."""
    if style == "block":
        return _write_block(value, shape)
    from . import writer

    if style == "flow":
        return writer.write_flow(shape.dump(value))
    if style == "literal":
        return writer.write_tree(shape.dump(value), literal=True)
    raise ValueError(f"style must be 'block', 'literal' or 'flow', not {style!r}")
