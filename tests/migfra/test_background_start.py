"""`migfra -d`: the command in the foreground, while the daemon waits for its broker."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from fastlib.migfra.service.lock import holders
from tests.support.migfra.program import Program
from tests.support.mosquitto import PATIENCE, free_port
from tests.support.waiting import wait_until

QUICK = """
import sys
from fastlib.migfra.service import daemonize
daemonize.QUIET_SECONDS = 0.2
from fastlib.cli.migfra import main
sys.exit(main())
"""


def test_foreground_says_why_it_waits_and_ctrl_c_ends_only_the_foreground(tmp_path: Path) -> None:
    migfra, log = Program(tmp_path, free_port()), tmp_path / "migfra.log"
    arguments = ["-c", str(migfra.configuration), "-d", "-l", str(log)]
    with subprocess.Popen(
        [sys.executable, "-c", QUICK, *arguments],
        env=migfra.environment,
        stderr=subprocess.PIPE,
        text=True,
    ) as foreground:
        assert foreground.stderr is not None
        assert foreground.stderr.readline() == (
            "migfra: the daemon does not work yet; it may be waiting for the broker at "
            f"127.0.0.1; the log {log} has details. Ctrl-C ends only this command; the daemon "
            "continues in the background\n"
        )
        foreground.send_signal(signal.SIGINT)
        assert foreground.wait(PATIENCE) == -signal.SIGINT
        daemons = wait_until(
            lambda: {pid for lock in tmp_path.glob("*.lock") for pid in holders(lock)},
            "the daemon that holds its lock",
        )
        (daemon,) = daemons
        wait_until(lambda: "refused" in log.read_text(), "an attempt to connect")
        os.kill(daemon, signal.SIGTERM)
        assert foreground.stderr.read() == ""  # its end closes the stream
