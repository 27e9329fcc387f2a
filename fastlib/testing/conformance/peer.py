"""The tested program: it is started, gets one request at a time, and is restarted when it fails."""

import os
import selectors
import signal
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, NoReturn, Self

from fastlib.codec.errors import FastlibError
from fastlib.codec.limits import DEFAULT_LIMITS

from .protocol import LineError, PeerAnswer, PeerRequest, read_answer, write_request

LONGEST_ANSWER = DEFAULT_LIMITS.max_bytes
"""The maximum length of an answer. A longer one cannot be a message."""
STARTING = 10.0
"""The minimum timeout in seconds for the first answer, because a start may take long."""
ENDING = 1.0
"""The maximum seconds to wait for the end of a program that has closed its output."""
UNASKED = "unasked"
"""The kind of failure that no request has caused."""
_FIRST = PeerRequest(type="mmbwmon.Ack", yaml="{}")
"""A request to detect that the program has started; every valid answer is correct."""
_PIECE = 65536
_TAIL = 2000
"""The number of characters of the program's standard error that are kept."""
_SHOWN = 200


class CannotStartError(FastlibError):
    """The program does not exist or cannot be executed."""


class PeerError(Exception):
    """There is no usable answer; the program is restarted."""

    def __init__(self, kind: str, words: str) -> None:
        """`kind` is a short name of the failure."""
        super().__init__(words)
        self.kind = kind
        self.words = words
        self.stderr = ""
        """The end of the program's standard error."""
        self.seconds = 0.0
        """Seconds that the program needs for a restart."""


class Peer:
    """A program that answers requests over pipes."""

    def __init__(self, command: Sequence[str], *, timeout: float) -> None:
        """Raises CannotStartError."""
        self._command = list(command)
        self._timeout = timeout
        self._process: subprocess.Popen[bytes] | None = None
        self._selector = selectors.DefaultSelector()
        self._out = bytearray()
        self._err = bytearray()
        self._is_ready = False
        self._took = 0.0
        """Seconds that the start took."""
        self._start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()
        self._selector.close()

    def ask(self, request: PeerRequest) -> PeerAnswer:
        """Return the answer of the program. Raises PeerError and CannotStartError."""
        began = time.monotonic()
        if self._process is None:
            self._start()
        try:
            if not self._is_ready:
                # A valid answer: after a greeting, each line would answer the request before.
                self._answer(_FIRST, max(self._timeout, STARTING))
                self._is_ready = True
                self._took = time.monotonic() - began
            return self._answer(request, self._timeout)
        except PeerError as error:
            error.stderr = self._stop()
            error.seconds = time.monotonic() - began + self._took
            raise

    def _answer(self, request: PeerRequest, timeout: float) -> PeerAnswer:
        line = self._exchange(write_request(request), timeout)
        try:
            return read_answer(line)
        except LineError as error:
            # It is no longer certain that the next line belongs to the next request.
            words = f"the answer is invalid: {error}: {_shown(line)}"
            raise PeerError("garbage", words) from None

    def _start(self) -> None:
        pipe = subprocess.PIPE
        try:
            self._process = subprocess.Popen(  # noqa: S603 - the user's own command
                self._command,
                stdin=pipe,
                stdout=pipe,
                stderr=pipe,
                bufsize=0,
                start_new_session=True,  # so its child processes can be ended with it
            )
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise CannotStartError(f"cannot start {self._command[0]!r}: {reason}") from None
        for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
            assert stream is not None
            os.set_blocking(stream.fileno(), False)
        self._selector.register(self._process.stdout, selectors.EVENT_READ, "out")  # type: ignore[arg-type]
        self._selector.register(self._process.stderr, selectors.EVENT_READ, "err")  # type: ignore[arg-type]
        self._out.clear()
        self._err.clear()
        self._is_ready = False

    def _stop(self) -> str:
        """End the program. Return the end of its standard error."""
        process, self._process = self._process, None
        if process is None:
            return ""
        with suppress(ProcessLookupError):  # it has ended, and was waited for
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        while self._read("err", process.stderr):
            pass
        for key in list(self._selector.get_map().values()):
            self._selector.unregister(key.fileobj)
        for stream in (process.stdin, process.stdout, process.stderr):
            assert stream is not None
            stream.close()
        return self._err.decode("utf-8", "replace")

    def _exchange(self, line: bytes, timeout: float) -> bytes:
        """Return the line with which the program answers a request."""
        process = self._process
        assert process is not None
        assert process.stdin is not None
        deadline = time.monotonic() + timeout
        self._see(0)
        if self._out:
            raise PeerError(UNASKED, f"it wrote without a request: {_shown(self._out)}")
        left = memoryview(line)
        self._selector.register(process.stdin, selectors.EVENT_WRITE, "in")
        while b"\n" not in self._out:
            if len(self._out) > LONGEST_ANSWER:
                raise PeerError("too-long", f"an answer of more than {LONGEST_ANSWER} bytes")
            wait = deadline - time.monotonic()
            if wait <= 0:
                raise PeerError("none", f"no answer within {timeout:g} s")
            if self._see(wait) and left:
                left = left[self._write(left) :]
                if not left:
                    self._selector.unregister(process.stdin)
        answer, _, rest = bytes(self._out).partition(b"\n")
        if rest:
            raise PeerError("garbage", f"more than one line: {_shown(self._out)}")
        if left:
            raise PeerError("garbage", f"an answer before the request was read: {_shown(answer)}")
        self._out.clear()
        return answer

    def _see(self, wait: float) -> bool:
        """Read the program's output. Return True if its input can be written."""
        writable = False
        for key, _ in self._selector.select(wait):
            if key.data == "in":
                writable = True
            elif not self._read(key.data, key.fileobj):
                self._selector.unregister(key.fileobj)
                if key.data == "out":
                    self._ended(wait)
        return writable

    def _read(self, name: str, stream: Any) -> bool:
        """Read a piece of output. Return False if there is none."""
        piece = stream.read(_PIECE)
        if name == "out":
            self._out += piece or b""
        else:
            self._err += piece or b""
            del self._err[:-_TAIL]
        return bool(piece)

    def _write(self, data: memoryview) -> int:
        assert self._process is not None
        assert self._process.stdin is not None
        try:
            return self._process.stdin.write(data) or 0
        except BrokenPipeError:
            self._ended(self._timeout)

    def _ended(self, wait: float) -> NoReturn:
        """Raise the error for a program that has closed its output."""
        assert self._process is not None
        try:
            status = self._process.wait(min(max(wait, 0.1), ENDING))
        except subprocess.TimeoutExpired:
            raise PeerError("closed", "it closed its standard output, or input") from None
        if status < 0:
            raise PeerError(f"signal-{-status}", f"ended by signal {-status}")
        raise PeerError(f"ended-{status}", f"ended with status {status}")


def _shown(data: bytes | bytearray) -> str:
    text = bytes(data[:_SHOWN]).decode("utf-8", "backslashreplace")
    return text.replace("\r", "\\r").replace("\n", "\\n") + ("…" if len(data) > _SHOWN else "")
