"""Every error of the daemon, in one tree::

FastlibError
├── HypervisorError         a task failed in a way that was to be expected; its text is the answer
│   ├── UnsupportedError    the hypervisor has no method for the task
│   ├── FinalError          another try could not succeed, or would find another state
│   │   └── TaskExpiredError    the task expired before it began, so it never begins
│   └── TaskCancelledError  the task was cancelled, and what it had begun is undone
├── UnexpectedError           what a hypervisor raised that is no HypervisorError; has `.error`
├── PluginError             a plug-in is unknown or broken; names the distribution
├── ConfigurationError      the configuration file is wrong; has `.problems`
├── JournalError            the journal cannot be read or written
├── RunningError            another instance runs; has `.pid`
└── ClaimError              this daemon may not have its host any more, so nothing begins
    └── HostTakenError          another daemon of this host's name is online
"""

from collections.abc import Iterable
from typing import Final

from fastlib.codec.errors import FastlibError, MessageError, Problem

CANCELLED: Final = "cancelled"
"""The text of a task that was cancelled, unless the hypervisor has more to say."""


class HypervisorError(FastlibError):
    """A task failed, and the text tells a scheduler why: it becomes the result's `details`."""


class UnsupportedError(HypervisorError):
    """The hypervisor has no method for the task."""

    def __init__(self, hypervisor: str, title: str) -> None:
        self.hypervisor: Final = hypervisor
        self.title: Final = title
        super().__init__(f"hypervisor {hypervisor} has no support for {title}")


class FinalError(HypervisorError):
    """The task failed when a part of it was done, or it can never succeed as it is written.

    A task with a retry counter is not tried again after it.
    """


class TaskExpiredError(FinalError):
    """The order expired before the task began. Nothing was done, and nothing will be."""


class TaskCancelledError(HypervisorError):
    """The task was cancelled; what it had begun is undone."""

    def __init__(self, text: str = CANCELLED) -> None:
        super().__init__(text)


class UnexpectedError(FastlibError):
    """A hypervisor raised what is no HypervisorError, which is a mistake in it."""

    def __init__(self, error: BaseException, note: str | None = None) -> None:
        """`note` is added to the text of the error."""
        self.error: Final = error
        text = str(error)
        name = type(error).__name__
        words = f"{name}: {text}" if text else name
        super().__init__(words if note is None else f"{words}; {note}")


class PluginError(FastlibError):
    """A plug-in is unknown, or it is broken and the text names its distribution."""


class ConfigurationError(MessageError):
    """The configuration is wrong. `problems` says why, every reason at once."""

    def __init__(self, what: str, problems: Iterable[Problem]) -> None:
        super().__init__(what, problems)


class JournalError(FastlibError):
    """The journal cannot be read or written."""


class RunningError(FastlibError):
    """Another instance runs on this host with this configuration."""

    def __init__(self, path: str, pid: int | None) -> None:
        self.path: Final = path
        self.pid: Final = pid
        who = "another instance" if pid is None else f"another instance, process {pid},"
        super().__init__(f"{who} runs with this configuration and holds {path}; end it first")


class ClaimError(FastlibError):
    """It cannot be confirmed that this daemon still has its host, so nothing begins any more."""


class HostTakenError(ClaimError):
    """Another daemon of this host's name is online, and both would execute every order."""
