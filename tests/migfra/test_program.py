"""`migfra` as a process, with a real mosquitto."""

import re
import resource
import signal
import socket
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from fastlib import Migrate, Quit, Start, Stop
from fastlib.cli.migfra import WRONG_CONFIGURATION
from fastlib.message import topics
from fastlib.migfra import RunningError
from fastlib.migfra.service.lock import InstanceLock
from fastlib.transport import Communicator, MqttOptions, connect
from tests.support.migfra.program import Program, program
from tests.support.migfra.scheduler import (
    ask,
    forget,
    result,
    scheduler_at,
    until_presence,
)
from tests.support.mosquitto import PATIENCE, Mosquitto, free_port
from tests.support.shell import address, run
from tests.support.waiting import wait_until


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mosquitto]:
    directory = tmp_path_factory.mktemp("broker")
    with Mosquitto(directory, settings=("max_queued_messages 0",)) as broker:
        yield broker


@pytest.fixture
def scheduler(broker: Mosquitto) -> Iterator[Communicator]:
    with scheduler_at(broker) as scheduler:
        yield scheduler


@pytest.fixture
def migfra(tmp_path: Path, broker: Mosquitto) -> Iterator[Program]:
    forget(broker)
    with program(tmp_path, broker.port) as migfra:
        yield migfra


def test_program_works_and_ends_on_sigterm(
    migfra: Program, scheduler: Communicator, tmp_path: Path
) -> None:
    """It notifies systemd of both."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(PATIENCE)
        migfra.environment["NOTIFY_SOCKET"] = str(tmp_path / "notify")
        _work_and_end(migfra, scheduler)
        assert systemd.recv(100) == b"READY=1"
        assert systemd.recv(100) == b"STOPPING=1"


def _work_and_end(migfra: Program, scheduler: Communicator) -> None:
    migfra.start()
    until_presence(scheduler, "online")
    ask(scheduler, Start(vm_name="vm1", time_measurement=True), "1")
    answer = result(scheduler)
    assert (answer.id, answer.results[0].status) == ("1", "success")
    assert answer.results[0].time_measurement is not None
    line = migfra.wait_for("start vm ended with success")
    assert "INFO [node01 1 vm1]" in line
    assert migfra.terminate() == 0
    until_presence(scheduler, "offline")
    assert "ended" in migfra.log[-1]


def test_task_that_outlives_the_daemon_is_recovered(
    tmp_path: Path, broker: Mosquitto, scheduler: Communicator
) -> None:
    forget(broker)
    with program(tmp_path, broker.port, "shutdown-timeout: 0.2\n") as migfra:
        migfra.start()
        ask(scheduler, Migrate(vm_name="vm1", destination="node02"), "m")
        migfra.wait_for("accepted: migrate vm")
        assert migfra.terminate() == 0
        migfra.wait_for("migrate vm did not end within 0.2 s; the next run continues it")
        migfra.start()
        answer = result(scheduler)
        assert (answer.id, answer.results[0].status) == ("m", "success")
        assert migfra.done() == ["begin vm1", "end vm1"]


def test_daemon_that_works_shows_itself_again_after_its_host_was_forgotten(
    migfra: Program, broker: Mosquitto, scheduler: Communicator
) -> None:
    """`fastlib forget` refuses, and its --force does no harm."""
    migfra.start()
    until_presence(scheduler, "online")
    done = run("forget", "node01", env=address(broker))
    assert (done.returncode, done.stdout) == (1, "")
    assert "its daemon is online and answers" in done.stderr
    done = run("forget", "node01", "--force", env=address(broker))
    assert (done.returncode, done.stderr) == (0, "")
    until_presence(scheduler, "online")
    assert migfra.terminate() == 0
    until_presence(scheduler, "offline")
    done = run("forget", "node01", env=address(broker))
    assert (done.returncode, done.stderr) == (0, "")
    words = r"node01: its presence is deleted; it was offline for \d+ s(econds)?( \(.*\))?\n"
    assert re.fullmatch(words, done.stdout), done.stdout


def test_second_sigterm_ends_at_once(migfra: Program, scheduler: Communicator) -> None:
    migfra.start()
    ask(scheduler, Migrate(vm_name="vm1", destination="node02"), "m")
    migfra.wait_for("accepted: migrate vm")
    migfra.send(signal.SIGTERM)
    migfra.wait_for("ending: running tasks have")
    assert migfra.terminate() == 0
    migfra.wait_for("ending at once")
    line = migfra.wait_for("the next run continues it")
    assert (
        "[node01 m vm1] migrate vm did not end before the daemon received the order to end at once"
        in line
    )


def test_sigterm_ends_the_wait_for_the_broker(tmp_path: Path) -> None:
    with program(tmp_path, free_port(), "log: {level: debug}\n") as migfra:
        migfra.start(ready=False)
        migfra.wait_for("refused")
        assert migfra.terminate() == 0


def test_second_instance_is_refused(migfra: Program, scheduler: Communicator) -> None:
    migfra.start()
    second = migfra.run_here()
    assert second.returncode == 1
    assert f"another instance, process {migfra.pid}, runs" in second.stderr
    assert "Traceback" not in second.stderr


def test_sighup_reads_the_log_level(migfra: Program, scheduler: Communicator) -> None:
    migfra.start()
    text = migfra.configuration.read_text()
    migfra.configuration.write_text(text + "log: {level: error}\n")
    migfra.send(signal.SIGHUP)
    migfra.wait_for("log level: error")
    ask(scheduler, Start(vm_name="vm1"), "1")
    result(scheduler)
    assert not [line for line in migfra.log if "start vm" in line]
    migfra.configuration.write_text(text + "log: {level: lewd}\n")
    migfra.send(signal.SIGHUP)
    migfra.wait_for("the log level does not change: line")
    migfra.configuration.write_text(text)
    migfra.send(signal.SIGHUP)
    migfra.wait_for("log level: info")


def test_check_reports_every_problem(migfra: Program) -> None:
    assert migfra.run_here("--check").returncode == 0
    migfra.configuration.write_text("hypervisor: {type: ledge}\nlimits: {members: 0}\n")
    checked = migfra.run_here("--check")
    assert checked.returncode == 1
    lines = checked.stderr.splitlines()
    assert lines[0].startswith(f"{migfra.configuration}:1:20: error: hypervisor.type:")
    assert lines[1].startswith(f"{migfra.configuration}:2:19: error: limits.members:")
    run = migfra.run_here()
    assert run.stderr == checked.stderr
    assert run.returncode == WRONG_CONFIGURATION


def test_wrong_usage_exits_with_2(migfra: Program, tmp_path: Path) -> None:
    migfra.configuration = tmp_path / "nothing"
    run = migfra.run_here()
    assert (run.returncode, run.stderr.count("\n")) == (2, 1)
    assert "No such file" in run.stderr
    assert migfra.run_here("--version").stdout.startswith("migfra ")
    assert migfra.run_here("--wrong").returncode == 2


@pytest.mark.parametrize(
    ("line", "said", "status"),
    [
        (
            "raise KeyError('what')",
            "the distribution ledger-plugin 1.0 cannot be loaded",
            WRONG_CONFIGURATION,
        ),
        ("Ledger.open = lambda self: 1 / 0", "cannot be opened: ZeroDivisionError", 1),
        ("Ledger.__init__ = lambda self, o, n: 1 / 0", "cannot be made: ZeroDivisionError", 1),
    ],
)
def test_broken_plugin_is_reported_without_a_traceback(
    migfra: Program, line: str, said: str, status: int
) -> None:
    plugin = migfra.directory / "ledger_plugin.py"
    plugin.write_text(f"{plugin.read_text()}\n{line}\n")
    run = migfra.run_here()
    assert run.returncode == status
    assert said in run.stderr
    assert "Traceback" not in run.stderr


def test_wrong_password_ends_the_program(tmp_path: Path) -> None:
    (tmp_path / "migfra").mkdir()
    with Mosquitto(tmp_path / "broker", password=("migfra", "sesame")) as broker:
        made = Program(tmp_path / "migfra", broker.port)
        text = made.configuration.read_text()
        secret = tmp_path / "secret"
        secret.write_text("wrong\n")
        made.configuration.write_text(
            text.replace(
                "communicator: {", f"communicator: {{username: migfra, password-file: {secret}, "
            )
        )
        run = made.run_here()
        assert run.returncode == 1
        assert "Traceback" not in run.stderr
        assert "wrong" not in run.stderr.replace("wrong password", "")
        assert run.stderr.endswith("; check the name and the password of the user\n")


def test_log_has_no_password(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """From the environment; with `--long` from a file as well."""
    sources = [f"password-file: {tmp_path}/secret", "password-environment: SECRET"]
    if not request.config.getoption("--long"):
        del sources[0]
    (tmp_path / "migfra").mkdir()
    with Mosquitto(tmp_path / "broker", password=("migfra", "open-sesame")) as broker:
        extra = "log: {level: debug}\n"
        with program(tmp_path / "migfra", broker.port, extra) as migfra:
            secret = tmp_path / "secret"
            secret.write_text("open-sesame\n")
            text = migfra.configuration.read_text()
            for source in sources:
                migfra.environment["SECRET"] = "open-sesame"
                migfra.configuration.write_text(
                    text.replace("communicator: {", f"communicator: {{username: migfra, {source}, ")
                )
                migfra.log.clear()
                migfra.start()
                migfra.send(signal.SIGHUP)
                migfra.wait_for("log level: debug")
                broker.kill()
                migfra.wait_for("broke; trying again")
                broker.start()
                migfra.wait_for("is connected again")
                assert migfra.terminate() == 0
                assert "DEBUG" in "".join(migfra.log)
                assert "sesame" not in "".join(migfra.log)


def test_second_sigterm_ends_the_wait_for_confirmations(tmp_path: Path) -> None:
    """The daemon waits for a silent broker after the first one. The next run sends the result."""
    (tmp_path / "migfra").mkdir()
    with (
        Mosquitto(tmp_path / "broker") as broker,
        program(tmp_path / "migfra", broker.port, gate=tmp_path / "gate") as migfra,
    ):
        migfra.start()
        options = MqttOptions(host="127.0.0.1", port=broker.port)
        with connect(options) as scheduler:
            ask(scheduler, Start(vm_name="vm1"), "1")
            migfra.wait_for("accepted: start vm")
        broker.freeze()
        (tmp_path / "gate").touch()
        migfra.wait_for("start vm ended with success")
        with closing(sqlite3.connect(migfra.journal)) as journal:
            answered = "SELECT count(*) FROM containers WHERE answer IS NOT NULL"
            wait_until(lambda: journal.execute(answered).fetchone() == (1,), "the answer")
        migfra.send(signal.SIGTERM)
        migfra.wait_for("ending: running tasks have")
        migfra.send(signal.SIGTERM)
        migfra.wait_for("the broker has not confirmed 1 results; the next run sends them again")
        assert migfra.wait() == 0
        broker.thaw()
        with connect(options) as scheduler:
            scheduler.subscribe(topics.RESULT("node01"))
            migfra.start()
            assert result(scheduler).id == "1"
        assert migfra.done() == ["begin vm1", "end vm1"]


def test_unusable_journal_is_reported_with_the_remedy(migfra: Program) -> None:
    """The place and the remedy, on standard error and in the log file."""
    text = migfra.configuration.read_text()
    migfra.configuration.write_text(
        text.replace(f"path: {migfra.journal}", f"path: {migfra.configuration}/journal")
    )
    log = migfra.directory / "log"
    run = migfra.run_here("-l", str(log))
    assert run.returncode == 1
    assert f"the journal cannot be kept at {migfra.configuration}/journal" in run.stderr
    assert "'journal: {path: ...}' in the configuration" in run.stderr
    assert run.stderr.count("\n") == 1
    assert "the journal cannot be kept" in log.read_text()


def test_full_disk_delays_but_loses_nothing(migfra: Program, scheduler: Communicator) -> None:
    """The journal's files cannot grow, as on a full disk."""
    migfra.start()
    wal = Path(f"{migfra.journal}-wal")
    full = max(wal.stat().st_size, migfra.journal.stat().st_size)
    resource.prlimit(migfra.pid, resource.RLIMIT_FSIZE, (full, resource.RLIM_INFINITY))
    for number in range(20):
        ask(scheduler, Stop(vm_name=f"vm{number}"), str(number))
    migfra.wait_for("the journal cannot be written")
    resource.prlimit(
        migfra.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    )
    assert {result(scheduler).id for _ in range(20)} == {str(number) for number in range(20)}
    assert migfra.terminate() == 0
    assert len(migfra.done()) == 40


def test_daemon_option_detaches_from_the_terminal(
    migfra: Program, scheduler: Communicator, tmp_path: Path
) -> None:
    file = tmp_path / "log"
    run = migfra.run("-d", "-l", str(file))
    assert (run.returncode, run.stdout) == (0, "")
    assert re.sub("^migfra: the daemon does not work yet, .*\n", "", run.stderr) == ""  # if busy
    second = migfra.run("-d")
    assert second.returncode == 1
    assert "without -l FILE the daemon logs nothing" in second.stderr
    assert "another instance" in second.stderr
    ask(scheduler, Start(vm_name="vm1"), "1")
    assert result(scheduler).id == "1"
    ask(scheduler, Quit(), "q")
    answer = result(scheduler)
    assert (answer.result, answer.id) == ("quit", "q")
    # It is not our child, so its locks show when it has ended.
    locks = list(migfra.directory.glob("*.lock"))
    assert len(locks) == 2
    wait_until(lambda: not any(map(is_locked, locks)), "the end of the daemon")
    migfra.start()  # the quit does not end the next run
    ask(scheduler, Start(vm_name="vm2"), "2")
    assert result(scheduler).id == "2"


def is_locked(path: Path) -> bool:
    try:
        InstanceLock(path).release()
    except RunningError:
        return True
    return False


def test_watchdog_of_systemd_is_fed_while_the_daemon_works(migfra: Program, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(PATIENCE)
        migfra.environment |= {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "400000"}
        migfra.start()
        said = [systemd.recv(100) for _ in range(3)]
        assert said == [b"READY=1", b"WATCHDOG=1", b"WATCHDOG=1"]


def test_presence_is_published_after_an_interruption(tmp_path: Path) -> None:
    (tmp_path / "migfra").mkdir()
    with (
        Mosquitto(tmp_path / "broker") as broker,
        program(tmp_path / "migfra", broker.port) as migfra,
    ):
        migfra.start()
        broker.kill()
        broker.start()
        with connect(MqttOptions(host="127.0.0.1", port=broker.port)) as scheduler:
            scheduler.subscribe(topics.PRESENCE("node01"))
            until_presence(scheduler, "online")
            migfra.kill()
            until_presence(scheduler, "offline")
