"""A laboratory: brought up, taken down, and found again by its name."""

import fcntl
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Self

from tests.support.waiting import WAIT_LIMIT

from . import guest, image, keys, layout, namespaces, process_table, requirements
from .errors import LabError
from .guest import Guest
from .host import Broker, Host
from .layout import Layout
from .local_disks import LocalDisk
from .shared_disks import SharedDisk

_ROOT = Path(__file__).resolve().parents[3]
_NAMESPACES = ("--net", "--mount", "--uts", "--pid", "--fork", "--kill-child", "--mount-proc")


class Lab:
    """Several hosts and a broker.

    As a context manager it is up inside, and ends with this process, even if that is killed;
    brought up by `up()`, it stays until `down()`, of whichever process. The name tells laboratories
    apart that are up at the same time; without one it is one that nobody else has. Raises LabError
    for a number of hosts or a name that will not do.
    """

    def __init__(
        self, hosts: int = 2, *, name: str | None = None, root: Path | None = None
    ) -> None:
        self._names = layout.host_names(hosts)
        self.layout = Layout(root or layout.default_root(), name or layout.unique_name())
        self._relay = 0
        self._owner_pipe: int | None = None
        self._children: list[subprocess.Popen[Any]] = []
        self._children_lock = threading.Lock()

    @classmethod
    def named(cls, name: str, root: Path | None = None) -> Self:
        """The laboratory of this name that is up, even if hosts of it died.

        Raises LabError if there is none.
        """
        lab = cls(name=name, root=root)
        if not (lab._read() and lab.layout.ready.exists() and lab.broker.is_up):
            raise LabError(f"the laboratory {name} is not up: lab up")
        return lab

    @property
    def name(self) -> str:
        return self.layout.name

    @property
    def hosts(self) -> list[Host]:
        return [self.host(name) for name in self._names]

    def host(self, name: str) -> Host:
        """Raises LabError if there is no host of this name."""
        if name not in self._names:
            raise LabError(f"no host {name}; there are {', '.join(self._names)}")
        return Host(self.layout, name, self._register_child)

    @property
    def broker(self) -> Broker:
        """Its text is its address for programs on this machine."""
        return Broker(self.layout, self._relay, self._register_child)

    def define_guest(
        self,
        name: str,
        *,
        on: str | None = None,
        memory: int = 96,
        vcpus: int = 1,
        dirty: int = 8,
        rate: int = 8,
        absent_vcpus: Sequence[int] = (),
        disk: SharedDisk | LocalDisk | None = None,
        bios: bool = False,
    ) -> Guest:
        """Describe a guest and, if a host is named, define it there.

        `memory` is in MiB, at least 80 for Linux. Of that, `dirty` MiB are compared and rewritten,
        `rate` MiB a second, while the guest runs. `absent_vcpus` are not there when it starts. It
        counts on its disk. With `bios` it has no Linux, does nothing, has no disk, and needs 1 MiB;
        it starts at once. Raises LabError for a name or a size that will not do.
        """
        guest.check(name, memory, dirty, rate, bios)
        folder = self.layout.guests
        if bios:
            made = guest.bios(name, folder, memory=memory, vcpus=vcpus, absent_vcpus=absent_vcpus)
        else:
            made = guest.linux(
                name, folder, image.image(), memory=memory, vcpus=vcpus, dirty=dirty, rate=rate,
                absent_vcpus=absent_vcpus, disk=disk,
            )  # fmt: skip
        path = folder / f"{guest.file_name(name)}.xml"
        path.write_text(made.xml)
        if on is not None:
            self.host(on).virsh("define", path)
        return made

    def running_on(self, domain: str) -> list[str]:
        """The hosts on which a domain is active, running or paused."""
        return [
            host.name
            for host in self.hosts
            if host.domains().get(domain, "shut off") not in ("shut off", "crashed")
        ]

    @property
    def is_up(self) -> bool:
        """Whether it is up, in whole."""
        return (
            self.layout.ready.exists()
            and self.broker.is_up
            and all(host.is_up for host in self.hosts)
        )

    def up(self) -> None:
        """Bring it up; what is left of one of this name that is not whole is cleared away before.

        If it is up, only daemons that do not run are started. Raises LabError if the machine cannot
        have a laboratory, if this one is up with another number of hosts, or if something does not
        start.
        """
        self._up(owned=False)

    def down(self) -> None:
        """End everything in it, and remove its folder; nothing happens if there is nothing."""
        with self._locked():
            self._clear()
            if layout.is_unique(self.name):
                self.layout.lock.unlink()

    def __enter__(self) -> Self:
        self._up(owned=True)
        return self

    def __exit__(self, *_: object) -> None:
        self.down()

    def _up(self, owned: bool) -> None:
        if absent := requirements.missing():
            raise LabError("no laboratory on this machine: " + "; ".join(absent))
        self._remove_abandoned()
        with self._locked():
            wanted = self._names
            if self._read() and self.is_up:
                if self._names != wanted:
                    raise LabError(
                        f"the laboratory {self.name} is up with {len(self._names)} hosts, "
                        f"not {len(wanted)}: lab down"
                    )
                self._start_daemons()
                return
            self._names = wanted
            self._clear()
            try:
                self._start(owned)
            except BaseException:
                self._end()
                raise

    def _start_daemons(self) -> None:
        for service in [self.broker.mosquitto, *(host.libvirtd for host in self.hosts)]:
            if not service.is_running:
                service.start()

    def _remove_abandoned(self) -> None:
        """Remove the folders of laboratories that have ended with their owners."""
        for name in layout.unique_names(self.layout.root):
            lab = type(self)(name=name, root=self.layout.root)
            if name != self.name and not lab.broker.is_up:
                with suppress(BlockingIOError), lab._locked(wait=False):
                    if not lab.broker.is_up:
                        lab._clear()
                        lab.layout.lock.unlink(missing_ok=True)  # its owner may have removed it

    def _start(self, owned: bool) -> None:
        directory = self.layout.directory
        directory.mkdir(mode=0o700)
        with socket.create_server(("127.0.0.1", 0)) as listening:
            self._relay = listening.getsockname()[1]
            settings = {
                "hosts": self._names,
                "owned": owned,
                "relay": listening.fileno(),
                "port": self._relay,
            }
            self.layout.settings.write_text(json.dumps(settings))
            self.layout.logs.mkdir()
            self.layout.guests.mkdir()
            for name in self._names:
                self.layout.runtime(name).mkdir(parents=True)
            keys.make(self.layout.keys, self._names)
            self._await_ready(self._spawn(listening.fileno(), owned))
        self.layout.ready.touch()

    def _spawn(self, relay: int, owned: bool) -> int:
        """Start the first process; the descriptor by which it reports."""
        owner_pipe, report, to_report = -1, *os.pipe()
        if owned:
            owner_pipe, self._owner_pipe = os.pipe()
        environment = namespaces.environment({"PYTHONPATH": str(_ROOT)})
        command = ["unshare", *_NAMESPACES, sys.executable, "-m", "tests.support.lab.inside.switch"]
        with (self.layout.logs / "switch.log").open("wb") as log:
            process = subprocess.Popen(
                [*command, str(self.layout.directory)],
                stdin=owner_pipe if owned else subprocess.DEVNULL,
                stdout=to_report,
                stderr=log,
                env=environment,
                pass_fds=[relay],
                start_new_session=True,
            )
        self._register_child(process)
        os.close(to_report)
        if owned:
            os.close(owner_pipe)
        return report

    def _await_ready(self, report: int) -> None:
        with os.fdopen(report) as lines:
            if not select.select([lines], [], [], 2 * WAIT_LIMIT)[0]:
                raise LabError(f"not up after {2 * WAIT_LIMIT:g} s\n{self._log_excerpt()}")
            if (said := lines.readline().strip()) != "ready":
                raise LabError(f"{said or 'the first process ended'}\n{self._log_excerpt()}")

    def _log_excerpt(self) -> str:
        """Return the end of the log."""
        logs = sorted(self.layout.logs.glob("*.log"))
        texts = {path.name: path.read_text(errors="replace")[-1000:].strip() for path in logs}
        return "\n".join(f"--- {name}\n{text}" for name, text in texts.items() if text)

    def _clear(self) -> None:
        self._end()
        directory = self.layout.directory
        if directory.exists():
            if not self.layout.settings.exists() and any(directory.iterdir()):
                raise LabError(
                    f"{directory} is no laboratory's, as lab.json is not there; it is left alone: "
                    "remove it, or choose another name or root"
                )
            shutil.rmtree(directory)

    def _end(self) -> None:
        """Kill the first process; the kernel kills all others, and the namespaces end with them."""
        first = process_table.find_init(
            "tests.support.lab.inside.switch", str(self.layout.directory)
        )
        if first is not None:
            first.send(signal.SIGKILL)
        # Children of this process that are inside are there until it waits for them.
        for child in self._children:
            child.wait(WAIT_LIMIT)
        if first is not None:
            first.kill()
        if self._owner_pipe is not None:
            os.close(self._owner_pipe)
            self._owner_pipe = None

    def _register_child(self, process: subprocess.Popen[Any]) -> None:
        with self._children_lock:
            self._children = [*(child for child in self._children if child.poll() is None), process]

    def _read(self) -> bool:
        """Read the state of the running laboratory. Return False if there is none."""
        try:
            settings = json.loads(self.layout.settings.read_text())
        except (FileNotFoundError, ValueError):
            return False
        self._names = settings["hosts"]
        self._relay = settings["port"]
        return True

    @contextmanager
    def _locked(self, *, wait: bool = True) -> Iterator[None]:
        """Raises BlockingIOError if another process has the lock, unless `wait` is true."""
        root = self.layout.root
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        if root.stat().st_uid != os.geteuid():
            raise LabError(f"{root} is somebody else's; choose another by --root")
        with self.layout.lock.open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield
