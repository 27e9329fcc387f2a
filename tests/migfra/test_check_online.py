"""`migfra --check --online`: the response time of the broker, and the causes of delays."""

import re
from pathlib import Path
from typing import Any

import pytest

from fastlib.cli.migfra import main
from fastlib.migfra.journal.lock import lock_of
from fastlib.migfra.service.lock import InstanceLock, lock_path
from fastlib.migfra.startup import own_topics
from fastlib.transport import MqttOptions, connect
from fastlib.transport.mqtt.round_trip import HELD_BACK, RoundTrip, measure_round_trip
from tests.support.mosquitto import Mosquitto, free_port
from tests.support.transport.subscription_rules import ChoosyMosquitto
from tests.support.waiting import try_with_more_time, wait_until


@pytest.fixture
def configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    return tmp_path / "migfra.yaml"


def write(path: Path, port: int) -> str:
    path.write_text(
        f"hostname: online\ncommunicator: {{host: 127.0.0.1, port: {port}}}\n"
        "hypervisor: {type: dummy}\n"
    )
    return str(path)


def test_remedy_names_the_setting_of_a_broker_that_holds_back_packets():
    slow = RoundTrip(answer=0.0001, gap=0.044)
    assert "for 44 ms" in str(slow.remedy)
    assert "`set_tcp_nodelay true` in mosquitto.conf" in str(slow.remedy)
    assert RoundTrip(answer=0.2, gap=0.0001).remedy is None


@pytest.mark.parametrize("protocol", ["3.1.1", "5"])
def test_broker_with_nagles_algorithm_is_recognised(broker: Mosquitto, protocol: str):
    """Nagle's algorithm takes 40 ms at least; how fast a broker is without it is not tested.

    If a busy machine stops this process for that long, it finds both answers at once.
    """
    options = MqttOptions(host="127.0.0.1", port=broker.port, protocol=protocol)  # type: ignore[arg-type]
    found = wait_until(
        lambda: one if (one := measure_round_trip(options)).gap > HELD_BACK else None, "a gap"
    )
    assert found.answer > 0


def test_waiting_messages_stay_at_the_broker(broker: Mosquitto):
    options = MqttOptions(
        host="127.0.0.1", port=broker.port, client_id="waits", persistent=True, keep_alive=30
    )
    with connect(options) as daemon:
        daemon.subscribe("waits")
    with connect(MqttOptions(host="127.0.0.1", port=broker.port)) as sender:
        sender.send(b"order", "waits", qos=2).wait(60)
    measure_round_trip(options)
    with connect(options) as daemon:
        daemon.subscribe("waits")
        assert daemon.receive("waits", timeout=60).payload == b"order"


@pytest.mark.parametrize("protocol", ["3.1.1", "5"])
def test_measurement_leaves_no_session_behind(broker: Mosquitto, protocol: str):
    """A session would make the daemon warn at its first start that its journal is lost."""
    options = MqttOptions(
        host="127.0.0.1", port=broker.port, client_id=f"first-{protocol}", persistent=True,
        protocol=protocol,  # type: ignore[arg-type]
    )  # fmt: skip
    measure_round_trip(options)
    with connect(options) as daemon:
        assert daemon.session_start == 1


def test_check_online_prints_the_answer_and_the_remedy(
    broker: Mosquitto, configuration: Path, capsys: pytest.CaptureFixture[str]
):
    path = write(configuration, broker.port)

    def check() -> str | None:
        """Return the output of a check that has found both remedy and answer."""
        assert main(["-c", path, "--check", "--online"]) == 0
        shown = capsys.readouterr()
        held_back = "migfra: warning: the broker holds back small packets" in shown.err
        return shown.out if held_back else None

    words = re.match(
        r"the broker accepts the daemon, and answers within ([\d.e-]+) ms\n",
        wait_until(check, "the warning"),
    )
    assert words is not None
    assert float(words[1]) > 0  # a broker on this host answers within less than 0.1 ms


def test_check_online_without_a_broker_fails(
    configuration: Path, capsys: pytest.CaptureFixture[str]
):
    port = free_port()
    assert main(["-c", write(configuration, port), "--check", "--online"]) == 1
    assert f"127.0.0.1:{port}: the broker did not answer: " in capsys.readouterr().err
    assert main(["-c", str(configuration), "--check"]) == 0


def test_check_online_tries_each_of_several_brokers(
    broker: Mosquitto, configuration: Path, capsys: pytest.CaptureFixture[str]
):
    away = free_port()
    configuration.write_text(
        f"hostname: online\nhypervisor: {{type: dummy}}\n"
        f"communicator: {{host: ['127.0.0.1:{away}', '127.0.0.1:{broker.port}']}}\n"
    )
    assert main(["-c", str(configuration), "--check", "--online"]) == 1
    shown = capsys.readouterr()
    assert f"127.0.0.1:{away}: the broker did not answer: " in shown.err
    assert f"the broker at 127.0.0.1:{broker.port} accepts the daemon" in shown.out


def test_check_online_leaves_the_session_of_a_running_daemon_alone(
    broker: Mosquitto, configuration: Path, capsys: pytest.CaptureFixture[str]
):
    path = write(configuration, broker.port)
    with InstanceLock(lock_path(configuration.resolve(), "online")):
        before = len(broker.log)
        assert main(["-c", path, "--check", "--online"]) == 1
    assert "runs" in capsys.readouterr().err
    assert not any("online" in line for line in broker.log[before:])


def test_check_online_of_another_file_leaves_a_running_daemon_alone(
    broker: Mosquitto, configuration: Path, capsys: pytest.CaptureFixture[str]
):
    """It would end the daemon's connection, which has the same client id."""
    path = write(configuration, broker.port)
    journal = configuration.with_name("journal")
    with configuration.open("a") as file:
        file.write(f"journal: {{path: {journal}}}\n")
    with InstanceLock(lock_of(journal)):
        before = len(broker.log)
        assert main(["-c", path, "--check", "--online"]) == 1
    assert "runs with this configuration or journal and holds" in capsys.readouterr().err
    assert not any("online" in line for line in broker.log[before:])


def test_online_belongs_to_check(configuration: Path, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as ended:
        main(["-c", write(configuration, 1), "--online"])
    assert ended.value.code == 2
    assert "--online belongs to --check" in capsys.readouterr().err


STATUS, TASK = "fast/migfra/online/status", "fast/migfra/online/task"


def with_rules(folder: Path, *rules: str) -> Mosquitto:
    """Make a broker whose access list has these lines for the user `online`."""
    rules_file = folder / "rules.acl"
    rules_file.write_text("\n".join(["user online", *rules, ""]))
    rules_file.chmod(0o600)
    return Mosquitto(
        folder / "broker", passwords={"online": "secret"}, settings=(f"acl_file {rules_file}",)
    )


def check_with_rules(folder: Path, capsys: pytest.CaptureFixture[str], *rules: str) -> Any:
    """Check a configuration at such a broker. Return the exit status and both outputs."""
    password = folder / "password"
    password.write_text("secret\n")
    file = folder / "migfra.yaml"
    with with_rules(folder, *rules) as broker:
        file.write_text(
            f"hostname: online\nhypervisor: {{type: dummy}}\ncommunicator: {{host: 127.0.0.1, "
            f"port: {broker.port}, username: online, password-file: {password}}}\n"
        )
        status = main(["-c", str(file), "--check", "--online"])
    return status, capsys.readouterr()


def test_check_online_needs_its_own_status(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    """mosquitto confirms the subscription to a topic that the user must not read."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setattr(own_topics, "ECHO_SECONDS", 0.5)
    status, shown = check_with_rules(tmp_path, capsys, f"topic write {STATUS}")
    assert status == 1
    assert f"migfra: error: {STATUS}: the broker confirms the subscription, and does not" in (
        shown.err
    )
    assert "must be able to read its tasks" in shown.err


def test_check_online_with_the_shipped_rules_succeeds(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    """A daemon must not send itself orders, so it cannot find out whether it gets them.

    Its status comes back in time. A busy machine may need longer for that.
    """
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    rules = (f"topic readwrite {STATUS}", f"topic read {TASK}")

    def check(echo_seconds: float) -> None:
        monkeypatch.setattr(own_topics, "ECHO_SECONDS", echo_seconds)
        status, shown = check_with_rules(tmp_path, capsys, *rules)
        assert status == 0, shown.err
        assert "error" not in shown.err
        assert f"{TASK}: the broker confirms the subscription, and does not deliver" in shown.out
        assert "'fastlib query --host online' shows later" in shown.out

    try_with_more_time(check)


@pytest.mark.parametrize("protocol", ["3.1.1", "5"])
def test_messages_to_own_topics_come_back_and_wait_for_nobody(broker: Mosquitto, protocol: Any):
    options = MqttOptions(
        host="127.0.0.1", port=broker.port, client_id="echo", persistent=True, protocol=protocol
    )
    with connect(options) as daemon:
        daemon.subscribe("fast/migfra/online/task")
    assert [*own_topics.undelivered_topics(options, "online")] == []
    with connect(MqttOptions(host="127.0.0.1", port=broker.port)) as sender:
        sender.send(b"order", "fast/migfra/online/task", qos=2).wait(60)
    with connect(options) as daemon:
        daemon.subscribe("fast/migfra/online/task")
        first = daemon.receive("fast/migfra/online/task", timeout=60)
    assert first.payload == b"order", "the session of the daemon has kept the message of the check"


def test_refused_subscription_to_tasks_is_an_error(tmp_path: Path):
    with ChoosyMosquitto(tmp_path / "broker", TASK) as broker:
        options = MqttOptions(host="127.0.0.1", port=broker.port, client_id="echo")
        (missing,) = own_topics.undelivered_topics(options, "online")
    assert (missing.topic, missing.is_needed) == (TASK, True)
    assert missing.reason == "the broker refuses the subscription"


def test_check_online_opens_the_hypervisor(
    broker: Mosquitto, configuration: Path, capsys: pytest.CaptureFixture[str]
):
    text = Path(write(configuration, broker.port)).read_text()
    simulated = "{type: simulated, cluster: check-online, create: {hosts: [{name: online}]}}"
    configuration.write_text(text.replace("{type: dummy}", simulated))
    assert main(["-c", str(configuration), "--check", "--online"]) == 0
    assert "the hypervisor simulated can be opened" in capsys.readouterr().out
    configuration.write_text(text.replace("{type: dummy}", simulated.replace("online", "other")))
    assert main(["-c", str(configuration), "--check", "--online"]) == 1
    assert "online" in capsys.readouterr().err
