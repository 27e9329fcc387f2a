"""`./dev lab` and `./dev lock`: the laboratory, and the locked versions of all packages."""

import argparse
import shutil
import subprocess
import sys
from typing import Any

from .processes import ROOT, replace_process

CONSTRAINTS = ROOT / "constraints.txt"
EXTRAS = ("test", "bench", "docs", "libvirt", "mutation", "audit")
_HEADER = """\
# The versions with which fastlib is developed and tested, for Python 3.11 and later.
# Renew them with: ./dev lock
"""


def lab(options: argparse.Namespace) -> int:
    return replace_process([str(ROOT / "tests/support/lab/lab"), *options.arguments])


def lock(_: argparse.Namespace) -> int:
    """Resolve the newest versions that fit together, for all interpreters at once."""
    uv = shutil.which("uv")
    if uv is None:
        sys.exit("dev: uv is not installed. Run: pip install uv")
    command = [
        *(uv, "pip", "compile", "pyproject.toml", "--universal", "--python-version", "3.11"),
        *("--upgrade", "--no-header", "--no-annotate", "--no-emit-package", "fastlib-migfra"),
        *(argument for extra in EXTRAS for argument in ("--extra", extra)),
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    CONSTRAINTS.write_text(_HEADER + done.stdout)
    return 0


def add_commands(commands: Any) -> None:
    parser = commands.add_parser("lab", help="the laboratory of several libvirt hosts")
    parser.add_argument("arguments", nargs=argparse.REMAINDER)
    parser.set_defaults(run=lab)
    parser = commands.add_parser("lock", help="renew constraints.txt, by uv")
    parser.set_defaults(run=lock)
