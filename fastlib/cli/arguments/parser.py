"""The parser of command lines."""

import argparse
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NoReturn

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
        found, rest = super().parse_known_args(words, namespace)
        if rest:
            word = rest[0].partition("=")[0]
            if word.startswith("-") and word != "-":
                self._check_option(word)
            self.error(f"unexpected argument {rest[0]!r}; '{self.prog} --help' shows the usage")
        return found, rest

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


class HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Prints descriptions as they are.

    It reads the width of the terminal itself. argparse makes a formatter for each argument, and
    would import `shutil` for the width, with the libraries for three kinds of compressed files.
    """

    def __init__(self, prog: str, **options: Any) -> None:
        super().__init__(prog, **{"width": _columns() - 2, **options})


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
