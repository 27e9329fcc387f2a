"""What is said: every message of the protocol, as types."""

from . import agent, application, mmbwmon, pscom, topics
from .base import Message
from .devices import DeviceIvshmem, PciAddress, PciId
from .load import load, validate, validate_all
from .result import Result, ResultContainer, Status
from .task import Task, TaskContainer
from .tasks import (
    Evacuate,
    EvacuateMode,
    EvacuateParameter,
    Migrate,
    MigrateParameter,
    MigrationType,
    Quit,
    Repin,
    Resume,
    Start,
    Stop,
    Suspend,
    SwapWith,
)
from .timing import TimeMeasurement, Timing

__all__ = [
    "DeviceIvshmem",
    "Evacuate",
    "EvacuateMode",
    "EvacuateParameter",
    "Message",
    "Migrate",
    "MigrateParameter",
    "MigrationType",
    "PciAddress",
    "PciId",
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
    "TimeMeasurement",
    "Timing",
    "agent",
    "application",
    "load",
    "mmbwmon",
    "pscom",
    "topics",
    "validate",
    "validate_all",
]
