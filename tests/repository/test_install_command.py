"""The command that a missing extra is answered with works for the installation that prints it."""

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from fastlib.extras import install_command

FOLDER = "a checkout"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    folder = tmp_path / FOLDER
    folder.mkdir()
    (folder / "pyproject.toml").touch()
    return folder


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Return a function that puts an installation with such a direct_url.json on the path."""

    def install(origin: object) -> None:
        info = tmp_path / "site" / "fastlib_migfra-9.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: fastlib-migfra\nVersion: 9\n")
        if origin is not None:
            (info / "direct_url.json").write_text(json.dumps(origin))
        monkeypatch.syspath_prepend(info.parent)

    return install


def requirement(extra: str) -> list[str]:
    """Return the words after "install" of the command."""
    words = shlex.split(install_command(extra))
    words = words[words.index("install") + 1 :]
    return words[2:] if words[0] == "--python" else words


def test_editable_checkout_is_named_by_its_folder(checkout: Path, installed) -> None:
    installed({"url": checkout.as_uri(), "dir_info": {"editable": True}})
    assert requirement("mqtt") == ["--editable", f"{checkout}[mqtt]"]


def test_copied_checkout_is_named_by_its_folder(checkout: Path, installed) -> None:
    installed({"url": checkout.as_uri(), "dir_info": {}})
    assert requirement("mqtt") == [f"{checkout}[mqtt]"]


@pytest.mark.parametrize(
    "origin",
    [
        None,
        {"url": "file:///no/such/folder", "dir_info": {}},
        {"url": "file:///x/fastlib_migfra-9-py3-none-any.whl", "archive_info": {}},
        {"url": "https://git.example.org/f.git", "vcs_info": {"vcs": "git", "commit_id": "1"}},
    ],
    ids=["index", "folder that is gone", "wheel", "git"],
)
def test_other_installations_are_named_by_the_distribution(origin: object, installed) -> None:
    installed(origin)
    assert requirement("mqtt") == ["fastlib-migfra[mqtt]"]


def program(folder: Path, name: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)


@pytest.mark.parametrize(
    ("programs", "command"),
    [
        (["own pip"], "pip install"),
        (["pip", "uv"], "uv pip install --python {python}"),
        (["pip"], "pip --python {python} install"),
    ],
)
def test_command_installs_into_this_environment(
    programs: list[str], command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment, others = tmp_path / "env" / "bin", tmp_path / "bin"
    for name in programs:
        program(environment if name == "own pip" else others, name.removeprefix("own "))
    monkeypatch.setenv("PATH", f"{environment}:{others}")
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "env"))
    monkeypatch.setattr("importlib.machinery.PathFinder.find_spec", lambda name: None)
    expected = command.format(python=shlex.quote(sys.executable))
    assert install_command("mqtt").startswith(expected + " ")


PROBE = """
from fastlib.extras import needs_extra
with needs_extra("MQTT", "paho"):
    import paho.mqtt
"""


@pytest.mark.packaging
@pytest.mark.parametrize("options", [["."], ["--editable", "."], ["fastlib-migfra"]])
def test_printed_command_installs_the_extra(
    options: list[str],
    tmp_path: Path,
    copy_of_repository: Path,
    offline_environment: dict[str, str],
    python_with_pip: Path,
) -> None:
    python = tmp_path / "venv" / "bin" / "python"
    variables = offline_environment | {
        "PATH": f"{python_with_pip.parent}:/usr/bin:/bin",
        "HOME": os.devnull,
    }

    def run(*command: object) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [*map(str, command)],
            cwd=copy_of_repository,
            env=variables,
            capture_output=True,
            text=True,
        )

    run(sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv").check_returncode()
    pip = ["pip", "--python", python, "install", "--quiet"]
    done = run(*pip, *options)
    assert done.returncode == 0, done.stderr
    missing = run(python, "-I", "-c", PROBE)
    assert missing.returncode == 1
    command = missing.stderr.strip().rpartition("is not installed: ")[2]
    assert shlex.quote(str(python)) in command
    done = run("sh", "-c", command)
    assert done.returncode == 0, done.stderr
    assert run(python, "-I", "-c", PROBE).returncode == 0
