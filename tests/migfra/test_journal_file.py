"""A journal's file that is deleted, replaced or truncated while it is open."""

import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from fastlib.migfra.journal import schema
from fastlib.migfra.journal.file_watch import FileWatch


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[tuple[Path, FileWatch]]:
    path = tmp_path / "journal"
    with closing(schema.open_journal(path, "node01", "boot", 100.0)[0]):
        watch = FileWatch(path)
        assert watch.problem() is None
        yield path, watch
    watch.close()


def test_untouched_file_has_no_problem(watched: tuple[Path, FileWatch]) -> None:
    assert watched[1].problem() is None


def test_deleted_file_is_noticed(watched: tuple[Path, FileWatch]) -> None:
    path, watch = watched
    path.unlink()
    assert watch.problem() == "was deleted"


def test_replaced_file_is_noticed(watched: tuple[Path, FileWatch]) -> None:
    path, watch = watched
    copy = path.with_suffix(".copy")
    copy.write_bytes(path.read_bytes())
    copy.replace(path)
    assert watch.problem() == "was replaced by another file"


def test_truncated_file_is_noticed(watched: tuple[Path, FileWatch]) -> None:
    path, watch = watched
    os.truncate(path, 0)
    assert watch.problem() == "was truncated or overwritten"


def test_deleted_write_ahead_log_is_noticed(watched: tuple[Path, FileWatch]) -> None:
    path, watch = watched
    Path(f"{path}-wal").unlink()
    assert watch.problem() == "has lost its write-ahead log (-wal), which was deleted"
