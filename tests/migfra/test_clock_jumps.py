"""The daemon logs that the clock of its host was set, because orders expire by that clock."""

import asyncio

import pytest

from fastlib.clock import duration_words
from fastlib.migfra import Daemon
from fastlib.migfra.telemetry.clock_jumps import JUMP_SECONDS, ClockJumps
from fastlib.transport import MemoryBroker
from tests.support.clock import SetClock, SettableClock
from tests.support.migfra.bench import configuration
from tests.support.migfra.scripted import Scripted
from tests.support.waiting import wait_until_async

DAY = 86400.0


@pytest.mark.parametrize(
    ("jump", "words"),
    [
        (DAY, "set forward by 1 day; orders expire by this clock: those whose time has passed"),
        (-DAY, "set back by 1 day; orders expire by this clock: new ones may begin after"),
        (JUMP_SECONDS + 1, f"set forward by {duration_words(JUMP_SECONDS + 1)};"),
    ],
)
def test_jump_is_logged_once(caplog: pytest.LogCaptureFixture, jump: float, words: str) -> None:
    clock = SetClock()
    jumps = ClockJumps(clock)
    clock.run(3600)
    jumps.check()
    assert not caplog.records
    clock.jump(jump)
    jumps.check()
    clock.run(3600)
    jumps.check()
    (record,) = caplog.records
    assert words in record.getMessage()


def test_slow_correction_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    clock = SetClock()
    jumps = ClockJumps(clock)
    for _ in range(20):
        clock.run(30)
        clock.jump(JUMP_SECONDS / 2)
        jumps.check()
    assert not caplog.records


def test_running_daemon_logs_a_jump(caplog: pytest.LogCaptureFixture) -> None:
    clock = SettableClock()

    async def main() -> None:
        settings = configuration(presence_interval=0.05)
        broker = MemoryBroker()
        async with Daemon(
            settings, communicator=broker, hypervisor=Scripted(), in_memory=True, clock=clock
        ):
            clock.ahead = DAY
            await wait_until_async(lambda: "the clock of this host was set" in caplog.text)

    asyncio.run(main())
