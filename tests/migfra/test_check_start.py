"""`migfra --check` finds the errors of a start, in the same words, and leaves no files behind."""

import asyncio
import os
import socket
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from fastlib.cli.migfra import WRONG_CONFIGURATION
from fastlib.migfra.errors import JournalError
from fastlib.migfra.journal import check as check_module
from fastlib.migfra.journal.check import check_journal
from fastlib.migfra.journal.journal import Journal
from fastlib.migfra.journal.lock import lock_journal, lock_of
from fastlib.migfra.startup import STEPS
from fastlib.migfra.telemetry.logs import check_log
from fastlib.transport import TlsOptions
from fastlib.transport.tls_files import tls_problems
from tests.support.migfra.program import Program
from tests.support.modules import missing_package
from tests.support.mosquitto import Certificates, free_port


@pytest.fixture
def migfra(tmp_path: Path) -> Program:
    """A daemon that never reaches a broker, because no program listens at the port."""
    folder = tmp_path / "migfra"
    folder.mkdir()
    return Program(folder, free_port())


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("tls") / "files")


def replace(migfra: Program, old: str, new: str) -> None:
    text = migfra.configuration.read_text()
    assert old in text
    migfra.configuration.write_text(text.replace(old, new))


def communicator(migfra: Program, settings: str) -> None:
    replace(migfra, "communicator: {", f"communicator: {{{settings}, ")


def words(text: str) -> list[str]:
    """Return the messages of lines such as `file:1:2: error: path: message`.

    Other lines are of the log, which warns of a loop that was blocked on a busy machine.
    """
    found = [line.partition("error: ")[2] for line in text.splitlines()]
    return [message for message in found if message]


def both(migfra: Program, *options: str) -> tuple[str, int]:
    """Run the check and the start. Both must fail, with the same text; return it."""
    checked = migfra.run_here("--check", *options)
    started = migfra.run_here(*options)
    assert checked.returncode == 1, checked
    assert started.returncode in (1, WRONG_CONFIGURATION), started
    assert "Traceback" not in checked.stderr + started.stderr
    said, also = words(checked.stderr), words(started.stderr)
    # Errors that the start itself raises have no place in the file before them.
    assert len(said) == len(also) > 0, (checked.stderr, started.stderr)
    assert all(one.endswith(other) for one, other in zip(said, also, strict=True)), (said, also)
    return checked.stderr, started.returncode


def traces(folder: Path) -> dict[str, tuple[int, int, int]]:
    return {
        str(path): (path.lstat().st_mtime_ns, path.lstat().st_size, path.lstat().st_mode)
        for path in (folder, *sorted(folder.rglob("*")))
        if "__pycache__" not in path.parts
    }


# --- files of the broker --------------------------------------------------------------------------


def test_sound_configuration_passes_without_a_trace(migfra: Program) -> None:
    migfra.ledger.touch()
    before = traces(migfra.directory)
    checked = migfra.run_here("--check")
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")
    assert traces(migfra.directory) == before


def test_missing_password_file(migfra: Program) -> None:
    communicator(migfra, f"username: m, password-file: {migfra.directory}/nothing")
    text, status = both(migfra)
    assert "2:" in text
    assert "communicator.password-file: cannot read the password file" in text
    assert status == WRONG_CONFIGURATION


def test_empty_password_file(migfra: Program) -> None:
    (migfra.directory / "secret").touch()
    communicator(migfra, f"username: m, password-file: {migfra.directory}/secret")
    assert "has no password in its first line" in both(migfra)[0]


def test_missing_variable_of_the_environment(migfra: Program) -> None:
    communicator(migfra, "username: m, password-environment: FASTLIB_NO_SUCH_VARIABLE")
    text, _ = both(migfra)
    assert "communicator.password-environment: the environment has no variable" in text


def test_every_file_of_tls_is_named_at_once(migfra: Program) -> None:
    files = {name: migfra.directory / f"no-{name}" for name in ("ca", "certificate", "key")}
    pair = f"certificate: {files['certificate']}, key: {files['key']}"
    communicator(migfra, f"tls: {{ca-file: {files['ca']}, {pair}}}")
    text, _ = both(migfra)
    lines = text.splitlines()
    assert len(lines) == 3
    for line, (key, name) in zip(
        lines, [("ca-file", "ca"), ("certificate", "certificate"), ("key", "key")], strict=True
    ):
        assert f"communicator.tls.{key}: cannot read " in line
        assert f"{str(files[name])!r}: No such file or directory" in line


def test_authorities_without_a_certificate(migfra: Program) -> None:
    (migfra.directory / "ca").write_text("nothing\n")
    communicator(migfra, f"tls: {{ca-file: {migfra.directory}/ca}}")
    assert "has no certificate in PEM" in both(migfra)[0]


def test_key_of_another_certificate(migfra: Program, certificates: Certificates) -> None:
    key = certificates.key(certificates.broker)
    communicator(migfra, f"tls: {{certificate: {certificates.client}, key: {key}}}")
    text, _ = both(migfra)
    assert "communicator.tls.key: the key " in text
    assert "does not belong to the certificate" in text


def test_encrypted_key_without_password(
    migfra: Program, certificates: Certificates, tmp_path: Path
) -> None:
    key = tmp_path / "encrypted.key"
    plain = certificates.key(certificates.client)
    Certificates._openssl("pkey", "-in", plain, "-aes256", "-passout", "pass:sesame", "-out", key)
    settings = f"certificate: {certificates.client}, key: {key}"
    communicator(migfra, f"tls: {{{settings}}}")
    assert "is encrypted; also give the password of the key" in both(migfra)[0]
    secret = tmp_path / "secret"
    secret.write_text("wrong\n")
    replace(migfra, settings, f"{settings}, key-password-file: {secret}")
    assert "cannot be read with this password" in both(migfra)[0]
    secret.write_text("sesame\n")
    assert migfra.run_here("--check").returncode == 0
    secret.unlink()
    assert "communicator.tls.key-password-file: cannot read the file" in both(migfra)[0]


def test_certificate_that_is_none(migfra: Program) -> None:
    (migfra.directory / "certificate").write_text("nothing\n")
    communicator(migfra, f"tls: {{certificate: {migfra.directory}/certificate}}")
    assert "communicator.tls.certificate: the certificate " in both(migfra)[0]


# --- journal, locks, log --------------------------------------------------------------------------


def to_journal(migfra: Program, path: object) -> None:
    replace(migfra, f"path: {migfra.journal}", f"path: {path}")


def below_a_file(migfra: Program) -> None:
    to_journal(migfra, f"{migfra.configuration}/journal")


def a_folder(migfra: Program) -> None:
    migfra.journal.mkdir()


def a_link(migfra: Program) -> None:
    migfra.journal.symlink_to(migfra.directory / "other")


def a_pipe(migfra: Program) -> None:
    os.mkfifo(migfra.journal)


def no_database(migfra: Program) -> None:
    migfra.journal.write_text("this is no database at all, whatever SQLite may think of it\n" * 99)
    migfra.journal.chmod(0o600)


def of_a_newer_version(migfra: Program) -> None:
    with closing(sqlite3.connect(migfra.journal)) as journal:
        journal.execute("PRAGMA user_version = 99")
    migfra.journal.chmod(0o600)


def without_tables(migfra: Program) -> None:
    with closing(sqlite3.connect(migfra.journal)) as journal:
        journal.execute("PRAGMA user_version = 2")
    migfra.journal.chmod(0o600)


def the_lock_is_a_folder(migfra: Program) -> None:
    Path(f"{migfra.journal}.lock").mkdir()


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (below_a_file, "the journal cannot be kept at"),
        (a_folder, "cannot be opened"),
        (a_link, "it is a symbolic link"),
        (a_pipe, "it is not a regular file"),
        (no_database, "file is not a database"),
        (of_a_newer_version, "is of a newer fastlib (version 99"),
        (without_tables, "was made by an unreleased fastlib"),
        (the_lock_is_a_folder, "the lock file"),
    ],
)
def test_unusable_journal(migfra: Program, spoil: Callable[[Program], None], said: str) -> None:
    spoil(migfra)
    migfra.ledger.touch()
    before = traces(migfra.directory)
    assert migfra.run_here("--check").returncode == 1
    assert traces(migfra.directory) == before
    text, status = both(migfra)
    assert ":4:17: error: journal.path: the journal " in text
    assert said in text
    assert str(migfra.configuration if spoil is below_a_file else migfra.journal) in text
    assert status == 1


class Disk(NamedTuple):
    """The answer of `os.statvfs`."""

    f_blocks: int
    f_bfree: int
    f_bavail: int
    f_frsize: int = 1024


@pytest.mark.parametrize(
    ("exists", "user", "disk", "said"),
    [
        (False, 0, Disk(1000, 127, 200), "127 KiB free, and a start needs 128 KiB; free space"),
        (False, 0, Disk(1000, 128, 0), None),
        (False, 1000, Disk(1000, 200, 127), "127 KiB free, and a start needs 128 KiB; free space"),
        (False, 1000, Disk(1000, 200, 128), None),
        (True, 0, Disk(1000, 63, 63), "63 KiB free, and a start needs 64 KiB; free space"),
        (True, 0, Disk(1000, 64, 64), None),
        (False, 0, Disk(0, 0, 0), None),  # a file system that does not know its size
    ],
)
def test_full_disk_of_the_journal(
    exists: bool,
    user: int,
    disk: Disk,
    said: str | None,
    migfra: Program,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if exists:
        migfra.journal.touch(mode=0o600)  # SQLite takes an empty file for a new journal
    monkeypatch.setattr(os, "statvfs", lambda folder: disk)
    monkeypatch.setattr(check_module, "geteuid", lambda: user)
    if said is None:
        check_journal(migfra.journal)
    else:
        with pytest.raises(JournalError, match=f"its disk has {said}"):
            check_journal(migfra.journal)
        check_journal(migfra.journal, is_in_use=True)


@contextmanager
def other_user() -> Iterator[None]:
    """Be another user than root, if this is root: root may write and read everywhere."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(user)


def let_others_in(folder: Path) -> None:
    """pytest makes its folders for their owner alone."""
    for each in (folder, *folder.parents):
        mode = each.stat().st_mode
        if mode & 0o055 != 0o055:
            each.chmod(mode | 0o055)


def test_folder_and_file_of_another_user(tmp_path: Path) -> None:
    let_others_in(tmp_path)
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o555)
    with other_user():
        for path in (closed / "journal", closed / "new" / "journal"):
            with pytest.raises(JournalError) as checked:
                check_journal(path)
            with pytest.raises(JournalError) as locked:
                lock_journal(path)
            assert str(checked.value) == str(locked.value)
            assert "Permission denied" in str(checked.value)
        with pytest.raises(OSError, match="cannot be opened: Permission denied; its directory"):
            check_log(closed / "log")


def test_certificate_and_key_that_the_user_may_not_read(
    certificates: Certificates, tmp_path: Path
) -> None:
    key = tmp_path / "key"
    key.write_bytes(certificates.key(certificates.client).read_bytes())
    key.chmod(0)
    certificate = tmp_path / "certificate"
    certificate.write_bytes(certificates.client.read_bytes())
    let_others_in(tmp_path)
    with other_user():
        problems = [*tls_problems(TlsOptions(certificate=certificate, key=key))]
    assert problems == [("key", f"cannot read the key {str(key)!r}: Permission denied")]


def test_existing_journal_is_not_touched(migfra: Program) -> None:
    async def make() -> None:
        await Journal(migfra.journal, host="node01").close(10)

    asyncio.run(make())
    migfra.ledger.touch()
    before = traces(migfra.directory)
    assert migfra.run_here("--check").returncode == 0
    assert traces(migfra.directory) == before


def test_new_folder_of_the_journal_is_not_made(migfra: Program) -> None:
    to_journal(migfra, f"{migfra.directory}/a/b/journal")
    assert migfra.run_here("--check").returncode == 0
    assert not (migfra.directory / "a").exists()


def test_log_file_that_cannot_be_opened(migfra: Program) -> None:
    text, status = both(migfra, "-l", f"{migfra.directory}/nothing/log")
    assert "the log " in text
    assert "cannot be opened: No such file or directory; its directory must exist" in text
    assert status == 1


@pytest.mark.parametrize("length", [250, 300])
def test_journal_whose_name_is_too_long(migfra: Program, length: int) -> None:
    """Files of SQLite and of the daemon beside it have longer names."""
    to_journal(migfra, migfra.directory / ("x" * length))
    text, status = both(migfra)
    assert ":4:17: error: journal.path: the journal " in text
    assert "File name too long" in text
    assert status == 1


def test_log_file_whose_name_is_too_long(migfra: Program) -> None:
    assert "File name too long" in both(migfra, "-l", str(migfra.directory / ("x" * 300)))[0]


def test_log_file_is_not_made(migfra: Program) -> None:
    log = migfra.directory / "log"
    assert migfra.run_here("--check", "-l", str(log)).returncode == 0
    assert not log.exists()


def test_folder_of_the_lock_that_cannot_be_made(migfra: Program) -> None:
    migfra.environment["RUNTIME_DIRECTORY"] = str(migfra.configuration)
    assert "the lock file" in both(migfra)[0]


def test_running_daemon_is_a_warning(migfra: Program) -> None:
    """A configuration is checked on a host that works."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with migfra.configuration.open("a") as file:
            file.write(f"metrics: {{port: {port}}}\n")
        with lock_journal(migfra.journal):
            checked = migfra.run_here("--check")
    assert checked.returncode == 0
    first, second = checked.stderr.splitlines()
    assert f"warning: another instance, process {os.getpid()}, runs with this" in first
    assert f"holds {lock_of(migfra.journal)}; end it first" in first
    assert "warning: metrics.port: metrics cannot be served" in second


# --- metrics, packages, hypervisor ----------------------------------------------------------------


def test_port_of_the_metrics_in_use(migfra: Program) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with migfra.configuration.open("a") as file:
            file.write(f"metrics: {{port: {port}}}\n")
        text, _ = both(migfra)
    assert ":5:17: error: metrics.port: metrics cannot be served at 127.0.0.1 port" in text
    assert "another program listens there: give 'metrics: {port: ...}' a free one" in text
    assert migfra.run_here("--check").returncode == 0


@pytest.mark.parametrize("address", ["192.0.2.1", "no such host"])
def test_address_of_the_metrics_of_another_host(migfra: Program, address: str) -> None:
    with migfra.configuration.open("a") as file:
        file.write(f"metrics: {{address: {address}, port: {free_port()}}}\n")
    assert f"metrics cannot be served at {address} port" in both(migfra)[0]


def test_missing_package_of_the_broker(migfra: Program) -> None:
    with missing_package("paho", "fastlib.transport.mqtt"):
        text, _ = both(migfra)
    assert "communicator: MQTT needs paho-mqtt, which is not installed: " in text


def test_missing_package_of_the_metrics(migfra: Program) -> None:
    with migfra.configuration.open("a") as file:
        file.write(f"metrics: {{port: {free_port()}}}\n")
    with missing_package("prometheus_client", "fastlib.migfra.telemetry.metrics"):
        text, _ = both(migfra)
    assert "metrics: the export of metrics needs prometheus-client" in text


def test_missing_package_of_the_hypervisor(
    migfra: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Another test of this process may have loaded libvirt.
    monkeypatch.setattr("fastlib.migfra.hypervisors.libvirt.connection.api._loaded", None)
    replace(migfra, f"type: ledger, file: {migfra.ledger}, pause: 0.0", "type: libvirt")
    with missing_package("libvirt"):
        text, _ = both(migfra)
    assert "hypervisor: the hypervisor libvirt needs libvirt-python" in text


def test_failing_open_of_the_hypervisor(migfra: Program) -> None:
    replace(migfra, f"file: {migfra.ledger}", "file: /nothing/ledger")
    text, status = both(migfra)
    assert (
        ":3:13: error: hypervisor: the hypervisor 'ledger' cannot be opened: FileNotFoundError"
        in text
    )
    assert "ledger_plugin.py:18, in open)" in text
    assert status == 1


def test_hypervisor_that_does_not_open_in_time(
    migfra: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fastlib.migfra.plugin_api import lifecycle

    plugin = migfra.directory / "ledger_plugin.py"
    plugin.write_text(
        plugin.read_text().replace(
            "    def open(self):\n",
            "    async def open(self):\n        await asyncio.Event().wait()\n",
        )
    )
    monkeypatch.setattr(lifecycle, "OPEN_SECONDS", 0.01)
    checked = migfra.run_here("--check")
    assert checked.returncode == 1
    assert "did not open within 0.01 s" in checked.stderr


def test_check_open_takes_the_place_of_open(migfra: Program) -> None:
    plugin = migfra.directory / "ledger_plugin.py"
    text = plugin.read_text()
    plugin.write_text(text + "\n    def check_open(self):\n        raise OSError('no disk')\n")
    checked = migfra.run_here("--check")
    assert "cannot be opened: OSError: no disk" in checked.stderr
    assert not migfra.ledger.exists()
    plugin.write_text(text + "\n    async def check_open(self):\n        pass\n")
    assert migfra.run_here("--check").returncode == 0
    assert not migfra.ledger.exists()


@pytest.mark.parametrize("options", ["", ", cluster: other", ", file: {}/cluster"])
def test_simulated_hypervisor_without_a_cluster(migfra: Program, options: str) -> None:
    replace(
        migfra,
        f"type: ledger, file: {migfra.ledger}, pause: 0.0",
        "type: simulated" + options.format(migfra.directory),
    )
    text, _ = both(migfra)
    assert "hypervisor: the hypervisor 'simulated' cannot be opened: there is no cluster " in text
    assert "create: {hosts: [{name: node01}]}" in text


@pytest.mark.parametrize("options", ["cluster: checked", "file: {}/cluster"])
def test_host_that_is_not_in_the_simulated_cluster(migfra: Program, options: str) -> None:
    replace(
        migfra,
        f"type: ledger, file: {migfra.ledger}, pause: 0.0",
        f"type: simulated, {options.format(migfra.directory)}, create: {{hosts: [{{name: a}}]}}",
    )
    before = traces(migfra.directory)
    checked = migfra.run_here("--check")
    assert traces(migfra.directory) == before
    assert "node01" in checked.stderr
    assert words(migfra.run_here().stderr)[0] in checked.stderr
    assert words(migfra.run_here("--check").stderr) == words(checked.stderr)  # a file exists now


def test_all_problems_are_reported_at_once(migfra: Program) -> None:
    communicator(migfra, "username: m, password-file: /nothing/secret, tls: {ca-file: /nothing/ca}")
    to_journal(migfra, f"{migfra.configuration}/journal")
    with socket.create_server(("127.0.0.1", 0)) as server:
        with migfra.configuration.open("a") as file:
            file.write(f"metrics: {{port: {server.getsockname()[1]}}}\n")
        replace(migfra, f"file: {migfra.ledger}", "file: /nothing/ledger")
        checked = migfra.run_here("--check", "-l", "/nothing/log")
        started = migfra.run_here("-l", "/nothing/log")
    expected = ["the log ", "communicator.password-file: ", "communicator.tls.ca-file: ",
                "journal.path: ", "metrics.port: "]  # fmt: skip
    said = words(checked.stderr)
    assert all(
        text.startswith(begin) for text, begin in zip(said, [*expected, "hyper"], strict=True)
    )
    assert words(started.stderr) == said[:-1]
    assert started.returncode == WRONG_CONFIGURATION


def test_problems_of_a_start_are_in_its_log(migfra: Program) -> None:
    to_journal(migfra, f"{migfra.configuration}/journal")
    communicator(migfra, "tls: {ca-file: /nothing/ca}")
    log = migfra.directory / "log"
    migfra.run_here("-l", str(log))
    text = log.read_text()
    assert "the journal cannot be kept" in text
    assert "/nothing/ca" in text


def test_start_and_check_share_one_list() -> None:
    """A start finds the problems of the other steps when it does them, or they warn."""
    others = {step.name for step in STEPS if not step.before_start}
    assert others == {"lock", "secret files", "hypervisor"}
