"""`fastlib compat` on the command line, and the ways to name a version."""

import json
import shutil
import subprocess
import sys

import pytest

from fastlib.extras import install_command
from fastlib.schema import VersionError, compat, find_version
from tests.support.modules import missing_package
from tests.support.schema.commands import fastlib
from tests.support.schema.readers import SCHEMAS


@pytest.fixture
def changed(tmp_path):
    """A folder beside today's schemas in which `force` of `stop vm` is required."""
    folder = tmp_path / "changed"
    shutil.copytree(SCHEMAS, folder, ignore=shutil.ignore_patterns("released", "examples"))
    for direction in ("emit", "load"):
        path = folder / direction / "stop-vm.task.json"
        schema = json.loads(path.read_text())
        schema["$defs"]["Stop"]["required"] = ["force"]
        path.write_text(json.dumps(schema))
    return folder


def test_compatible_versions_have_status_0(tmp_path):
    done = fastlib("compat", SCHEMAS, SCHEMAS, "--strict", cwd=tmp_path)
    lines = done.stdout.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("backward: ")
    assert lines[0].endswith(" compatible")


def test_breaking_changes_are_reported_with_a_message(changed, tmp_path):
    done = fastlib("compat", SCHEMAS, "changed", cwd=tmp_path, status=1)
    assert done.stdout == (
        f"backward: changed reads the messages of {SCHEMAS}: 38 compatible, 1 incompatible\n"
        f"  stop-vm.task: breaks: scheduler on {SCHEMAS} -> migfra on changed\n"
        '    list[0]: "force" is a required property\n'
        "    | ---\n"
        "    | task: stop vm\n"
        "    | list:\n"
        "    |   - vm-name: vm1\n"
        "    | ---\n"
        f"forward: {SCHEMAS} reads the messages of changed: 39 compatible\n"
    )
    fastlib("compat", SCHEMAS, "changed", "--level", "forward", cwd=tmp_path)


def test_json_has_all_facts(changed, tmp_path):
    done = fastlib("compat", SCHEMAS, "changed", "--format", "json", cwd=tmp_path, status=1)
    (report,) = json.loads(done.stdout)
    assert report["compatible"] is False
    assert report["forward"]
    (said,) = [one for one in report["backward"] if one["status"] != "compatible"]
    assert said["message"] == "stop-vm.task"
    assert said["sides"] == [["scheduler", "migfra"]]
    assert said["counterexample"].startswith("---\ntask: stop vm\n")


def test_folder_of_released_versions_is_compared(changed, tmp_path):
    released = tmp_path / "released"
    for name in ("0.1", "0.2"):
        shutil.copytree(changed, released / name)
    done = fastlib(
        "compat", "--transitive", "released", SCHEMAS, "--level", "backward", cwd=tmp_path
    )
    assert [line.split(":")[1] for line in done.stdout.splitlines()] == [
        f" {SCHEMAS} reads the messages of 0.1", f" {SCHEMAS} reads the messages of 0.2",
    ]  # fmt: skip


def git(*arguments, cwd):
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    subprocess.run(["git", *identity, *arguments], cwd=cwd, check=True, capture_output=True)


def test_git_revisions_are_compared(changed, tmp_path):
    git("init", "-q", cwd=tmp_path)
    shutil.copytree(changed, tmp_path / "schemas")
    git("add", "schemas", cwd=tmp_path)
    git("commit", "-q", "-m", "one", cwd=tmp_path)
    git("tag", "v1", cwd=tmp_path)
    done = fastlib("compat", "git:v1", SCHEMAS, "--level", "backward", cwd=tmp_path)
    assert "the messages of git:v1:" in done.stdout
    done = fastlib("compat", SCHEMAS, "v1", "--level", "backward", cwd=tmp_path, status=1)
    assert "migfra on v1" in done.stdout


@pytest.mark.parametrize(
    ("link", "target", "words"),
    [
        ("schemas/emit/x.json", "/etc/passwd", "remove the link from schemas/"),
        ("schemas/emit/x.json", "../../../x", "remove the link from schemas/"),
        ("schemas", "/etc", "remove the link from schemas/"),
        ("schemas", "other", "schemas is not a folder in this revision"),
    ],
)
def test_links_of_a_git_revision_are_refused(link, target, words, tmp_path):
    git("init", "-q", cwd=tmp_path)
    path = tmp_path / link
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(target)
    git("add", "schemas", cwd=tmp_path)
    git("commit", "-q", "-m", "one", cwd=tmp_path)
    done = fastlib("compat", "git:HEAD", SCHEMAS, cwd=tmp_path, status=2)
    assert done.stderr.startswith("fastlib compat: error: git:HEAD: ")
    assert words in done.stderr


@pytest.mark.load
def test_installed_types_can_be_compared(tmp_path):
    for name in ("installed", f"python:{sys.executable}"):
        done = fastlib("compat", name, SCHEMAS, "--level", "backward", cwd=tmp_path)
        assert f"the messages of {name}:" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere", "."], "there is no version 'nowhere': give a folder of schemas, git:REV"),
        ([".", "."], "index.json: No such file or directory; 'fastlib schema --write DIR' makes"),
        (["git:nowhere", "."], "git:nowhere: "),
        (["git:--output=x", "."], "'--output=x' is not a revision"),
        (["python:/nowhere/python", "."], "/nowhere/python cannot be run: No such file"),
        (["python:/bin/false", "."], "its schemas cannot be written: it ended with status 1"),
        (["one", "two", "three"], "more than one OLD needs --transitive"),
        (["one", "two", "--searches", "0"], "expected a number from 1; got '0'"),
        (["broken", "broken"], "index.json is not JSON"),
        (["odd", "odd"], "index.json: Object missing required field"),
    ],
)
def test_wrong_usage_has_status_2(arguments, words, tmp_path):
    for name, text in (("broken", "{"), ("odd", "{}")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "index.json").write_text(text)
    assert words in fastlib("compat", *arguments, cwd=tmp_path, status=2).stderr


@pytest.mark.parametrize("package", ["jsonschema_rs", "hypothesis"])
def test_error_names_the_missing_extra(package, changed, tmp_path):
    compat._contains.cache_clear()  # what is remembered needs no package
    with missing_package(package):
        done = fastlib("compat", SCHEMAS, "changed", cwd=tmp_path, status=2)
    assert install_command("compat") in done.stderr


def plant(folder):
    """Write modules that a Python which searches the folder would import, and say if it did."""
    witness = folder / "executed"
    code = f"open({str(witness)!r}, 'w').close()\n"
    for name in ("yaml", "msgspec", "json", "sitecustomize", "usercustomize", "fastlib"):
        (folder / f"{name}.py").write_text(code)
    (folder / "evil.py").write_text(code)
    metadata = folder / "evil-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: evil\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[fastlib.messages]\nevil = evil\n")
    return witness


def test_compat_executes_no_code_of_the_current_directory(tmp_path, monkeypatch):
    witness = plant(tmp_path)
    monkeypatch.setenv("PYTHONPATH", ".")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "workplace").mkdir()
    folder = find_version("installed", "workplace")
    assert "start-vm.task" in folder.messages
    assert not witness.exists()


def test_path_of_an_interpreter_is_relative_to_the_current_directory(tmp_path, monkeypatch):
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/python").write_text('#!/bin/sh\necho "$0 $1 $PWD" >&2\nexit 1\n')
    (tmp_path / "bin/python").chmod(0o755)
    monkeypatch.chdir(tmp_path)
    workplace = tmp_path / "workplace"
    workplace.mkdir()
    with pytest.raises(VersionError) as caught:
        find_version("python:bin/python", workplace)
    assert f"{tmp_path}/bin/python -I {workplace}/version-" in str(caught.value)


def test_interpreter_without_fastlib_is_reported_with_the_skipped_folders(tmp_path):
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho 'python: No module named fastlib' >&2\nexit 1\n")
    python.chmod(0o755)
    with pytest.raises(VersionError, match="PYTHONPATH and the user's own packages are not sea"):
        find_version(f"python:{python}", tmp_path)


def test_directory_that_looks_like_a_bare_repository_is_refused(tmp_path):
    git("init", "-q", "--bare", "inner", cwd=tmp_path)
    git("init", "-q", cwd=tmp_path)
    done = fastlib("compat", "git:HEAD", "git:HEAD", cwd=tmp_path / "inner", status=2)
    assert "bare repository" in done.stderr
