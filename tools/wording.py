"""`python -m tools.wording`: spelling and banned turns of documents and texts; see wording.toml.

`./dev check` runs it. codespell checks the spelling.
"""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, Final, NamedTuple

from .processes import ROOT, require

LIST: Final = ROOT / "tools" / "wording.toml"
DERIVED: Final = ("command-line.md", "messages.md", "configuration.md", "migration-options.md")
"""Pages of the reference that have the words of the declarations; those are checked as texts."""
_CODE: Final = re.compile(
    r"^```.*?^```$|<!--.*?-->|(`+).+?\1|\]\([^)]*\)", re.MULTILINE | re.DOTALL
)


class Turn(NamedTuple):
    """A turn that no text may have."""

    pattern: re.Pattern[str]
    instead: str
    places: frozenset[str]


class Finding(NamedTuple):
    """A banned turn, where it is."""

    path: Path
    line: int
    text: str
    instead: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.text.strip()!r}; instead: {self.instead}"


def read_list() -> dict[str, Any]:
    """Return the list of words."""
    return tomllib.loads(LIST.read_text("utf-8"))


@cache
def turns() -> list[Turn]:
    """Return the banned turns."""
    return [
        Turn(re.compile(turn["pattern"], re.MULTILINE), turn["instead"], frozenset(turn["places"]))
        for turn in read_list()["turn"]
    ]


def prose(text: str) -> str:
    """Return a document without code and the targets of links, with all of its lines."""
    return _CODE.sub(lambda match: "\n" * match[0].count("\n") or "…", text)


def texts(source: str) -> Iterator[tuple[int, str]]:
    """Yield the string constants of a module, each with its line."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, node.value


def findings_in(path: Path, line: int, text: str, place: str) -> Iterator[Finding]:
    """Yield the banned turns of a text that begins at a line."""
    for turn in turns():
        if place in turn.places:
            for match in turn.pattern.finditer(text):
                start = match.start() + len(match[0]) - len(match[0].lstrip())
                yield Finding(path, line + text.count("\n", 0, start), match[0], turn.instead)


def documents() -> list[Path]:
    """Return the documents whose prose is checked."""
    pages = [path for path in (ROOT / "docs").rglob("*.md") if path.name not in DERIVED]
    return [
        *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")),
        *sorted(pages),
    ]


def findings() -> Iterator[Finding]:
    """Yield all banned turns."""
    for path in documents():
        text = prose(path.read_text("utf-8"))
        yield from findings_in(path.relative_to(ROOT), 1, text, "prose")
    for path in sorted((ROOT / "fastlib").rglob("*.py")):
        for line, text in texts(path.read_text("utf-8")):
            yield from findings_in(path.relative_to(ROOT), line, text, "texts")


def misspellings() -> str:
    """Return what codespell reports; nothing if all words are known."""
    spelling = read_list()["spelling"]
    command = [
        *(
            sys.executable,
            "-m",
            "codespell_lib",
            "--ignore-words-list",
            ",".join(spelling["ignore"]),
        ),
        *("--skip", ",".join(spelling["skip"]), *spelling["paths"]),
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout + (done.stderr if done.returncode not in (0, 65) else "")


def main() -> int:
    require("codespell_lib")
    wrong = misspellings()
    found = list(findings())
    print(wrong + "".join(f"{each}\n" for each in found), end="")
    return 1 if wrong or found else 0


if __name__ == "__main__":
    sys.exit(main())
