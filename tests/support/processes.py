"""Start child processes with default signal handling, independent of the start of the tests.

A shell starts a background job with SIGINT ignored, `nohup` ignores SIGHUP, and some supervisors
block signals. A child inherits an ignored or blocked signal, but a signal with a handler has its
default action in the child. `give_children_default_signals` uses this. `tests/conftest.py` calls it
once in each process that runs tests. After that no test has to do anything: `subprocess.run`,
`subprocess.Popen` and `asyncio.create_subprocess_exec` start children that react to every signal.

A program that starts children outside pytest calls the function itself, in its main thread.

A child also inherits its niceness, and only root may lower it. A test of a child's priority must
compare it with `niceness()`, the niceness of the tests' process.
"""

import os
import signal
import subprocess
import warnings
from types import FrameType
from typing import Any, Final

SIGNALS: Final = (
    signal.SIGHUP,
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGTERM,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGCHLD,
)
"""Python itself restores SIGPIPE in each child (`restore_signals` of `subprocess`)."""


def give_children_default_signals() -> None:
    """Replace each ignored signal by a handler, and unblock all signals. For the main thread.

    This process goes on ignoring these signals, except for SIGINT, which raises KeyboardInterrupt.
    """
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    for number in SIGNALS:
        if signal.getsignal(number) is signal.SIG_IGN:
            interrupts = number == signal.SIGINT
            signal.signal(number, signal.default_int_handler if interrupts else _ignore)


def niceness() -> int:
    """Return the niceness of this process, which its children inherit."""
    return os.getpriority(os.PRIO_PROCESS, 0)


def name_processes_left_behind() -> None:
    """Add the command and the test to the warning of a process without a wait.

    Python warns when the object is deleted, which may be in any later test.
    """
    init, delete = subprocess.Popen.__init__, subprocess.Popen.__del__

    def remember(self: Any, *arguments: Any, **options: Any) -> None:
        self.started_in = os.environ.get("PYTEST_CURRENT_TEST", "no test")
        init(self, *arguments, **options)

    def warn(self: Any, *arguments: Any, **options: Any) -> None:
        try:
            if getattr(self, "_child_created", False) and self.returncode is None:
                text = f"{self.args} of {self.started_in} still runs: wait for it there"
                warnings.warn(text, ResourceWarning, stacklevel=2, source=self)
        finally:
            delete(self, *arguments, **options)

    subprocess.Popen.__init__ = remember  # type: ignore[method-assign]
    subprocess.Popen.__del__ = warn  # type: ignore[method-assign]


def _ignore(_number: int, _frame: FrameType | None) -> None:
    """Handle a signal without any effect."""
