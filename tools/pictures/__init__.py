"""The pictures of the documents: diagrams, plots of benchmarks, and a recording of the demo.

`./dev pictures` draws them into docs/pictures/. They are committed, so a reader needs none of the
programs that draw them. Each has a digest of its source in a comment; a test compares it.
"""

import argparse
import hashlib
import re
from collections.abc import Callable
from functools import partial
from typing import Any, Final, NamedTuple

from tools.processes import ROOT

from . import diagrams, plots, recording

FOLDER: Final = ROOT / "docs" / "pictures"
_SOURCE: Final = re.compile(r"<!-- source: ([0-9a-f]{16}) -->\n")


class Picture(NamedTuple):
    """A picture, and how it is drawn."""

    draw: Callable[[], str]
    """Returns it as SVG."""
    source: Callable[[], str]
    """Returns the text on which it depends; empty if it depends on a program that runs."""


def pictures() -> dict[str, Picture]:
    """Return all pictures by name."""
    found = {
        path.stem: Picture(partial(diagrams.draw, path), path.read_text)
        for path in sorted(FOLDER.glob("*.dot"))
    }
    for name, plot in plots.PLOTS.items():
        found[name] = Picture(partial(plots.draw, plot), plot.source)
    found["demo"] = Picture(recording.draw, str)
    return found


def digest(text: str) -> str:
    """Return the digest of a source."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def digest_of(svg: str) -> str | None:
    """Return the digest of the source from which a picture was drawn."""
    found = _SOURCE.search(svg)
    return found and found[1]


def draw(options: argparse.Namespace) -> int:
    known = pictures()
    for name in options.names or known:
        picture = known[name]
        lines = picture.draw().strip().split("\n")
        declaration = lines.pop(0) if lines[0].startswith("<?xml") else ""
        note = f"<!-- source: {digest(picture.source())} -->"
        path = FOLDER / f"{name}.svg"
        text = "\n".join(line.rstrip() for line in filter(None, (declaration, note, *lines)))
        path.write_text(f"{text}\n", "utf-8")
        print(f"{path.relative_to(ROOT)}: {len(text) // 1024} KiB")
    return 0


def add_commands(commands: Any) -> None:
    parser = commands.add_parser("pictures", help="draw the pictures of the documents")
    parser.add_argument("names", nargs="*", choices=[*pictures(), []], metavar="NAME")
    parser.set_defaults(run=draw)
