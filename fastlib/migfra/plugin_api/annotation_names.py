"""Read the annotations of a function: their types, and the names that do not exist.

With `from __future__ import annotations`, or in quotes, Python evaluates no annotation. So it does
not report a misspelt name. Names that only type checkers import are correct.
"""

import ast
import builtins
import inspect
import sys
import typing
from collections.abc import Iterator
from functools import lru_cache
from types import FunctionType
from typing import Any

from fastlib.codec.load_context import nearest_word


def hints_of(function: FunctionType) -> dict[str, Any]:
    """Return the types of those parameters whose annotations can be evaluated."""
    hints = {}
    for name, annotation in function.__annotations__.items():

        def shim() -> None: ...

        shim.__annotations__ = {name: annotation}
        try:
            hints.update(typing.get_type_hints(shim, function.__globals__, include_extras=True))
        except Exception:  # noqa: S112 - a name for type checkers only; then it proves nothing
            continue
    return hints


def unknown_names(function: FunctionType) -> Iterator[tuple[str, str, str | None]]:
    """Yield the names in annotations that are nowhere in the module of a function.

    Each comes with its parameter before it, `return` for the result, and with the most similar
    name of the module after it.
    """
    texts = {
        parameter: annotation
        for parameter, annotation in function.__annotations__.items()
        if isinstance(annotation, str)
    }
    known = _known_names(function) if texts else None
    if known is None:
        return
    for parameter, text in texts.items():
        try:
            tree = ast.parse(text, mode="eval")
        except SyntaxError:  # Python reports it when a program evaluates the annotation
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Name) and node.id not in known:
                is_class = node.id[:1].isupper()
                similar = sorted(word for word in known if word[:1].isupper() == is_class)
                yield parameter, node.id, nearest_word(node.id, similar)


def _known_names(function: FunctionType) -> set[str] | None:
    """Return all names that an annotation may have. None if they cannot be known."""
    try:
        bound = bound_names(inspect.getsource(sys.modules[function.__module__]))
    except (KeyError, OSError, TypeError):
        return None  # the module has no source
    if bound is None:
        return None
    return {*bound, *function.__globals__, *vars(builtins), *function.__code__.co_freevars}


@lru_cache(maxsize=16)
def bound_names(source: str) -> frozenset[str] | None:
    """Return all names that a module binds anywhere, for type checkers, too.

    None if they cannot be known, because it imports `*`.
    """
    try:
        tree = ast.parse(source)
    except SyntaxError:
        return None
    names = set[str]()
    for node in ast.walk(tree):
        match node:
            case ast.alias(name="*"):
                return None
            case ast.alias():
                names.add(node.asname or node.name.partition(".")[0])
            case ast.Name(ctx=ast.Store()):
                names.add(node.id)
            case _ if isinstance(name := getattr(node, "name", None), str):
                names.add(name)  # a class, a function, a parameter of a type
    return frozenset(names)
