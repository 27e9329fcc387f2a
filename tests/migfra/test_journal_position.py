"""A journal that was replaced by an older copy, and the file beside it that shows this."""

import asyncio
import logging
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from shutil import copyfile

import pytest

from fastlib.migfra import JournalError
from fastlib.migfra.journal.journal import Journal
from fastlib.migfra.journal.position import Position, PositionFile, is_older_copy
from tests.support.clock import SetClock

RUN = Position("journal", 7, 100)


@pytest.mark.parametrize(
    ("written", "run", "found", "older"),
    [
        (None, 1, Position("journal", 1, 0), False),  # a new journal
        (RUN, 8, Position("journal", 8, 100), False),
        (Position("journal", 7, 99), 8, Position("journal", 8, 100), False),  # a power failure
        (RUN, 8, Position("journal", 8, 99), True),  # a copy from the same run
        (RUN, 7, Position("journal", 7, 100), True),  # one from before that run
        (RUN, 1, Position("another", 1, 0), False),
    ],
)
def test_older_copy_is_behind_the_written_position(
    written: Position | None, run: int, found: Position, older: bool
) -> None:
    assert is_older_copy(written, run, found) is older


@pytest.mark.parametrize("orders", [0, 1])
def test_journal_that_was_replaced_by_an_older_copy_is_noticed(tmp_path: Path, orders: int) -> None:
    async def scene() -> None:
        path, copy, clock = tmp_path / "journal", tmp_path / "copy", SetClock()

        async def accept(id: str) -> bool:
            """Accept an order in another run, and return whether that found an older copy."""
            journal = Journal(path, clock=clock)
            await journal.accept(id, b"x", b"x", key=id)
            await journal.close()
            clock.run(10)
            return journal.is_older_copy

        assert not await accept("a")
        copyfile(path, copy)
        for number in range(1 + orders):
            assert not await accept(f"b{number}")
        copyfile(copy, path)
        journal = Journal(path, clock=clock)
        assert journal.is_older_copy
        assert journal.began == clock.now()  # "never begun" is not said of earlier orders
        await journal.close()
        clock.run(10)
        assert not await accept("c")
        journal = Journal(path, clock=clock)
        assert journal.began == clock.now() - 20
        await journal.close()

    asyncio.run(scene())


def test_file_beside_the_journal_that_is_broken_says_nothing(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    asyncio.run(_opened_and_closed(path))
    for content in (b"", b"{", b"\0" * 128, b"[1, 2]"):
        (tmp_path / "journal.position").write_bytes(content)
        asyncio.run(_opened_and_closed(path))


async def _opened_and_closed(path: Path) -> None:
    journal = Journal(path)
    assert not journal.is_older_copy
    await journal.close()


def test_journal_in_memory_has_no_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    async def scene() -> None:
        journal = Journal(None)
        assert not journal.is_older_copy
        await journal.accept("a", b"x", b"x")
        assert journal.size() == 0
        assert list(tmp_path.iterdir()) == []
        await journal.close()

    asyncio.run(scene())


def test_position_is_that_of_the_newest_order(tmp_path: Path) -> None:
    async def scene() -> None:
        beside = PositionFile(tmp_path / "journal")
        for run in (1, 2):
            journal = Journal(tmp_path / "journal")
            for number in (3 * run - 3, 3 * run - 2, 3 * run - 1):
                assert beside.read() == Position(journal.identity, run, number)
                await journal.accept(str(number), b"x", b"%d" % number)
            await journal.close()
        beside.close()

    asyncio.run(scene())


def test_size_is_that_of_the_database_and_its_log(tmp_path: Path) -> None:
    async def scene() -> None:
        journal = Journal(tmp_path / "journal")
        await journal.accept("a", b"x", b"x" * 10_000)
        sizes = [(tmp_path / name).stat().st_size for name in ("journal", "journal-wal")]
        assert min(sizes) > 0
        assert journal.size() == sum(sizes)
        await journal.close()

    asyncio.run(scene())


def test_link_beside_the_journal_is_reported_with_its_journal(tmp_path: Path) -> None:
    (tmp_path / "journal.position").symlink_to(tmp_path / "other")
    with pytest.raises(JournalError) as caught:
        Journal(tmp_path / "journal")
    assert str(caught.value) == (
        f"the journal {tmp_path}/journal cannot be opened: [Errno 40] Too many levels of symbolic "
        f"links: '{tmp_path}/journal.position'"
    )


# --- the file beside the journal ------------------------------------------------------------------


@pytest.fixture
def beside(tmp_path: Path) -> Iterator[PositionFile]:
    file = PositionFile(tmp_path / "journal")
    yield file
    file.close()


def test_position_is_overwritten_in_one_piece(tmp_path: Path, beside: PositionFile) -> None:
    path = tmp_path / "journal.position"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert beside.read() is None
    beside.write(Position("identity", 7, 1000))
    beside.write(RUN)
    text = '{"identity":"journal","run":7,"order":100}'
    assert path.read_text() == text + " " * (128 - len(text))
    assert beside.read() == RUN


def test_link_beside_the_journal_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "other").write_text("other")
    (tmp_path / "journal.position").symlink_to(tmp_path / "other")
    with pytest.raises(OSError, match="symbolic link"):
        PositionFile(tmp_path / "journal")


def test_position_that_cannot_be_written_is_logged_once(
    beside: PositionFile, caplog: pytest.LogCaptureFixture
) -> None:
    beside.close()
    beside.write(RUN)
    beside.write(RUN)
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("fastlib.migfra", logging.WARNING)
    assert record.getMessage() == (
        "the daemon cannot detect an older copy of the journal, because the file beside it cannot "
        "be written: [Errno 9] Bad file descriptor"
    )


@pytest.mark.parametrize("descriptor", [0, 5])
def test_file_is_closed_once(
    descriptor: int, beside: PositionFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed: list[int] = []
    with monkeypatch.context() as patch:
        patch.setattr(os, "close", closed.append)
        own, beside._descriptor = beside._descriptor, descriptor
        beside.close()
        beside.close()
    beside._descriptor = own
    assert closed == [descriptor]
