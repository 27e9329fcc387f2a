"""Run `fastlib broker` in a separate process."""

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def broker_command(*arguments: str) -> Iterator[tuple["subprocess.Popen[str]", int, str]]:
    """Run the command; give it, its port and its second line when it listens."""
    with subprocess.Popen(
        [sys.executable, "-m", "fastlib", "broker", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout
            line = process.stdout.readline()
            found = re.fullmatch(r"listening on 127\.0\.0\.1:(\d+)\n", line)
            assert found, line
            yield process, int(found[1]), process.stdout.readline()
        finally:
            process.kill()
