"""The distribution is fastlib-migfra: the package index has a fastlib of other authors."""

import re
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
