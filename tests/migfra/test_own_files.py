"""Attacks of another user of the machine on the daemon's files."""

import asyncio
import fcntl
import os
import sqlite3
import stat
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from fastlib.migfra import RunningError
from fastlib.migfra.journal import schema
from fastlib.migfra.journal.journal import Journal
from fastlib.migfra.own_files import (
    check_own_file,
    check_own_folder,
    make_own_folder,
    open_own_file,
)
from fastlib.migfra.service import lock
from fastlib.migfra.service.lock import InstanceLock, holders
from fastlib.migfra.telemetry.log_output import FileOutput
from fastlib.migfra.telemetry.logs import set_up


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture(autouse=True)
def usual_umask():
    before = os.umask(0o022)
    yield
    os.umask(before)


def test_path_that_the_locale_cannot_encode_is_an_error_with_a_remedy(tmp_path: Path) -> None:
    code = (
        "import os, sys; from fastlib.migfra.own_files import check_own_file\n"
        "try: check_own_file(sys.argv[1] + '/\\u65e5', os.O_RDWR)\n"
        "except OSError as error: print(error.strerror)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        env=os.environ | {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "does not have '\\u65e5'; start the daemon with a locale of UTF-8" in ended.stdout


# --- the lock -------------------------------------------------------------------------------------


def test_only_the_owner_may_open_the_lock(tmp_path: Path) -> None:
    """To lock a file needs no more than to read it."""
    path = tmp_path / "run" / "lock"
    with InstanceLock(path):
        assert mode_of(path) == 0o600
        assert mode_of(path.parent) == 0o700


def test_mode_of_an_older_lock_is_corrected(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    path.write_text("1234\n")
    path.chmod(0o644)
    InstanceLock(path).release()
    assert mode_of(path) == 0o600


def test_error_names_the_process_that_holds_the_lock(tmp_path: Path) -> None:
    """And not the one in the file, which may have ended."""
    path = tmp_path / "lock"
    path.write_text("1\n")
    with path.open() as other:
        fcntl.flock(other, fcntl.LOCK_SH)  # reading is enough
        assert holders(path) == [os.getpid()]
        with pytest.raises(RunningError) as caught:
            InstanceLock(path)
    assert caught.value.pid == os.getpid()


def test_error_names_no_process_that_is_unknown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "lock"
    with InstanceLock(path):
        inode = path.stat().st_ino
        others = "1: FLOCK ADVISORY WRITE {} 00:00:{} 0 EOF\n"
        for text in ("", others.format(0, inode), others.format(4711, inode)):
            (tmp_path / "locks").write_text(text)
            monkeypatch.setattr(lock, "LOCKS", tmp_path / "locks")
            with pytest.raises(RunningError) as caught:
                InstanceLock(path)
            assert caught.value.pid is None


def test_folder_of_another_user_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.lchown(tmp_path, os.geteuid(), -1)
    monkeypatch.setattr(os, "geteuid", lambda: 4711)
    owner = tmp_path.stat().st_uid
    if owner == 0:  # root may own the folder of any daemon
        os.chown(tmp_path, 4712, -1)
    try:
        with pytest.raises(OSError, match="the directory belongs to another user"):
            InstanceLock(tmp_path / "lock")
    finally:
        os.chown(tmp_path, owner, -1)


def test_link_of_another_user_to_an_own_folder_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "link").symlink_to("own")
    make_own_folder(tmp_path / "link")
    found = os.lstat(tmp_path / "link")
    foreign = os.stat_result((*found[:4], found.st_uid + 4711, *found[5:]))
    monkeypatch.setattr(os, "lstat", lambda path: foreign)
    with pytest.raises(PermissionError, match="belongs to another user"):
        make_own_folder(tmp_path / "link")


def test_file_of_another_user_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    path.touch()
    monkeypatch.setattr(os, "geteuid", lambda: path.stat().st_uid + 4711)
    with pytest.raises(PermissionError, match="the file belongs to another user; remove it"):
        open_own_file(path, os.O_RDWR, 0o600, correct_mode=True)


# --- the journal ----------------------------------------------------------------------------------


def test_mode_of_an_existing_journal_is_corrected(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    asyncio.run(Journal(path).close())
    path.chmod(0o644)
    for end in schema.SQLITE_FILES:
        Path(f"{path}{end}").touch(mode=0o644)
    with closing(schema.open_tables(path)):
        names = sorted(each.name for each in tmp_path.iterdir())
        assert {mode_of(each) for each in tmp_path.iterdir()} == {0o600}, names
        assert "journal-wal" in names


@pytest.mark.parametrize("end", ["", *schema.SQLITE_FILES])
def test_journal_does_not_follow_symbolic_links(end: str, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("")
    (tmp_path / f"journal{end}").symlink_to(victim)
    with pytest.raises(OSError, match="it is a symbolic link, and the daemon follows none"):
        schema.open_tables(tmp_path / "journal")
    assert victim.read_text() == ""


def test_link_that_leads_nowhere_makes_no_file(tmp_path: Path) -> None:
    (tmp_path / "journal").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic link"):
        schema.open_tables(tmp_path / "journal")
    assert not (tmp_path / "elsewhere").exists()


def test_named_pipe_is_refused_as_journal(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "journal")
    with pytest.raises(OSError, match="it is not a regular file"):
        schema.open_tables(tmp_path / "journal")


def test_journal_in_a_linked_folder_is_used(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "state").symlink_to("real")
    with closing(schema.open_tables(tmp_path / "state" / "journal")) as connection:
        assert isinstance(connection, sqlite3.Connection)
    assert mode_of(tmp_path / "real" / "journal") == 0o600


# --- the log --------------------------------------------------------------------------------------


def test_log_is_not_readable_by_everybody(tmp_path: Path) -> None:
    FileOutput(tmp_path / "log").close()
    assert mode_of(tmp_path / "log") == 0o640


def test_log_does_not_follow_symbolic_links(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("")
    (tmp_path / "log").symlink_to(victim)
    with pytest.raises(OSError, match="it is a symbolic link, and the daemon follows none"):
        set_up("info", "text", tmp_path / "log")
    assert victim.read_text() == ""


def test_log_that_is_replaced_by_a_link_is_not_followed(tmp_path: Path) -> None:
    path, victim = tmp_path / "log", tmp_path / "victim"
    victim.write_text("")
    output = FileOutput(path)
    output.write(b"one\n")
    path.rename(tmp_path / "log.1")
    path.symlink_to(victim)
    output.write(b"two\n")
    assert output.detour is not None
    assert "symbolic link" in str(output.detour)
    assert (tmp_path / "log.1").read_text() == "one\ntwo\n"
    assert victim.read_text() == ""
    path.unlink()
    output.write(b"three\n")
    output.close()
    assert path.read_text() == "three\n"


# --- checks that change nothing -------------------------------------------------------------------


@pytest.mark.parametrize("folder", ["/proc", "/sys", "/sys/kernel"])
def test_folder_that_keeps_no_files_is_refused(folder: str) -> None:
    """Root may write to it, says the kernel. A user gets another error."""
    words = "keeps no files; choose a folder on a disk" if os.geteuid() == 0 else "denied"
    for check in (
        lambda: check_own_file(f"{folder}/journal", os.O_RDWR | os.O_CREAT),
        lambda: check_own_folder(Path(folder) / "new" / "folder"),
    ):
        with pytest.raises(OSError, match=words) as caught:
            check()
        assert str(caught.value.filename) == folder


def test_check_of_a_new_file_leaves_nothing(tmp_path: Path) -> None:
    check_own_file(tmp_path / "journal", os.O_RDWR | os.O_CREAT)
    check_own_folder(tmp_path / "new" / "folder")
    assert list(tmp_path.iterdir()) == []
