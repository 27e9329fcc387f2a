"""`./dev docs`: build the site of the documents, serve it, renew the parts that are derived."""

import argparse
import os
import sys
from pathlib import Path
from typing import Any, Final

from .processes import ROOT, replace_process, require

SITE: Final = ROOT / ".cache" / "site"


def command(*arguments: str) -> list[str]:
    """Return the command line of mkdocs, without the notices of its authors."""
    os.environ["NO_MKDOCS_2_WARNING"] = "1"
    return [sys.executable, "-m", "mkdocs", *arguments]


def docs(options: argparse.Namespace) -> int:
    if options.write:
        return _write()
    require("mkdocs", "material", "mkdocstrings", "mkdocstrings_handlers.python")
    if options.action == "serve":
        address = f"127.0.0.1:{options.port}"
        return replace_process(command("serve", "--strict", "--dev-addr", address))
    folder = Path(options.into).absolute()
    print(f"the site is made in {folder}", flush=True)
    return replace_process(command("build", "--strict", "--quiet", "--site-dir", str(folder)))


def _write() -> int:
    from . import field_docs, pages

    for path, text in (*pages.outdated(), *field_docs.outdated()):
        path.write_text(text, "utf-8")
        print(path.relative_to(ROOT))
    return 0


def add_commands(commands: Any) -> None:
    parser = commands.add_parser("docs", help="build the site of the documents, or serve it")
    parser.add_argument("action", nargs="?", choices=("build", "serve"), default="build")
    parser.add_argument("--into", metavar="DIR", default=SITE, help="(default: .cache/site)")
    parser.add_argument("--port", type=int, default=8000, help="of serve (default: 8000)")
    parser.add_argument(
        "--write", action="store_true", help="renew the derived parts of docs/reference/"
    )
    parser.set_defaults(run=docs)
