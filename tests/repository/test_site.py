"""The site of the documents is built strictly, and loads nothing from other hosts."""

import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

import fastlib.client

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.load
LOADED = {
    "script": ("src",),
    "img": ("src", "srcset"),
    "source": ("src", "srcset"),
    "iframe": ("src",),
    "object": ("data",),
    "video": ("src", "poster"),
    "form": ("action",),
}
"""Attributes whose address a browser opens on its own, or sends something to."""


class References(HTMLParser):
    """Collects the addresses that a page makes a browser load, and those of its links."""

    def __init__(self) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.has_diagram = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        names = LOADED.get(tag, ())
        if tag == "link" and values.get("rel") not in ("canonical", "prev", "next"):
            names = ("href",)
        self.loaded += [values[name] or "" for name in names if name in values]
        self.has_diagram |= "mermaid" in (values.get("class") or "").split()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site. A broken link or a page outside of the navigation fails the build."""
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [ROOT / "dev", "docs", "--into", folder],
        env=os.environ | {"VIRTUAL_ENV": sys.prefix},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "WARNING" not in done.stderr, done.stderr
    return folder


def references(path: Path) -> References:
    found = References()
    found.feed(path.read_text("utf-8"))
    return found


def test_pages_load_nothing_from_other_hosts(site: Path) -> None:
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 20
    foreign = [
        (page.name, address)
        for page in pages
        for address in references(page).loaded
        if re.match(r"(\w+:)?//", address)
    ]
    assert foreign == []


def test_styles_load_nothing_from_other_hosts(site: Path) -> None:
    styles = sorted(site.rglob("*.css"))
    assert styles
    for path in styles:
        text = path.read_text("utf-8")
        assert not re.search(r"""(url\(|@import)\s*["']?\s*(https?:)?//""", text), path.name


def test_pages_have_no_diagrams_drawn_by_scripts(site: Path) -> None:
    """The theme would load the program for it from another host."""
    assert not [page.name for page in site.rglob("*.html") if references(page).has_diagram]


def test_every_document_is_a_page(site: Path) -> None:
    for path in (ROOT / "docs").rglob("*.md"):
        assert (site / path.relative_to(ROOT / "docs").with_suffix(".html")).is_file(), path
    for name in ("contributing", "changelog", "security"):
        assert (site / "project" / f"{name}.html").is_file()


def test_docstrings_are_on_the_pages_of_python(site: Path) -> None:
    text = (site / "reference/api/client.html").read_text("utf-8")
    assert 'id="fastlib.client.MigfraClient.migrate"' in text
    assert fastlib.client.Handle.__doc__.split(".")[0].split("`")[0] in text


def test_search_index_has_the_reference(site: Path) -> None:
    index = json.loads((site / "search/search_index.json").read_text("utf-8"))
    places = {each["location"] for each in index["docs"]}
    assert {"reference/configuration.html#communicator", "reference/messages.html#start"} <= places
