"""Editors show the text of each field, as its docstring is in the source."""

import ast
import inspect

import pytest

from fastlib.client import options
from fastlib.message import Migrate, MigrationOptions, Start
from tools import field_docs


def docs_in_source(cls: type) -> dict[str, str]:
    """The docstrings of the fields in the body of a class, as an editor reads them."""
    (node,) = ast.parse(inspect.getsource(cls)).body
    assert isinstance(node, ast.ClassDef)
    return {
        field.target.id: " ".join(below.value.value.split())
        for field, below in zip(node.body, node.body[1:], strict=False)
        if isinstance(field, ast.AnnAssign)
        and isinstance(field.target, ast.Name)
        and not field.target.id.startswith("_")
        and isinstance(below, ast.Expr)
        and isinstance(below.value, ast.Constant)
    }


def test_docstrings_in_the_source_are_those_of_the_declarations() -> None:
    assert [str(path) for path, _ in field_docs.outdated()] == []


@pytest.mark.parametrize("cls", [Start, options.StartOptions])
def test_docstring_has_the_unit(cls: type) -> None:
    assert docs_in_source(cls)["memory"] == "Memory of the domain. Unit: KiB."


def test_options_of_the_client_have_the_texts_of_the_messages() -> None:
    given = docs_in_source(options.MovingOptions)
    expected = docs_in_source(MigrationOptions)
    del expected["timeout"]  # the option is called migration_timeout
    assert given.pop("migration_timeout").startswith("The parameter's `timeout`")
    assert given == expected


def test_changed_text_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    path = field_docs.ROOT / "fastlib" / "message" / "tasks.py"
    text = path.read_text("utf-8")
    changed = text.replace('    """Number of virtual CPUs."""\n', '    """Something else."""\n')
    assert changed != text
    assert field_docs._renewed(path, changed) == text
    without = text.replace('    """Number of virtual CPUs."""\n', "")
    assert field_docs._renewed(path, without) == text


def test_every_field_of_a_task_has_a_text() -> None:
    assert docs_in_source(Migrate).keys() == Migrate.__annotations__.keys()
