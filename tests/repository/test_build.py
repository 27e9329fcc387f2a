"""The build backend: when it compiles the fast reader, and its errors if it cannot."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from build_backend import fastlib_build
from fastlib.codec import compiled
from tools import compiled_build, tiers

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("setting", "variable", "word"),
    [
        (None, None, "no"),
        (None, "", "no"),
        (None, "1", "yes"),
        (None, "0", "no"),
        (None, "auto", "auto"),
        ("yes", "no", "yes"),
        ("no", "yes", "no"),
    ],
)
def test_setting_goes_before_variable(setting, variable, word, monkeypatch):
    monkeypatch.delenv("FASTLIB_COMPILE", raising=False)
    if variable is not None:
        monkeypatch.setenv("FASTLIB_COMPILE", variable)
    assert fastlib_build.choice(setting and {"compile": setting}) == word


def test_unknown_choice_is_refused(monkeypatch):
    monkeypatch.setenv("FASTLIB_COMPILE", "maybe")
    with pytest.raises(SystemExit, match="must be yes, no or auto, not 'maybe'"):
        fastlib_build.choice({})


def test_missing_compiler_or_headers_are_named(monkeypatch, tmp_path):
    monkeypatch.setenv("CC", "no-such-compiler -pthread")
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(tmp_path))
    assert fastlib_build.obstacle() == (
        f"the headers of Python are missing: {tmp_path}/Python.h. Install python3-dev"
    )
    (tmp_path / "Python.h").touch()
    assert fastlib_build.obstacle() == ("the C compiler no-such-compiler is missing. Install gcc")
    monkeypatch.setenv("CC", f"{sys.executable} -pthread")
    assert fastlib_build.obstacle() is None


@pytest.mark.parametrize(
    ("word", "possible", "needed"),
    [("no", True, False), ("auto", True, True), ("auto", False, False), ("yes", False, True)],
)
def test_mypy_is_required_only_to_compile(word, possible, needed, monkeypatch):
    monkeypatch.setattr(fastlib_build, "obstacle", lambda: None if possible else "no compiler")
    assert fastlib_build.requirements({"compile": word}) == (["mypy>=1.15"] if needed else [])


def build(word, source, wheels, **environment):
    """Build a wheel of a copy of the repository as a frontend does, and return how that ended."""
    arguments = (str(wheels), {"compile": word})
    return subprocess.run(
        [sys.executable, "-c", f"import fastlib_build; fastlib_build.build_wheel(*{arguments})"],
        cwd=source,
        env=os.environ | {"PYTHONPATH": str(source / "build_backend"), **environment},
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize(
    ("arguments", "paths"),
    [
        (["-q", "-n", "0"], ["tests/codec", "tests/message"]),
        (["-x", "tests/codec/test_errors.py::test_a"], ["tests/codec/test_errors.py::test_a"]),
    ],
)
def test_compiled_package_is_tested_with_codec_and_messages_by_default(arguments, paths, tmp_path):
    command = tiers.compiled_command(tmp_path, *arguments, parallel=2)
    assert [word for word in command if word.startswith("tests")] == paths
    assert f"pythonpath={tmp_path} {ROOT}" in command
    assert set(arguments) <= set(command)


@pytest.mark.packaging
def test_build_without_compiler_is_pure_unless_compiling_is_demanded(copy_of_repository, tmp_path):
    demanded = build("yes", copy_of_repository, tmp_path, CC="no-such-compiler")
    assert demanded.returncode == 1
    expected = "the C compiler no-such-compiler is missing. Install gcc"
    assert demanded.stderr == f"fastlib: the fast reader cannot be compiled: {expected}\n"
    assert not list(tmp_path.iterdir())
    # A compiler that fails after mypyc is done, half-way through the extensions.
    allowed = build("auto", copy_of_repository, tmp_path, CC="false")
    assert allowed.returncode == 0, allowed.stderr
    assert "fastlib: the fast reader is not compiled: " in allowed.stderr
    (wheel,) = tmp_path.iterdir()
    assert wheel.name.endswith("-py3-none-any.whl")
    assert not [name for name in zipfile.ZipFile(wheel).namelist() if name.endswith(".so")]
    assert not (copy_of_repository / "build").exists()


@pytest.mark.packaging
def test_compiled_build_has_all_modules_and_passes_tests_of_readers():
    folder = compiled_build.compiled_package()
    names = {path.name.partition(".")[0] for path in folder.rglob("*.so")}
    library = compiled.library_name(str(ROOT / "fastlib/codec"))
    assert names == {"fast_reader", "fast_values", f"{library}__mypyc"}
    for name in fastlib_build.COMPILED:
        assert (folder / name).is_file()  # the pure module beside the compiled one
    tests = [f"tests/codec/test_{name}.py" for name in ("compiled_build", "readers_agree")]
    command = tiers.compiled_command(folder, "-q", "-n", "0", *tests, parallel=1)
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=os.environ | compiled_build.environment(folder),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr
    command = ["benchmarks", "codec", "--quick", "--only", "quit", "--json"]
    outcome = json.loads(subprocess.check_output([sys.executable, "-m", *command], cwd=ROOT))
    assert (outcome["build"], outcome["wrong"]) == ("compiled", [])
    assert {"fastlib", "fastlib, pure"} <= set(outcome["load"]["messages"]["quit"])
    version = subprocess.run(
        [sys.executable, "-m", "fastlib", "--version"],
        env=os.environ | compiled_build.environment(folder),
        capture_output=True,
        text=True,
        check=True,
    )
    assert version.stdout.endswith(" (compiled)\n")


@pytest.mark.packaging
def test_compiled_modules_of_other_sources_are_not_used(tmp_path):
    package = tmp_path / "package"
    shutil.copytree(compiled_build.compiled_package(), package)
    source = package / "fastlib/codec/fast_values.py"
    source.write_text(f"{source.read_text()}\nNEWER = True\n")

    def run(*arguments):
        return subprocess.run(
            [sys.executable, *arguments],
            env=os.environ | compiled_build.environment(package),
            capture_output=True,
            text=True,
            check=True,
        )

    done = run("-c", "import fastlib; print(type(fastlib.load('task: quit')).__name__)")
    assert done.stdout == "TaskContainer\n"
    assert "compiled modules belong to another version of fastlib; remove them" in done.stderr
    assert str(source.parent / "fast_values.") in done.stderr
    version = run("-m", "fastlib", "--version").stdout
    assert version.endswith(" (pure Python; compiled modules of another version are not used)\n")
