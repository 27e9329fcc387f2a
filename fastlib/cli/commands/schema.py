"""`fastlib schema`: print JSON Schemas, examples and the AsyncAPI document of the messages."""

import argparse
from collections.abc import Mapping
from typing import Final, get_args

from fastlib.cli.arguments.message_files import load_types
from fastlib.cli.errors import print_error
from fastlib.cli.output.terminal import write_data
from fastlib.codec.errors import DeclarationError
from fastlib.codec.schema_protocol import Direction
from fastlib.display.text import printable
from fastlib.message.describe import UnknownNameError
from fastlib.schema import (
    PURPOSES,
    MessageKind,
    Purpose,
    SchemaFolderError,
    document,
    example_text,
    families,
    family_document,
    find_kind,
    message_kinds,
    part_document,
    section_document,
    to_json,
    write,
)

CONFIGURATION: Final = "configuration"
"""The name of the configuration. It is not a message, but has a schema."""

_EPILOG = """\
examples:
  fastlib schema
  fastlib schema 'start vm' --direction emit
  fastlib schema task --direction edit
  fastlib schema 'migrate vm' --example
  fastlib schema configuration
  fastlib schema --write schemas

MESSAGE is a name that 'fastlib schema' lists, a title such as 'start vm', the name of a type such
as SwapWith, or 'task' and 'result' for any of these containers. Directions: 'load' describes what
fastlib reads, and allows other keys; 'emit' describes what it writes, and allows no other keys;
'edit' is for editors: as 'load', but other keys are errors, because they are probably misspelt.
Only tasks and results have it. 'configuration' is the configuration file of migfra with the options
of each hypervisor, for editors.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = _EPILOG
    parser.add_argument("message", metavar="MESSAGE", nargs="?", help="(default: list them all)")
    parser.add_argument(
        "--direction",
        choices=PURPOSES,
        help="(default: load; with --write, emit and load)",
    )
    parser.add_argument(
        "--write",
        metavar="DIR",
        help="write files into a folder: the schemas of MESSAGE, or all and the AsyncAPI document",
    )
    parser.add_argument(
        "--example", action="store_true", help="print an example of MESSAGE, with comments"
    )
    parser.add_argument(
        "--no-extensions",
        action="store_true",
        help="leave out the messages of other packages",
    )
    parser.set_defaults(parser=parser)


def run(options: argparse.Namespace) -> int:
    if options.example and (options.message is None or options.direction or options.write):
        options.parser.error("--example needs a MESSAGE, and excludes --direction and --write")
    if options.message is None and options.direction:
        options.parser.error("--direction needs a MESSAGE")
    if not options.no_extensions:
        load_types(options)
    try:
        return _run(options)
    except (DeclarationError, SchemaFolderError, UnknownNameError) as error:
        print_error(options, str(error))
        return 2


def _run(options: argparse.Namespace) -> int:
    if options.example:
        write_data(example_text(find_kind(options.message)).encode())
        return 0
    extensions = not options.no_extensions
    chosen: Mapping[str, str] | None = None
    if options.message is not None:
        purpose: Purpose | None = options.direction
        if options.write is None and options.message != CONFIGURATION:
            purpose = purpose or "load"
        chosen = _chosen(options.message, purpose, extensions=extensions)
    if options.write is not None:
        changed = write(options.write, chosen)
        if chosen is None:
            changed += write(options.write, _configuration(None, extensions=extensions))
        for path in changed:
            print(printable(str(path)))
    elif chosen is not None:
        (text,) = chosen.values()
        write_data(text.encode())
    else:
        _print_list()
    return 0


def _chosen(name: str, purpose: Purpose | None, *, extensions: bool) -> Mapping[str, str]:
    """Return the schemas of one message by their paths in a folder. Raises UnknownNameError."""
    purposes: tuple[Purpose, ...] = get_args(Direction) if purpose is None else (purpose,)
    if name == CONFIGURATION:
        return _configuration(purpose, extensions=extensions)
    for family in families():
        if family == name:
            return {f"{p}/{name}.json": to_json(family_document(family, p)) for p in purposes}
    found: MessageKind | None = None
    try:
        found = find_kind(name)
    except UnknownNameError as unknown:
        try:
            return {f"{p}/{name}.json": to_json(part_document(name, p)) for p in purposes}
        except UnknownNameError:
            raise unknown from None
    return {f"{p}/{found.name}.json": to_json(document(found, p)) for p in purposes}


def _configuration(purpose: Purpose | None, *, extensions: bool) -> Mapping[str, str]:
    """Return the schema of migfra's configuration by its path. Raises UnknownNameError."""
    from fastlib.migfra import Configuration

    if purpose not in (None, "edit"):
        raise UnknownNameError(
            f"the configuration has only a schema for editors; leave out '--direction {purpose}'",
            CONFIGURATION,
        )
    schema = section_document(Configuration, CONFIGURATION, extensions=extensions)
    return {f"edit/{CONFIGURATION}.json": to_json(schema)}


def _print_list() -> None:
    known = message_kinds()
    names = max(len(kind.name) for kind in known)
    titles = max(len(kind.title or "") for kind in known)
    for kind in known:
        line = f"{kind.name:{names}}  {kind.title or '':{titles}}  {kind.summary}"
        print(printable(line.rstrip()))
    print(f"{CONFIGURATION:{names}}  {'':{titles}}  The configuration file of migfra, for editors.")
