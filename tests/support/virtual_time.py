"""Run scenarios in virtual time."""

import asyncio
from collections.abc import Coroutine
from typing import Any, Final, TypeVar

from fastlib.migfra.hypervisors.simulated import run_virtual

T = TypeVar("T")

LONGEST_SECONDS: Final = 10_000
"""Virtual seconds after which a scenario hangs. They take no time."""


def run_bounded(scenario: Coroutine[Any, Any, T]) -> T:
    """Run a scenario to its end. Raises TimeoutError if it hangs."""

    async def main() -> T:
        async with asyncio.timeout(LONGEST_SECONDS):
            return await scenario

    return run_virtual(main())
