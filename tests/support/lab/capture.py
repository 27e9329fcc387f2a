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
    """Counts bytes and packets with patterns between a host and the bridge; a context manager."""

    def __init__(self, lab: Lab, host: str, *patterns: str) -> None:
        self._lab = lab
        self._host = host
        self._patterns = patterns
        self._process: subprocess.Popen[str] | None = None
        self.bytes = 0
        """The bytes of all packets. It counts after the end."""
        self.hits = dict.fromkeys(patterns, 0)
        """The packets that had each pattern. They count after the end."""

    def __enter__(self) -> Self:
        module = "tests.support.lab.inside.capture"
        argv = [sys.executable, "-m", module, self._host, *self._patterns]
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
            self.bytes, *hits = map(int, printed.split())
            self.hits = dict(zip(self._patterns, hits, strict=True))
