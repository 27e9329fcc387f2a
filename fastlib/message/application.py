"""What applications say to the scheduler (PROTOCOL.md section 5)."""

from collections.abc import Sequence
from typing import Annotated, Any

import msgspec

from ..codec.declare import Wire
from .base import Message


class ApplicationStatus(Message, task="status"):
    """An application says what it can do."""

    source: Annotated[str, Wire("Name of the application.")]
    migration: Annotated[bool | None, Wire("Whether it may be migrated.")] = None
    supported_kpi: Annotated[
        Sequence[str] | None, Wire("Names of the values that it can report.")
    ] = msgspec.field(default=None, name="supported_KPI")


class ApplicationKpis(Message, task="KPIs"):
    """An application reports values."""

    source: Annotated[str | None, Wire("Name of the application.")] = None
    kpis: Annotated[Any | None, Wire("The values: texts, lists and mappings as they stand.")] = (
        msgspec.field(default=None, name="KPIS")
    )
