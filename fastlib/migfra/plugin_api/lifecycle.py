"""Open a hypervisor, and close it in every case."""

import asyncio
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from logging import getLogger
from typing import Final

from fastlib.codec.errors import FastlibError
from fastlib.migfra.errors import HypervisorError, PluginError
from fastlib.plugin_place import place_of

from .hypervisor import Hypervisor
from .thread_pool import ThreadPool

log = getLogger("fastlib.migfra")

CLOSE_SECONDS: Final = 10.0
"""Maximum seconds that a hypervisor may take to close."""
OPEN_SECONDS: Final = 30.0
"""Maximum seconds that `--check` waits for a hypervisor to open. A start waits without a limit."""


@asynccontextmanager
async def opened(hypervisor: Hypervisor, threads: ThreadPool) -> AsyncIterator[None]:
    """The hypervisor between its `open` and its `close`, plain or `async`.

    Raises HypervisorError, and PluginError for any other error of its `open`.
    """
    await _open(hypervisor, hypervisor.open, threads)
    try:
        yield
    finally:
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await _either(threads, hypervisor.close)
        except TimeoutError:
            log.warning("the hypervisor did not close within %g s", CLOSE_SECONDS)
        except Exception:
            log.exception("closing the hypervisor failed")


async def open_for_check(hypervisor: Hypervisor, threads: ThreadPool) -> None:
    """Check whether a hypervisor can be opened: by its `check_open`, or by opening and closing it.

    Raises as `opened`, and HypervisorError if that takes longer than OPEN_SECONDS.
    """
    try:
        async with asyncio.timeout(OPEN_SECONDS):
            if type(hypervisor).check_open is not Hypervisor.check_open:
                await _open(hypervisor, hypervisor.check_open, threads)
            else:
                async with opened(hypervisor, threads):
                    pass
    except TimeoutError:
        raise HypervisorError(
            f"the hypervisor {hypervisor.name!r} did not open within {OPEN_SECONDS:g} s; check "
            "the service that it connects to"
        ) from None


async def _open(
    hypervisor: Hypervisor, method: Callable[[], Awaitable[None] | None], threads: ThreadPool
) -> None:
    """Call `open` or `check_open`. Raises HypervisorError, and PluginError for any other error."""
    try:
        await _either(threads, method)
    except HypervisorError:
        raise
    except FastlibError as error:
        raise PluginError(
            f"the hypervisor {hypervisor.name!r} cannot be opened: {error}"
        ) from error
    except Exception as error:
        raise PluginError(
            f"the hypervisor {hypervisor.name!r} cannot be opened: {type(error).__name__}: {error}"
            f"{place_of(error)}"
        ) from error


async def _either(threads: ThreadPool, method: Callable[[], Awaitable[None] | None]) -> None:
    if getattr(method, "__func__", None) in (Hypervisor.open, Hypervisor.close):
        return  # they do nothing, so no thread is started
    if inspect.iscoroutinefunction(method):
        await method()
        return
    outcome = await asyncio.wrap_future(threads.run(method))
    if outcome is not None:
        await outcome
