"""A laboratory with a daemon on each host, and a scheduler's client outside."""

import contextlib
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from fastlib import Result
from fastlib.client import MigfraClient
from tests.support.waiting import wait_until

from .guest import Guest
from .laboratory import Lab

PATIENCE = 60.0
_READY = "works on"


class Migfra:
    """The daemon of a host."""

    def __init__(self, lab: Lab, host: str, directory: Path, options: str) -> None:
        self._host = lab.host(host)
        self.log: list[str] = []
        directory.mkdir(parents=True, exist_ok=True)
        self._configuration = directory / "migfra.yaml"
        self._configuration.write_text(
            f"hostname: {host}\n"
            f"communicator: {{host: broker, port: {lab.broker.inside.partition(':')[2]}}}\n"
            f"hypervisor: {{type: libvirt, transport: tcp, {options}}}\n"
            f"journal: {{path: {directory / 'journal'}}}\n"
            "retry: {first: 0.1, longest: 0.5}\n"
            "progress-interval: 0.05\n"
        )
        self._environment = {
            "RUNTIME_DIRECTORY": str(directory),
            "STATE_DIRECTORY": str(directory),
            "PYTHONUNBUFFERED": "1",
        }
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Start it, and wait until it works."""
        before = len(self.log)
        command = [sys.executable, "-m", "fastlib.cli.migfra", "-c", self._configuration]
        self._process = self._host.popen(
            command,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, args=(self._process,), daemon=True)
        self._reader.start()
        wait_until(lambda: any(_READY in line for line in self.log[before:]), self._said)

    def _read(self, process: "subprocess.Popen[str]") -> None:
        assert process.stderr is not None
        with process.stderr:
            for line in process.stderr:
                self.log.append(line.rstrip("\n"))

    def _said(self) -> str:
        return "the daemon does not work: " + "\n".join(self.log[-20:])

    def kill(self) -> None:
        """With `kill -9`."""
        self._end(lambda process: process.kill())

    def terminate(self) -> None:
        self._end(lambda process: process.terminate())

    def _end(self, end: "Callable[[subprocess.Popen[str]], None]") -> None:
        process, self._process = self._process, None
        if process is not None:
            end(process)
            process.wait(PATIENCE)
            self._reader.join(PATIENCE)


class Witness:
    """Sees all results that are sent, whoever asked for them; a context manager."""

    def __init__(self, broker: object) -> None:
        self._client = MigfraClient.connect(f"mqtt://{broker}")
        self._watch = self._client.watch()
        self._writing = threading.Lock()
        self._seen: dict[str, list[object]] = {}
        self._thread = threading.Thread(target=self._write)
        self._thread.start()

    def _write(self) -> None:
        for observed in self._watch:
            id = getattr(observed.message, "id", None)
            if id is not None:
                with self._writing:
                    self._seen.setdefault(id, []).append(observed.message)

    def has_seen(self, id: str) -> bool:
        """Whether a result has come with that id."""
        with self._writing:
            return id in self._seen

    def take(self) -> dict[str, list[object]]:
        """What has come since this was called last, by id."""
        with self._writing:
            taken, self._seen = self._seen, {}
        return taken

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()
        self._thread.join(PATIENCE)


class Fleet:
    """All of it, a context manager."""

    def __init__(self, directory: Path, hosts: int, options: str) -> None:
        self._directory = directory
        self._options = options
        self.lab = Lab(hosts)
        self.guests: dict[str, Guest] = {}
        self.daemons: dict[str, Migfra] = {}
        self.client: MigfraClient
        self.witness: Witness
        self.broker_was_killed = False
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        with self._stack:
            self._stack.enter_context(self.lab)
            names = [host.name for host in self.lab.hosts]
            nodes = f"nodes: [{', '.join(names)}], {self._options}"
            for name in names:
                daemon = Migfra(self.lab, name, self._directory / name, nodes)
                self.daemons[name] = daemon
                self._stack.callback(daemon.kill)
                daemon.start()
            self.client = self._stack.enter_context(
                MigfraClient.connect(f"mqtt://{self.lab.broker}", timeout=300.0)
            )
            self.client.listen_to_progress()
            self.witness = self._stack.enter_context(Witness(self.lab.broker))
            self._stack = self._stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    def running(self, host: str, name: str, **options: Any) -> Guest:
        """A guest with Linux, started on a host by its daemon, which beats.

        It writes less than the slowest link of the tests carries, unless the options say more.
        """
        return self.all_running(host, [name], **options)[0]

    def all_running(self, host: str, names: Sequence[str], **options: Any) -> list[Guest]:
        """Several of them, which boot at the same time."""
        told = {"dirty": 4, "rate": 1, **options}
        guests = [self.lab.define_guest(name, **told) for name in names]
        self.guests.update({guest.name: guest for guest in guests})
        started = [self.client.start(host, xml=guest.xml, probe_with_ssh=False) for guest in guests]
        for handle in started:
            success(handle.result(PATIENCE))
        for guest in guests:
            guest.await_beat()
        return guests

    def answered_once(self) -> None:
        """No task has been answered twice, and nothing more is on its way.

        If the broker was killed, an answer may come once more, as nobody knows whether it had come.
        """
        for host in self.daemons:
            # It is answered behind all that its daemon had to say before.
            handle = self.client.query(host)
            handle.result(PATIENCE)
            wait_until(
                lambda id=handle.id: self.witness.has_seen(id), lambda: "the answer is unseen"
            )
        for answers in self.witness.take().values():
            once_more = self.broker_was_killed and all(each == answers[0] for each in answers)
            assert len(answers) == 1 or once_more, answers
        self.broker_was_killed = False

    def kill_broker(self) -> None:
        """With `kill -9`; it keeps nothing."""
        self.broker_was_killed = True
        self.lab.broker.mosquitto.kill()

    def clear(self) -> None:
        """End what runs, and mend what was broken."""
        if not self.lab.broker.mosquitto.runs:
            self.lab.broker.mosquitto.start()
        for host in self.lab.hosts:
            if not host.linked:
                host.mend()
            if not host.libvirtd.runs:
                host.libvirtd.start()
            for name in host.domains():
                # Either may be done already: one that migrates here goes with its other half.
                for command in ("destroy", "undefine"):
                    host.run(["virsh", command, name], check=False)
            wait_until(lambda host=host: not host.domains(), lambda: str(self.states()))
        for guest in self.guests.values():
            guest.console.unlink(missing_ok=True)
        self.guests.clear()

    def check(self, name: str, host: str) -> None:
        """It runs on that host and on no other, goes on beating, and its memory is intact."""
        wait_until(lambda: self.lab.running_on(name) == [host], lambda: str(self.states()))
        assert self.lab.host(host).domains()[name] == "running"
        guest = self.guests[name]
        before = guest.await_beat()
        # The first comparison that ends may have begun before.
        wait_until(
            lambda: guest.await_beat().passes >= before.passes + 2,
            lambda: f"{name} does not compare its memory: {guest.beats[-1:]}",
        )
        after = guest.await_beat(before)
        assert after.faults == 0
        counts = [beat.count for beat in guest.beats]
        assert counts == sorted(set(counts)), "the guest has lived twice"

    def states(self) -> dict[str, dict[str, str]]:
        return {host.name: host.domains() for host in self.lab.hosts}

    def begun(self, handle: Any) -> None:
        """Wait until a migration has sent something."""

        def moves() -> bool:
            told = handle.progress
            moved = told is not None and told.phase != "save" and (told.transferred or 0) > 1 << 20
            return handle.done() or moved

        wait_until(moves, lambda: f"no progress: {handle.progress}")
        assert not handle.done(), handle.result(1)


def success(result: Result) -> None:
    assert result.status == "success", result.details


def error(result: Result, *patterns: str) -> str:
    """The details of an error, which match all of the patterns."""
    assert result.status == "error", result
    details = str(result.details)
    for pattern in patterns:
        assert re.search(pattern, details), details
    return details


@contextmanager
def fleet_of(directory: Path, hosts: int = 2, options: str = "") -> Iterator[Fleet]:
    """The options are those of the hypervisor, in flow style; waiting is short."""
    patience = "keep-alive: 1, connect-timeout: 3, stall-timeout: 6, pscom-timeout: 2"
    told = f"{patience}, stop-timeout: 12{', ' if options else ''}{options}"
    os.makedirs(directory, exist_ok=True)
    with Fleet(directory, hosts, told) as fleet:
        yield fleet
