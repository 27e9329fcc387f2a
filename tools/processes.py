"""Run programs of the virtual environment, several at a time, with a limit of time for each."""

import contextlib
import importlib.util
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, NoReturn

ROOT = Path(__file__).parents[1]
INSTALL = "tests/run --install-only"
CACHE = ROOT / ".cache"
"""Files that a run leaves behind; git ignores it."""


def require(*modules: str, install: str = INSTALL) -> None:
    """End with the line that installs what is missing."""
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    if missing:
        sys.exit(f"dev: not installed: {', '.join(missing)}. Run: {install}")


def replace_process(command: Sequence[str]) -> NoReturn:
    """Run a program in place of this one, in the root folder."""
    os.chdir(ROOT)
    os.execv(command[0], list(command))


@dataclass
class Job:
    """A program that runs in the background and writes to a file."""

    name: str
    command: Sequence[str]
    limit_seconds: float
    environment: dict[str, str] = field(default_factory=dict)
    like_background: bool = False
    """With SIGINT ignored and a higher niceness, as from a shell's background job under `nice`."""
    status: int | None = None

    def __post_init__(self) -> None:
        self.log = CACHE / "logs" / f"{self.name.replace(' ', '-')}.log"

    def start(self) -> None:
        """Start the program in a process group of its own."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self.started = time.monotonic()
        with self.log.open("wb") as output:
            self.process = subprocess.Popen(
                list(self.command),
                cwd=ROOT,
                env=os.environ | self.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=ignore_signals if self.like_background else restore_signals,
            )

    def poll(self) -> bool:
        """Return whether the program has ended; end it when its time is over."""
        if self.status is None:
            self.status = self.process.poll()
            self.seconds = time.monotonic() - self.started
            if self.status is None and self.seconds > self.limit_seconds:
                self.kill()
                self.status = self.process.wait()
                with self.log.open("a") as output:
                    output.write(f"\ndev: {self.name} took more than {self.limit_seconds:.0f} s\n")
        return self.status is not None

    def kill(self) -> None:
        """Kill the program with all that it has started in its process group."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)


def restore_signals() -> None:
    """Restore Ctrl-C: a shell's background jobs, and their children, ignore SIGINT."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def ignore_signals() -> None:
    """Do what a shell does for a background job, and what `nice` does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.nice(5)


def run_side_by_side(jobs: Sequence[Job], follow: Sequence[Job] = ()) -> bool:
    """Run jobs at once and return whether all succeeded.

    The output of the jobs in `follow` is copied to stdout, one job after the other, while they run.
    """
    try:
        for job in jobs:
            job.start()
        for job in follow:
            _copy_output(job, jobs)
        while not _all_ended(jobs):
            time.sleep(0.05)
    except BaseException:
        for job in jobs:
            if job.status is None:
                job.kill()
        raise
    return all(job.status == 0 for job in jobs)


def _all_ended(jobs: Sequence[Job]) -> bool:
    running = [job for job in jobs if not job.poll()]
    return not running


def _copy_output(job: Job, jobs: Sequence[Job]) -> None:
    with job.log.open("rb") as output:
        while True:
            ended = _all_ended(jobs) or job.poll()
            _copy(output)
            if ended:
                return
            time.sleep(0.2)


def _copy(source: IO[bytes]) -> None:
    while part := source.read(65536):
        sys.stdout.buffer.write(part)
        sys.stdout.buffer.flush()
