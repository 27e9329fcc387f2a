"""Outputs of `migfra` that fail: the daemon continues, and ends regularly with its presence."""

import fcntl
import os
import resource
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fastlib import Query, Start, TaskContainer
from fastlib.message import topics
from fastlib.message.node import NodeResult
from fastlib.transport import Communicator
from tests.support.migfra.program import Program, program
from tests.support.migfra.scheduler import ask, forget, result, scheduler_at, until_presence
from tests.support.mosquitto import PATIENCE, Mosquitto


@pytest.fixture
def scheduler(broker: Mosquitto) -> Iterator[Communicator]:
    with scheduler_at(broker) as scheduler:
        yield scheduler


@pytest.fixture
def migfra(tmp_path: Path, broker: Mosquitto) -> Iterator[Program]:
    forget(broker)
    with program(tmp_path, broker.port) as migfra:
        yield migfra


def start(scheduler: Communicator, name: str) -> None:
    """Let the daemon start a domain, which it logs in several lines."""
    ask(scheduler, Start(vm_name=name), name)
    answer = result(scheduler)
    assert (answer.id, answer.results[0].status) == (name, "success")


def test_removed_log_directory(migfra: Program, scheduler: Communicator, tmp_path: Path) -> None:
    """The log continues when the directory exists again, with the number of lost lines."""
    file = tmp_path / "lg" / "l"
    file.parent.mkdir()
    migfra.start("-l", str(file), ready=False)
    until_presence(scheduler, "online")
    shutil.rmtree(file.parent)
    start(scheduler, "vm1")
    migfra.wait_for(f"the log {file} cannot be written: No such file or directory")
    file.parent.mkdir()
    start(scheduler, "vm2")
    assert migfra.terminate() == 0
    until_presence(scheduler, "offline")
    text = file.read_text()
    assert "lines of the log were lost since" in text.splitlines()[0]
    assert "vm2" in text
    assert text.splitlines()[-1].endswith("ended")


def test_log_that_cannot_be_opened_after_rotation(
    migfra: Program, scheduler: Communicator, tmp_path: Path
) -> None:
    file = tmp_path / "log"
    migfra.start("-l", str(file), ready=False)
    until_presence(scheduler, "online")
    file.rename(tmp_path / "log.1")
    file.mkdir()  # root may write everywhere, but not into a directory
    start(scheduler, "vm1")
    file.rmdir()
    start(scheduler, "vm2")
    assert migfra.terminate() == 0
    until_presence(scheduler, "offline")
    assert "vm1" in (tmp_path / "log.1").read_text()
    assert "lines are in the file that was moved away" in file.read_text()


def test_full_disk_of_the_log(migfra: Program, scheduler: Communicator, tmp_path: Path) -> None:
    folder, kept = tmp_path / "logs", tmp_path / "kept" / "full"
    kept.parent.mkdir()
    folder.symlink_to(kept.parent)
    file = folder / "full"
    migfra.start("-l", str(file), ready=False)
    until_presence(scheduler, "online")
    _link(folder, Path("/dev"))
    start(scheduler, "vm1")
    migfra.wait_for("cannot be written: No space left on device")
    _link(folder, kept.parent)
    start(scheduler, "vm2")
    assert migfra.terminate() == 0
    until_presence(scheduler, "offline")
    text = kept.read_text()
    assert "vm1" not in text
    assert "lines of the log were lost since" in text
    assert ": No space left on device" in text


def _link(file: Path, target: Path) -> None:
    new = file.with_name("new")
    new.symlink_to(target)
    new.replace(file)


@contextmanager
def running(migfra: Program, *command: str, out: int | None = None) -> Iterator[int]:
    """Run a command that becomes the daemon, with these streams; its process id. It ends well."""
    process = subprocess.Popen(
        [*command, *migfra.command()], env=migfra.environment, stdout=out, stderr=out
    )
    try:
        yield process.pid
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0
    finally:
        process.kill()
        process.wait(PATIENCE)


def work(migfra: Program, scheduler: Communicator) -> None:
    until_presence(scheduler, "online")
    for name in ("vm1", "vm2"):
        start(scheduler, name)
    assert migfra.done() == ["begin vm1", "end vm1", "begin vm2", "end vm2"]


def test_closed_standard_streams(migfra: Program, scheduler: Communicator) -> None:
    """No file of the daemon gets their numbers: libraries would print into the journal."""
    with running(migfra, "bash", "-c", 'exec "$@" <&- >&- 2>&-', "bash") as pid:
        work(migfra, scheduler)
        opened = [os.readlink(f"/proc/{pid}/fd/{number}") for number in range(3)]
        assert opened == ["/dev/null"] * 3
    until_presence(scheduler, "offline")


def test_full_standard_streams(migfra: Program, scheduler: Communicator) -> None:
    with open("/dev/full", "wb") as full, running(migfra, out=full.fileno()):
        work(migfra, scheduler)
    until_presence(scheduler, "offline")


@pytest.mark.parametrize("is_open", [False, True])
def test_unread_standard_streams_do_not_stop_the_daemon(
    migfra: Program, scheduler: Communicator, is_open: bool
) -> None:
    """The streams are a pipe whose reader has ended, and a full one whose reader hangs."""
    reading, writing = os.pipe()
    if is_open:
        fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
        os.write(writing, bytes(4096))
    else:
        os.close(reading)
    with running(migfra, out=writing):
        os.close(writing)
        work(migfra, scheduler)
    until_presence(scheduler, "offline")
    if is_open:
        os.close(reading)


def test_presence_is_degraded_while_the_journal_cannot_be_written(
    migfra: Program, scheduler: Communicator
) -> None:
    """`query node` says so as well. The journal's files cannot grow, as if the disk were full."""
    migfra.start()
    assert until_presence(scheduler, "online").degraded is None
    wal = Path(f"{migfra.journal}-wal")
    full = max(wal.stat().st_size, migfra.journal.stat().st_size)
    resource.prlimit(migfra.pid, resource.RLIMIT_FSIZE, (full, resource.RLIM_INFINITY))
    order = TaskContainer(tasks=[Start(vm_name="vm1")], id="1").to_yaml() + "\n#" + "-" * full
    scheduler.send(order.encode(), topics.TASK("node01")).wait(PATIENCE)
    while (degraded := until_presence(scheduler, "online").degraded) is None:
        pass
    assert degraded.startswith(f"the journal {migfra.journal} cannot be written: ")
    assert degraded.endswith("; the daemon then continues without a restart")
    assert _queried(scheduler) == degraded
    resource.prlimit(
        migfra.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    )
    assert result(scheduler).id == "1"
    while until_presence(scheduler, "online").degraded is not None:
        pass
    assert _queried(scheduler) is None
    assert migfra.terminate() == 0


def _queried(scheduler: Communicator) -> str | None:
    ask(scheduler, Query(), "q")
    (answered,) = result(scheduler).results
    assert isinstance(answered, NodeResult)
    assert answered.node is not None
    return answered.node.degraded


def test_wrong_log_is_refused_at_the_start(migfra: Program, tmp_path: Path) -> None:
    run = migfra.run_here("-l", str(tmp_path / "nothing" / "log"))
    assert run.returncode == 1
    assert run.stderr == (
        f"migfra: error: the log {tmp_path / 'nothing' / 'log'} cannot be opened: No such file or "
        "directory; its directory must exist, and the user of migfra must have permission to "
        "write there\n"
    )
    run = migfra.run_here("-l", str(tmp_path))
    assert run.returncode == 1
    assert run.stderr == (
        f"migfra: error: the log {tmp_path} cannot be opened: Is a directory; give the name of a "
        "file in it\n"
    )


@pytest.mark.parametrize(
    "end", ["raise KeyboardInterrupt", "asyncio.get_running_loop().stop()", "os._exit(3)"]
)
def test_presence_is_offline_after_each_end_of_the_process(
    migfra: Program, scheduler: Communicator, end: str
) -> None:
    """In the loop, in the middle of a task. The next run finishes the task."""
    plugin = migfra.directory / "ledger_plugin.py"
    text = plugin.read_text()
    plugin.write_text(
        text.replace("        await asyncio.sleep(", f"        {end}\n        await asyncio.sleep(")
    )
    migfra.start()
    until_presence(scheduler, "online")
    ask(scheduler, Start(vm_name="vm1"), "1")
    until_presence(scheduler, "offline")
    assert migfra.wait() != 0
    assert "stop()" not in end or "the program failed unexpectedly" in "".join(migfra.log)
    plugin.write_text(text)
    migfra.start()
    answer = result(scheduler)
    assert (answer.id, answer.results[0].status) == ("1", "success")
    assert migfra.terminate() == 0
