"""Run a mosquitto for a benchmark on a free loopback port."""

import os
import re
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

INSTALL = "apt-get install -y --no-install-recommends mosquitto"

SETTINGS = (
    "allow_anonymous true",
    "set_tcp_nodelay true",  # else its delays for small packets are all that is seen
    "max_queued_messages 0",  # by default it drops what exceeds 1000 waiting messages
    "log_dest stderr",
    "connection_messages false",
)


class MissingBrokerError(Exception):
    """There is no mosquitto, or it does not start."""


def find() -> str:
    """Return the path of the program. Raises MissingBrokerError."""
    path = os.environ.get("PATH", os.defpath)
    found = shutil.which("mosquitto", path=f"{path}:/usr/sbin:/usr/local/sbin")
    if found is None:
        raise MissingBrokerError(f"mosquitto is not installed: {INSTALL}")
    return found


def version() -> str:
    """Return the version of mosquitto."""
    shown = subprocess.run([find(), "-h"], capture_output=True, text=True).stdout
    found = re.search(r"version (\S+)", shown)
    return found[1] if found else "of an unknown version"


class Running(NamedTuple):
    """A broker that runs."""

    port: int
    pid: int


@contextmanager
def mosquitto() -> Iterator[int]:
    """Run the broker; yield its port. Raises MissingBrokerError."""
    with running_mosquitto() as broker:
        yield broker.port


@contextmanager
def running_mosquitto(*settings: str) -> Iterator[Running]:
    """Run the broker with further settings. Raises MissingBrokerError."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory, "mosquitto.conf")
        user = ["user root"] if os.getuid() == 0 else []  # else it could not read the directory
        file.write_text("\n".join([f"listener {port} 127.0.0.1", *SETTINGS, *user, *settings, ""]))
        with subprocess.Popen([find(), "-c", str(file)], stderr=subprocess.PIPE, text=True) as run:
            try:
                _await_start(run)
                yield Running(port, run.pid)
            finally:
                run.terminate()


def _await_start(process: "subprocess.Popen[str]") -> None:
    assert process.stderr is not None
    said = []
    for line in process.stderr:
        said.append(line)
        if " running" in line:
            return
    raise MissingBrokerError(f"mosquitto does not start: {''.join(said)}")
