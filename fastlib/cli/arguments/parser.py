"""The parser of command lines."""

import argparse
import os
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NoReturn

from fastlib.codec.printable import printable, printable_lines
from fastlib.redaction import hide_user_information

from .nearest import did_you_mean


class ArgumentParser(argparse.ArgumentParser):
    """Names the nearest known word in errors about commands, options and choices.

    Prints help and errors without terminal control characters, because the help has titles and
    docstrings of other packages.
    """

    command_groups: Mapping[str, Sequence[str]] = {}
    """Commands by the title under which the help lists them. Empty if there are no commands."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        if sys.version_info >= (3, 14):  # its colours would also be escaped
            named.setdefault("color", False)
        named.setdefault("formatter_class", HelpFormatter)
        super().__init__(*arguments, **named)

    def format_usage(self) -> str:
        """Return the usage."""
        return printable_lines(super().format_usage())

    def format_help(self) -> str:
        """Return the help, with the commands in groups."""
        if not self.command_groups:
            return printable_lines(super().format_help())
        assert self._subparsers is not None
        listed = {
            str(shown.metavar): shown
            for action in self._subparsers._group_actions
            if isinstance(action, argparse._SubParsersAction)
            for shown in action._choices_actions
        }
        formatter = self._get_formatter()
        formatter.add_usage(self.usage, self._actions, self._mutually_exclusive_groups)
        formatter.add_text(self.description)
        for title, names in self.command_groups.items():
            formatter.start_section(title)
            formatter.add_arguments([listed[name] for name in names])
            formatter.end_section()
        formatter.start_section(self._optionals.title)
        formatter.add_arguments(self._optionals._group_actions)
        formatter.end_section()
        formatter.add_text(self.epilog)
        return printable_lines(formatter.format_help())

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """Parse the arguments. End the process if one is unknown, before missing ones are reported.

        With argparse, the parser of all commands would print the error, with its own usage.
        """
        words = list(sys.argv[1:] if args is None else args)
        own = words[: words.index("--")] if "--" in words else words
        if self._subparsers is not None:  # the others belong to the command
            own = own[:1]
        for word in own:
            if word.startswith("--") and " " not in word.partition("=")[0]:
                self._check_option(word.partition("=")[0])
        if self._subparsers is None:
            words = self._positionals_together(words)
        found, rest = super().parse_known_args(words, namespace)
        if rest:
            word = rest[0].partition("=")[0]
            if word.startswith("-") and word != "-":
                self._check_option(word)
            self.error(f"unexpected argument {rest[0]!r}; '{self.prog} --help' shows the usage")
        return found, rest

    def _positionals_together(self, words: Sequence[str]) -> list[str]:
        """Return the words with all positional arguments together, and the options behind them.

        argparse gives a list of positional arguments, such as files, only the first group of words.
        """
        options: list[str] = []
        positionals: list[str] = []
        left = list(words)
        while left:
            word = left.pop(0)
            if word == "--":  # all that follows is positional, and may begin with a hyphen
                return [*options, "--", *positionals, *left]
            if not self._is_option(word):
                positionals.append(word)
                continue
            options.append(word)
            most = self._max_values(word)
            while left and most > 0 and not self._is_option(left[0]) and left[0] != "--":
                options.append(left.pop(0))
                most -= 1
        return [*positionals, *options]

    def _is_option(self, word: str) -> bool:
        """Return whether argparse takes a word for an option."""
        if not word.startswith("-") or word == "-":
            return False
        known = word.partition("=")[0] in self._option_string_actions
        is_text = " " in word or self._negative_number_matcher.match(word)
        return known or not is_text

    def _max_values(self, option: str) -> float:
        """Return how many of the words after an option may be its values."""
        action = self._option_string_actions.get(option)
        if action is None:  # it is unknown, or its value is in the same word
            return 0
        if action.nargs is None:
            return 1
        if isinstance(action.nargs, int):
            return action.nargs
        return 1 if action.nargs == argparse.OPTIONAL else float("inf")

    def _check_option(self, word: str) -> None:
        """End the process if there is no option with that name."""
        known = self._option_string_actions
        if word in known:
            return
        without = f"--no-{word[2:]}"
        if without in known:
            self.error(f"unknown option {word}: it is the default, and {without} turns it off")
        hint = did_you_mean(word, [option for option in known if option.startswith("--")])
        self.error(f"unknown option {word}{hint}; '{self.prog} --help' lists the options")

    def refuse_choice(self, name: str, value: str, known: Iterable[str]) -> NoReturn:
        """End the process because the value of an argument is not a known word."""
        words = list(known)
        got = f"got {value!r}{did_you_mean(value, words)}"
        self.error(f"argument {name}: expected one of {', '.join(words)}; {got}")

    def _get_value(self, action: argparse.Action, text: str) -> Any:
        """Return the value of an argument. The error states the expected kind of number."""
        if action.type in (int, float):
            try:
                return int(text) if action.type is int else float(text)
            except ValueError:
                kind = "a whole number" if action.type is int else "a number"
                raise argparse.ArgumentError(action, f"expected {kind}; got {text!r}") from None
        return super()._get_value(action, text)

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        """End the process if a value is not one of the choices."""
        if action.choices is None or value in action.choices:
            return
        words = [str(choice) for choice in action.choices]
        hint = did_you_mean(str(value), words)
        if self._subparsers is not None and action in self._subparsers._group_actions:
            self.error(f"unknown command {value!r}{hint}; '{self.prog} --help' lists them")
        raise argparse.ArgumentError(
            action, f"expected one of {', '.join(words)}; got {str(value)!r}{hint}"
        )

    def error(self, message: str) -> NoReturn:
        """Print usage and message, and end the process with status 2.

        The message may quote an argument that is a broker's URL in the wrong place.
        """
        super().error(printable(hide_user_information(message)))


class HelpFormatter(argparse.HelpFormatter):
    """Fits descriptions and usage into the width of the terminal.

    Paragraphs with an indented line are examples and lists. Their lines stay as they are, and a
    longer command continues on the next line.

    It reads the width of the terminal itself. argparse makes a formatter for each argument, and
    would import `shutil` for the width, with the libraries for three kinds of compressed files.
    """

    def __init__(self, prog: str, **options: Any) -> None:
        super().__init__(prog, **{"width": _columns() - 2, **options})

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        paragraphs = text.strip("\n").split("\n\n")
        return "\n\n".join(_fitted(paragraph, width, indent) for paragraph in paragraphs) + "\n"

    def _format_action_invocation(self, action: argparse.Action) -> str:
        """Name the value after each spelling of an option. Python 3.13 does so only at the end."""
        if not action.option_strings or action.nargs == 0:
            return super()._format_action_invocation(action)
        value = self._format_args(action, self._get_default_metavar_for_optional(action))
        return ", ".join(f"{option} {value}" for option in action.option_strings)

    def _format_usage(
        self,
        usage: str | None,
        actions: Iterable[argparse.Action],
        groups: Iterable[argparse._MutuallyExclusiveGroup],
        prefix: str | None,
    ) -> str:
        shown = super()._format_usage(usage, actions, groups, prefix)
        if usage is None:  # argparse has fitted it
            return shown
        lines = shown.strip("\n").split("\n")
        return "\n".join(_broken(line, self._width, _USAGE_PART, "  ") for line in lines) + "\n\n"


_USAGE_PART: Final = re.compile(r" (?=[\[A-Z-])(?![^\[]*\])")
"""A space of a usage at which a line may end: not inside of brackets."""

_COMMAND_PART: Final = re.compile(r" (?=--|[|>])")
"""A space of an example at which a line may end: before an option, another command or a file."""


def _fitted(paragraph: str, width: int, indent: str) -> str:
    """Return a paragraph with lines of at most `width` columns, as far as it has spaces."""
    import textwrap  # only for help

    lines = paragraph.split("\n")
    if any(line.startswith(" ") for line in lines):
        return "\n".join(
            _broken(f"{indent}{line}", width, _COMMAND_PART, "    ", " \\")
            if line.startswith(" ")
            else f"{indent}{line}"
            for line in lines
        )
    return textwrap.fill(
        " ".join(lines),
        width,
        initial_indent=indent,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _broken(line: str, width: int, part: re.Pattern[str], indent: str, end: str = "") -> str:
    """Break a line that is longer than `width` where `part` allows it. Indent the rest further."""
    indent = " " * (len(line) - len(line.lstrip())) + indent
    done: list[str] = []
    while len(line) > width:
        places = [found.start() for found in part.finditer(line, len(indent) + 1)]
        fitting = [place for place in places if place + len(end) <= width]
        if not places:
            break
        place = fitting[-1] if fitting else places[0]
        done.append(line[:place] + end)
        line = indent + line[place + 1 :]
    return "\n".join([*done, line])


def _columns() -> int:
    """Return the width of the terminal, like `shutil.get_terminal_size`."""
    try:
        columns = int(os.environ["COLUMNS"])
    except (KeyError, ValueError):
        columns = 0
    if columns > 0:
        return columns
    if sys.__stdout__ is None:
        return 80
    try:
        return os.get_terminal_size(sys.__stdout__.fileno()).columns or 80
    except (ValueError, OSError):  # it is closed or not a terminal
        return 80
