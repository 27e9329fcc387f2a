"""Tests of `fastlib broker` with mosquitto: start and end, the folder, the choice of the broker."""

import errno
import os
import re
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from fastlib.cli import main
from fastlib.transport import (
    Communicator,
    EmbeddedBroker,
    ListenError,
    MosquittoBroker,
    MosquittoMissingError,
    OptionsError,
    WaitTimeoutError,
)
from fastlib.transport.embedded.mosquitto import SETTINGS, default_directory, find_mosquitto
from tests.support.mosquitto import PATIENCE, free_port
from tests.support.transport.broker_command import broker_command
from tests.support.waiting import wait_until

ROOT = Path(__file__).parents[2]


@pytest.fixture
def without_mosquitto(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastlib.transport.embedded.mosquitto.find_mosquitto", lambda: None)


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def test_messages_and_sessions_survive_the_end(
    tmp_path: Path, join: Callable[..., Communicator]
) -> None:
    broker = MosquittoBroker(port=0, directory=tmp_path / "a folder")
    with broker:
        assert broker.is_running
        assert repr(broker) == f"<MosquittoBroker 127.0.0.1:{broker.port}>"
        with pytest.raises(ListenError, match="already"):
            broker.start()
        away = join(broker.port, client_id="away", persistent=True)
        away.subscribe("orders")
        away.close()
        for protocol in ("3.1.1", "5"):
            sender = join(broker.port, protocol=protocol)
            sender.send(protocol.encode(), "orders", qos=2).wait(PATIENCE)
            sender.close()
    assert not broker.is_running
    assert is_free(broker.port)
    with MosquittoBroker(port=0, directory=tmp_path / "a folder") as again:
        back = join(again.port, client_id="away", persistent=True)
        back.subscribe("orders")
        messages = [back.receive(timeout=PATIENCE) for _ in range(2)]
        assert [message.payload for message in messages] == [b"3.1.1", b"5"]
        assert not any(message.retain for message in messages)


def test_temporary_folder_is_deleted_at_the_end() -> None:
    broker = MosquittoBroker(port=0)
    assert broker.directory is None
    assert not broker.keeps_messages
    with broker:
        place = broker.directory
        assert place is not None
        assert place.exists()
        with pytest.raises(WaitTimeoutError):
            broker.wait(0.01)
    assert not place.exists()
    broker.stop()  # once is enough


def test_folder_of_a_running_broker_is_refused(tmp_path: Path) -> None:
    with (
        MosquittoBroker(port=0, directory=tmp_path),
        pytest.raises(ListenError, match=r"another broker keeps its messages in .* name another"),
    ):
        MosquittoBroker(port=0, directory=tmp_path).start()


def test_folder_that_cannot_be_made_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ListenError, match=r"cannot keep messages in .*Not a directory"):
        MosquittoBroker(port=0, directory=tmp_path / "file" / "folder").start()


def test_default_folder_has_the_port(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert default_directory(1883) == tmp_path / "fastlib/broker-1883"
    assert MosquittoBroker().directory == tmp_path / "fastlib/broker-1883"
    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setenv("HOME", "/home/ann")
    assert default_directory(9) == Path("/home/ann/.local/state/fastlib/broker-9")


def test_broker_is_started_again_on_the_same_port(
    tmp_path: Path, join: Callable[..., Communicator]
) -> None:
    port = free_port()
    with MosquittoBroker(port=port, directory=tmp_path):
        one = join(port)
        one.subscribe("a")
    wait_until(lambda: not one.is_connected, "the end of the connection")
    with MosquittoBroker("localhost", port, directory=tmp_path):
        wait_until(lambda: one.is_connected, "the connection")
        one.send(b"again", "a", qos=2)
        assert one.receive(timeout=PATIENCE).payload == b"again"
        one.close()


def test_broker_that_is_killed_is_reported(tmp_path: Path) -> None:
    lines: list[str] = []
    with MosquittoBroker(port=0, directory=tmp_path, on_log=lines.append) as broker:
        assert broker._run is not None
        assert broker._run._process is not None
        broker._run._process.kill()
        with pytest.raises(ListenError, match=r"mosquitto has ended \(the signal 9\).* running"):
            broker.wait(PATIENCE)
        assert not broker.is_running
    assert any(" running" in line for line in lines)


def test_failing_log_receiver_stops_nothing(
    tmp_path: Path, join: Callable[..., Communicator], caplog: pytest.LogCaptureFixture
) -> None:
    def bug(_: str) -> None:
        raise ZeroDivisionError

    with MosquittoBroker(port=0, directory=tmp_path, on_log=bug) as broker:
        join(broker.port).close()
    assert "ZeroDivisionError" in caplog.text


def test_port_in_use_is_refused_with_a_remedy(tmp_path: Path) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as other,
        pytest.raises(ListenError, match=r"Address already in use; port 0 is any that is free"),
    ):
        MosquittoBroker(port=other.getsockname()[1], directory=tmp_path).start()


@pytest.mark.parametrize(
    ("port", "tries", "words"),
    [(0, 5, "another program took the port"), (1, 1, "another program took the port")],
)
def test_port_taken_in_the_meantime_is_retried_if_any_free_one_is_allowed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, port: int, tries: int, words: str
) -> None:
    """Another program ends like mosquitto at a port in use."""
    program = tmp_path / "mosquitto"
    program.write_text("#!/bin/sh\necho x >>tries\necho '1: Error: Address already in use' >&2\n")
    program.chmod(0o755)
    monkeypatch.setattr("fastlib.transport.embedded.mosquitto.find_mosquitto", lambda: program)
    with socket.create_server(("127.0.0.1", 0)) as free:
        number = free.getsockname()[1] if port else 0
    with pytest.raises(ListenError, match=words):
        MosquittoBroker(port=number, directory=tmp_path / "kept").start()
    assert (tmp_path / "kept/tries").read_text().count("x") == tries


@pytest.mark.parametrize("host", ["example.org", ""])
def test_host_that_is_not_an_address_is_refused(host: str) -> None:
    with pytest.raises(OptionsError, match="must be an IP address"):
        MosquittoBroker(host, 0)


@pytest.mark.parametrize(
    ("host", "outside"), [("127.0.0.1", False), ("::1", False), ("0.0.0.0", True), ("::", True)]
)
def test_addresses_of_other_machines_are_recognised(host: str, outside: bool) -> None:
    assert MosquittoBroker(host, 0).is_reachable_from_outside == outside


@pytest.mark.usefixtures("without_mosquitto")
def test_missing_mosquitto_is_reported_with_its_installation() -> None:
    with pytest.raises(MosquittoMissingError, match="apt-get install mosquitto"):
        MosquittoBroker(port=0)


def test_mosquitto_is_found_outside_of_the_path(monkeypatch: pytest.MonkeyPatch) -> None:
    found = find_mosquitto()
    assert found is not None
    monkeypatch.setenv("PATH", "/nowhere")
    assert found.parent.name != "sbin" or find_mosquitto() == found


def test_settings_are_those_of_the_documented_configuration() -> None:
    text = (ROOT / "docs/mosquitto.conf").read_text()
    documented = dict(re.findall(r"^(\w+) (\S+)$", text, re.M))
    assert {name: documented.get(name) for name in SETTINGS} == SETTINGS


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda n: n.name)
def test_command_serves_clients_until_a_signal(
    number: signal.Signals, tmp_path: Path, join: Callable[..., Communicator]
) -> None:
    with broker_command("--port", "0", "--directory", str(tmp_path)) as (process, port, about):
        assert about.startswith("mosquitto, ")
        assert f"messages are kept in {tmp_path}" in about
        one = join(port, protocol="5", client_id="the first")
        one.send(b"hello", "a/b", qos=2).wait(PATIENCE)
        process.send_signal(number)
        assert process.wait(PATIENCE) == 0
        assert process.stderr
        log = process.stderr.read()
        assert "the first" in log
        assert "terminating" in log
    assert (tmp_path / "mosquitto.db").exists()
    assert is_free(port)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a child with its parent")
def test_mosquitto_ends_with_a_command_that_is_killed(
    tmp_path: Path, join: Callable[..., Communicator]
) -> None:
    with broker_command("--port", "0", "--directory", str(tmp_path)) as (process, port, _):
        join(port).close()  # mosquitto ignores SIGTERM until it handles connections
        process.kill()
        process.wait(PATIENCE)
        wait_until(lambda: is_free(port), "the end of mosquitto")


def test_command_reports_port_in_use(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        assert main(["broker", "--port", port, "--directory", str(tmp_path)]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err == (
        f"fastlib broker: error: cannot listen on 127.0.0.1:{port}: "
        f"{os.strerror(errno.EADDRINUSE)}; port 0 is any that is free\n"
    )


def test_command_warns_of_an_address_of_other_machines(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(broker: MosquittoBroker) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(MosquittoBroker, "wait", interrupt)
    assert main(["broker", "--port", "0", "--host", "0.0.0.0"]) == 0
    out = capsys.readouterr().out
    assert "EVERY PROGRAM THAT REACHES THIS ADDRESS CAN SEND ORDERS" in out
    assert "which is deleted at the end" in out


@pytest.mark.usefixtures("without_mosquitto")
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--server", "mosquitto"], ["mosquitto is not installed: apt-get install mosquitto"]),
        (["--host", "0.0.0.0"], ["loopback only", "apt-get install mosquitto"]),
        (["--directory", "x"], ["amqtt stores nothing", "apt-get install mosquitto"]),
        (["--port", "-1"], ["0 to 65535"]),
    ],
)
def test_command_names_features_that_need_mosquitto(
    arguments: list[str], words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["broker", *arguments]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.count("\n") == 1
    assert all(word in shown.err for word in words), shown.err


@pytest.mark.usefixtures("without_mosquitto")
def test_command_without_mosquitto_runs_amqtt_and_prints_its_limits(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(broker: EmbeddedBroker) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(EmbeddedBroker, "wait", interrupt)
    assert main(["broker", "--port", "0"]) == 0
    about = capsys.readouterr().out.splitlines()[1]
    assert about.startswith("amqtt, ")
    assert "MQTT 3.1.1 only" in about
    assert "forgets messages and sessions when it ends" in about
