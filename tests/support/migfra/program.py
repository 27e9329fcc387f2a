"""`migfra` as a process, with a hypervisor that logs its calls to a file.

Children get default signals from `tests/conftest.py`, and the niceness of the tests.
"""

import importlib
import io
import itertools
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from unittest import mock

from fastlib.cli import migfra
from fastlib.migfra.plugin_api import discovery
from fastlib.migfra.service.lock import holders
from tests.support.mosquitto import PATIENCE
from tests.support.waiting import wait_until

LEDGER = """
import asyncio, os
from typing import Annotated
from fastlib.migfra import ConfigSection
from fastlib.codec import Wire
from fastlib.migfra import Hypervisor

class Options(ConfigSection):
    file: Annotated[str, Wire("Where it is written down what was done.")]
    pause: Annotated[float, Wire("How long each task takes.", unit="s")] = 0.0
    gate: Annotated[str | None, Wire("A file for which each start waits.")] = None

class Ledger(Hypervisor):
    name = "ledger"
    Options = Options

    def open(self):
        self.file = os.open(self.options.file, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def write(self, what, task):
        os.write(self.file, f"{what} {task.vm_name}\\n".encode())

    async def start(self, task, context):
        self.write("begin", task)
        await asyncio.sleep(self.options.pause)
        while self.options.gate and not os.path.exists(self.options.gate):
            await asyncio.sleep(0.01)
        self.write("end", task)

    def stop(self, task, context):
        self.write("begin", task)
        self.write("end", task)

    async def migrate(self, task, context):
        self.write("begin", task)
        context.progress("copy", transferred=1000)
        await context.wait_cancelled()
        self.write("end", task)
        context.check_cancelled()

    def recover(self, task, context):
        with open(self.options.file) as file:
            lines = file.read().splitlines()
        if f"begin {task.vm_name}" not in lines:
            self.write("begin", task)
        if f"end {task.vm_name}" not in lines:
            self.write("end", task)
"""

READY = "works on node01"
_STALLS = (
    "the event loop was blocked for",
    "the daemon was suspended for",
    "the disk of the journal is slow",
)
"""What a daemon logs if a busy machine gives it no time."""


def without_stalls(log: Iterable[str]) -> list[str]:
    """Return the lines of a log, without those that only say how busy the machine is."""
    return [line for line in log if not any(words in line for words in _STALLS)]


class Program:
    """One `migfra` process at a time for one configuration: `start`, `kill`, `terminate`."""

    def __init__(
        self,
        directory: Path,
        port: int,
        extra: str = "",
        pause: float = 0.0,
        gate: Path | None = None,
    ) -> None:
        self.directory = directory
        self.ledger = directory / "ledger.txt"
        self.configuration = directory / "migfra.yaml"
        self.journal = directory / "journal"
        self.log: list[str] = []
        self._process: subprocess.Popen[str] | None = None
        self._reader: threading.Thread | None = None
        (directory / "ledger_plugin.py").write_text(LEDGER)
        info = directory / "ledger_plugin-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: ledger-plugin\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(
            "[fastlib.hypervisors]\nledger = ledger_plugin:Ledger\n"
        )
        self.configuration.write_text(
            f"hostname: node01\n"
            f"communicator: {{host: 127.0.0.1, port: {port}}}\n"
            f"hypervisor: {{type: ledger, file: {self.ledger}, pause: {pause}"
            f"{f', gate: {gate}' if gate else ''}}}\n"
            f"journal: {{path: {self.journal}}}\n{extra}"
        )
        self.environment = {
            **os.environ,
            "PYTHONPATH": str(directory),
            "RUNTIME_DIRECTORY": str(directory),
            "STATE_DIRECTORY": str(directory),
        }

    def command(self, *options: str) -> list[str]:
        return [sys.executable, "-m", "fastlib.cli.migfra", "-c", str(self.configuration), *options]

    def run_here(self, *options: str) -> "subprocess.CompletedProcess[str]":
        """Run the program in this process until its end: for a start that fails."""
        arguments = ["-c", str(self.configuration), *options]
        out, err = io.StringIO(), io.StringIO()
        root = logging.getLogger()
        handlers, level = root.handlers[:], root.level
        with (
            mock.patch.dict(os.environ, self.environment),
            mock.patch.object(sys, "path", [str(self.directory), *sys.path]),
            mock.patch.object(sys, "dont_write_bytecode", True),  # the tests compare the folder
            redirect_stdout(out),
            redirect_stderr(err),
        ):
            importlib.invalidate_caches()
            discovery._installed.cache_clear()
            sys.modules.pop("ledger_plugin", None)
            root.handlers[:] = []
            try:
                status = migfra.main(arguments)
            except SystemExit as error:
                status = int(error.code or 0)
            finally:
                for handler in root.handlers:
                    handler.close()
                root.handlers[:] = handlers
                root.setLevel(level)
                sys.modules.pop("ledger_plugin", None)
                discovery._installed.cache_clear()
        return subprocess.CompletedProcess(arguments, status, out.getvalue(), err.getvalue())

    def run(self, *options: str) -> "subprocess.CompletedProcess[str]":
        """Run the program as a process until its end."""
        return subprocess.run(
            self.command(*options),
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )

    def start(self, *options: str, ready: bool = True) -> None:
        """Start it; with `ready` wait until it works, as its log says."""
        ended = self._process is None or self._process.poll() is not None
        assert ended, "it runs, and would be left behind"
        before = sum(READY in line for line in self.log)
        process = self._process = subprocess.Popen(
            self.command(*options),
            env=self.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )

        def read() -> None:
            assert process.stderr is not None
            with process.stderr:
                for line in process.stderr:
                    self.log.append(line.rstrip("\n"))

        self._reader = threading.Thread(target=read, daemon=True)
        self._reader.start()
        if ready:
            self.wait_for(READY, before + 1)

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def wait_for(self, text: str, count: int = 1) -> str:
        """The line of the log with this text, the `count`th of them."""
        return wait_until(
            lambda: next(itertools.islice(self._lines_with(text), count - 1, None), None),
            lambda: f"{text!r} in the log: {self.log}",
            PATIENCE,
        )

    def _lines_with(self, text: str) -> Iterator[str]:
        return (line for line in self.log if text in line)

    def send(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def wait(self) -> int:
        """The exit status."""
        assert self._process is not None
        assert self._reader is not None
        status = self._process.wait(PATIENCE)
        self._reader.join(PATIENCE)
        self._process = None
        return status

    def holders(self) -> set[int]:
        """Return the processes that hold the locks of the daemon."""
        return {pid for lock in self.directory.glob("*.lock") for pid in holders(lock)}

    def kill_all(self) -> None:
        """Kill all processes with this configuration, also a daemon in the background (`-d`)."""
        for arguments in Path("/proc").glob("[0-9]*/cmdline"):
            with suppress(OSError):  # it has ended meanwhile
                if os.fsencode(self.configuration) in arguments.read_bytes().split(b"\0"):
                    os.kill(int(arguments.parent.name), signal.SIGKILL)
        self.kill()

    def kill(self) -> None:
        if self._process is not None:
            self.send(signal.SIGKILL)
            self.wait()

    def terminate(self) -> int:
        self.send(signal.SIGTERM)
        return self.wait()

    def done(self) -> list[str]:
        """Return the records of the hypervisor."""
        return self.ledger.read_text().splitlines() if self.ledger.exists() else []


@contextmanager
def program(
    directory: Path, port: int, extra: str = "", pause: float = 0.0, gate: Path | None = None
) -> Iterator[Program]:
    """A program that does not outlive the test. Each start waits until the file `gate` exists."""
    made = Program(directory, port, extra, pause, gate)
    try:
        yield made
    finally:
        made.kill_all()
