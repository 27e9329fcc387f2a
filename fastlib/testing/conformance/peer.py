"""The program that is asked: started, asked one thing at a time, started again when it fails."""

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
"""What is longer could not be read as a message."""
STARTING = 10.0
"""So many seconds a program has at least for its first answer, as it may take long to start."""
ENDING = 1.0
"""Seconds at most to wait for the end of a program that has closed its side."""
_FIRST = PeerRequest(type="mmbwmon.Ack", yaml="{}")
"""Whatever is answered to this, the program has started."""
_PIECE = 65536
_TAIL = 2000
"""So much of what the program says on its standard error is kept."""
_SHOWN = 200


class CannotStartError(FastlibError):
    """There is no such program, or it may not be run."""


class PeerError(Exception):
    """There is no answer that could be looked at; the program is started again."""

    def __init__(self, kind: str, words: str) -> None:
        """`kind` is a short name of what went wrong."""
        super().__init__(words)
        self.kind = kind
        self.words = words
        self.stderr = ""
        """The last that the program said on its standard error."""
        self.seconds = 0.0
        """How long it takes until the program, started again, can be asked again."""


class Peer:
    """A program that answers requests, by pipes."""

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
        """So many seconds it took to start."""
        self._start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()
        self._selector.close()

    def ask(self, request: PeerRequest) -> PeerAnswer:
        """The answer of the program. Raises PeerError, and CannotStartError."""
        began = time.monotonic()
        if self._process is None:
            self._start()
        try:
            if not self._is_ready:
                self._exchange(write_request(_FIRST), max(self._timeout, STARTING))
                self._is_ready = True
                self._took = time.monotonic() - began
            line = self._exchange(write_request(request), self._timeout)
            try:
                return read_answer(line)
            except LineError as error:
                # Whether the next line would belong to the next request is not certain any more.
                words = f"the answer is invalid: {error}: {_shown(line)}"
                raise PeerError("garbage", words) from None
        except PeerError as error:
            error.stderr = self._stop()
            error.seconds = time.monotonic() - began + self._took
            raise

    def _start(self) -> None:
        pipe = subprocess.PIPE
        try:
            self._process = subprocess.Popen(  # noqa: S603 - the user's own command
                self._command,
                stdin=pipe,
                stdout=pipe,
                stderr=pipe,
                bufsize=0,
                start_new_session=True,  # so that what it starts itself can be ended with it
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
        """Ends the program. Returns the last that it said on its standard error."""
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
        """The line with which the program answers one."""
        process = self._process
        assert process is not None
        assert process.stdin is not None
        deadline = time.monotonic() + timeout
        self._see(0)
        if self._out:
            raise PeerError("garbage", f"it wrote without a request: {_shown(self._out)}")
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
            raise PeerError("garbage", f"more than one line: {_shown(rest)}")
        if left:
            raise PeerError("garbage", f"an answer before the request was read: {_shown(answer)}")
        self._out.clear()
        return answer

    def _see(self, wait: float) -> bool:
        """Takes in what the program has written, or writes; whether it can be written to."""
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
        """Takes in a piece; False if there is none."""
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
        """Raises what is to be said of a program that has closed its side."""
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
    return text + ("…" if len(data) > _SHOWN else "")
