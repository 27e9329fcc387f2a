"""Write a manual page of a parser in roff: the same texts as its help."""

import argparse
import os
import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from fastlib import __version__
from fastlib.cli.arguments.parser import ArgumentParser


def manual_page(
    parser: ArgumentParser, section: int, *, see_also: Sequence[tuple[str, int]] = ()
) -> str:
    """Return the page of a program or of a command. `see_also` has names and sections."""
    return "".join(f"{line}\n" for line in _lines(parser, section, see_also))


def page_name(parser: argparse.ArgumentParser) -> str:
    """Return for example `fastlib-send`."""
    return parser.prog.replace(" ", "-")


def commands_of(parser: argparse.ArgumentParser) -> dict[str, ArgumentParser]:
    """Return the parsers of the commands by their names."""
    found: dict[str, ArgumentParser] = {}
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            found |= action.choices
    return found


def _lines(
    parser: ArgumentParser, section: int, see_also: Sequence[tuple[str, int]]
) -> Iterator[str]:
    name, description = page_name(parser), (parser.description or "").strip()
    epilog = _read_epilog(parser.epilog or "")
    title, version = _quoted(name.upper()), _quoted(f"fastlib {__version__}")
    yield f'.TH {title} {section} "{_date()}" {version}'
    yield ".SH NAME"
    yield f"{_text(name)} \\- {_text(_summary(description), at_start=False)}"
    yield ".SH SYNOPSIS"
    yield f".B {_text(parser.prog)}"
    yield _text(_usage(parser))
    yield ".SH DESCRIPTION"
    for number, text in enumerate((*description.split("\n\n"), *epilog.notes)):
        if number:
            yield ".PP"
        yield from _paragraph(text)
    yield from _command_lines(parser)
    yield ".SH OPTIONS"
    for group in parser._action_groups:
        yield from _group_lines(parser, group)
    if epilog.examples:
        yield from (".SH EXAMPLES", ".nf", *map(_text, epilog.examples), ".fi")
    if epilog.status:
        yield ".SH EXIT STATUS"
        yield from _paragraph(epilog.status)
    if see_also:
        yield ".SH SEE ALSO"
        yield ",\n".join(f"\\fB{_text(other)}\\fR({number})" for other, number in see_also)


# --- the parts ------------------------------------------------------------------------------------


def _date() -> str:
    """Return the date of the page: today, or that of SOURCE_DATE_EPOCH for reproducible pages."""
    given = os.environ.get("SOURCE_DATE_EPOCH", "")
    time = datetime.fromtimestamp(int(given), UTC) if given.isdigit() else datetime.now(UTC)
    return f"{time:%Y-%m-%d}"


class _Epilog(NamedTuple):
    examples: Sequence[str]
    status: str
    notes: Sequence[str]


def _read_epilog(epilog: str) -> _Epilog:
    """Divide the text below the options of a help."""
    examples: list[str] = []
    status, notes = "", []
    for part in epilog.strip().split("\n\n"):
        first, *lines = part.split("\n")
        if first == "examples:":
            examples = [line.removeprefix("  ") for line in lines]
        elif first.startswith("The exit status is"):
            status = part
        elif part:
            notes.append(part)
    return _Epilog(examples, status, notes)


def _summary(description: str) -> str:
    words = " ".join(description.split("\n\n")[0].split()).rstrip(".")
    return f"{words[:1].lower()}{words[1:]}"


def _usage(parser: ArgumentParser) -> str:
    """Return the usage without the name of the program."""
    usage = " ".join(parser.format_usage().split())
    return usage.removeprefix("usage:").strip().removeprefix(parser.prog).strip()


def _command_lines(parser: ArgumentParser) -> Iterator[str]:
    commands = commands_of(parser)
    if not commands:
        return
    yield ".SH COMMANDS"
    for title, names in parser.command_groups.items():
        yield f".SS {_quoted(f'{title[:1].upper()}{title[1:]}')}"
        for name in names:
            yield ".TP"
            yield f"\\fB{_text(page_name(commands[name]))}\\fR(1)"
            yield _text(_summary(commands[name].description or ""))


def _group_lines(parser: ArgumentParser, group: argparse._ArgumentGroup) -> Iterator[str]:
    formatter = parser._get_formatter()
    actions = [
        action
        for action in group._group_actions
        if action.help is not argparse.SUPPRESS
        and not isinstance(action, argparse._SubParsersAction)
    ]
    if not actions:
        return
    title = group.title or ""
    yield f".SS {_quoted(f'{title[:1].upper()}{title[1:]}')}"
    if group.description:
        yield _text(" ".join(group.description.split()))
    for action in actions:
        yield ".TP"
        yield f".B {_text(formatter._format_action_invocation(action), at_start=False)}"
        yield _text(formatter._expand_help(action)) if action.help else "\\&"


# --- roff -----------------------------------------------------------------------------------------


def _paragraph(text: str) -> Iterator[str]:
    """Yield a paragraph. A paragraph with indented lines keeps its lines."""
    if re.search(r"^ ", text, re.MULTILINE):
        yield from (".nf", *map(_text, text.split("\n")), ".fi")
    elif text.strip():
        yield _text(" ".join(text.split()))


def _text(text: str, *, at_start: bool = True) -> str:
    """Return text for a line. At its start, a dot or an apostrophe would make it a request."""
    escaped = text.replace("\\", "\\e").replace("-", "\\-")
    escaped = escaped.replace("'", "\\(aq").replace("^", "\\(ha").replace("~", "\\(ti")
    escaped = "".join(c if c.isascii() else f"\\[u{ord(c):04X}]" for c in escaped)
    return f"\\&{escaped}" if at_start and escaped.startswith(".") else escaped


def _quoted(text: str) -> str:
    """Return text as one argument of a request."""
    quoted = _text(text, at_start=False).replace('"', "\\(dq")
    return f'"{quoted}"'
