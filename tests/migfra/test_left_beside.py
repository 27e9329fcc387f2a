"""Journals with work that no daemon finishes, beside that of the daemon that starts."""

import asyncio
import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from fastlib import Start
from fastlib.migfra.config.file import read as read_configuration
from fastlib.migfra.journal.journal import Journal
from fastlib.migfra.journal.left_beside import left_beside
from fastlib.migfra.service.lock import InstanceLock
from fastlib.transport import Communicator
from tests.support.migfra.program import Program, program
from tests.support.migfra.scheduler import ask, forget, scheduler_at
from tests.support.mosquitto import Mosquitto


def write(path: Path, *, answered: bool = False, host: str | None = "node01") -> None:
    """Write a journal of a daemon that was killed with an order."""

    async def main() -> None:
        journal = Journal(path, host=host)
        accepted = await journal.accept(None, b"digest", b"payload")
        if answered:
            await journal.answer(accepted.number, b"answer")
        await journal.close()

    asyncio.run(main())


def test_unanswered_orders_are_found_with_their_host(tmp_path: Path) -> None:
    path = tmp_path / "node01.journal"
    write(path)
    (left,) = left_beside([path, path])
    assert (left.path, left.host, left.unanswered, left.unconfirmed) == (path, "node01", 1, 0)
    assert str(left).startswith(
        f"the journal {path} of the host node01, which no daemon uses, has 1 order without an "
        "answer, the oldest of 20"
    )
    assert "'hostname: node01' or 'journal: {path: ...}'" in str(left)


def test_answers_that_the_broker_may_not_have_are_found(tmp_path: Path) -> None:
    path = tmp_path / "other.journal"
    write(path, answered=True, host=None)
    (left,) = left_beside([path])
    assert (left.host, left.unanswered, left.unconfirmed) == (None, 0, 1)
    assert " has 1 answer that the broker may not have, the oldest of 20" in str(left)
    both = str(replace(left, unanswered=2, unconfirmed=3))
    assert " has 2 orders without an answer and 3 answers that the broker may not have, " in both
    assert "a daemon with 'journal: {path: ...}' in its configuration" in str(left)


def test_journal_without_work_is_not_reported(tmp_path: Path) -> None:
    path = tmp_path / "node01.journal"
    asyncio.run(_empty(path))
    assert left_beside([path]) == []


async def _empty(path: Path) -> None:
    await Journal(path, host="node01").close()


def test_journal_that_a_daemon_uses_is_not_reported(tmp_path: Path) -> None:
    path = tmp_path / "node01.journal"
    write(path)
    with InstanceLock(Path(f"{path}.lock")):
        assert left_beside([path]) == []
    assert len(left_beside([path])) == 1


def test_files_other_than_journals_are_not_reported(tmp_path: Path) -> None:
    text, database = tmp_path / "a.journal", tmp_path / "b.journal"
    text.write_text("nothing of ours")
    with sqlite3.connect(database) as connection:
        connection.execute("CREATE TABLE t (x)")
    connection.close()
    (tmp_path / "c.journal").mkdir()
    assert left_beside([text, database, tmp_path / "c.journal", tmp_path / "d.journal"]) == []


def test_journals_of_other_host_names_are_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the directory of state, and where the path of the configuration has the host's name."""
    state = tmp_path / "state[1]"
    state.mkdir()
    monkeypatch.setenv("STATE_DIRECTORY", str(state))
    for name in ("node01.journal", "node02.journal", "node02.journal.lock", "notes"):
        (state / name).touch()
    for name in ("node01", "node03"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "orders").touch()
    default = read_configuration("{hostname: node01, hypervisor: {type: dummy}}")
    assert default.other_journals() == [state / "node02.journal"]
    moved = read_configuration(
        f"{{hostname: node01, hypervisor: {{type: dummy}}, "
        f"journal: {{path: '{tmp_path}/<hostname>/orders'}}}}"
    )
    assert moved.other_journals() == [
        tmp_path / "node03" / "orders", state / "node01.journal", state / "node02.journal",
    ]  # fmt: skip


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    with Mosquitto(tmp_path / "broker") as broker:
        yield broker


@pytest.fixture
def scheduler(broker: Mosquitto) -> Iterator[Communicator]:
    forget(broker)
    with scheduler_at(broker) as scheduler:
        yield scheduler


def test_program_reports_journals_of_old_host_names_at_its_start(
    broker: Mosquitto, scheduler: Communicator, tmp_path: Path
) -> None:
    (tmp_path / "migfra").mkdir()
    with program(tmp_path / "migfra", broker.port, gate=tmp_path / "gate") as migfra:
        text = migfra.configuration.read_text()
        default = "".join(line for line in text.splitlines(True) if "journal:" not in line)
        migfra.configuration.write_text(default)
        migfra.start()
        ask(scheduler, Start(vm_name="vm1"), "1")
        migfra.wait_for("accepted: start vm")
        migfra.kill()
        migfra.configuration.write_text(default.replace("hostname: node01", "hostname: node02"))
        _start_under_the_new_name(migfra)
        journal = migfra.directory / "node01.journal"
        line = migfra.wait_for(f"the journal {journal} of the host node01, which no daemon uses,")
        assert " has 1 order without an answer, " in line


def _start_under_the_new_name(migfra: Program) -> None:
    migfra.start(ready=False)
    migfra.wait_for("works on node02")
