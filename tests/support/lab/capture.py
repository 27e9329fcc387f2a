"""Look into what a host sends and receives: a program at the bridge reads all of its packets."""

import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

from .errors import LabError
from .laboratory import Lab

_ROOT = Path(__file__).resolve().parents[3]


class Capture:
    """Counts bytes and packets with a pattern between a host and the bridge; a context manager."""

    def __init__(self, lab: Lab, host: str, pattern: str) -> None:
        self._lab = lab
        self._host = host
        self._pattern = pattern
        self._process: subprocess.Popen[str] | None = None
        self.bytes = 0
        """The bytes of all packets. It counts after the end."""
        self.hits = 0
        """The packets that had the pattern. It counts after the end."""

    def __enter__(self) -> Self:
        argv = [sys.executable, "-m", "tests.support.lab.inside.capture", self._host, self._pattern]
        pipe = subprocess.PIPE
        self._process = self._lab.broker.popen(argv, stdin=pipe, stdout=pipe, text=True, cwd=_ROOT)
        assert self._process.stdout is not None
        if self._process.stdout.readline().strip() != "ready":
            raise LabError("the capture of packets does not begin")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._process is not None
        printed, _ = self._process.communicate("")
        if kind is None:
            self.bytes, self.hits = map(int, printed.split())
