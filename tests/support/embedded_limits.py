"""What the embedded broker cannot do: the tests that fail with it, and why, in one place.

Such a test is run all the same and must fail, so that a newer amqtt which can do it is noticed. One
whose failure depends on timing is not run, and `test_embedded.py` has one for it that does not. The
reasons stand in the summary of the run.
"""

from collections.abc import Container, Mapping
from types import MappingProxyType
from typing import NamedTuple

import pytest

WAIT = 2
"""Seconds until a test that is to fail gives up waiting."""


class Lack(NamedTuple):
    """Why a test fails."""

    why: str
    only: Mapping[str, Container[object]] = MappingProxyType({})
    """With which parameters; with all of those that are not named here."""
    always: bool = True
    """False if it depends on timing."""


LACKS: dict[str, Lack] = {
    "test_there_and_back": Lack(
        "amqtt delivers with the quality of the subscription, also what was sent with a lower one",
        only={"qos": (0, 1)},
    ),
    "test_system_topics_are_not_everything": Lack(
        "amqtt ends the connection of a client that sends to a topic that begins with $, and what "
        "it sent after that may be lost",
        always=False,
    ),
    "test_what_is_not_acknowledged_comes_again": Lack(
        "amqtt forgets what is not acknowledged when the connection ends, or after five seconds"
    ),
}


def expect_lacks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a test fail that the embedded broker cannot pass; for the fixture that provides it."""
    lack = LACKS.get(request.node.originalname)
    if lack is None:
        return
    parameters = request.node.callspec.params
    if all(parameters[name] in values for name, values in lack.only.items()):
        request.applymarker(pytest.mark.xfail(strict=True, run=lack.always, reason=lack.why))
        monkeypatch.setattr(request.module, "PATIENCE", WAIT)
