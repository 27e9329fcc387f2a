"""Every link between the documents leads to a file, and to a heading that it has.

The headings have the anchors that code hosts give them; those of the site are the same.
"""

import posixpath
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted(
    path.relative_to(ROOT).as_posix()
    for path in (*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *ROOT.glob("schemas/**/*.md"))
)
BLOCK = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"(`+)(?!`).+?\1")
LINK = re.compile(r"!?\[(?:[^][]|\[[^][]*\])*\]\(([^)\s]+)\)")


def text_of(name: str) -> str:
    """The text of a document without its blocks."""
    return BLOCK.sub("", (ROOT / name).read_text("utf-8"))


def anchors(name: str) -> set[str]:
    """The anchors of the headings of a document; a repeated one gets a number."""
    found: list[str] = []
    for heading in re.findall(r"^#+ (.*?)\s*$", text_of(name), re.MULTILINE):
        words = re.sub(r"\[([^][]*)\]\([^)]*\)", r"\1", heading).lower()
        slug = re.sub(r"[^\w\- ]", "", words).replace(" ", "-")
        repeated = found.count(slug)
        found.append(f"{slug}-{repeated}" if repeated else slug)
    return set(found)


def links(name: str) -> Iterator[str]:
    for link in LINK.findall(CODE.sub("", text_of(name))):
        if not re.match(r"\w+:", link):
            yield link


@pytest.mark.parametrize("name", DOCUMENTS)
def test_links_lead_somewhere(name: str) -> None:
    broken = []
    for link in links(name):
        path, sharp, anchor = link.partition("#")
        target = posixpath.normpath(posixpath.join(posixpath.dirname(name), path)) if path else name
        if not (ROOT / target).exists() or (sharp and anchor not in anchors(target)):
            broken.append(link)
    assert broken == []


def test_links_are_found() -> None:
    assert sum(len(list(links(name))) for name in DOCUMENTS) > 100


def test_each_page_is_in_one_of_four_folders() -> None:
    folders = {Path(name).parts[1] for name in DOCUMENTS if name.startswith("docs/")}
    assert folders == {"index.md", "tutorial", "how-to", "reference", "explanation"}


def test_each_page_is_in_the_navigation_of_the_site() -> None:
    """Add a new page to mkdocs.yml."""
    navigation = re.findall(
        r"^ +- (?:\w+: )?(\S+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE
    )
    pages = {name.removeprefix("docs/") for name in DOCUMENTS if name.startswith("docs/")}
    assert pages - set(navigation) == set()


def test_files_in_documents_are_tracked() -> None:
    """A link to a file that git ignores works only here."""
    ignored = subprocess.run(
        ["git", "check-ignore", *DOCUMENTS], cwd=ROOT, capture_output=True, text=True
    )
    assert ignored.stdout == ""
