"""Fixtures for the tests of the daemon."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

from fastlib.migfra.plugin_api import expiry
from tests.support.clock import SettableClock
from tests.support.migfra.bench import Bench, Play
from tests.support.migfra.desk import AtDesk, player
from tests.support.mosquitto import Mosquitto


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Iterator[None]:
    """Escape surrogates in captured log lines, which parallel workers cannot send."""
    report = yield
    report.sections = [
        (name, text.encode("utf-8", "backslashreplace").decode()) for name, text in report.sections
    ]
    return report


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mosquitto]:
    """A real broker for the tests of a file; a file may define another kind."""
    with Mosquitto(tmp_path_factory.mktemp("broker")) as broker:
        yield broker


@pytest.fixture
def leaping(monkeypatch: pytest.MonkeyPatch) -> SettableClock:
    """A clock that a test sets forward; all waits notice it soon."""
    monkeypatch.setattr(expiry, "LONGEST_TIMER_SECONDS", 0.01)
    return SettableClock()


@pytest.fixture
def play(tmp_path: Path) -> Play:
    """Plays a scene at a bench."""

    def play(scene: Callable[[Bench], Coroutine[Any, Any, None]]) -> None:
        async def main() -> None:
            async with Bench(tmp_path) as bench:
                await scene(bench)

        asyncio.run(main())

    return play


@pytest.fixture
def at_desk(tmp_path: Path) -> AtDesk:
    """Plays a scene with a journal that orders come to."""
    return player(tmp_path / "journal")
