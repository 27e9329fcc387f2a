"""Opens a hypervisor, and closes it whatever happens."""

import asyncio
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from logging import getLogger
from typing import Final

from fastlib.migfra.errors import HypervisorError, PluginError

from .hypervisor import Hypervisor
from .thread_pool import ThreadPool

log = getLogger("fastlib.migfra")

CLOSE_SECONDS: Final = 10.0
"""How long a hypervisor may take to close."""


@asynccontextmanager
async def opened(hypervisor: Hypervisor, threads: ThreadPool) -> AsyncIterator[None]:
    """The hypervisor between its `open` and its `close`, plain or `async`.

    Raises HypervisorError, and PluginError for whatever else its `open` raises.
    """
    try:
        await _either(threads, hypervisor.open)
    except HypervisorError:
        raise
    except Exception as error:
        raise PluginError(
            f"the hypervisor {hypervisor.name!r} cannot be opened: {type(error).__name__}: {error}"
        ) from error
    try:
        yield
    finally:
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await _either(threads, hypervisor.close)
        except TimeoutError:
            log.warning("the hypervisor does not close within %g s", CLOSE_SECONDS)
        except Exception:
            log.exception("the hypervisor failed to close")


async def _either(threads: ThreadPool, method: Callable[[], Awaitable[None] | None]) -> None:
    if getattr(method, "__func__", None) in (Hypervisor.open, Hypervisor.close):
        return  # they do nothing, for which no thread need be begun
    if inspect.iscoroutinefunction(method):
        await method()
        return
    outcome = await asyncio.wrap_future(threads.run(method))
    if outcome is not None:
        await outcome
