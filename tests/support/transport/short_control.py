"""A fixture for tests at brokers that end connections because of a message."""

import pytest

from fastlib.transport.mqtt import control


@pytest.fixture
def short_control(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a connection last a quarter of a second without a message to convict it, not 5 s.

    `tests/transport/test_control.py` tests the real duration, and some tests wait for it.
    """
    monkeypatch.setattr(control, "LEAST_SECONDS", 0.25)
