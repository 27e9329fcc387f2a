"""The golden vectors as the parameters of tests."""

from typing import Any

import pytest

from fastlib.testing.golden import Row


def params(of: list[Row]) -> list[Any]:
    """The rows for `pytest.mark.parametrize`, named by line, type and category."""
    return [pytest.param(r, id=f"{r.number}-{r.cls.__name__}-{r.why}") for r in of]
