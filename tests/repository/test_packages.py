"""Wheel and sdist: their contents, their metadata, and their installation in fresh environments."""

import os
import re
import subprocess
import sys
import tarfile
import zipfile
from email.parser import BytesParser
from html.parser import HTMLParser
from pathlib import Path

import pytest
import readme_renderer.markdown

from build_backend.long_description import without_relative_links
from build_backend.project_urls import PEERS, project_urls, web_address
from fastlib import __version__
from tools.sources import source_files

ROOT = Path(__file__).parents[2]
MADE_BY_SETUPTOOLS = re.compile(r"PKG-INFO|setup\.cfg|fastlib_migfra\.egg-info/.*")


# --- the addresses ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("remote", "address"),
    [
        ("https://git.example.org/owner/name.git", "https://git.example.org/owner/name"),
        ("https://me:secret@git.example.org:8443/a/b/", "https://git.example.org:8443/a/b"),
        ("git@git.example.org:owner/name.git", "https://git.example.org/owner/name"),
        ("ssh://git@git.example.org/owner/name", "https://git.example.org/owner/name"),
        ("/srv/git/name.git", None),
        ("file:///srv/git/name.git", None),
        ("http://git.example.org/owner/name", None),
        ("https://git.example.org", None),
        ("https://git.example.org:port/a", None),
        ("https://git.example.org/a\nb", None),
        ("", None),
    ],
)
def test_remote_becomes_a_web_address_without_secrets(remote: str, address: str | None) -> None:
    assert web_address(remote) == address


def test_links_name_the_configured_repository(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FASTLIB_REPOSITORY", "https://git.example.org/a/b.git")
    assert project_urls()["Repository"] == "https://git.example.org/a/b"
    monkeypatch.setenv("FASTLIB_REPOSITORY", "no address")
    with pytest.raises(SystemExit, match="must be an address such as"):
        project_urls()
    monkeypatch.delenv("FASTLIB_REPOSITORY")
    assert project_urls() == PEERS


def test_links_name_the_remote_of_a_clone_and_the_origin_of_an_sdist(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FASTLIB_REPOSITORY", raising=False)
    for command in (["init", "-q"], ["remote", "add", "origin", "git@git.example.org:a/b"]):
        subprocess.run(["git", *command], check=True)
    below = tmp_path / "other sources"
    below.mkdir()
    assert project_urls()["Repository"] == "https://git.example.org/a/b"
    monkeypatch.chdir(below)
    assert "Repository" not in project_urls()
    Path("PKG-INFO").write_text("Name: a\nProject-URL: Repository, https://git.example.org/c/d\n")
    assert project_urls()["Repository"] == "https://git.example.org/c/d"


# --- the description ----------------------------------------------------------------------------


class Targets(HTMLParser):
    """The targets of all links and images of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value or "" for name, value in attrs if name in ("href", "src", "srcset")]


def targets(markdown: str) -> list[str]:
    page = readme_renderer.markdown.render(markdown, variant="GFM")
    assert page is not None
    anchors = "#user-content-"  # of the headings, made by the renderer
    return [target for target in Targets(page).found if not target.startswith(anchors)]


@pytest.mark.parametrize("repository", [None, "https://git.example.org/a/b"])
def test_readme_of_a_package_has_no_relative_links(repository: str | None) -> None:
    source = (ROOT / "README.md").read_text()
    relative = [target for target in targets(source) if not target.startswith("https:")]
    assert relative  # else this test shows nothing
    text = without_relative_links(source, repository, "v1.0")
    found = targets(text)
    assert all(target.startswith("https://") for target in found), found
    if repository:
        files = [target for target in relative if not target.startswith("#")]
        assert len(found) >= len(files)


@pytest.mark.parametrize(
    ("text", "without", "with_repository"),
    [
        ("[a.md](a.md#b)", "a.md", "[a.md](https://h/r/blob/v1/a.md#b)"),
        ("[the page](docs/a.md)", "the page (docs/a.md)", "[the page](https://h/r/blob/v1/docs/a.md)"),
        ("[a](https://h/x)", "[a](https://h/x)", "[a](https://h/x)"),
        ("[here](#below)", "here", "here"),
        ("![plot](p.svg)", "plot", "![plot](https://h/r/raw/v1/p.svg)"),
        (
            "[![plot](p.svg)](a.md)",
            "plot (a.md)",
            "[![plot](https://h/r/raw/v1/p.svg)](https://h/r/blob/v1/a.md)",
        ),
        ("```\n[a](b)\n```\n", "```\n[a](b)\n```\n", "```\n[a](b)\n```\n"),
        ("x[0](y)", "x0 (y)", "x[0](https://h/r/blob/v1/y)"),
    ],
)  # fmt: skip
def test_relative_links_are_replaced(text: str, without: str, with_repository: str) -> None:
    assert without_relative_links(text, None, "v1") == without
    assert without_relative_links(text, "https://h/r", "v1") == with_repository


# --- the packages -------------------------------------------------------------------------------


@pytest.mark.packaging
def test_packages_pass_twine(packages: Path) -> None:
    command = [sys.executable, "-m", "twine", "check", "--strict", *map(str, packages.iterdir())]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("PASSED") == 2


@pytest.mark.packaging
def test_metadata_has_name_links_and_description(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = BytesParser().parsebytes(archive.read(name))
    assert (metadata["Name"], metadata["Version"]) == ("fastlib-migfra", __version__)
    for label, address in PEERS.items():
        assert f"{label}, {address}" in metadata.get_all("Project-URL", [])
    description = metadata.get_payload()
    assert isinstance(description, str)
    assert description.lstrip().startswith("# fastlib")
    assert all(target.startswith("https://") for target in targets(description))


def contents(folder: str = "") -> dict[str, bytes]:
    """Return the files of the repository below a folder, also those behind links to folders."""
    found = {}
    for name in source_files():
        path = ROOT / name
        for file in path.rglob("*") if path.is_dir() else [path]:
            inside = "/".join((name, *file.relative_to(path).parts))
            if inside.startswith(folder) and file.is_file() and "__pycache__" not in inside:
                found[inside] = file.read_bytes()
    return found


@pytest.mark.packaging
def test_sdist_has_all_files_of_the_repository(packages: Path) -> None:
    (sdist,) = packages.glob("*.tar.gz")
    found: dict[str, bytes] = {}
    with tarfile.open(sdist) as archive:
        for member in archive:
            data = archive.extractfile(member)
            if data is not None:
                found[member.name.partition("/")[2]] = data.read()
            if member.name.endswith(("/dev", "/tests/run", "/.ci/run")):
                assert member.mode & 0o111
    found = {name: data for name, data in found.items() if not MADE_BY_SETUPTOOLS.fullmatch(name)}
    expected = contents()
    assert found.keys() == expected.keys()
    assert [name for name in found if found[name] != expected[name]] == []


@pytest.mark.packaging
def test_wheel_has_all_files_of_the_package_and_no_others(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        found = {
            name: archive.read(name) for name in archive.namelist() if ".dist-info/" not in name
        }
    expected = contents("fastlib/") | contents("fastlib_plugins/")
    assert found.keys() == expected.keys()
    assert [name for name in found if found[name] != expected[name]] == []
    for name in (
        "migfra.service",
        "mosquitto.acl",
        "schemas/index.json",
        "schemas/load/quit.task.json",
    ):
        assert f"fastlib/files/data/{name}" in found


ADDRESS = "https://git.example.org/fastlib"
INSTALLED = """
import sys
import fastlib
from fastlib.files import copy_files
print(fastlib.__version__, fastlib.__file__)
print(len(copy_files(sys.argv[1])))
print(type(fastlib.load("task: quit")).__name__)
"""


@pytest.mark.packaging
@pytest.mark.parametrize("pattern", ["*.whl", "*.tar.gz", "git"])
def test_package_works_in_a_fresh_environment(
    pattern: str,
    packages: Path,
    copy_of_repository: Path,
    tmp_path: Path,
    offline_environment: dict[str, str],
    python_with_pip: Path,
) -> None:
    """With the commands of README.md, in which only the places differ."""
    variables = dict(offline_environment)

    def run(*command: object) -> str:
        done = subprocess.run(
            [*map(str, command)],
            cwd=tmp_path,
            env=variables,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    python = tmp_path / "venv" / "bin" / "python"
    run(sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv")
    if pattern == "git":
        repository = tmp_path / "repository"
        run("cp", "-a", copy_of_repository, repository)
        identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
        run("git", "-C", repository, "init", "-q")
        run("git", "-C", repository, "add", "-A")
        run("git", "-C", repository, *identity, "commit", "-qm", "all")
        requirement = f"fastlib-migfra[migfra] @ git+{ADDRESS}"
        variables |= {
            "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": f"url.{repository.as_uri()}.insteadOf",
            "GIT_CONFIG_VALUE_0": ADDRESS,
        }
    else:
        (package,) = packages.glob(pattern)
        requirement = f"{package}[migfra]"
    run(python_with_pip, "-m", "pip", "--python", python, "install", "--quiet", requirement)
    version, files, kind = run(python, "-I", "-c", INSTALLED, tmp_path / "files").splitlines()
    assert version.split()[0] == __version__
    assert str(tmp_path / "venv") in version
    assert int(files) > 80
    assert kind == "TaskContainer"
    for program in ("fastlib", "migfra"):
        shown = run(python.with_name(program), "--version")
        assert shown.split()[1] == __version__
    checked = run(python.with_name("migfra"), "--check", "-c", tmp_path / "files" / "migfra.yaml")
    assert "error" not in checked
    assert os.access(tmp_path / "files" / "migfra-deploy", os.X_OK)
