"""The parts of the documents that are derived from declarations.

`./dev docs --write` writes them into the pages of docs/reference/, between a line that names the
part and `<!-- end -->`. `./dev check` and a test compare them.
"""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from fastlib.migfra import Configuration
from fastlib.schema import section_document, to_json

from . import commands, configuration, messages, migration_options

REFERENCE: Final = Path(__file__).parents[2] / "docs" / "reference"
SCHEMA: Final = REFERENCE.parents[1] / "schemas" / "edit" / "configuration.json"
PARTS: Final[dict[str, Callable[[], str]]] = {
    "messages": messages.text,
    "configuration": configuration.sections,
    "hypervisors": configuration.hypervisors,
    "commands": commands.text,
    "migration options": migration_options.tables,
}
"""What each part is made by. A page has one or several of them."""
_PART: Final = re.compile(
    r"^<!-- written by \./dev docs --write: (.+?) -->\n(.*?)^<!-- end -->\n",
    re.MULTILINE | re.DOTALL,
)


def renewed(text: str) -> str:
    """Return the text of a page with its derived parts as they must be."""

    def renew(match: re.Match[str]) -> str:
        part = PARTS[match[1]]().strip()
        return f"<!-- written by ./dev docs --write: {match[1]} -->\n\n{part}\n\n<!-- end -->\n"

    return _PART.sub(renew, text)


def parts_of(text: str) -> list[str]:
    """Return the names of the derived parts of a page."""
    return [match[1] for match in _PART.finditer(text)]


def outdated() -> Iterator[tuple[Path, str]]:
    """Yield the pages that are not as they must be, each with the text that it must have.

    The schema of the configuration is among them, as it has the same words.
    """
    for path in sorted(REFERENCE.rglob("*.md")):
        old = path.read_text("utf-8")
        new = renewed(old)
        if new != old:
            yield path, new
    text = to_json(section_document(Configuration, "configuration", extensions=False))
    if SCHEMA.read_text("utf-8") != text:
        yield SCHEMA, text
