"""Tests of connecting to an MQTT broker: passwords, TLS, refusals, and missing files."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fastlib.transport import (
    Communicator,
    ConnectError,
    MqttOptions,
    OptionsError,
    RefusedError,
    TlsOptions,
)
from fastlib.transport.mqtt.link import mqtt_link
from tests.support.mosquitto import Certificates, Mosquitto, free_port
from tests.support.transport.connector import PATIENCE, tls_options

PROTOCOLS = ["3.1.1", "5"]

Join = Callable[..., Communicator]


@pytest.fixture(params=["password", "tls-3.1.1", "tls-5"])
def protected(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[dict[str, Any]]:
    """The options for a broker that requires a password or a client certificate."""
    kind, _, protocol = request.param.partition("-")
    broker: Mosquitto = request.getfixturevalue(f"{kind}_broker")
    if kind == "password":
        file = tmp_path / "password"
        file.write_text("correct horse\n")
        yield {"port": broker.port, "username": "alice", "password_file": file}
    else:
        certificates: Certificates = request.getfixturevalue("certificates")
        tls = tls_options(certificates)
        yield {"port": broker.port, "tls": tls, "protocol": protocol}


def test_credentials_are_accepted(join: Join, protected: dict[str, Any]) -> None:
    with join(**protected) as one:
        one.subscribe("a/b")
        one.send(b"x" * 100_000, "a/b", qos=2).wait(PATIENCE)
        assert one.receive(timeout=PATIENCE).payload == b"x" * 100_000


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("password", ["wrong", None])
def test_wrong_password_is_refused(
    join: Join, password_broker: Mosquitto, protocol: str, password: str | None
) -> None:
    """At once, and without the password in any text."""
    with pytest.raises(RefusedError, match=r"refuses the connection") as caught:
        join(password_broker.port, username="alice", password=password, protocol=protocol)
    assert caught.value.code in (0x86, 0x87)
    assert "wrong" not in str(caught.value)


def test_right_password_is_accepted(join: Join, password_broker: Mosquitto) -> None:
    one = join(password_broker.port, username="alice", password="correct horse")
    one.send(b"", "a").wait(PATIENCE)


def test_connect_fails_without_broker(join: Join) -> None:
    with pytest.raises(ConnectError, match=r"within 0.3 s: cannot reach .*refused") as caught:
        join(free_port(), timeout=0.3)
    assert isinstance(caught.value.last, ConnectError)


def test_untrusted_broker_certificate_is_refused(join: Join, tls_broker: Mosquitto) -> None:
    with pytest.raises(RefusedError, match=r"(?i)certificate"):
        join(tls_broker.port, tls=TlsOptions())


def test_connect_fails_without_client_certificate(
    join: Join, tls_broker: Mosquitto, certificates: Certificates
) -> None:
    with pytest.raises(ConnectError):
        join(tls_broker.port, tls=TlsOptions(ca_file=certificates.ca), timeout=0.5)


def test_missing_files_are_option_errors(join: Join, tmp_path: Path) -> None:
    with pytest.raises(OptionsError, match="certificates"):
        join(1, tls=TlsOptions(ca_file=tmp_path / "none.pem"))
    with pytest.raises(OptionsError, match="password file"):
        join(1, username="alice", password_file=tmp_path / "none")


def test_options_that_paho_refuses_are_option_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise ValueError("paho's own rule")

    monkeypatch.setattr("fastlib.transport.mqtt.session.make_client", refuse)
    with pytest.raises(OptionsError, match="paho's own rule"):
        mqtt_link(MqttOptions())
