"""`fastlib files`: copy the unit, the access list, a configuration and the schemas."""

import argparse

from fastlib.cli.errors import print_error
from fastlib.display.text import printable
from fastlib.files import KINDS, FilesError, copy_files

_EPILOG = """\
examples:
  fastlib files fastlib-files
  fastlib files fastlib-files --force

The files are:

{kinds}

Each file that is written is printed. A file that is there with the same content is left as it is.

The exit status is 0 if all files are there, 2 if one cannot be written, or if there is a file with
another content. Nothing is written then.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = _EPILOG.format(
        kinds="\n".join(f"  {name:{max(map(len, KINDS))}}  {text}" for name, text in KINDS.items())
    )
    parser.add_argument(
        "folder", metavar="DIR", help="destination folder; it is created if it is missing"
    )
    parser.add_argument("--force", action="store_true", help="overwrite files with another content")
    parser.set_defaults(parser=parser)


def run(options: argparse.Namespace) -> int:
    try:
        written = copy_files(options.folder, force=options.force)
    except FilesError as error:
        print_error(options, str(error))
        return 2
    for path in written:
        print(printable(str(path)))
    if not written:
        print(f"{printable(options.folder)} has all files already")
    return 0
