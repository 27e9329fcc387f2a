"""The error for an optional package that is missing."""

import sys
import tomllib
from pathlib import Path

import pytest

from fastlib import FastlibError, MissingExtraError
from fastlib.extras import _EXTRAS, install_command, needs_extra


def test_missing_package_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rich", None)
    with pytest.raises(MissingExtraError) as caught, needs_extra("the live table", "rich"):
        import rich.table  # noqa: F401
    error = caught.value
    assert isinstance(error, FastlibError)
    assert isinstance(error, ImportError)
    assert (error.name, error.package, error.extra) == ("rich", "rich", "terminal")
    assert error.install == install_command("terminal")
    assert str(error) == f"the live table needs rich, which is not installed: {error.install}"


def test_another_extra_may_install_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "hypothesis", None)
    with pytest.raises(MissingExtraError) as caught, needs_extra("a", "hypothesis", extra="compat"):
        import hypothesis  # noqa: F401
    assert caught.value.extra == "compat"


def test_broken_compiled_part_is_reported_with_its_error() -> None:
    with pytest.raises(MissingExtraError) as caught, needs_extra("libvirt", "libvirt"):
        raise ImportError("libvirt.so.0: cannot open shared object file", name="libvirtmod")
    assert "cannot be imported (libvirt.so.0: cannot open shared object file)" in str(caught.value)


def test_other_import_errors_pass() -> None:
    with pytest.raises(ModuleNotFoundError) as caught, needs_extra("the live table", "rich"):
        import fastlib_has_no_such_module  # noqa: F401
    assert not isinstance(caught.value, MissingExtraError)


def test_every_extra_installs_the_package_that_is_named() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
    extras = project["project"]["optional-dependencies"]
    for package, extra in _EXTRAS.values():
        assert any(need.startswith(package) for need in extras[extra]), package
