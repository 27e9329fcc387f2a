"""What is said: every message of the protocol, as types."""

from . import agent, application, mmbwmon, node, pscom, topics
from .base import Message
from .devices import DeviceIvshmem, PciAddress, PciId
from .extension import Extension
from .load import load, validate, validate_all
from .node import DomainReport, NodeReport, NodeResult, TaskReport
from .result import Result, Status
from .result_container import ResultContainer
from .task import Task, TaskContainer
from .tasks import (
    Cancel,
    Evacuate,
    EvacuateMode,
    EvacuateParameter,
    Migrate,
    MigrateParameter,
    MigrationOptions,
    MigrationType,
    Query,
    Quit,
    Repin,
    Resume,
    Start,
    Stop,
    Suspend,
    SwapWith,
    TimeoutAction,
)
from .timing import TimeMeasurement, Timing

__all__ = [
    "Cancel",
    "DeviceIvshmem",
    "DomainReport",
    "Evacuate",
    "EvacuateMode",
    "EvacuateParameter",
    "Extension",
    "Message",
    "Migrate",
    "MigrateParameter",
    "MigrationOptions",
    "MigrationType",
    "NodeReport",
    "NodeResult",
    "PciAddress",
    "PciId",
    "Query",
    "Quit",
    "Repin",
    "Result",
    "ResultContainer",
    "Resume",
    "Start",
    "Status",
    "Stop",
    "Suspend",
    "SwapWith",
    "Task",
    "TaskContainer",
    "TaskReport",
    "TimeMeasurement",
    "TimeoutAction",
    "Timing",
    "agent",
    "application",
    "load",
    "mmbwmon",
    "node",
    "pscom",
    "topics",
    "validate",
    "validate_all",
]
