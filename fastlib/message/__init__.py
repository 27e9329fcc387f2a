"""Every message of the protocol, as a type."""

from . import agent as agent
from . import application as application
from . import mmbwmon as mmbwmon
from . import node as node
from . import pscom as pscom
from . import topics as topics
from .base import Message
from .devices import (
    DeviceIvshmem,
    DiskBus,
    DiskCache,
    DiskFormat,
    NewDisk,
    PciAddress,
    PciId,
)
from .extension import Extension
from .hardware import HugePagesReport, NumaNodeReport, StoragePoolReport
from .history import HistoryReport, HistoryResult, OrderEvent, OrderReport
from .load import load, validate, validate_all
from .node import DomainReport, NodeReport, NodeResult, TaskReport, UnsettledReport
from .result import MigrationResult, Result, Status, TaskFailedError
from .result_container import ResultContainer
from .task import Task, TaskContainer
from .tasks import (
    Cancel,
    CopyStorage,
    Evacuate,
    EvacuateMode,
    EvacuateParameter,
    Migrate,
    MigrateParameter,
    MigrationOptions,
    MigrationType,
    Query,
    QueryHistory,
    Quit,
    Repin,
    Resume,
    SavedState,
    SourceDisks,
    Start,
    Stop,
    Suspend,
    SwapWith,
    TimeoutAction,
)
from .timing import TimeMeasurement, Timing

__all__ = [
    "Cancel",
    "CopyStorage",
    "DeviceIvshmem",
    "DiskBus",
    "DiskCache",
    "DiskFormat",
    "DomainReport",
    "Evacuate",
    "EvacuateMode",
    "EvacuateParameter",
    "Extension",
    "HistoryReport",
    "HistoryResult",
    "HugePagesReport",
    "Message",
    "Migrate",
    "MigrateParameter",
    "MigrationOptions",
    "MigrationResult",
    "MigrationType",
    "NewDisk",
    "NodeReport",
    "NodeResult",
    "NumaNodeReport",
    "OrderEvent",
    "OrderReport",
    "PciAddress",
    "PciId",
    "Query",
    "QueryHistory",
    "Quit",
    "Repin",
    "Result",
    "ResultContainer",
    "Resume",
    "SavedState",
    "SourceDisks",
    "Start",
    "Status",
    "Stop",
    "StoragePoolReport",
    "Suspend",
    "SwapWith",
    "Task",
    "TaskContainer",
    "TaskFailedError",
    "TaskReport",
    "TimeMeasurement",
    "TimeoutAction",
    "Timing",
    "UnsettledReport",
    "load",
    "validate",
    "validate_all",
]
