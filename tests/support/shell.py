"""Commands as processes, on terminals or in pipes, and a daemon that answers as it is told."""

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any, Self

from fastlib import Result, ResultContainer, TaskContainer
from fastlib.message.topics import PRESENCE, PROGRESS, RESULT, TASK
from fastlib.transport import MqttOptions, ReceivedMessage, connect
from tests.support.mosquitto import PATIENCE, Mosquitto

_OURS = {"COLUMNS", "NO_COLOR", "TERM", "FASTLIB_BROKER", "FASTLIB_PASSWORD"}
ENVIRONMENT = {key: value for key, value in os.environ.items() if key not in _OURS}
PROGRAM = (sys.executable, "-m", "fastlib")
CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")

Environment = dict[str, str]


def address(broker: Mosquitto) -> Environment:
    """The environment in which commands find a broker."""
    return {"FASTLIB_BROKER": f"127.0.0.1:{broker.port}"}


def run(*arguments: object, env: Environment, stdin: str = "", program: Iterable[str] = PROGRAM):
    """The finished process of a command line; whatever it was given, it has no traceback."""
    done = subprocess.run(
        [*program, *map(str, arguments)],
        input=stdin,
        capture_output=True,
        text=True,
        env=ENVIRONMENT | env,
        timeout=60,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done


class Running:
    """A command that runs; `stdout` and `stderr` are read as they come."""

    def __init__(
        self,
        *arguments: object,
        env: Environment,
        terminal: Iterable[str] = (),
        program: Iterable[str] = PROGRAM,
        size: tuple[int, int] = (40, 160),
    ) -> None:
        """`terminal` says which of stdout and stderr are on a terminal, the same one."""
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", *size, 0, 0))
        streams = {
            name: theirs if name in terminal else subprocess.PIPE for name in ("stdout", "stderr")
        }
        self.process = subprocess.Popen(
            [*program, *map(str, arguments)],
            stdin=subprocess.DEVNULL,
            env=ENVIRONMENT | {"TERM": "xterm", "PYTHONUNBUFFERED": "1"} | env,
            **streams,
        )
        os.close(theirs)
        self.read = {"stdout": b"", "stderr": b"", "terminal": b""}
        self._files: dict[int, str] = {ours: "terminal"}
        for name in ("stdout", "stderr"):
            if name not in terminal:
                self._files[getattr(self.process, name).fileno()] = name
        self._ours = ours
        self._ended = False

    def text(self, name: str) -> str:
        """What has been read; of a terminal without its line ends and colours."""
        shown = self.read[name].decode().replace("\r\n", "\n")
        return re.sub(r"\033\[[0-9;?]*[A-Za-z]", "", shown) if name == "terminal" else shown

    def until(self, pattern: str, name: str = "stdout") -> re.Match[str]:
        """Reads until a pattern is there."""
        deadline = time.monotonic() + PATIENCE
        while (found := re.search(pattern, self.text(name))) is None:
            assert self._read(deadline), f"{pattern!r} is not in {self._tail()}"
        return found

    def _read(self, deadline: float) -> bool:
        """Reads what comes next; False at the end."""
        ready, _, _ = select.select(list(self._files), [], [], max(0, deadline - time.monotonic()))
        assert ready or not self._files, f"nothing comes any more; so far {self._tail()}"
        for file in ready:
            try:
                part = os.read(file, 65536)
            except OSError:  # EIO is a terminal's end
                part = b""
            if part:
                self.read[self._files[file]] += part
            else:
                del self._files[file]
        return bool(self._files)

    def _tail(self) -> dict[str, str]:
        return {name: self.text(name)[-1000:] for name in self.read}

    def interrupt(self) -> None:
        self.process.send_signal(signal.SIGINT)

    def wait(self) -> int:
        """The exit status, once all is read."""
        deadline = time.monotonic() + PATIENCE
        while self._files and self._read(deadline):
            pass
        status = self.process.wait(PATIENCE)
        assert "Traceback" not in str(self.read)
        return status

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for stream in (self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()
        os.close(self._ours)


class Daemon:
    """Stands in for the daemon of a host: executes an id once, and answers as it is told."""

    def __init__(self, broker: Mosquitto, host: str = "hostA", **options: Any) -> None:
        self.host = host
        self.received: list[TaskContainer] = []
        self.answer: Callable[[TaskContainer], ResultContainer | None] = success
        self._present = False
        self._new = threading.Condition()
        known = {"host": "127.0.0.1", "port": broker.port, "retry_min": 0.05}
        self.communicator = connect(MqttOptions(**(known | options)))
        self.communicator.subscribe(TASK(host), self._take)

    def _take(self, message: ReceivedMessage) -> None:
        container = TaskContainer.from_yaml(message.payload)
        with self._new:
            self.received.append(container)
            self._new.notify_all()
        results = self.answer(container)
        if results is not None:
            self.result(results)

    def wait(self, number: int = 1) -> TaskContainer:
        """The task that was received as that number."""
        with self._new:
            assert self._new.wait_for(lambda: len(self.received) >= number, PATIENCE)
            return self.received[number - 1]

    def result(self, results: ResultContainer | str) -> None:
        text = results if isinstance(results, str) else results.to_yaml()
        self.communicator.send(text.encode(), RESULT(self.host))

    def progress(self, text: str) -> None:
        self.communicator.send(text.encode(), PROGRESS(self.host)).wait(PATIENCE)

    def presence(self, text: str = "{status: online, hypervisor: qemu, version: '1.0'}") -> None:
        self._present = True
        self.communicator.send(text.encode(), PRESENCE(self.host), retain=True).wait(PATIENCE)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._present:  # the broker serves other tests, too
            self.communicator.send(b"", PRESENCE(self.host), retain=True)
        self.communicator.close()


def success(container: TaskContainer) -> ResultContainer:
    """Every member a success."""
    return _all(container, status="success")


def failure(container: TaskContainer) -> ResultContainer:
    """Every member an error, with a text that would colour a terminal red."""
    return _all(container, status="error", details="no such domain\033[31m\nsecond line")


def silence(container: TaskContainer) -> None:
    """No answer."""


def _all(container: TaskContainer, **said: Any) -> ResultContainer:
    kind: type[Result] = container.declaration.result_type
    names = [getattr(task, "vm_name", None) or "n/a" for task in container.tasks]
    return ResultContainer.answer(container, [kind(vm_name=name, **said) for name in names])
