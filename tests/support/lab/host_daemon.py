"""Run a migfra daemon on a host of the laboratory."""

import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

from tests.support.waiting import wait_until

from .laboratory import Lab

END_LIMIT = 180.0
"""Seconds until a daemon that does not start or end fails the test."""
_READY = "works on"


class HostDaemon:
    """The daemon of one host. Its journal survives a restart."""

    def __init__(self, lab: Lab, host: str, directory: Path, options: Mapping[str, object]) -> None:
        """The options are those of the section `hypervisor`."""
        self._host = lab.host(host)
        self._port = lab.broker.inside.partition(":")[2]
        self.log: list[str] = []
        self.kills = 0
        """Number of its kills since the answers were checked last."""
        """The lines of all runs."""
        self._directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        self._process: subprocess.Popen[str] | None = None
        self._ready_after = 0
        self.configure(options)

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def configure(self, options: Mapping[str, object]) -> None:
        """Write the configuration, which the next start reads."""
        hypervisor = ", ".join(f"{name}: {value}" for name, value in options.items())
        (self._directory / "migfra.yaml").write_text(
            f"hostname: {self._host.name}\n"
            f"communicator: {{host: broker, port: {self._port}}}\n"
            f"hypervisor: {{type: libvirt, transport: tcp, {hypervisor}}}\n"
            f"journal: {{path: {self._directory / 'journal'}}}\n"
            "retry: {first: 0.1, longest: 0.5}\n"
            "progress-interval: 0.05\n"
        )

    def check(self) -> "subprocess.CompletedProcess[str]":
        """Run `migfra --check` with the same configuration, to its end."""
        return self._host.run([*self._argv, "--check"], check=False, env=self._environment)

    @property
    def _argv(self) -> list[object]:
        configuration = self._directory / "migfra.yaml"
        return [sys.executable, "-m", "fastlib.cli.migfra", "-c", configuration]

    @property
    def _environment(self) -> dict[str, str]:
        return {
            "RUNTIME_DIRECTORY": str(self._directory),
            "STATE_DIRECTORY": str(self._directory),
            "PYTHONUNBUFFERED": "1",
        }

    def launch(self) -> None:
        """Start the process; `wait_until_ready` must follow."""
        self._ready_after = len(self.log)
        self._process = self._host.popen(
            self._argv,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, args=(self._process,), daemon=True)
        self._reader.start()

    def wait_until_ready(self) -> None:
        """Return when the daemon accepts tasks."""
        wait_until(
            lambda: any(_READY in line for line in self.log[self._ready_after :]),
            lambda: f"the daemon of {self._host.name} is ready: " + "\n".join(self.log[-20:]),
            END_LIMIT,
        )

    def start(self) -> None:
        """Start it, and wait until it accepts tasks."""
        self.launch()
        self.wait_until_ready()

    def kill(self) -> None:
        """End it with SIGKILL. It may not have noted that the broker has its last answers."""
        self.kills += 1
        self._end(lambda process: process.kill())

    def terminate(self) -> None:
        """End it in order, with SIGTERM."""
        self._end(lambda process: process.terminate())

    def _read(self, process: "subprocess.Popen[str]") -> None:
        assert process.stderr is not None
        with process.stderr:
            for line in process.stderr:
                self.log.append(line.rstrip("\n"))

    def _end(self, end: "Callable[[subprocess.Popen[str]], None]") -> None:
        process, self._process = self._process, None
        if process is not None:
            end(process)
            process.wait(END_LIMIT)
            self._reader.join(END_LIMIT)
