"""A journal's file that is deleted, replaced or truncated while it is open."""

import asyncio
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from fastlib import Start
from fastlib.migfra import JournalError
from fastlib.migfra.journal import file_watch, schema
from fastlib.migfra.journal.file_watch import FileWatch
from fastlib.migfra.journal.journal import Journal
from tests.support.migfra.bench import Bench, Play, patiently
from tests.support.migfra.scripted import Scripted, gate
from tests.support.waiting import wait_until, wait_until_async


@pytest.fixture(params=["just changed", "quiet"])
def watched(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Path, FileWatch]]:
    """A watch of a file that has just changed, or of one that has not for long."""
    path = tmp_path / "journal"
    with closing(schema.open_journal(path, "node01", "boot", 100.0)[0]) as connection:
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        watch = FileWatch(path, application)
        assert watch.problem() is None
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        if request.param == "quiet":
            later = time.time_ns() + 2 * file_watch.GRANULARITY_NS
            monkeypatch.setattr(file_watch, "time_ns", lambda: later)
            assert watch.problem() is None
            probe = tmp_path / "probe"  # until a change has another time than the last one

            def has_other_times() -> bool:
                probe.write_bytes(b"x")
                return probe.stat().st_ctime_ns != path.stat().st_ctime_ns

            wait_until(has_other_times)
        yield path, watch
    watch.close()
    assert watch.problem() is None


def test_quiet_file_is_not_read(
    watched: tuple[Path, FileWatch], request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, watch = watched
    reads: list[int] = []
    original = os.pread

    def pread(descriptor: int, count: int, offset: int) -> bytes:
        reads.append(count)
        return original(descriptor, count, offset)

    monkeypatch.setattr(os, "pread", pread)
    assert [watch.problem(), watch.problem()] == [None, None]
    quiet = request.node.callspec.params["watched"] == "quiet"
    assert len(reads) == (0 if quiet else 2)


def test_overwritten_file_whose_time_was_set_back_is_noticed(
    watched: tuple[Path, FileWatch],
) -> None:
    path, watch = watched
    before = path.stat()
    path.write_bytes(b"x" * before.st_size)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_mtime_ns == before.st_mtime_ns
    assert watch.problem() == "was overwritten"


def test_untouched_file_has_no_problem(watched: tuple[Path, FileWatch]) -> None:
    path, watch = watched
    assert watch.problem() is None
    with closing(sqlite3.connect(path, isolation_level=None)) as other:  # an administrator's
        other.execute("INSERT INTO meta VALUES ('x', zeroblob(100000))")
        other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        assert watch.problem() is None
        other.execute("DELETE FROM meta WHERE name = 'x'")
        for _ in range(30):
            other.execute("PRAGMA incremental_vacuum(1)")
        other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        assert watch.problem() is None


def test_deleted_file_is_noticed(watched: tuple[Path, FileWatch]) -> None:
    path, watch = watched
    path.unlink()
    assert watch.problem() == "was deleted"


def test_removed_folder_is_noticed(watched: tuple[Path, FileWatch]) -> None:
    path, watch = watched
    path.parent.rename(path.parent.with_suffix(".away"))
    assert watch.problem() == "was deleted"
    path.parent.with_suffix(".away").rename(path.parent)


def test_replaced_file_is_noticed(watched: tuple[Path, FileWatch]) -> None:
    path, watch = watched
    copy = path.with_suffix(".copy")
    copy.write_bytes(path.read_bytes())
    copy.replace(path)
    assert watch.problem() == "was replaced by another file"


@pytest.mark.parametrize("bytes_left", [0, 99, 100, 4096])
def test_truncated_file_is_noticed(watched: tuple[Path, FileWatch], bytes_left: int) -> None:
    path, watch = watched
    assert watch.problem() is None  # it has seen the size
    os.truncate(path, bytes_left)
    assert watch.problem() == ("was overwritten" if bytes_left < 72 else "was truncated")


def test_file_shortened_by_a_full_disk_is_accepted(
    watched: tuple[Path, FileWatch],
) -> None:
    """A checkpoint writes the first page first, with the number of pages that are to come."""
    path, watch = watched
    assert watch.problem() is None
    with path.open("r+b") as file:
        file.seek(28)
        file.write((1 << 20).to_bytes(4, "big"))
    assert watch.problem() is None


@pytest.mark.parametrize("kind", ["another journal", "something else"])
def test_overwritten_file_is_noticed(watched: tuple[Path, FileWatch], kind: str) -> None:
    path, watch = watched
    other = path.with_suffix(".other")
    if kind == "another journal":
        schema.open_journal(other, "node01", "boot", 100.0)[0].close()
    else:
        other.write_bytes(b"x" * 100_000)
    path.write_bytes(other.read_bytes())
    assert watch.problem() == "was overwritten"


def test_deleted_write_ahead_log_is_noticed(watched: tuple[Path, FileWatch]) -> None:
    path, watch = watched
    assert watch.problem() is None
    Path(f"{path}-wal").unlink()
    assert watch.problem() == "has lost its write-ahead log (-wal), which was deleted"


def _spoil(path: Path, kind: str) -> None:
    if kind == "deleted":
        path.unlink()
    elif kind == "folder":
        path.parent.rename(path.parent.with_suffix(".away"))
    elif kind == "replaced":
        copy = path.with_suffix(".copy")
        copy.write_bytes(path.read_bytes())
        copy.replace(path)
    elif kind == "log":
        Path(f"{path}-wal").unlink()
    else:
        os.truncate(path, 0)


@pytest.mark.parametrize("kind", ["deleted", "folder", "replaced", "log", "truncated"])
def test_lost_file_accepts_no_orders(
    tmp_path: Path, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Running tasks end and are answered. New orders stay at the broker, for the next run."""

    async def main() -> None:
        async with Bench(tmp_path / "folder") as bench:
            hypervisor = Scripted()
            plan, begun, go = gate()
            hypervisor.plan["vm1"] = plan
            daemon = await bench.daemon(hypervisor)
            journal = daemon.runtime.journal
            changes: list[str] = []
            journal.on_change(lambda: changes.append(str(journal.last_error)))
            await bench.send(Start(vm_name="vm1"), "runs")
            await patiently(begun.wait())
            _spoil(bench.journal, kind)
            await bench.send(Start(vm_name="vm2"), "comes")
            await wait_until_async(lambda: journal.last_error, "the loss of the file")
            (reason,) = changes
            assert str(bench.journal) in reason
            assert "the daemon accepts no more tasks" in reason
            assert "start the daemon again" in reason
            go.set()
            assert (await bench.result()).id == "runs"
            await bench.no_result()  # and queries are answered
            assert hypervisor.calls == [("start", "vm1")]
            await patiently(daemon.close())
            second = Scripted()
            await bench.daemon(second)
            assert (await bench.result()).id == "comes"
            assert ("start", "vm2") in second.calls

    asyncio.run(main())
    assert len([line for line in caplog.messages if line.startswith("the file of the jo")]) == 1


def test_loss_is_found_without_an_order(tmp_path: Path) -> None:
    async def main() -> None:
        journal = Journal(tmp_path / "journal")
        await journal.check_file()
        assert journal.last_error is None
        (tmp_path / "journal").unlink()
        await journal.check_file()
        assert isinstance(journal.last_error, JournalError)
        with pytest.raises(JournalError, match="was deleted"):
            await journal.accept("a", b"d", b"p")
        await journal.close()

    asyncio.run(main())


@pytest.mark.parametrize("how", ["deleted", "emptied", "kept"])
def test_start_without_the_earlier_journal_is_logged(
    play: Play, caplog: pytest.LogCaptureFixture, how: str
) -> None:
    """The session at the broker shows that there was an earlier run."""

    async def scene(bench: Bench) -> None:
        daemon = await bench.daemon()
        assert "is new" not in caplog.text  # the first run
        await bench.ask(Start(vm_name="vm1"), "1")
        await patiently(daemon.kill())
        if how == "deleted":
            bench.journal.unlink()
        elif how == "emptied":
            bench.journal.write_bytes(b"")
        await bench.daemon()
        words = f"the journal {bench.journal} is new, but the broker has a session of this daemon"
        assert (words in caplog.text) == (how != "kept")

    play(scene)
