"""A broker, a daemon, and packages that declare messages."""

from collections.abc import Iterator

import pytest

from fastlib.cli import sending
from tests.support.mosquitto import PATIENCE, Mosquitto
from tests.support.shell import Daemon, Environment, address


@pytest.fixture(scope="session")
def mosquitto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mosquitto]:
    with Mosquitto(tmp_path_factory.mktemp("cli-broker")) as broker:
        yield broker


@pytest.fixture
def env(mosquitto: Mosquitto) -> Environment:
    return address(mosquitto)


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Print nothing about an answer that a busy machine delays."""
    monkeypatch.setattr(sending, "ABSENCE_SECONDS", PATIENCE)


@pytest.fixture
def daemon(mosquitto: Mosquitto) -> Iterator[Daemon]:
    with Daemon(mosquitto) as daemon:
        yield daemon


@pytest.fixture
def install(tmp_path, monkeypatch, isolated_registry):
    """Install a package that names a module as an extension."""

    def install(module, text=None):
        if text is not None:
            (tmp_path / f"{module}.py").write_text(text)
        info = tmp_path / "acme-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[fastlib.messages]\nsnapshots = {module}\n")
        monkeypatch.syspath_prepend(tmp_path)

    return install


@pytest.fixture
def file(tmp_path):
    """Write text or bytes to a file; return its path as text."""

    def write(content, name="message.yaml"):
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return str(path)

    return write
