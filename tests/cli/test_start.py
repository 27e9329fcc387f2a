"""A short command starts fast: it imports only the modules that it needs.

`python -m benchmarks start` has the times.
"""

import importlib.metadata
import os
import shutil
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
import yaml

import fastlib
from fastlib.cli.arguments.parser import HelpFormatter
from fastlib.codec.derivation import shape_of
from fastlib.codec.lazy_pattern import lazy_pattern
from fastlib.message import base, entry_points, registry, task

HEAVY = {
    *("asyncio", "bz2", "concurrent", "difflib", "email", "hashlib", "importlib.metadata"),
    *("inspect", "json", "logging", "lzma", "multiprocessing", "pathlib", "random", "shutil"),
    *("signal", "socket", "sqlite3", "ssl", "subprocess", "tempfile", "threading", "zipfile"),
    *("hypothesis", "jsonschema_rs", "paho", "rich"),
    *("fastlib.client", "fastlib.demo", "fastlib.migfra", "fastlib.schema", "fastlib.testing"),
    *("fastlib.transport", "fastlib.codec.fast_reader", "fastlib.codec.writer"),
    *("fastlib.message.describe", "fastlib_plugins"),
}
"""Modules that checking a file does not need, and that would take long to import."""

PROGRAM = """
import sys
sys.path[:0] = {path}
import msgspec, yaml
before = set(sys.modules)
sys.argv = ["fastlib", *{arguments}]
from fastlib.cli import main
status = main()
print(status, *set(sys.modules) - before)
"""


def modules_of(*arguments):
    """The exit status of a command, and the modules that it imports beside msgspec and yaml."""
    packages = [Path(package.__file__).parents[1] for package in (fastlib, msgspec, yaml)]
    path = [str(package) for package in packages]
    done = subprocess.run(
        # Without `site`, whose files of an environment import modules of their own.
        [sys.executable, "-I", "-S", "-c", PROGRAM.format(path=path, arguments=arguments)],
        capture_output=True,
        text=True,
        check=True,
    )
    status, *modules = done.stdout.splitlines()[-1].split()
    return int(status), modules


def heavy(modules):
    return [name for name in modules if any(f"{name}.".startswith(f"{h}.") for h in HEAVY)]


def test_validate_imports_nothing_heavy(tmp_path):
    file = tmp_path / "task.yaml"
    file.write_text("task: stop vm\nlist:\n  - vm-name: vm1\n    force: true\n")
    status, modules = modules_of("validate", str(file))
    assert status == 0
    assert "fastlib.codec.composer" in modules
    assert heavy(modules) == []


def test_validate_imports_nothing_heavy_for_a_file_with_errors(tmp_path):
    file = tmp_path / "task.yaml"
    file.write_text("task: stop vm\nlist: [{force: maybe}]\nexpires: tomorrow\n")
    status, modules = modules_of("validate", "--strict", str(file))
    assert status == 1
    assert heavy(modules) == []


def test_other_commands_import_only_their_modules():
    # That the tests above can fail.
    status, modules = modules_of("schema", "quit")
    assert status == 0
    assert {"fastlib.schema", "json"} <= set(heavy(modules))


# --- parts ----------------------------------------------------------------------------------------


def test_own_declarations_keep_the_rules_that_are_checked_for_others(monkeypatch):
    monkeypatch.setattr(base, "__package__", "elsewhere")
    for cls in registry.REGISTRY.messages.values():
        assert base.check_shape(cls) is shape_of(cls)
    for declared in task.declarations():
        declared.type._Task__check_keys(declared)
        declared.type._Task__check_result(declared)


def test_own_declarations_are_not_checked_at_import():
    assert base.check_shape(fastlib.Stop) is None


@pytest.mark.parametrize("columns", ["40", "0", "-3", "wide", None])
def test_help_has_the_terminal_width_of_shutil(columns, monkeypatch):
    if columns is None:
        monkeypatch.delenv("COLUMNS", raising=False)
    else:
        monkeypatch.setenv("COLUMNS", columns)
    assert HelpFormatter("x")._width == shutil.get_terminal_size().columns - 2


def test_pattern_is_compiled_when_it_is_used():
    pattern = lazy_pattern("(a+)b", 0)
    assert "fullmatch" not in vars(pattern)
    assert pattern.fullmatch("aab")[1] == "aa"
    assert "search" in vars(pattern)
    assert pattern.sub("x", "ab ab") == "x x"
    assert pattern.pattern == "(a+)b"
    with pytest.raises(AttributeError):
        pattern.no_such_method  # noqa: B018 - looking it up is the test


def test_metadata_is_not_imported_where_no_package_declares_messages(tmp_path, monkeypatch):
    def distributions():
        raise AssertionError("looked for distributions")

    monkeypatch.setattr(importlib.metadata, "distributions", distributions)
    monkeypatch.setattr(sys, "meta_path", [entry_points.PathFinder])
    other = tmp_path / "other-1.0.dist-info"
    other.mkdir()
    (other / "entry_points.txt").write_text("[console_scripts]\nother = other:main\n")
    (tmp_path / "old.egg-info").write_text("Name: old\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path), str(tmp_path / "missing"), "\0"])
    assert entry_points.load_entry_points() == []


@pytest.mark.parametrize(
    "make",
    [
        lambda folder: (folder / "a.dist-info/entry_points.txt", b"[fastlib.messages]\na = b\n"),
        lambda folder: (folder / "a.EGG-INFO/entry_points.txt", b"[fastlib.messages]\na = b\n"),
        lambda folder: (folder / "a.dist-info/entry_points.txt", b"\xff"),
        lambda folder: (folder / "a.egg/EGG-INFO/entry_points.txt", b""),
        lambda folder: (folder / "a.zip", b""),
    ],
    ids=["wheel", "egg-info", "no text", "egg", "archive"],
)
def test_metadata_is_read_if_a_package_may_declare_messages(make, tmp_path, monkeypatch):
    file, data = make(tmp_path)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(data)
    entries = {tmp_path, *tmp_path.glob("*.egg"), *tmp_path.glob("*.zip")}
    monkeypatch.setattr(sys, "path", [os.fspath(entry) for entry in entries])
    assert entry_points._may_be_declared()
