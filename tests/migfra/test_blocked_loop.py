"""A blocked event loop is noticed, with its place and how long it was blocked."""

import asyncio
import logging
import re
import sys
import threading
from pathlib import Path
from types import ModuleType

import pytest

from fastlib.migfra.telemetry.blocked_loop import LoopWatch, place_of_frame
from tests.support.waiting import wait_until

PATIENCE = 60


def plugin(folder: Path, text: str) -> ModuleType:
    path = folder / "blocking_plugin.py"
    path.write_text(text)
    module = ModuleType("blocking_plugin")
    exec(compile(text, str(path), "exec"), vars(module))
    return module


METHOD = "checkpoint"
PLUGIN = """
async def checkpoint(wait):
    return helper(wait)

def helper(wait):
    return wait()
"""


def test_block_is_logged_with_its_method_and_place(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[str] = []

    def reports() -> list[logging.LogRecord]:
        return [
            one for one in caplog.records if "was blocked" in one.message and METHOD in one.message
        ]

    async def main() -> None:
        watch = LoopWatch(look=0.01, blocked=0.02)
        looked = threading.Event()
        place = LoopWatch._place

        def look(self: LoopWatch) -> object:
            found = place(self)
            seen.append(str(found))
            if METHOD in seen[-1]:  # a busy machine may stop the loop at another place, too
                looked.set()
            return found

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(LoopWatch, "_place", look)
            method = plugin(tmp_path, PLUGIN).checkpoint
            await asyncio.create_task(method(lambda: looked.wait(PATIENCE)))
            await asyncio.to_thread(wait_until, reports, "the log")
        watch.end()

    asyncio.run(main())
    (record,) = reports()
    assert record.levelno == logging.WARNING
    assert re.search(
        r"the event loop was blocked for \d+\.\d s in checkpoint \(.*test_blocked_loop.py:\d+, in ",
        record.message,
    )
    assert "make it a plain method" in record.message
    assert seen


def test_place_is_the_method_of_the_plugin_and_its_innermost_line(tmp_path: Path) -> None:
    frames = []

    def wait() -> None:
        frames.append(sys._getframe().f_back)

    asyncio.run(plugin(tmp_path, PLUGIN).checkpoint(wait))
    place = place_of_frame(frames[0])
    assert place.where == f"{tmp_path}/blocking_plugin.py:6, in helper"
    assert place.is_foreign


def test_repeated_blocks_are_counted(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    async def main() -> None:
        watch = LoopWatch(look=0.01, blocked=0.01, repeat=1000)
        await asyncio.to_thread(lambda: None)
        place = place_of_frame(sys._getframe())
        for _ in range(3):
            watch._report(place, 2.0)
        watch._repeat = 0
        watch._report(place, 3.0)
        watch.end()

    asyncio.run(main())
    texts = [record.message for record in caplog.records if "for 2.0 s" in record.message]
    assert len(texts) == 1
    assert "blocked for 3.0 s" in caplog.text
    assert "2 more times since it was last logged" in caplog.text


def test_loop_that_hangs_is_logged_before_it_ends(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        watch = LoopWatch(look=0.01, blocked=0.01, hangs=0.02)
        wait_until(lambda: "has been blocked for" in caplog.text, "the log")  # blocks the loop
        watch.end()

    asyncio.run(main())
    (record,) = [record for record in caplog.records if "has been blocked for" in record.message]
    assert record.levelno == logging.ERROR


def test_watch_ends_with_its_loop() -> None:
    watches = []

    async def main() -> None:
        watches.append(LoopWatch(look=0.01))

    asyncio.run(main())
    watches[0]._thread.join(PATIENCE)
    assert not watches[0]._thread.is_alive()
