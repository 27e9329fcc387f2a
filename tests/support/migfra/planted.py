"""Plant an unexpected exception in a part of the daemon, and find it in the log."""

import logging
from typing import Any

import pytest


class Planted(Exception):
    """An unexpected error."""


def fails(*_: Any, **__: Any) -> Any:
    raise Planted("by a test")


async def fails_async(*_: Any, **__: Any) -> Any:
    raise Planted("by a test")


def logged(caplog: pytest.LogCaptureFixture, text: str) -> None:
    """An error with this text and the planted traceback was logged."""
    errors = [record for record in caplog.records if record.levelno >= logging.ERROR]
    found = [record for record in errors if text in record.getMessage()]
    assert found, [record.getMessage() for record in errors]
    assert any(record.exc_info and "by a test" in str(record.exc_info[1]) for record in found)
