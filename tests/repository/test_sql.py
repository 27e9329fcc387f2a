"""SQL for each Python: 3.14 refuses `?1` with a sequence, 3.12 warns, 3.11 permits it."""

import ast
import re
from pathlib import Path

import pytest

import fastlib

PACKAGE = Path(fastlib.__file__).parent
FILES = [path for path in PACKAGE.rglob("*.py") if "import sqlite3" in path.read_text("utf-8")]
NUMBERED = re.compile(r"\?\d")


def numbered(code: str) -> list[str]:
    """Return the texts with a numbered placeholder."""
    nodes = ast.walk(ast.parse(code))
    texts = [node.value for node in nodes if isinstance(node, ast.Constant)]
    return [text for text in texts if isinstance(text, str) and NUMBERED.search(text)]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_statements_have_no_numbered_placeholder(path: Path) -> None:
    assert numbered(path.read_text("utf-8")) == []


def test_numbered_placeholder_is_found() -> None:
    assert FILES
    assert numbered('execute("SELECT a FROM b WHERE c = ?1 AND d = ?", (1, 2))') != []
