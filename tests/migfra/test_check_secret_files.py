"""`migfra --check` warns of files with secrets that other users of the host can read."""

import os
import shlex
import subprocess
from pathlib import Path

import pytest

from fastlib.migfra.startup import secret_files
from tests.support.migfra.program import Program
from tests.support.mosquitto import Certificates, free_port


@pytest.fixture
def migfra(tmp_path: Path) -> Program:
    folder = tmp_path / "migfra"
    folder.mkdir()
    program = Program(folder, free_port())
    (folder / "password").write_text("secret")
    text = program.configuration.read_text()
    with_file = f"communicator: {{username: m, password-file: {folder}/password, "
    program.configuration.write_text(text.replace("communicator: {", with_file))
    return program


def warnings(migfra: Program) -> list[str]:
    checked = migfra.run_here("--check")
    assert checked.returncode == 0, checked
    return checked.stderr.splitlines()


@pytest.mark.parametrize(
    ("mode", "readers", "remedy"),
    [
        (0o644, "all users of this host", "go="), (0o604, "all users of this host", "o="),
        (0o640, "its group", "go="), (0o440, "its group", "go="),
    ],
)  # fmt: skip
def test_password_that_others_can_read_is_a_warning(
    migfra: Program, mode: int, readers: str, remedy: str
) -> None:
    file = migfra.directory / "password"
    file.chmod(mode)
    [text] = warnings(migfra)
    assert "warning: communicator.password-file: the password file " in text
    assert f" can be read by {readers}; let only the daemon's user read it: " in text
    assert text.endswith(f"chmod {remedy} {file}")
    subprocess.run(shlex.split(text.partition("read it: ")[2]), check=True)
    assert warnings(migfra) == []


@pytest.mark.parametrize("mode", [0o600, 0o400, 0o620])
def test_password_that_only_the_user_can_read_is_right(migfra: Program, mode: int) -> None:
    (migfra.directory / "password").chmod(mode)
    assert warnings(migfra) == []


def test_group_may_read_the_password_of_another_user(
    migfra: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The usual file of root has the group of the daemon, which must read it."""
    other = os.geteuid() + 1
    monkeypatch.setattr(secret_files.os, "geteuid", lambda: other)
    file = migfra.directory / "password"
    file.chmod(0o640)
    assert warnings(migfra) == []
    file.chmod(0o644)
    [text] = warnings(migfra)
    assert text.endswith(f"chmod o= {file}")


def test_keys_of_certificates_are_checked(migfra: Program, tmp_path: Path) -> None:
    files = Certificates(tmp_path / "files")
    key = files.key(files.client)
    both = tmp_path / "certificate and key.pem"
    both.write_bytes(files.client.read_bytes() + key.read_bytes())
    secret = migfra.directory / "password"
    for file in (secret, key, both, files.client):
        file.chmod(0o644)
    before = migfra.configuration.read_text()

    def found(settings: str) -> list[str]:
        text = before.replace("communicator: {", f"communicator: {{tls: {{{settings}}}, ")
        migfra.configuration.write_text(text)
        return [line.partition("warning: communicator.")[2] for line in warnings(migfra)]

    texts = found(f"certificate: {files.client}, key: {key}, key-password-file: {secret}")
    assert [text.partition(" '")[0] for text in texts] == [
        "password-file: the password file",
        "tls.key-password-file: the file with the key's password",
        "tls.key: the key",
    ]
    _, text = found(f"certificate: '{both}'")
    assert text.startswith("tls.certificate: the file with the key '")
    assert text.endswith(f"chmod go= '{both}'")
