"""The reference has the texts of the declarations."""

import importlib
import re
import sys
from pathlib import Path
from subprocess import run

import pytest

from tools import pages

ROOT = Path(__file__).parents[2]
API = ROOT / "docs/reference/api"


def test_derived_parts_are_up_to_date() -> None:
    """Renew them with: ./dev docs --write

    A separate process checks this, because other tests of this process have declared messages.
    """
    done = run([sys.executable, "-m", "tools.pages"], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_each_derived_part_is_on_one_page() -> None:
    texts = (path.read_text("utf-8") for path in pages.REFERENCE.rglob("*.md"))
    assert sorted(name for text in texts for name in pages.parts_of(text)) == sorted(pages.PARTS)


def test_outdated_part_is_found() -> None:
    text = (pages.REFERENCE / "configuration.md").read_text("utf-8")
    assert pages.renewed(text.replace("`keepalive`", "`keep-alive`")) == text


@pytest.mark.parametrize(
    ("page", "module"),
    [
        ("client", "fastlib.client"),
        ("transport", "fastlib.transport"),
        ("hypervisors", "fastlib.migfra"),
        ("testing", "fastlib.testing"),
    ],
)
def test_page_of_package_has_every_export(page: str, module: str) -> None:
    shown = re.findall(r"^::: (\S+)$", (API / f"{page}.md").read_text("utf-8"), re.MULTILINE)
    exports = {f"{module}.{name}" for name in importlib.import_module(module).__all__}
    assert exports - set(shown) == set()
    assert len(shown) == len(set(shown))
