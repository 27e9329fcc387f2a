"""The problems of a text, and of a message that cannot be built, in a form that tests compare."""

from collections.abc import Callable
from typing import Any

import pytest

import fastlib
from fastlib import Problem, ValidationError


def problems(text: str | bytes, type: Any = None) -> tuple[Problem, ...]:
    """Return the problems of a text."""
    return fastlib.validate(text, type).problems


def places(text: str | bytes, type: Any = None) -> list[tuple[int | None, int | None, str, str]]:
    """Return the line, column, code and path of each problem of a text."""
    return [(p.line, p.column, p.code, p.path) for p in problems(text, type)]


def kinds_of_problems(text: str | bytes, type: Any = None) -> list[tuple[str, str, str]]:
    """Return the severity, code and path of each problem of a text."""
    return [(p.severity, p.code, p.path) for p in problems(text, type)]


def refusal(build: Callable[[], object]) -> list[tuple[str, str]]:
    """Return the paths and messages of the problems for which a message cannot be built."""
    with pytest.raises(ValidationError) as caught:
        build()
    return [(problem.path, problem.message) for problem in caught.value.problems]
