"""Print the problems of a file, one line each, as text or as GitHub annotations."""

from collections.abc import Iterable
from typing import TextIO

from fastlib.cli.arguments.message_files import Source
from fastlib.codec.errors import Problem
from fastlib.display.text import columns, printable
from fastlib.redaction import hide_secrets_of_line

from .terminal import cell, is_terminal, painter, width_of


def print_problems(source: Source, problems: Iterable[Problem], stream: TextIO) -> None:
    """Print `file:line:column: error: path: message`; on a terminal also the line of the file."""
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
            line = hide_secrets_of_line(source.line(problem.line))
            shown, before = excerpt(line, problem.column, width_of(stream) - 4)
            if shown:
                print(f"  {shown}\n  {' ' * before}{paint('^', 'mark')}", file=stream)


def excerpt(line: str, column: int, width: int) -> tuple[str, int]:
    """Return the part of a line that fits, and the offset of the column (from 1) in that part."""
    width = max(width, 16)
    at = min(column - 1, len(line))
    start = max(0, at - width)
    left = [cell(char) for char in line[start:at]]
    right = [cell(char) for char in line[at : at + width]]
    # The text before the column may take two thirds, or more if little text follows it.
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


def github_annotation(source: Source, problem: Problem) -> str:
    """Return a workflow command that GitHub shows beside the line of the file."""
    place = {"file": source.name}
    if problem.line is not None:
        place.update(line=str(problem.line), col=str(problem.column))
    place["title"] = f"fastlib {problem.code}"
    properties = ",".join(f"{name}={_escape(value, ':', ',')}" for name, value in place.items())
    message = _escape(str(problem.at(None, None)))
    return f"::{problem.severity} {properties}::{message}"


def _escape(text: str, *more: str) -> str:
    """Escape `%`, line ends, the given characters that end a property, and control characters."""
    for char in ("%", "\r", "\n", *more):  # "%" first, because the escapes contain it
        text = text.replace(char, f"%{ord(char):02X}")
    return printable(text)
