"""The golden vectors as the parameters of tests."""

from itertools import groupby
from typing import Any

import pytest

from fastlib.testing.golden import Row


def params(of: list[Row]) -> list[Any]:
    """The rows for `pytest.mark.parametrize`, named by line, type and category."""
    return [pytest.param(row, id=name(row)) for row in of]


def name(row: Row) -> str:
    """A row's line, type and category, for the name of a test or the text of a failure."""
    return f"{row.number}-{row.cls.__name__}-{row.why}"


def by_type(of: list[Row]) -> list[Any]:
    """All rows of a type as one parameter, because hundreds of tests would be slow."""
    rows = sorted(of, key=lambda row: (row.cls.__module__, row.cls.__name__))
    groups = groupby(rows, key=lambda row: row.cls)
    return [pytest.param(list(group), id=cls.__qualname__) for cls, group in groups]
