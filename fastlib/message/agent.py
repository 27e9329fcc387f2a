"""Messages between agents and the scheduler.

See docs/reference/protocol.md, "Agents and applications".
"""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

import msgspec

from fastlib.codec.annotations import Wire

from . import topics
from .base import Message
from .numbers import U32
from .topics import Topic


class Init(Message, task="init"):
    """An agent says that it is there."""

    __topics__: ClassVar[tuple[Topic, ...]] = (topics.AGENT_STATUS,)

    hostname: Annotated[str, Wire("Host of the agent.", aliases=("source",))]
    """Host of the agent."""


class Kpis(Message):
    """What an agent is to measure."""

    categories: Annotated[
        Mapping[str, str],
        Wire("Categories and how much of each matters.", pairs=True, null_is_empty=True),
    ]
    """Categories and how much of each matters."""
    repeat: Annotated[U32, Wire("Time between two reports.", unit="s")]
    """Time between two reports. Unit: s."""


class InitAgent(Message, task="init agent"):
    """The scheduler says what an agent is to measure."""

    __topics__: ClassVar[tuple[Topic, ...]] = (topics.AGENT_TASK, topics.AGENT_INIT)

    kpi: Annotated[Kpis, Wire("What to measure.")] = msgspec.field(name="KPI")
    """What to measure."""


class JobDescription(Message):
    """A job on the agent's host."""

    job_id: Annotated[str, Wire("Id of the job at the batch system.")]
    """Id of the job at the batch system."""
    process_id: Annotated[U32, Wire("Process of the job.")]
    """Process of the job."""


class StopMonitoring(Message, task="stop monitoring"):
    """The scheduler ends the measuring of a job."""

    __topics__: ClassVar[tuple[Topic, ...]] = (topics.AGENT_TASK, topics.AGENT_STOP_MONITORING)

    job_description: Annotated[JobDescription, Wire("The job.")]
    """The job."""


class Configuration(Message, task="configuration"):
    """An agent answers what it was asked to measure."""

    __topics__: ClassVar[tuple[Topic, ...]] = (topics.AGENT_STATUS,)

    source: Annotated[str, Wire("Host of the agent.")]
    """Host of the agent."""
    status: Annotated[Literal["accepted", "denied"], Wire("Whether it measures that.")]
    """Whether it measures that."""


class KpiReport(Message, task="KPI"):
    """An agent reports what it measured."""

    __topics__: ClassVar[tuple[Topic, ...]] = (topics.AGENT_STATUS,)

    source: Annotated[str, Wire("Host of the agent.")]
    """Host of the agent."""
    kpis: Annotated[Any, Wire("The measured values: texts, lists and mappings as they stand.")] = (
        msgspec.field(name="KPIS")
    )
    """The measured values: texts, lists and mappings as they stand."""
