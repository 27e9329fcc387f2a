"""`fastlib man`: print or write manual pages."""

import argparse
from pathlib import Path
from typing import Final

from fastlib.cli.arguments.parser import ArgumentParser
from fastlib.cli.errors import UNUSABLE, print_error
from fastlib.cli.output.manual_page import commands_of, manual_page, page_name
from fastlib.cli.output.terminal import write_data

_EPILOG: Final = """\
examples:
  fastlib man | man -l -
  fastlib man send | man -l -
  fastlib man migfra | man -l -
  fastlib man --write man

The pages have the texts of the help. --write makes the folders man1 and man8 with all pages in
them: fastlib.1, fastlib-send.1 and so on, and migfra.8. 'man' finds them in the folders of MANPATH,
such as /usr/local/share/man.

The exit status is 0 if all is fine, 2 for wrong usage or a folder that cannot be written.
"""
DAEMON: Final = "migfra"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = _EPILOG
    parser.add_argument(
        "page",
        metavar="COMMAND",
        nargs="?",
        help=f"a command of fastlib, or {DAEMON} (default: fastlib itself)",
    )
    parser.add_argument("--write", metavar="DIR", type=Path, help="write all pages below a folder")
    parser.set_defaults(parser=parser)


def run(options: argparse.Namespace) -> int:
    if options.page is not None and options.write is not None:
        options.parser.error("--write writes all pages, so leave out COMMAND")
    pages = _pages()
    if options.write is not None:
        return _write(options, pages)
    name = "fastlib" if options.page is None else options.page
    if name not in pages:
        parser: ArgumentParser = options.parser
        parser.refuse_choice("COMMAND", name, pages)
    write_data(pages[name][1].encode())
    return 0


def _pages() -> dict[str, tuple[str, str]]:
    """Return the name of the file and the text of each page, by the name of the command."""
    from fastlib.cli import complete_parser
    from fastlib.cli.migfra import make_parser

    program = complete_parser()
    commands = commands_of(program)
    daemon = manual_page(make_parser(), 8, see_also=[("fastlib", 1)])
    found = {
        "fastlib": ("man1/fastlib.1", manual_page(program, 1, see_also=[(DAEMON, 8)])),
        DAEMON: (f"man8/{DAEMON}.8", daemon),
    }
    for name, parser in commands.items():
        page = manual_page(parser, 1, see_also=[("fastlib", 1), (DAEMON, 8)])
        found[name] = (f"man1/{page_name(parser)}.1", page)
    return found


def _write(options: argparse.Namespace, pages: dict[str, tuple[str, str]]) -> int:
    for file, text in pages.values():
        path = options.write / file
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        except OSError as error:
            print_error(options, f"{path}: {error.strerror or error}")
            return UNUSABLE
    return 0
