"""A host, and the place of the broker: programs are run there, faults are made there."""

import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from signal import Signals
from typing import Any

from tests.support.waiting import WAIT_LIMIT, wait_until

from . import namespaces, process_table
from .errors import LabError
from .layout import BROKER, BROKER_ADDRESS, BROKER_PORT, Layout, address
from .process_table import Process

_ROW = re.compile(
    r" (-|\d+) +(?P<name>.*?) {2,}"
    r"(?P<state>no state|running|idle|paused|in shutdown|shut off|crashed|pmsuspended)"
)
"""A domain in what `virsh list` prints; its name may have blanks."""
_MIGRATION_PORTS = (49152, 49215)
"""The ports on which QEMU receives memory."""


class Container:
    """Somewhere in a laboratory where programs can be run; `name` and `address` are known there."""

    def __init__(
        self,
        layout: Layout,
        name: str,
        address: str,
        register_child: Callable[[subprocess.Popen[Any]], None],
    ) -> None:
        self.name = name
        self.address = address
        self._layout = layout
        self._register_child = register_child

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Container) and self._identity == other._identity

    def __hash__(self) -> int:
        return hash(self._identity)

    @property
    def _identity(self) -> object:
        return self._layout, self.name

    @property
    def init_process(self) -> Process:
        """The first process there. Raises LabError if the place is not up."""
        found = process_table.find_init(*self._command)
        if found is None:
            raise LabError(f"{self.name} of the laboratory {self._layout.name} is not up")
        return found

    @property
    def is_up(self) -> bool:
        return process_table.find_init(*self._command) is not None

    def popen(
        self,
        argv: Sequence[object],
        *,
        env: Mapping[str, str] | None = None,
        cwd: str | os.PathLike[str] | None = None,
        **options: Any,
    ) -> subprocess.Popen[Any]:
        """Start a program there, as a child of this process; `options` are those of `Popen`."""
        process = namespaces.popen(self.init_process.pid, argv, env=env, cwd=cwd, **options)
        self._register_child(process)
        return process

    def run(
        self,
        argv: Sequence[object],
        *,
        input: str | None = None,
        check: bool = True,
        timeout: float = 2 * WAIT_LIMIT,
        env: Mapping[str, str] | None = None,
        cwd: str | os.PathLike[str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a program there to its end, with its output as text.

        Raises LabError with what it wrote if it fails, unless `check` is false, and
        `subprocess.TimeoutExpired` after it was killed.
        """
        pipe = subprocess.PIPE
        stdin = subprocess.DEVNULL if input is None else pipe
        with self.popen(
            argv, env=env, cwd=cwd, stdin=stdin, stdout=pipe, stderr=pipe, text=True
        ) as process:
            try:
                output, errors = process.communicate(input, timeout)
            except BaseException:
                process.kill()
                raise
        if check and process.returncode != 0:
            raise LabError(
                f"{' '.join(map(str, argv))}: status {process.returncode} on {self.name}: "
                f"{(errors or output).strip()}"
            )
        return subprocess.CompletedProcess(process.args, process.returncode, output, errors)

    @property
    def processes(self) -> list[Process]:
        """All that run there."""
        return process_table.in_namespace_of(self.init_process)

    def freeze(self) -> None:
        """Stop all programs there, as on a machine that hangs; its kernel still answers pings."""
        for process in self.processes:
            process.freeze()

    def thaw(self) -> None:
        for process in self.processes:
            process.thaw()

    @property
    def _command(self) -> tuple[str, ...]:
        return ("tests.support.lab.inside.host", str(self._layout.directory), self.name)


class Host(Container):
    """A host with its own libvirtd."""

    def __init__(
        self, layout: Layout, name: str, register_child: Callable[[subprocess.Popen[Any]], None]
    ) -> None:
        super().__init__(layout, name, address(name), register_child)
        self._switch = Broker(layout, 0, register_child)

    @property
    def uri(self) -> str:
        """The URI by which this host's libvirt is reached from outside the laboratory."""
        return f"qemu:///system?socket={self._layout.socket(self.name)}"

    def virsh(self, *arguments: object) -> str:
        """Run `virsh` on this host, and return its output. Raises LabError with its error."""
        return self.run(["virsh", "--connect", "qemu:///system", *arguments]).stdout

    def domains(self, patience: float = WAIT_LIMIT) -> dict[str, str]:
        """The state of each domain as `virsh` has it, read from outside: `running`, `shut off`.

        Raises LabError if libvirtd does not run, or does not answer for `patience` seconds.
        """
        command = ["virsh", "--connect", self.uri, "list", "--all"]
        try:
            done = subprocess.run(
                command,
                env=namespaces.environment(),
                capture_output=True,
                text=True,
                check=False,
                timeout=patience,
            )
        except subprocess.TimeoutExpired:
            raise LabError(f"{self.name}: libvirtd does not answer") from None
        if done.returncode != 0:
            raise LabError(f"{self.name}: {done.stderr.strip()}")
        rows = [_ROW.fullmatch(line) for line in done.stdout.splitlines()[2:] if line.strip()]
        return {row["name"]: row["state"] for row in rows if row is not None}

    @property
    def libvirtd(self) -> "Service":
        return Service(self, "libvirtd", lambda: _listens(self._layout.socket(self.name)))

    def qemu(self, domain: str) -> Process:
        """The QEMU process of a domain. Raises LabError if there is none on this host."""
        for process in self.processes:
            if f"guest={domain}," in " ".join(process.argv[:4]):
                return process
        raise LabError(f"no QEMU of domain {domain} on {self.name}")

    def disconnect(self) -> None:
        """Cut the link: all further packets are lost, without a report."""
        self._link("down")

    def reconnect(self) -> None:
        self._link("up")

    def reset_migrations(self) -> None:
        """Reset the connections by which memory leaves this host. Both ends notice that at once."""
        self._reset("dport")

    def reset_arriving_migrations(self) -> None:
        """Reset the connections by which memory arrives. This end notices that at once."""
        self._reset("sport")

    def _reset(self, which: str) -> None:
        first, last = _MIGRATION_PORTS
        ports = [which, "ge", f":{first}", "and", which, "le", f":{last}"]
        reset = ["ss", "--no-header", "--kill", "--tcp", "--numeric", *ports]
        wait_until(  # a stream that is resumed just now has no connection yet
            lambda: self.run(reset).stdout.strip(),
            f"a connection for memory of {self.name} was reset",
        )

    @contextmanager
    def lose_migrations(self) -> Iterator[None]:
        """Lose the packets of the first connection by which memory leaves. All others work."""
        rule = ["ipproto", "tcp", "dport", str(_MIGRATION_PORTS[0]), "blackhole"]
        self.run(["ip", "rule", "add", *rule])
        try:
            yield
        finally:
            self.run(["ip", "rule", "del", *rule])

    @contextmanager
    def short_tcp(self) -> Iterator[None]:
        """Let TCP give up a connection on which nothing arrives after a few seconds."""
        setting = "/proc/sys/net/ipv4/tcp_retries2"
        usual = self.run(["cat", setting]).stdout
        self.run(["tee", setting], input="4")
        try:
            yield
        finally:
            self.run(["tee", setting], input=usual)

    @property
    def is_connected(self) -> bool:
        shown = self._switch.run(["ip", "-oneline", "link", "show", "dev", self.name]).stdout
        return ",UP" in shown.partition(">")[0]

    def _link(self, state: str) -> None:
        self._switch.run(["ip", "link", "set", self.name, state])


def _listens(path: Path) -> bool:
    """Return True if a program listens at a socket. A killed one leaves the socket's file."""
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
    return True


class Broker(Container):
    """The mosquitto of a laboratory. Programs that are run here are also at the bridge."""

    def __init__(
        self,
        layout: Layout,
        port: int,
        register_child: Callable[[subprocess.Popen[Any]], None],
    ) -> None:
        super().__init__(layout, BROKER, BROKER_ADDRESS, register_child)
        self.port = port
        """On this machine's 127.0.0.1; inside, it is the host `broker` and 1883."""

    def __str__(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def inside(self) -> str:
        """The address for programs inside."""
        return f"{BROKER}:{BROKER_PORT}"

    @property
    def mosquitto(self) -> "Service":
        return Service(self, "mosquitto", self._answers)

    def _answers(self) -> bool:
        probe = f"import socket; socket.create_connection(({BROKER_ADDRESS!r}, {BROKER_PORT}))"
        return self.run([sys.executable, "-c", probe], check=False).returncode == 0

    @property
    def _command(self) -> tuple[str, ...]:
        return ("tests.support.lab.inside.switch", str(self._layout.directory))


@dataclass(frozen=True)
class Service:
    """A daemon of a place: killed, frozen, started again."""

    place: Container
    program: str
    answers: Callable[[], bool]

    @property
    def process(self) -> Process | None:
        for process in self.place.processes:
            if process.argv and process.argv[0].rpartition("/")[2] == self.program:
                return process
        return None

    @property
    def is_running(self) -> bool:
        return self.process is not None

    def kill(self) -> None:
        """By SIGKILL. Raises LabError if it does not run."""
        self._running().kill()

    def freeze(self) -> None:
        self._running().freeze()

    def thaw(self) -> None:
        self._running().thaw()

    def start(self) -> None:
        """Start it unless it runs, and wait until it can be talked to."""
        self.place.init_process.send(Signals.SIGUSR1)
        wait_until(
            lambda: self.is_running and self.answers(),
            f"{self.program} on {self.place.name}",
            error=LabError,
        )

    def _running(self) -> Process:
        found = self.process
        if found is None:
            raise LabError(f"{self.program} does not run on {self.place.name}")
        return found
