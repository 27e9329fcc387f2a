"""Every error of the daemon, in one tree::

FastlibError
├── HypervisorError         a task failed for an expected reason; its text is the answer
│   ├── UnsupportedError    the hypervisor has no method for the task
│   ├── FinalError          a retry could not succeed, or would find another state
│   │   └── TaskExpiredError    the task expired before it began, so it never begins
│   └── TaskCancelledError  the task was cancelled, and its changes are undone
├── UnexpectedError           another error of a hypervisor, which is a defect; has `.error`
├── PluginError             a plug-in is unknown or broken; names the distribution
├── ConfigurationError      the configuration file is wrong; has `.problems`
├── JournalError            the journal cannot be read or written
├── RunningError            another instance runs; has `.pid`
└── ClaimError              this daemon may have lost its host, and begins no tasks
    └── HostTakenError          another daemon of this host's name is online
"""

from collections.abc import Iterable
from typing import Final

from fastlib.codec.errors import FastlibError, MessageError, Problem

CANCELLED: Final = "cancelled"
"""The text of a cancelled task, unless the hypervisor gives another one."""


class HypervisorError(FastlibError):
    """A task failed. The text has the reason for the scheduler: the `details` of the result."""


class UnsupportedError(HypervisorError):
    """The hypervisor has no method for the task."""

    def __init__(self, hypervisor: str, title: str) -> None:
        self.hypervisor: Final = hypervisor
        self.title: Final = title
        super().__init__(f"the hypervisor {hypervisor} does not support {title}")


class FinalError(HypervisorError):
    """The task failed after a part of it was done, or it can never succeed in this form.

    The daemon does not retry a task after it.
    """


class TaskExpiredError(FinalError):
    """The order expired before the task began. Nothing was changed, and the task never begins."""


class TaskCancelledError(HypervisorError):
    """The task was cancelled, and its changes are undone."""

    def __init__(self, text: str = CANCELLED) -> None:
        super().__init__(text)


class UnexpectedError(FastlibError):
    """A hypervisor raised another error than HypervisorError, which is a defect of it."""

    def __init__(self, error: BaseException, note: str | None = None) -> None:
        """`note` is added to the text of the error."""
        self.error: Final = error
        text = str(error)
        name = type(error).__name__
        words = f"{name}: {text}" if text else name
        super().__init__(words if note is None else f"{words}; {note}")


class PluginError(FastlibError):
    """A plug-in is unknown, or it is broken. The text names its distribution."""


class ConfigurationError(MessageError):
    """The configuration is wrong. `problems` has all reasons."""

    def __init__(self, what: str, problems: Iterable[Problem]) -> None:
        super().__init__(what, problems)


class JournalError(FastlibError):
    """The journal cannot be read or written."""


class RunningError(FastlibError):
    """Another instance runs on this host with this configuration or journal."""

    def __init__(self, path: str, pid: int | None) -> None:
        self.path: Final = path
        self.pid: Final = pid
        who = "another instance" if pid is None else f"another instance, process {pid},"
        super().__init__(
            f"{who} runs with this configuration or journal and holds {path}; end it first"
        )


class ClaimError(FastlibError):
    """The daemon cannot confirm that it still has its host, and begins no tasks."""


class HostTakenError(ClaimError):
    """Another daemon of this host's name is online, and both would execute every order."""
