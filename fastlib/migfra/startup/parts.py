"""The steps of the metrics and of the hypervisor."""

import asyncio
from collections.abc import Iterator, Mapping

from fastlib.extras import MissingExtraError, needs_extra
from fastlib.migfra.errors import HypervisorError, PluginError
from fastlib.migfra.plugin_api.hypervisor import Hypervisor
from fastlib.migfra.plugin_api.lifecycle import open_for_check, opened
from fastlib.migfra.plugin_api.thread_pool import ThreadPool
from fastlib.migfra.telemetry.metrics_server import check_port

from .findings import Finding, StartUp


def check_metrics(start: StartUp) -> Iterator[Finding]:
    """Check that metrics can be served."""
    options = start.configuration.metrics
    if options is None:
        return
    try:
        with needs_extra("the export of metrics", "prometheus_client"):
            import prometheus_client as prometheus_client
    except MissingExtraError as error:
        yield Finding(("metrics",), error)
    try:
        check_port(options.address, options.port)
    except OSError as error:
        # The running daemon may use the port itself.
        is_running = start.running() is not None
        yield Finding(("metrics", "port"), error, "warning" if is_running else "error")


def check_hypervisor(start: StartUp) -> Iterator[Finding]:
    """Check the hypervisor: make it, open it and close it."""
    try:
        hypervisor = make_hypervisor(start)
        asyncio.run(_open(hypervisor))
    except (HypervisorError, PluginError, MissingExtraError) as error:
        yield Finding(("hypervisor",), error)


def ask_hypervisor(start: StartUp) -> Iterator[Finding]:
    """Open the hypervisor as a daemon does, and yield the services that it cannot reach."""
    try:
        away = asyncio.run(_ask(make_hypervisor(start)))
    except (HypervisorError, PluginError, MissingExtraError) as error:
        yield Finding(("hypervisor",), error)
        return
    for name, reason in away.items():
        yield Finding(("hypervisor",), HypervisorError(f"{name}: {reason}"))


def make_hypervisor(start: StartUp) -> Hypervisor:
    """Make the hypervisor of the configuration. Raises PluginError."""
    return start.configuration.hypervisor.make(start.configuration.node)


async def _open(hypervisor: Hypervisor) -> None:
    threads = ThreadPool(2, "check")
    try:
        await open_for_check(hypervisor, threads)
    finally:
        threads.close()


async def _ask(hypervisor: Hypervisor) -> Mapping[str, str]:
    threads = ThreadPool(2, "check")
    try:
        async with opened(hypervisor, threads):
            return await hypervisor.outages()
    finally:
        threads.close()
