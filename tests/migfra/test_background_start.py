"""`migfra -d`: the command in the foreground, while the daemon waits for its broker."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.migfra.program import Program, program
from tests.support.mosquitto import PATIENCE, free_port
from tests.support.waiting import wait_until

QUICK = """
import sys
from fastlib.migfra.service import daemonize
daemonize.QUIET_SECONDS = 0.2
from fastlib.cli.migfra import main
sys.exit(main())
"""


@pytest.fixture
def migfra(tmp_path: Path) -> Iterator[Program]:
    """A daemon that never reaches a broker, and does not outlive the test."""
    with program(tmp_path, free_port()) as migfra:
        yield migfra


@contextmanager
def foreground(migfra: Program, log: Path) -> Iterator["subprocess.Popen[str]"]:
    """Start the daemon in the background, and give the process in the foreground.

    It waits for the daemon. So if the test fails, both must be killed.
    """
    arguments = ["-c", str(migfra.configuration), "-d", "-l", str(log)]
    with subprocess.Popen(
        [sys.executable, "-c", QUICK, *arguments],
        env=migfra.environment,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            migfra.kill_all()


def test_foreground_says_why_it_waits_and_ctrl_c_ends_only_the_foreground(
    migfra: Program, tmp_path: Path
) -> None:
    log = tmp_path / "migfra.log"
    with foreground(migfra, log) as process:
        assert process.stderr is not None
        assert process.stderr.readline() == (
            "migfra: the daemon does not work yet; it may be waiting for the broker at "
            f"127.0.0.1; the log {log} has details. Ctrl-C ends only this command; the daemon "
            "continues in the background\n"
        )
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE) == -signal.SIGINT
        (daemon,) = wait_until(migfra.holders, "the daemon that holds its lock")
        wait_until(lambda: "refused" in log.read_text(), "an attempt to connect")
        os.kill(daemon, signal.SIGTERM)
        assert process.stderr.read() == ""  # its end closes the stream


def test_failing_test_leaves_no_daemon(migfra: Program, tmp_path: Path) -> None:
    daemons: set[int] = set()

    def fail() -> None:
        with foreground(migfra, tmp_path / "log"):
            daemons.update(wait_until(migfra.holders, "the daemon that holds its lock"))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    (daemon,) = daemons
    wait_until(lambda: not is_alive(daemon), "the end of the daemon")


def is_alive(pid: int) -> bool:
    """Return whether a process that is no child of this one runs. A zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False
