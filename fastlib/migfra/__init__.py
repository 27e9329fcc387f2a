"""The migration daemon: it executes tasks with a hypervisor and answers each of them.

To write a hypervisor, use `Hypervisor`, `ConfigSection`, `Context`, `Outcome` and
`HypervisorError`. To run a daemon inside a program, use `Daemon` and `read_configuration`.
"""

from .config.file import Configuration
from .config.file import check as check_configuration
from .config.file import read as read_configuration
from .config.hypervisor_section import HypervisorSection
from .daemon import Daemon
from .errors import (
    ConfigurationError,
    FinalError,
    HostTakenError,
    HypervisorError,
    JournalError,
    PluginError,
    RunningError,
    TaskCancelledError,
    TaskExpiredError,
    UnsupportedError,
)
from .plugin_api.config_section import ConfigSection
from .plugin_api.context import Context, DaemonServices
from .plugin_api.hypervisor import Hypervisor, NodeContext, NoOptions, Outcome

__all__ = [
    "ConfigSection",
    "Configuration",
    "ConfigurationError",
    "Context",
    "Daemon",
    "DaemonServices",
    "FinalError",
    "HostTakenError",
    "Hypervisor",
    "HypervisorError",
    "HypervisorSection",
    "JournalError",
    "NoOptions",
    "NodeContext",
    "Outcome",
    "PluginError",
    "RunningError",
    "TaskCancelledError",
    "TaskExpiredError",
    "UnsupportedError",
    "check_configuration",
    "read_configuration",
]
