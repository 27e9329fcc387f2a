"""Let the timeouts of pending requests pass, and look at what was noted for them."""

import math
from typing import Any

import pytest

from fastlib.clock import Clock


class _EndOfTime(Clock):
    """The clock when every timeout has passed."""

    def monotonic(self) -> float:
        return math.inf


def expire_all(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the timeouts of all pending requests pass."""
    with monkeypatch.context() as patch:
        core = getattr(client, "inner", client)._core
        patch.setattr(core.pending, "_clock", _EndOfTime())
        core.unanswered.expire()


def possible_answers(handle: Any) -> list[str]:
    """Return the answers that were noted for a request."""
    answers: list[str] = getattr(handle, "inner", handle)._request.possible_answers
    return answers
