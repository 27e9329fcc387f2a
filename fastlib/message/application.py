"""Messages of applications to the scheduler.

See docs/reference/protocol.md, "Agents and applications".
"""

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar

import msgspec

from fastlib.codec.annotations import Wire

from . import topics
from .base import Message
from .topics import Topic


class ApplicationStatus(Message, task="status"):
    """An application reports its abilities."""

    __topics__: ClassVar[tuple[Topic, ...]] = (topics.APPLICATION_STATUS,)

    source: Annotated[str, Wire("Name of the application.")]
    """Name of the application."""
    migration: Annotated[bool | None, Wire("Whether it may be migrated.")] = None
    """Whether it may be migrated."""
    supported_kpi: Annotated[
        Sequence[str] | None, Wire("Names of the values that it can report.")
    ] = msgspec.field(default=None, name="supported_KPI")
    """Names of the values that it can report."""


class ApplicationKpis(Message, task="KPIs"):
    """An application reports values."""

    __topics__: ClassVar[tuple[Topic, ...]] = (topics.APPLICATION_KPIS,)

    source: Annotated[str | None, Wire("Name of the application.")] = None
    """Name of the application."""
    kpis: Annotated[Any | None, Wire("The values: texts, lists and mappings, as they came.")] = (
        msgspec.field(default=None, name="KPIS")
    )
    """The values: texts, lists and mappings, as they came."""
