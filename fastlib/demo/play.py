"""Puts the story on the stage, with a witness and a guard."""

import asyncio
import time
from typing import Final

from fastlib.client import AsyncMigfraClient

from .guard import Guard
from .scheduler import Scheduler
from .settings import Settings
from .stage import Stage
from .story import Story
from .summary import Summary, summarize
from .view import View
from .witness import Witness

FRAME_SECONDS: Final = 0.1
"""How often a view is refreshed."""


async def play(settings: Settings, view: View) -> Summary:
    """Play the story to its end, or until something does not go as it is told.

    Raises TransportError if the broker cannot be reached, and what the view raises.
    """
    try:
        async with Stage(settings) as stage:
            summary = await _play(stage, view)
        view.end(summary)
    finally:
        view.close()
    return summary


async def _play(stage: Stage, view: View) -> Summary:
    guard = Guard(stage.cluster)
    witness = Witness(stage.hosts, guard.see, view.message)
    communicator = await stage.connect("scheduler")
    watching = await stage.connect("witness")
    view.begin(stage, witness)
    began, cluster_began = time.monotonic(), stage.now()
    patience = stage.settings.patience
    async with (
        AsyncMigfraClient(watching) as watcher,
        AsyncMigfraClient(communicator, timeout=patience) as client,
    ):
        watch = await watcher.watch(tasks=True, progress=True, presence=True)
        scheduler = Scheduler(client, stage.hosts, stage.settings)
        story = Story(stage, scheduler, witness, guard, view)
        try:
            async with asyncio.TaskGroup() as group:
                seeing = group.create_task(witness.run(watch))
                refreshing = group.create_task(_refresh(view))
                await story.play()
                seeing.cancel()
                refreshing.cancel()
        except BaseExceptionGroup as errors:  # one of them is the reason of the others
            raise errors.exceptions[0] from None
    guard.look()
    return summarize(
        stage,
        witness,
        guard,
        story.chapters,
        story.problems,
        time.monotonic() - began,
        stage.now() - cluster_began,
    )


async def _refresh(view: View) -> None:
    while True:
        view.refresh()
        await asyncio.sleep(FRAME_SECONDS)
