"""The migration daemon: executes tasks with a hypervisor, and loses none.

To write a hypervisor, take `Hypervisor`, `Context`, `Outcome` and `HypervisorError`; to run a
daemon within a program, `Daemon` and `read_configuration`.
"""

from .configuration import Configuration
from .configuration import check as check_configuration
from .configuration import read as read_configuration
from .context import Context
from .daemon import Daemon
from .errors import (
    ConfigurationError,
    FinalError,
    HypervisorError,
    JournalError,
    PluginError,
    RunningError,
    TaskCancelledError,
    UnsupportedError,
)
from .hypervisor import Hypervisor, Node, NoOptions, Outcome
from .hypervisor_choice import HypervisorChoice

__all__ = [
    "Configuration",
    "ConfigurationError",
    "Context",
    "Daemon",
    "FinalError",
    "Hypervisor",
    "HypervisorChoice",
    "HypervisorError",
    "JournalError",
    "NoOptions",
    "Node",
    "Outcome",
    "PluginError",
    "RunningError",
    "TaskCancelledError",
    "UnsupportedError",
    "check_configuration",
    "read_configuration",
]
