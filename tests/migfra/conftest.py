"""What the tests of the daemon share; what they have measured is told at the end of the run."""

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from tests.support.migfra.bench import Bench, Play

FIGURES = pytest.StashKey[list[str]]()


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """The lines that tests have kept."""
    if lines := config.stash.get(FIGURES, []):
        terminalreporter.section("the daemon under load")
        for line in lines:
            terminalreporter.line(line)


@pytest.fixture
def figures(request: pytest.FixtureRequest) -> Callable[[object], None]:
    """Keep a line for the end of the run."""
    lines = request.config.stash.setdefault(FIGURES, [])
    return lambda figure: lines.append(f"{request.node.name}: {figure}")


@pytest.fixture
def play(tmp_path: Path) -> Play:
    """Plays a scene at a bench."""

    def play(scene: Callable[[Bench], Coroutine[Any, Any, None]]) -> None:
        async def main() -> None:
            async with Bench(tmp_path) as bench:
                await scene(bench)

        asyncio.run(main())

    return play
