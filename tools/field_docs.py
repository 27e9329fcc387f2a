"""The docstrings of fields in the source, which editors show: written from the declarations.

`Wire("…", unit="KiB")` has the text for schemas, `help` and the reference. Editors read the source
only, and show the text below a field. `./dev docs --write` writes it there, and `./dev check`
compares them.
"""

import ast
import textwrap
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from fastlib.codec.derivation import fields_of
from fastlib.message import Message, tasks
from fastlib.message.task import Task

ROOT: Final = Path(__file__).parents[1]
_MESSAGES: Final = ROOT / "fastlib" / "message"
_OPTIONS: Final = ROOT / "fastlib" / "client" / "options.py"
_OPTION_CLASSES: Final[Mapping[str, type[Any]]] = {
    "TaskOptions": Task,
    "StartOptions": tasks.Start,
    "StopOptions": tasks.Stop,
    "HistoryOptions": tasks.QueryHistory,
    "MovingOptions": tasks.MigrationOptions,
    "MigrateOptions": tasks.MigrateParameter,
    "EvacuateOptions": tasks.EvacuateParameter,
}
"""The struct that has the fields of each class of options."""
_WIDTH: Final = 100
_INDENT: Final = "    "


def outdated() -> Iterator[tuple[Path, str]]:
    """Yield the modules that are not as they must be, each with the text that it must have."""
    for path in (*sorted(_MESSAGES.glob("*.py")), _OPTIONS):
        old = path.read_text("utf-8")
        new = _renewed(path, old)
        if new != old:
            yield path, new


def _renewed(path: Path, text: str) -> str:
    """Return the text of a module with the docstrings of its fields."""
    module = import_module(".".join(path.relative_to(ROOT).with_suffix("").parts))
    lines = text.splitlines(keepends=True)
    for node in reversed(ast.parse(text).body):
        if not isinstance(node, ast.ClassDef):
            continue
        struct = _OPTION_CLASSES.get(node.name) if path == _OPTIONS else vars(module).get(node.name)
        docs = {} if struct is None else _docs_of(struct)
        for field, below in reversed([*zip(node.body, [*node.body[1:], None], strict=True)]):
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
                doc = docs.get(field.target.id)
                if doc:
                    first = field.end_lineno or field.lineno
                    last = first
                    if below is not None and _is_docstring(below):
                        last = below.end_lineno or below.lineno
                    lines[first:last] = [_docstring(doc)]
    return "".join(lines)


def _docs_of(struct: type[Any]) -> dict[str, str]:
    """Return the text of each field that has one, with its unit."""
    if not issubclass(struct, Message):
        return {}
    docs = {}
    for field in fields_of(struct):
        unit = f" Unit: {field.wire.unit}." if field.wire.unit else ""
        if field.wire.doc:
            docs[field.attribute] = field.wire.doc + unit
    return docs


def _is_docstring(node: ast.stmt | None) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


def _docstring(doc: str) -> str:
    escaped = doc.replace("\\", "\\\\")
    line = f'{_INDENT}"""{escaped}"""\n'
    if len(line) <= _WIDTH + 1:
        return line
    wrapped = textwrap.wrap(
        f'"""{escaped}', _WIDTH, initial_indent=_INDENT, subsequent_indent=_INDENT,
        break_on_hyphens=False, break_long_words=False,
    )  # fmt: skip
    return "\n".join([*wrapped, f'{_INDENT}"""\n'])
