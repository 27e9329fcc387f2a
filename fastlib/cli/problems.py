"""How the problems of a file are printed: a line each, as text or as GitHub's annotations."""

from collections.abc import Iterable
from typing import TextIO

from fastlib.codec.errors import Problem

from .source import Source
from .terminal import cell, columns, is_terminal, painter, printable, width_of


def print_text(source: Source, problems: Iterable[Problem], stream: TextIO) -> None:
    """`file:line:column: error: path: message`; on a terminal with the line that is meant."""
    paint = painter(stream)
    shows_lines = is_terminal(stream)
    for problem in problems:
        place = printable(source.name)
        if problem.line is not None:
            place += f":{problem.line}:{problem.column}"
        severity = paint(f"{problem.severity}:", problem.severity)
        words = printable(str(problem.at(None, None)))
        print(f"{paint(f'{place}:', 'bold')} {severity} {words}", file=stream)
        if shows_lines and problem.line is not None and problem.column is not None:
            line = source.line(problem.line)
            shown, before = excerpt(line, problem.column, width_of(stream) - 4)
            if shown:
                print(f"  {shown}\n  {' ' * before}{paint('^', 'mark')}", file=stream)


def excerpt(line: str, column: int, width: int) -> tuple[str, int]:
    """As much of a line as fits, and how far in it the column, from 1, stands."""
    width = max(width, 16)
    at = min(column - 1, len(line))
    start = max(0, at - width)
    left = [cell(char) for char in line[start:at]]
    right = [cell(char) for char in line[at : at + width]]
    # What stands before the place may take two thirds, more where little stands behind it.
    behind = min(columns("".join(right)), width // 3)
    cut = start > 0
    while columns("".join(left)) + 3 * cut > width - behind:
        cut = True
        left.pop(0)
    shown = ("..." if cut else "") + "".join(left)
    before = columns(shown)
    room = width - before
    rest = at + len(right) < len(line) or columns("".join(right)) > room
    while right and columns("".join(right)) + 3 * rest > room:
        right.pop()
    return (shown + "".join(right) + ("..." if rest else "")).rstrip(), before


def github(source: Source, problem: Problem) -> str:
    """A workflow command, which GitHub shows beside the line of the file."""
    place = {"file": source.name}
    if problem.line is not None:
        place.update(line=str(problem.line), col=str(problem.column))
    place["title"] = f"fastlib {problem.code}"
    properties = ",".join(f"{name}={_escape(value, ':', ',')}" for name, value in place.items())
    message = _escape(str(problem.at(None, None)))
    return f"::{problem.severity} {properties}::{message}"


def _escape(text: str, *more: str) -> str:
    """GitHub's escapes: of `%` and line ends, in a property also of what ends one."""
    for char in ("%", "\r", "\n", *more):  # "%" first, as it stands in the escapes
        text = text.replace(char, f"%{ord(char):02X}")
    return text
