"""Run `fastlib` commands in tests, and a daemon that answers them.

`run`, `run_bytes` and `run_on_terminal` call `fastlib.cli.main` in this process, which takes
milliseconds. `run_process` and `Running` start an interpreter. Only tests of signals, closed pipes,
interactive terminals and imports need them.
"""

import _thread
import codecs
import fcntl
import io
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
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Self, TextIO, TypeVar
from unittest import mock

import msgspec

import fastlib.cli
from fastlib import Result, ResultContainer, TaskContainer
from fastlib.message.topics import PRESENCE, PROGRESS, RESULT, TASK
from fastlib.transport import MqttOptions, ReceivedMessage, connect
from tests.support.mosquitto import PATIENCE, Mosquitto

_CHANGED = {
    "COLUMNS", "FASTLIB_BROKER", "FASTLIB_PASSWORD", "LINES", "NO_COLOR", "PYTHONIOENCODING",
    "PYTHONUNBUFFERED", "PYTHONUTF8", "TERM",
}  # fmt: skip
"""Variables that change what commands print or do."""
ENVIRONMENT = {key: value for key, value in os.environ.items() if key not in _CHANGED}
PROGRAM = (sys.executable, "-m", "fastlib")
PATIENT_PROGRAM = (
    *(sys.executable, "-c"),
    "import sys; from fastlib.cli import main, sending; sending.ABSENCE_SECONDS = 600; "
    "sys.exit(main())",
)
"""`fastlib` that prints nothing about an answer that a busy machine delays."""
STOP = "task: stop vm\nlist:\n  - vm-name: vm1\n  - vm-name: vm2\nid: stop-1\n"
"""An order of two tasks."""
CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")

T = TypeVar("T")
Environment = dict[str, str]
Streams = Mapping[str, TextIO | None]


def address(broker: Mosquitto) -> Environment:
    """Return the environment in which commands find a broker."""
    return {"FASTLIB_BROKER": f"127.0.0.1:{broker.port}"}


def without_colours(text: str) -> str:
    """Return the text without a terminal's colour sequences."""
    return re.sub(r"\033\[[0-9;]*m", "", text)


# --- in this process ------------------------------------------------------------------------------


class Output(io.BytesIO):
    """The output of a command; another thread can wait for a part of it."""

    def __init__(self) -> None:
        super().__init__()
        self._changed = threading.Condition()

    def write(self, data: Any) -> int:
        with self._changed:
            written = super().write(data)
            self._changed.notify_all()
        return written

    def until(self, pattern: str) -> None:
        """Wait until the output has the pattern."""
        with self._changed:
            found = self._changed.wait_for(lambda: re.search(pattern, self.text()), PATIENCE)
        assert found, f"{pattern!r} is not in {self.text()!r}"

    def text(self) -> str:
        return self.getvalue().decode()


def run(
    *arguments: object,
    env: Environment | None = None,
    stdin: str = "",
    during: Callable[[Output], object] | None = None,
) -> "subprocess.CompletedProcess[str]":
    """Run a command; `during` runs in a thread at the same time, and gets its standard output."""
    done = run_bytes(*arguments, env=env, stdin=stdin.encode(), during=during)
    return subprocess.CompletedProcess(
        done.args, done.returncode, done.stdout.decode(), done.stderr.decode()
    )


def run_bytes(
    *arguments: object,
    env: Environment | None = None,
    stdin: bytes = b"",
    encoding: str = "utf-8",
    closed: Iterable[str] = (),
    during: Callable[[Output], object] | None = None,
) -> "subprocess.CompletedProcess[bytes]":
    """Run a command; `encoding` is that of the locale, `closed` has names of closed streams."""
    stdout, stderr = Output(), Output()
    streams = {
        "stdin": io.TextIOWrapper(io.BytesIO(stdin), encoding),
        "stdout": io.TextIOWrapper(stdout, encoding),
        "stderr": io.TextIOWrapper(stderr, encoding, "backslashreplace"),
    }
    used: Streams = {name: None if name in closed else stream for name, stream in streams.items()}
    with _meanwhile(during, stdout):
        status = _call_main(arguments, used, {"COLUMNS": "80"} | (env or {}))
    for stream in streams.values():
        stream.detach()  # else its end closes the buffer
    return subprocess.CompletedProcess(
        _texts(arguments), status, stdout.getvalue(), stderr.getvalue()
    )


def run_on_terminal(
    *arguments: object,
    columns: int = 100,
    env: Environment | None = None,
    terminal: Iterable[str] = ("stdout",),
) -> tuple[str, int]:
    """Run a command with some streams on a terminal; return its text and the exit status."""
    ours, theirs = _open_terminal(24, columns)
    shown = bytearray()
    reader = threading.Thread(target=_read_all, args=(ours, shown))
    reader.start()
    try:
        with open(theirs, "w", encoding="utf-8") as screen, open(os.devnull, "w+") as nothing:
            streams = dict.fromkeys(("stdin", "stdout", "stderr"), nothing)
            streams |= dict.fromkeys(terminal, screen)
            status = _call_main(arguments, streams, {"TERM": "xterm"} | (env or {}))
    finally:
        reader.join(PATIENCE)
        os.close(ours)
    return shown.decode().replace("\r\n", "\n"), status


def _call_main(arguments: Iterable[object], streams: Streams, env: Environment) -> int:
    """Call `fastlib.cli.main`; signals that would end the process become exit statuses."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    with (
        mock.patch.dict(os.environ, ENVIRONMENT | env, clear=True),
        mock.patch.multiple(
            sys, stdin=streams["stdin"], stdout=streams["stdout"], stderr=streams["stderr"]
        ),
        mock.patch.object(fastlib.cli, "exit_by_signal", lambda number: 128 + number),
    ):
        try:
            status = fastlib.cli.main(_texts(arguments))
        except SystemExit as error:
            status = _status_of(error)
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
            for name in ("stdout", "stderr"):
                if (stream := streams[name]) is not None:
                    stream.flush()
    return status


def _texts(arguments: Iterable[object]) -> list[str]:
    return [
        os.fsdecode(argument) if isinstance(argument, bytes) else str(argument)
        for argument in arguments
    ]


def _status_of(error: SystemExit) -> int:
    """Return the exit status as the interpreter would."""
    if error.code is None or isinstance(error.code, int):
        return error.code or 0
    print(error.code, file=sys.stderr)
    return 1


@contextmanager
def _meanwhile(work: Callable[[Output], object] | None, stdout: Output) -> Iterator[None]:
    """Run `work` in a thread during the block; its failure interrupts the block."""
    if work is None:
        yield
        return
    failures: list[BaseException] = []

    def target() -> None:
        try:
            work(stdout)
        except BaseException as error:
            failures.append(error)
            _thread.interrupt_main()

    thread = threading.Thread(target=target)
    thread.start()
    try:
        yield
    except KeyboardInterrupt:
        if not failures:
            raise
    finally:
        thread.join(PATIENCE)
    if failures:
        raise failures[0]


def _open_terminal(lines: int, columns: int) -> tuple[int, int]:
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
    return ours, theirs


def _read_all(file: int, shown: bytearray) -> None:
    while True:
        try:
            part = os.read(file, 65536)
        except OSError:  # EIO is the end of a terminal
            return
        if not part:
            return
        shown += part


# --- in a process of its own ----------------------------------------------------------------------


def run_process(
    *arguments: object,
    env: Environment | None = None,
    stdin: str = "",
    program: Iterable[str] = PROGRAM,
) -> "subprocess.CompletedProcess[str]":
    """Run a command in a process. With any arguments, it must print no traceback."""
    done = subprocess.run(
        [*program, *map(str, arguments)],
        input=stdin,
        capture_output=True,
        text=True,
        env=ENVIRONMENT | (env or {}),
        timeout=PATIENCE,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done


class Running:
    """A running process of a command, whose `stdout` and `stderr` are read as they come."""

    def __init__(
        self,
        *arguments: object,
        env: Environment,
        terminal: Iterable[str] = (),
        program: Iterable[str] = PROGRAM,
        size: tuple[int, int] = (40, 160),
    ) -> None:
        """`terminal` names streams on the terminal: stdout, stderr. `size` is lines and columns."""
        ours, theirs = _open_terminal(*size)
        streams = {
            name: theirs if name in terminal else subprocess.PIPE for name in ("stdout", "stderr")
        }
        self.process = subprocess.Popen(
            [*program, *map(str, arguments)],
            stdin=subprocess.DEVNULL,
            env=ENVIRONMENT | {"TERM": "xterm", "PYTHONUNBUFFERED": "1"} | env,
            stdout=streams["stdout"],
            stderr=streams["stderr"],
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
        """The text that was read; for a terminal without its line ends and colours."""
        # The last character may have come in part.
        shown = codecs.getincrementaldecoder("utf-8")().decode(self.read[name])
        shown = shown.replace("\r\n", "\n")
        return re.sub(r"\033\[[0-9;?]*[A-Za-z]", "", shown) if name == "terminal" else shown

    def until(self, pattern: str, name: str = "stdout") -> re.Match[str]:
        """Reads until a pattern is there."""
        return self.until_value(
            lambda: re.search(pattern, self.text(name)), lambda: f"{pattern!r} in {self._tail()}"
        )

    def until_value(self, find: Callable[[], T | None], describe: Callable[[], str]) -> T:
        """Read until `find` returns a value, and return it."""
        deadline = time.monotonic() + PATIENCE
        while (found := find()) is None:
            assert self._read(deadline), f"there is no {describe()}"
        return found

    def _read(self, deadline: float) -> bool:
        """Read the next part. Return False at the end."""
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


# --- a daemon that answers ------------------------------------------------------------------------


class Daemon:
    """A stand-in for the daemon of a host, whose attribute `answer` makes the results."""

    def __init__(self, broker: Mosquitto, host: str = "hostA", **options: Any) -> None:
        self.host = host
        self.arrived: list[TaskContainer] = []
        """What has come, as it came."""
        self.received: list[TaskContainer] = []
        """The same without the keys that each sending sets anew: `expires`, `idempotency-key`."""
        self.answer: Callable[[TaskContainer], ResultContainer | None] = success
        self._present = False
        self._new = threading.Condition()
        known: dict[str, Any] = {"host": "127.0.0.1", "port": broker.port, "retry_min": 0.05}
        self.communicator = connect(MqttOptions(**(known | options)))
        self.communicator.subscribe(TASK(host), self._take)

    def _take(self, message: ReceivedMessage) -> None:
        container = TaskContainer.from_yaml(message.payload)
        plain = msgspec.structs.replace(container, expires=None, idempotency_key=None)
        with self._new:
            self.arrived.append(container)
            self.received.append(plain)
            self._new.notify_all()
        results = self.answer(container)
        if results is not None:
            self.result(results)

    def wait(self, number: int = 1) -> TaskContainer:
        """Wait for the task of this number, from 1, and return it."""
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
    """Return a success of every member."""
    return _all(container, status="success")


def failure(container: TaskContainer) -> ResultContainer:
    """Return an error of every member, with a text that would colour a terminal red."""
    return _all(container, status="error", details="no such domain\033[31m\nsecond line")


def silence(container: TaskContainer) -> None:
    """Return no answer."""


def _all(container: TaskContainer, **said: Any) -> ResultContainer:
    kind: type[Result] = container.declaration.result_type
    names = [getattr(task, "vm_name", None) or "n/a" for task in container.tasks]
    return ResultContainer.answer(container, [kind(vm_name=name, **said) for name in names])
