"""`migfra --check --online` opens the real libvirt, and reports one that cannot be reached."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from fastlib.cli.migfra import main
from tests.support.mosquitto import Mosquitto


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mosquitto]:
    with Mosquitto(tmp_path_factory.mktemp("check-libvirt")) as broker:
        yield broker


@pytest.mark.parametrize(
    ("uri", "status", "said"),
    [
        ("test:///default", 0, "the hypervisor libvirt can be opened"),
        ("qemu+unix:///system?socket=/nowhere/sock", 1, "socket to '/nowhere/sock': No such file"),
    ],
)
def test_libvirt_is_opened(
    uri: str,
    status: int,
    said: str,
    broker: Mosquitto,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    file = tmp_path / "migfra.yaml"
    file.write_text(
        f"hostname: checked\ncommunicator: {{host: 127.0.0.1, port: {broker.port}}}\n"
        f"hypervisor: {{type: libvirt, local-uri: '{uri}'}}\n"
    )
    assert main(["-c", str(file), "--check", "--online"]) == status
    shown = capsys.readouterr()
    assert said in shown.out + shown.err
