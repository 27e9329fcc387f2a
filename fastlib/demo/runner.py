"""Run the scenario on the simulated cluster, with an observer and invariants."""

import asyncio
import time
from typing import Final

from fastlib.client import AsyncMigfraClient

from .cluster import DemoCluster
from .invariants import InvariantChecker
from .observer import Observer
from .scenario import Scenario
from .scheduler import Scheduler
from .settings import Settings
from .summary import Summary, summarize
from .view import View

REFRESH_SECONDS: Final = 0.1


async def run(settings: Settings, view: View) -> Summary:
    """Run the demo to its end, or until a step fails.

    Raises TransportError if the broker cannot be reached, and the errors of the view.
    """
    try:
        async with DemoCluster(settings) as cluster:
            summary = await _run(cluster, view)
        view.end(summary)
    finally:
        view.close()
    return summary


async def _run(cluster: DemoCluster, view: View) -> Summary:
    invariants = InvariantChecker(cluster.simulated)
    observer = Observer(cluster.hosts, invariants.on_message, view.message)
    scheduler_link = await cluster.connect("scheduler")
    observer_link = await cluster.connect("observer")
    view.begin(cluster, observer)
    began, cluster_began = time.monotonic(), cluster.now()
    async with (
        AsyncMigfraClient(observer_link) as watcher,
        AsyncMigfraClient(scheduler_link, timeout=cluster.settings.timeout) as client,
    ):
        watch = await watcher.watch(tasks=True, progress=True, presence=True)
        scheduler = Scheduler(client, cluster.hosts, cluster.settings)
        scenario = Scenario(cluster, scheduler, observer, invariants, view)
        try:
            async with asyncio.TaskGroup() as group:
                observing = group.create_task(observer.run(watch))
                refreshing = group.create_task(_refresh(view))
                await scenario.run()
                observing.cancel()
                refreshing.cancel()
        except BaseExceptionGroup as errors:  # the first error cancelled the other tasks
            raise errors.exceptions[0] from None
    invariants.check()
    return summarize(
        cluster,
        observer,
        invariants,
        scenario.steps,
        scenario.problems,
        time.monotonic() - began,
        cluster.now() - cluster_began,
    )


async def _refresh(view: View) -> None:
    while True:
        view.refresh()
        await asyncio.sleep(REFRESH_SECONDS)
