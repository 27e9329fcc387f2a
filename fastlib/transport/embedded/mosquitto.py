"""The broker of `fastlib broker` where mosquitto is installed: mosquitto as a child process."""

import fcntl
import ipaddress
import os
import shutil
import subprocess
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import AbstractContextManager
from logging import getLogger
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from fastlib.transport.broker_url import address_text
from fastlib.transport.errors import ListenError, MosquittoMissingError, OptionsError
from fastlib.transport.futures import wait
from fastlib.transport.packet_size import check_largest_packet

from .listening import check_port, listen

log = getLogger("fastlib.transport")

START_SECONDS: Final = 60.0
STOP_SECONDS: Final = 60.0
"""Upper bounds. Normally both take some milliseconds; a large file of messages takes longer."""

REPEAT_SECONDS: Final = 1.0
"""The time between two requests to mosquitto to end."""

FREE_PORT_TRIES: Final = 5
"""The number of free ports to try: another program may take one before mosquitto listens."""

PORT_TAKEN: Final = "Address already in use"
"""Text in mosquitto's log, in any language of the system."""

SETTINGS: Final = {
    "persistence": "true",
    "autosave_on_changes": "true",
    "autosave_interval": "1",
    "max_packet_size": "5000000",
    "max_inflight_messages": "20",
    "max_queued_bytes": "134217728",
    "max_queued_messages": "0",
    "set_tcp_nodelay": "true",
}
"""Settings that `docs/mosquitto.conf` also has, with their reasons."""


def find_mosquitto() -> Path | None:
    """Return the program, also from folders that only root's PATH has; None if it is missing."""
    path = f"{os.environ.get('PATH', os.defpath)}:/usr/local/sbin:/usr/sbin:/opt/homebrew/sbin"
    found = shutil.which("mosquitto", path=path)
    return None if found is None else Path(found)


class MosquittoBroker(AbstractContextManager["MosquittoBroker"]):
    """An MQTT 3.1.1 and 5 broker: mosquitto in a process of its own, without users or passwords.

    Messages and sessions are in a folder, and survive its end. `with MosquittoBroker(port=0) as
    broker` runs it on a free port, `broker.port`. It can be started again after `stop`. It ends
    with this process, also if that is killed (Linux).
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 1883,
        *,
        directory: Path | str | None = None,
        on_log: Callable[[str], None] | None = None,
        largest_packet: int | None = None,
    ) -> None:
        """`host` is an IP address or `localhost`; port 0 is any free port.

        `directory` keeps the messages. By default it is `default_directory(port)`, and for port 0 a
        temporary folder, which is deleted at the end. `on_log` is called with each line of
        mosquitto's log, in a thread of its own. `largest_packet` is its `max_packet_size` in bytes,
        by default 5,000,000. Raises OptionsError, and MosquittoMissingError if
        mosquitto is not installed.
        """
        self.host: Final = _ip_address(host)
        self._largest_packet = check_largest_packet(largest_packet)
        self._asked_port = check_port(port)
        self._port = port
        self._temporary: tempfile.TemporaryDirectory[str] | None = None
        self._asked_directory = None if directory is None else Path(directory).absolute()
        self._directory: Path | None = self._asked_directory
        if self._directory is None and port:
            self._directory = default_directory(port)
        self._on_log = on_log or (lambda line: log.debug("mosquitto: %s", line))
        found = find_mosquitto()
        if found is None:
            raise MosquittoMissingError
        self._program = found
        self._run: _Run | None = None

    @property
    def port(self) -> int:
        """The port. For port 0 it is the chosen port after `start`."""
        return self._port

    @property
    def address(self) -> str:
        """Host and port, an IPv6 address in brackets."""
        return address_text(self.host, self.port)

    @property
    def directory(self) -> Path | None:
        """The folder of the messages; None before the start if it is a temporary one."""
        return self._directory

    @property
    def keeps_messages(self) -> bool:
        """True if the messages are kept after `stop`, for the next start."""
        return bool(self._asked_directory or self._asked_port)

    @property
    def is_reachable_from_outside(self) -> bool:
        """True if other machines may connect."""
        return not ipaddress.ip_address(self.host).is_loopback

    @property
    def is_running(self) -> bool:
        """True from `start` to `stop`, unless it has failed."""
        return self._run is not None and not self._run.ended.done()

    def start(self) -> Self:
        """Start mosquitto, and return when clients can connect. Raises ListenError."""
        if self._run is not None:
            raise ListenError(f"the broker listens on {self.address} already")
        if not self.keeps_messages:
            self._temporary = tempfile.TemporaryDirectory(prefix="fastlib-broker-")
            self._directory = Path(self._temporary.name)
        assert self._directory is not None
        try:
            lock = _lock(self._directory)
            try:
                self._run = self._started(self._directory, lock)
            finally:
                os.close(lock)  # mosquitto has its own copy
        except BaseException:
            self._delete_temporary()
            raise
        return self

    def _started(self, directory: Path, lock: int) -> "_Run":
        for last in range(FREE_PORT_TRIES, 0, -1):
            with listen(self.host, self._asked_port) as free:
                self._port = free.getsockname()[1]
            (directory / "mosquitto.conf").write_text(
                _configuration(self.host, self._port, self._largest_packet)
            )
            run = _Run([*_ends_with_us(), str(self._program)], directory, lock, self._on_log)
            try:
                wait(run.started, START_SECONDS, "the start of mosquitto")
            except _EndedError as error:
                run.stop()
                taken = any(PORT_TAKEN in line for line in error.lines)
                if taken and not self._asked_port and last > 1:
                    continue
                why = "another program took the port" if taken else "; ".join(error.lines)
                text = f"mosquitto cannot listen on {self.address} ({directory}): {why}"
                raise ListenError(text) from None
            except BaseException:
                run.stop()
                raise
            return run
        raise AssertionError("unreachable")

    def wait(self, timeout: float | None = None) -> None:
        """Wait until another thread calls `stop`. Signals interrupt it.

        Raises WaitTimeoutError after `timeout` seconds, and ListenError if mosquitto has ended.
        """
        if self._run is not None:
            wait(self._run.ended, timeout, "the end of the broker")

    def stop(self) -> None:
        """End mosquitto, which writes its messages, and free the port. May be called again."""
        run, self._run = self._run, None
        if run is not None:
            run.stop()
        self._delete_temporary()

    def _delete_temporary(self) -> None:
        temporary, self._temporary = self._temporary, None
        if temporary is not None:
            temporary.cleanup()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def __repr__(self) -> str:
        state = "" if self.is_running else ", not running"
        return f"<MosquittoBroker {self.address}{state}>"


class _EndedError(ListenError):
    """Mosquitto has ended. `lines` are the last ones of its log."""

    def __init__(self, status: int, lines: list[str]) -> None:
        self.lines: Final = lines
        why = f"the signal {-status}" if status < 0 else f"exit status {status}"
        super().__init__(f"mosquitto has ended ({why}): {'; '.join(lines)}")


class _Run:
    """One process of mosquitto, and the thread that starts it and reads its log to the end.

    The system ends the process together with the thread that started it. So this thread starts it.
    """

    def __init__(
        self, command: list[str], directory: Path, lock: int, on_log: Callable[[str], None]
    ) -> None:
        self.started: Final[Future[None]] = Future()
        """Done when clients can connect."""
        self.ended: Final[Future[None]] = Future()
        """Done after `stop`; with an error if mosquitto ends without it."""
        self._on_log = on_log
        self._stopping = False
        self._process: subprocess.Popen[str] | None = None
        popened: Future[None] = Future()
        self._thread = threading.Thread(
            target=self._main,
            args=(command, directory, lock, popened),
            name=f"fastlib mosquitto {directory.name}",
            daemon=True,
        )
        self._thread.start()
        popened.result()

    def _main(
        self, command: list[str], directory: Path, lock: int, popened: "Future[None]"
    ) -> None:
        try:
            process = subprocess.Popen(  # noqa: S603 - a program of the system
                [*command, "-c", "mosquitto.conf"],
                cwd=directory,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                errors="backslashreplace",
                pass_fds=(lock,),
                start_new_session=True,  # only this process gets Ctrl-C, and it ends mosquitto
            )
        except OSError as error:
            popened.set_exception(ListenError(f"cannot start {command[-1]}: {error}"))
            return
        self._process = process
        popened.set_result(None)
        last: deque[str] = deque(maxlen=5)
        assert process.stderr is not None
        with process.stderr:
            for line in process.stderr:
                last.append(line.rstrip("\n").partition(": ")[2])
                self._pass_on(line.rstrip("\n"))
                if not self.started.done() and last[-1].endswith(" running"):
                    self.started.set_result(None)
        status = process.wait()
        if self._stopping:
            self.ended.set_result(None)
            return
        ended = _EndedError(status, list(last))
        self.ended.set_exception(ended)
        if not self.started.done():
            self.started.set_exception(ended)

    def _pass_on(self, line: str) -> None:
        try:
            self._on_log(line)
        except Exception:  # otherwise mosquitto would block at a full pipe
            log.exception("a line of mosquitto's log could not be passed on")

    def stop(self) -> None:
        """End the process in order, or by SIGKILL if it does not end in time."""
        self._stopping = True
        process = self._process
        assert process is not None
        latest = time.monotonic() + STOP_SECONDS
        while self._thread.is_alive() and time.monotonic() < latest:
            process.terminate()  # mosquitto ignores it for a moment after it is ready
            self._thread.join(REPEAT_SECONDS)
        if self._thread.is_alive():
            log.error("mosquitto did not end in %g s and is killed", STOP_SECONDS)
            process.kill()
            self._thread.join(STOP_SECONDS)


def default_directory(port: int) -> Path:
    """Return the folder of the broker's messages. Raises OptionsError if there is no home."""
    try:
        state = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local/state")
    except RuntimeError as error:
        raise OptionsError(f"name a folder for the messages of the broker: {error}") from None
    return state.absolute() / f"fastlib/broker-{port}"


def _ip_address(host: str) -> str:
    if host == "localhost":
        return "127.0.0.1"
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        raise OptionsError(f"the host to listen on must be an IP address, not {host!r}") from None


def _configuration(host: str, port: int, largest_packet: int | None = None) -> str:
    changed = {} if largest_packet is None else {"max_packet_size": str(largest_packet)}
    lines = [
        "# Written by `fastlib broker` at each start.",
        f"listener {port} {host}",
        "allow_anonymous true",
        "persistence_location ./",
        "log_dest stderr",
        "log_timestamp_format %Y-%m-%dT%H:%M:%S",
        *(f"{name} {value}" for name, value in (SETTINGS | changed).items()),
    ]
    if os.geteuid() == 0:
        lines.append("user root")  # another user could not write into the folder
    return "\n".join([*lines, ""])


def _ends_with_us() -> list[str]:
    """Return the command prefix that ends a command with this process; empty if there is none."""
    setpriv = shutil.which("setpriv")
    return [] if setpriv is None else [setpriv, "--pdeathsig", "TERM", "--"]


def _lock(directory: Path) -> int:
    """Lock the folder against other brokers. Return the descriptor. Raises ListenError."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        why = error.strerror or error
        raise ListenError(f"cannot keep messages in {directory}: {why}; name another") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise ListenError(
            f"another broker keeps its messages in {directory}: name another folder, or end it"
        ) from None
    return lock
