"""Fixtures of the tests of the daemon."""

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from tests.support.migfra.bench import Bench, Play


@pytest.fixture
def play(tmp_path: Path) -> Play:
    """Plays a scene at a bench."""

    def play(scene: Callable[[Bench], Coroutine[Any, Any, None]]) -> None:
        async def main() -> None:
            async with Bench(tmp_path) as bench:
                await scene(bench)

        asyncio.run(main())

    return play
