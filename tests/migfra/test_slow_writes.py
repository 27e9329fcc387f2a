"""The log says that the disk of the journal is slow, and is not flooded."""

import asyncio
import itertools
import sqlite3
from contextlib import closing

import pytest

from fastlib.migfra.journal import group_commit
from fastlib.migfra.journal.group_commit import GroupCommit
from fastlib.migfra.journal.slow_writes import PERIOD_SECONDS, SLOW_SECONDS, SlowWrites


def test_slow_write_is_logged_once_in_a_period(caplog: pytest.LogCaptureFixture) -> None:
    now = 0.0
    writes = SlowWrites(lambda: now)
    writes.took(SLOW_SECONDS - 0.01)
    assert not caplog.records
    for _ in range(3):
        writes.took(4.0)
    (first,) = caplog.records
    assert "the disk of the journal is slow: a write took 4.0 s; each order" in first.getMessage()
    now = PERIOD_SECONDS
    writes.took(SLOW_SECONDS)
    _, second = caplog.records
    assert "a write took 2.0 s, after 2 more slow ones; each order" in second.getMessage()


@pytest.mark.parametrize(("seconds", "is_slow"), [(SLOW_SECONDS, True), (SLOW_SECONDS / 2, False)])
def test_transactions_are_measured(
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    seconds: float,
    is_slow: bool,
) -> None:
    ticks = itertools.count()
    monkeypatch.setattr(group_commit, "monotonic", lambda: next(ticks) * seconds)

    async def main() -> None:
        connection = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        with closing(connection):
            commit = GroupCommit(connection)
            await commit.submit(lambda _: None)
            await commit.close(30)

    asyncio.run(main())
    assert ("the disk of the journal is slow" in caplog.text) is is_slow
