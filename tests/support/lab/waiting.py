"""Waiting until something holds."""

import time
from collections.abc import Callable
from typing import TypeVar

from .errors import LabError

T = TypeVar("T")

PATIENCE = 30.0
"""Seconds until something that must come is given up."""


def until(condition: Callable[[], T | None], what: str, patience: float = PATIENCE) -> T:
    """The first true value of the condition. Raises LabError after `patience` seconds."""
    end = time.monotonic() + patience
    while not (value := condition()):
        if time.monotonic() > end:
            raise LabError(f"in {patience:g} s not come: {what}")
        time.sleep(0.02)
    return value
