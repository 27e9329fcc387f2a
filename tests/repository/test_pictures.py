"""The pictures of the documents are drawn from their sources, and load nothing."""

import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from tools import pictures

ROOT = Path(__file__).parents[2]
SVGS = sorted(pictures.FOLDER.glob("*.svg"))
KNOWN = pictures.pictures()


@pytest.mark.parametrize("name", KNOWN)
def test_picture_is_drawn_from_its_source(name: str) -> None:
    """Draw it again with: ./dev pictures NAME"""
    text = (pictures.FOLDER / f"{name}.svg").read_text("utf-8")
    assert pictures.digest_of(text) == pictures.digest(KNOWN[name].source())


def test_every_drawing_has_a_source() -> None:
    assert {path.stem for path in SVGS} == set(KNOWN)


@pytest.mark.parametrize("path", SVGS, ids=lambda path: path.stem)
def test_drawing_is_sound_and_loads_nothing(path: Path) -> None:
    text = path.read_text("utf-8")
    root = ElementTree.fromstring(text)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    for element in root.iter():
        for name, value in element.attrib.items():
            assert not (name.endswith("href") and not value.startswith("#")), value
        assert not element.tag.endswith("script")
    assert not re.search(r"url\((?!#)|@import|@font-face", text)
    assert path.stat().st_size < 100_000


def test_every_picture_is_shown_with_a_description() -> None:
    documents = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    shown = {
        (Path(link).name, words.strip() != "")
        for path in documents
        for words, link in re.findall(r"!\[([^]]*)\]\(([^)\s]+)\)", path.read_text("utf-8"))
    }
    assert {path.name for path in SVGS} <= {name for name, _ in shown}
    assert all(described for _, described in shown)


def test_diagram_of_packages_has_every_package() -> None:
    text = (pictures.FOLDER / "packages.dot").read_text("utf-8")
    drawn = set(re.findall(r'^ +(\w+) \[label="\1\\n', text, re.MULTILINE))
    packages = {path.parent.name for path in (ROOT / "fastlib").glob("*/__init__.py")}
    assert drawn == packages


def test_plot_has_the_figures_of_the_table() -> None:
    plot = pictures.plots.PLOTS["speed-of-loading"]
    assert plot.values()["quit"] == [float(row.rstrip("x")) for row in plot.table()[0][3:6]]


def test_plot_of_a_missing_table_is_an_error() -> None:
    plot = pictures.plots.PLOTS["speed-of-loading"]._replace(head="no | such")
    with pytest.raises(ValueError, match="has no table that begins with: no"):
        plot.values()
