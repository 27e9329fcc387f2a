"""Commands of fastlib in a process of their own: here other tests may have declared messages."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]


def fastlib(*arguments, cwd, status=0, path=()):
    """Runs `fastlib …`; `path` are folders with further modules. Gives what it prints."""
    done = subprocess.run(
        [sys.executable, "-m", "fastlib", *map(str, arguments)],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (ROOT, *path)))},
    )
    assert done.returncode == status, done.stdout + done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    return done
