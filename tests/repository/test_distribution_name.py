"""The distribution is fastlib-migfra: the package index has a fastlib of other authors."""

import os
import re
import subprocess
import sys
from importlib.metadata import distribution
from pathlib import Path

import pytest

from tools.sources import source_files

ROOT = Path(__file__).parents[2]

OLD_NAME = re.compile(
    r"""
    fastlib\\?\[(?=[\w{,])                               # an extra
    | \b(?:pip|pipx|uv|poetry|pdm)3?\ [^\n`]*?(?<!\w)
      (?:install|download|wheel|add|run|--no-emit-package)
      \ (?:-\S+\ )*['"]?fastlib(?![\w./@-]*[\w/-])       # a command that installs it
    | (?:version|distribution|metadata|requires|files|from_name)\(\s*["']fastlib["']
    | ^name\s*=\s*["']fastlib["']                     # pyproject.toml
    | ["']fastlib\s*(?:[=<>~!]=|[<>@])                   # a dependency
    | dependencies\s*=\s*\[[^\]]*["']fastlib["']
    | --no-emit-package["',\ ]+fastlib["'\s]
    | \bfastlib-\d[\w.]*(?:\.tar|\.whl|-py3|/)           # a wheel or an sdist
    | /(?:project|simple|pypi)/fastlib\b(?!-)           # a page of an index
    """,
    re.VERBOSE | re.MULTILINE,
)


def found(text: str) -> list[str]:
    return [match[0] for match in OLD_NAME.finditer(text)]


@pytest.mark.parametrize(
    "text",
    [
        "pip install 'fast" + "lib[migfra]'",
        'match=r"fast' + r'lib\[mqtt\]"',
        "pip install --quiet fast" + "lib",
        "python -m pip install -U fast" + "lib==0.1",
        "pipx run fast" + "lib demo",
        'importlib.metadata.version("fast' + 'lib")',
        'name = "fast' + 'lib"',
        'dependencies = ["msgspec", "fast' + 'lib"]',
        'dependencies = ["fast' + 'lib>=0.1"]',
        'requires = ["fast' + 'lib @ git+https://git.example.org/f.git"]',
        "uv pip compile --no-emit-package fast" + "lib ",
        "fast" + "lib-0.2.0-py3-none-any.whl",
        "fast" + "lib-0.2.0.tar.gz",
        "https://index.example/project/fast" + "lib",
    ],
)
def test_search_finds_the_old_name(text: str) -> None:
    assert found(text)


@pytest.mark.parametrize(
    "text",
    [
        "pip install 'fastlib-migfra[migfra]'",
        'version("fastlib-migfra")',
        'name = "fastlib-migfra"',
        "fastlib_migfra-0.2.0-py3-none-any.whl",
        "pip install ./fastlib/",
        "uv run fastlib-migfra",
        "pip uninstall fastlib",
        "fastlib demo",
        'program = "fastlib"',
        "pip install . && fastlib demo",
        "https://index.example/project/fastlib-migfra",
    ],
)
def test_search_accepts_the_new_name(text: str) -> None:
    assert not found(text)


def test_files_do_not_use_the_old_name_of_the_distribution() -> None:
    wrong = []
    for name in source_files():
        path = ROOT / name
        if path.is_symlink() or path.suffix in (".png", ".gz"):
            continue
        text = path.read_text("utf-8", "replace")
        wrong += [f"{name}: {match}" for match in found(text)]
    assert not wrong, "\n".join(wrong)


_LOAD_EVERYTHING = """
import fastlib
import pytest
from fastlib.message.entry_points import load_entry_points
from fastlib.migfra.plugin_api.discovery import BUILT_IN, load, names
import hypothesis
from importlib.metadata import entry_points

class Plugins:
    def pytest_sessionstart(self, session):
        found = session.config.pluginmanager.list_name_plugin()
        print([name for name, _ in found].count("fastlib"), "plug-in of pytest")

hooks = [point.dist.name for point in entry_points(group="hypothesis") if point.name == "fastlib"]
print(sorted(hooks))
print(load_entry_points(), set(names()) >= set(BUILT_IN), load("dummy").name)
pytest.main(["-q", "--collect-only", "--no-header", "--rootdir", ".", "."], [Plugins()])
"""


def test_old_metadata_in_a_checkout_has_no_effect(tmp_path: Path) -> None:
    """A checkout from before the new name has `fastlib.egg-info` with the same entry points."""
    old = tmp_path / "fastlib.egg-info"
    old.mkdir()
    (old / "PKG-INFO").write_text("Metadata-Version: 2.1\nName: fast" + "lib\nVersion: 0.1.0\n")
    (points,) = (
        text
        for each in distribution("fastlib-migfra").files or ()
        if each.name == "entry_points.txt" and (text := each.read_text())
    )
    (old / "entry_points.txt").write_text(points)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", _LOAD_EVERYTHING],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    hooks, loaded, plugins, *_ = done.stdout.splitlines()
    assert hooks == "['fastlib', 'fastlib-migfra']", "the test has doubled the entry points"
    assert (loaded, plugins) == ("[] True dummy", "1 plug-in of pytest")
