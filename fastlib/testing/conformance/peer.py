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
_OTHER = PeerRequest(type="mmbwmon.Ack", yaml="a: b: c")
"""A request with another answer than the first one, to detect a greeting that looks like one."""
_GREETING = 1.0
"""The minimum seconds to wait for a line that no request has caused."""
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
        self._greets: bool | None = None
        """Whether the program writes a line before the first request; None if not yet known."""
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
                self._make_ready(max(self._timeout, STARTING))
                self._took = time.monotonic() - began
            return self._answer(request, self._timeout)
        except PeerError as error:
            error.stderr = self._stop()
            error.seconds = time.monotonic() - began + self._took
            raise

    def _make_ready(self, timeout: float) -> None:
        """Wait for the first answer. Raises PeerError, also for a program with a greeting.

        After a greeting, each line would answer the request before.
        """
        began = time.monotonic()
        try:
            first = self._answer(_FIRST, timeout)
        except PeerError as error:
            if error.kind == "garbage" and self._greets is None:
                self._refuse_greeting(began, error.words)
            raise
        if self._greets is None:
            try:
                other, again = self._answer(_OTHER, timeout), self._answer(_FIRST, timeout)
                in_turn = first.ok and not other.ok and not other.unsupported and again == first
                if not in_turn:
                    self._refuse_greeting(began, "the first answers do not belong to the requests")
            except PeerError as error:
                if error.kind == UNASKED:
                    raise
                # It fails at this text. The same text of a message is reported.
                self._stop()
                self._start()
                self._answer(_FIRST, timeout)
            self._greets = False
        self._is_ready = True

    def _refuse_greeting(self, began: float, words: str) -> None:
        """Raise PeerError if one more line comes. Then the first one was a greeting."""
        deadline = time.monotonic() + max(_GREETING, 3 * (time.monotonic() - began))
        while b"\n" not in self._out:
            wait = deadline - time.monotonic()
            if wait <= 0:
                return
            try:
                self._see(wait)
            except PeerError:  # it has ended
                return
        raise PeerError(UNASKED, f"it wrote a line that no request has caused: {words}")

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
            # Before the program is ready, one of two answers was most likely a greeting.
            is_greeting = not self._is_ready and all(map(_is_answer, (answer, *rest.splitlines())))
            kind = UNASKED if is_greeting else "garbage"
            raise PeerError(kind, f"more than one line: {_shown(self._out)}")
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


def _is_answer(line: bytes) -> bool:
    try:
        read_answer(line)
    except LineError:
        return False
    return True


def _shown(data: bytes | bytearray) -> str:
    text = bytes(data[:_SHOWN]).decode("utf-8", "backslashreplace")
    return text.replace("\r", "\\r").replace("\n", "\\n") + ("…" if len(data) > _SHOWN else "")
