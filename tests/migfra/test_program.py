"""`migfra` as a process, with a real mosquitto."""

import json
import re
import resource
import signal
import socket
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from fastlib import Migrate, Quit, ResultContainer, Start, Stop, Task, TaskContainer
from fastlib.cli.migfra import _parser
from fastlib.message import Cancel, Query, topics
from fastlib.message.node import Presence, Progress
from fastlib.transport import Communicator, MqttOptions, connect
from tests.support.migfra.program import Program, program
from tests.support.mosquitto import PATIENCE, Mosquitto, free_port


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mosquitto]:
    directory = tmp_path_factory.mktemp("broker")
    with Mosquitto(directory, settings=("max_queued_messages 0",)) as broker:
        yield broker


@pytest.fixture
def scheduler(broker: Mosquitto) -> Iterator[Communicator]:
    with connect(MqttOptions(host="127.0.0.1", port=broker.port)) as scheduler:
        # What an earlier test has left is not of this one.
        scheduler.send(b"", topics.PRESENCE("node01"), retain=True).wait(PATIENCE)
        for topic in (topics.RESULT, topics.PROGRESS, topics.PRESENCE):
            scheduler.subscribe(topic("node01"))
        yield scheduler


@pytest.fixture
def migfra(tmp_path: Path, broker: Mosquitto) -> Iterator[Program]:
    forget(broker)
    with program(tmp_path, broker.port) as migfra:
        yield migfra


def forget(broker: Mosquitto) -> None:
    """Let the broker forget the session of an earlier test's daemon."""
    with connect(MqttOptions(host="127.0.0.1", port=broker.port, client_id="fast-migfra-node01")):
        pass


def ask(scheduler: Communicator, task: Task | TaskContainer, id: str | None = None) -> None:
    container = task if isinstance(task, TaskContainer) else TaskContainer(tasks=[task], id=id)
    scheduler.send(container.to_yaml().encode(), topics.TASK("node01")).wait(PATIENCE)


def result(scheduler: Communicator) -> ResultContainer:
    message = scheduler.receive(topics.RESULT("node01"), timeout=PATIENCE)
    return ResultContainer.from_yaml(message.payload)


def presence(scheduler: Communicator) -> str:
    message = scheduler.receive(topics.PRESENCE("node01"), timeout=PATIENCE)
    return Presence.from_yaml(message.payload).status if message.payload else "unknown"


def until_presence(scheduler: Communicator, status: str) -> None:
    while presence(scheduler) != status:
        pass


def test_works_and_ends_in_order(migfra: Program, scheduler: Communicator) -> None:
    migfra.start()
    until_presence(scheduler, "online")
    ask(scheduler, Start(vm_name="vm1", time_measurement=True), "1")
    answer = result(scheduler)
    assert (answer.id, answer.results[0].status) == ("1", "success")
    assert answer.results[0].time_measurement is not None
    line = migfra.wait_for("start vm ended with success")
    assert "INFO [1 vm1]" in line
    assert migfra.terminate() == 0
    until_presence(scheduler, "offline")
    assert "ended" in migfra.log[-1]


def test_quit_by_message(migfra: Program, scheduler: Communicator) -> None:
    migfra.start()
    ask(scheduler, Quit(), "q")
    answer = result(scheduler)
    assert (answer.result, answer.id) == ("quit", "q")
    assert migfra.wait() == 0
    migfra.start()  # and the quit is not there any more
    ask(scheduler, Start(vm_name="vm1"), "1")
    assert result(scheduler).id == "1"


def test_what_runs_when_it_is_told_to_end(
    tmp_path: Path, broker: Mosquitto, scheduler: Communicator
) -> None:
    forget(broker)
    with program(tmp_path, broker.port, "shutdown-timeout: 0.2\n") as migfra:
        migfra.start()
        ask(scheduler, Migrate(vm_name="vm1", destination="node02"), "m")
        migfra.wait_for("accepted: migrate vm")
        assert migfra.terminate() == 0
        migfra.wait_for("did not end within 0.2 s and is left to the next run: migrate vm m")
        migfra.start()
        answer = result(scheduler)
        assert (answer.id, answer.results[0].status) == ("m", "success")
        assert migfra.done() == ["begin vm1", "end vm1"]


def test_told_twice_to_end(migfra: Program, scheduler: Communicator) -> None:
    migfra.start()
    ask(scheduler, Migrate(vm_name="vm1", destination="node02"), "m")
    migfra.wait_for("accepted: migrate vm")
    migfra.send(signal.SIGTERM)
    migfra.wait_for("ending: what runs is finished")
    assert migfra.terminate() == 0
    migfra.wait_for("ending at once")


def test_told_to_end_while_there_is_no_broker(tmp_path: Path) -> None:
    with program(tmp_path, free_port(), "log: {level: debug}\n") as migfra:
        migfra.start(ready=False)
        migfra.wait_for("refused")
        assert migfra.terminate() == 0


def test_cancel_and_progress(migfra: Program, scheduler: Communicator) -> None:
    migfra.start()
    ask(scheduler, Migrate(vm_name="vm1", destination="node02"), "m")
    message = scheduler.receive(topics.PROGRESS("node01"), timeout=PATIENCE)
    progress = Progress.from_yaml(message.payload)
    assert (progress.id, progress.vm_name, progress.transferred) == ("m", "vm1", 1000)
    ask(scheduler, Cancel(id="m"), "c")
    assert [result(scheduler).id, result(scheduler).id] == ["m", "c"]
    ask(scheduler, Query(), "q")
    assert result(scheduler).id == "q"


def test_a_second_instance_is_refused(migfra: Program, scheduler: Communicator) -> None:
    migfra.start()
    second = migfra.run()
    assert second.returncode == 1
    assert f"another instance, process {migfra.pid}, runs" in second.stderr
    assert "Traceback" not in second.stderr
    migfra.kill()
    migfra.start()  # a killed one holds nothing


def test_log_level_on_hangup(migfra: Program, scheduler: Communicator) -> None:
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
    migfra.wait_for("the log's level stays: line")
    migfra.configuration.write_text(text)
    migfra.send(signal.SIGHUP)
    migfra.wait_for("log level: info")


def test_json_logs_carry_the_id(tmp_path: Path, broker: Mosquitto, scheduler: Communicator) -> None:
    forget(broker)
    file = tmp_path / "log"
    with program(tmp_path, broker.port, "log: {format: json}\n") as migfra:
        migfra.start("--log", str(file), ready=False)
        until_presence(scheduler, "online")
        ask(scheduler, Stop(vm_name="vm\n1"), "7")
        assert "cannot be the name of a domain" in str(result(scheduler).results[0].details)
        assert migfra.terminate() == 0
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    ended = next(line for line in lines if "ended with error" in line["message"])
    assert (ended["id"], ended["vm-name"], ended["level"]) == ("7", "vm\n1", "info")


def test_check_names_every_problem(migfra: Program) -> None:
    assert migfra.run("--check").returncode == 0
    migfra.configuration.write_text("hypervisor: {type: ledge}\nlimits: {members: 0}\n")
    checked = migfra.run("--check")
    assert checked.returncode == 1
    lines = checked.stderr.splitlines()
    assert lines[0].startswith(f"{migfra.configuration}:1:20: error: hypervisor.type:")
    assert lines[1].startswith(f"{migfra.configuration}:2:19: error: limits.members:")
    assert migfra.run().stderr == checked.stderr


def test_wrong_usage(migfra: Program, tmp_path: Path) -> None:
    migfra.configuration = tmp_path / "nothing"
    run = migfra.run()
    assert (run.returncode, run.stderr.count("\n")) == (2, 1)
    assert "No such file" in run.stderr
    assert migfra.run("--version").stdout.startswith("migfra ")
    assert migfra.run("--wrong").returncode == 2


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("raise KeyError('what')", "the distribution ledger-plugin 1.0 cannot be loaded"),
        ("Ledger.open = lambda self: 1 / 0", "cannot be opened: ZeroDivisionError"),
        ("Ledger.__init__ = lambda self, o, n: 1 / 0", "cannot be made: ZeroDivisionError"),
    ],
)
def test_a_broken_plugin(migfra: Program, line: str, said: str) -> None:
    plugin = migfra.directory / "ledger_plugin.py"
    plugin.write_text(f"{plugin.read_text()}\n{line}\n")
    run = migfra.run()
    assert run.returncode == 1
    assert said in run.stderr
    assert "Traceback" not in run.stderr


def test_a_wrong_password_ends_it(tmp_path: Path) -> None:
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
        run = made.run()
        assert run.returncode == 1
        assert "Traceback" not in run.stderr
        assert "wrong" not in run.stderr.replace("wrong password", "")


def test_no_log_has_a_password(tmp_path: Path) -> None:
    (tmp_path / "migfra").mkdir()
    with Mosquitto(tmp_path / "broker", password=("migfra", "open-sesame")) as broker:
        extra = "log: {level: debug}\n"
        with program(tmp_path / "migfra", broker.port, extra) as migfra:
            secret = tmp_path / "secret"
            secret.write_text("open-sesame\n")
            text = migfra.configuration.read_text()
            for source in (f"password-file: {secret}", "password-environment: SECRET"):
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


def test_told_twice_to_end_while_the_broker_is_away(tmp_path: Path) -> None:
    """The first time it waits for the broker to take a result; the next run sends it."""
    (tmp_path / "migfra").mkdir()
    with (
        Mosquitto(tmp_path / "broker") as broker,
        program(tmp_path / "migfra", broker.port, pause=3.0) as migfra,
    ):
        migfra.start()
        options = MqttOptions(host="127.0.0.1", port=broker.port)
        with connect(options) as scheduler:
            ask(scheduler, Start(vm_name="vm1"), "1")
            migfra.wait_for("accepted: start vm")
        broker.kill()
        migfra.wait_for("start vm ended with success")
        migfra.send(signal.SIGTERM)
        migfra.wait_for("ending: what runs is finished")
        migfra.send(signal.SIGTERM)
        migfra.wait_for("the broker does not have 1 results; the next run sends them")
        assert migfra.wait() == 0
        broker.start()
        with connect(options) as scheduler:
            scheduler.subscribe(topics.RESULT("node01"))
            migfra.start()
            assert result(scheduler).id == "1"
        assert migfra.done() == ["begin vm1", "end vm1"]


def test_a_journal_that_cannot_be_kept(migfra: Program) -> None:
    """The place and the remedy, on standard error and in the log file."""
    text = migfra.configuration.read_text()
    migfra.configuration.write_text(
        text.replace(f"path: {migfra.journal}", f"path: {migfra.configuration}/journal")
    )
    log = migfra.directory / "log"
    run = migfra.run("-l", str(log))
    assert run.returncode == 1
    assert f"the journal cannot be kept at {migfra.configuration}/journal" in run.stderr
    assert "'journal: {path: ...}' in the configuration" in run.stderr
    assert run.stderr.count("\n") == 1
    assert "the journal cannot be kept" in log.read_text()


def test_a_full_disk(migfra: Program, scheduler: Communicator) -> None:
    """The journal's files cannot grow any more, as if the disk were full."""
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


def test_systemd_is_told(migfra: Program, scheduler: Communicator, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.settimeout(PATIENCE)
        migfra.environment["NOTIFY_SOCKET"] = str(tmp_path / "notify")
        migfra.start()
        assert listening.recv(100) == b"READY=1"
        assert migfra.terminate() == 0
        assert listening.recv(100) == b"STOPPING=1"


def test_in_the_background(migfra: Program, scheduler: Communicator, tmp_path: Path) -> None:
    file = tmp_path / "log"
    run = migfra.run("-d", "-l", str(file))
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")
    second = migfra.run("-d")
    assert second.returncode == 1
    assert "without -l FILE nothing is logged" in second.stderr
    assert "another instance" in second.stderr
    ask(scheduler, Start(vm_name="vm1"), "1")
    assert result(scheduler).id == "1"
    ask(scheduler, Quit())
    assert result(scheduler).result == "quit"
    # It is nobody's child any more; the lock tells when it has ended.
    while migfra.run("-d").returncode:
        pass
    ask(scheduler, Quit())
    assert result(scheduler).result == "quit"


def test_metrics(tmp_path: Path, broker: Mosquitto, scheduler: Communicator) -> None:
    forget(broker)
    port = free_port()
    with program(tmp_path, broker.port, f"metrics: {{port: {port}}}\n") as migfra:
        migfra.start()
        ask(scheduler, Start(vm_name="vm1"), "1")
        assert result(scheduler).id == "1"
        ask(scheduler, Migrate(vm_name="vm2", destination="node02"), "m")
        scheduler.receive(topics.PROGRESS("node01"), timeout=PATIENCE)
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/metrics", headers={"Accept": "application/openmetrics-text"}
        )
        with urllib.request.urlopen(request, timeout=PATIENCE) as response:
            text = response.read().decode()
    assert 'migfra_tasks_total{outcome="success",task="start vm"} 1.0' in text
    assert 'migfra_task_duration_seconds_count{task="start vm"} 1.0' in text
    assert "migfra_containers_at_work 1.0" in text
    assert "migfra_migrated_bytes_total 1000.0" in text
    assert "migfra_broker_connected 1.0" in text
    assert re.search(r"migfra_journal_bytes [1-9]", text)
    assert text.endswith("# EOF\n")


def test_the_unit_for_systemd_has_options_that_there_are() -> None:
    unit = Path(__file__).parent.parent.parent / "docs" / "migfra.service"
    commands = re.findall(r"^ExecStart(?:Pre)?=/usr/bin/env migfra (.*)$", unit.read_text(), re.M)
    assert len(commands) == 2
    for command in commands:
        options = _parser().parse_args(command.split())
        assert options.config == "/etc/migfra.yaml"


def test_presence_after_an_interruption(tmp_path: Path) -> None:
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
