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
    """An agent reports that it has started."""

    __topics__: ClassVar[tuple[Topic, ...]] = (topics.AGENT_STATUS,)

    hostname: Annotated[str, Wire("Host of the agent.", aliases=("source",))]
    """Host of the agent."""


class Kpis(Message):
    """The values that an agent must measure."""

    categories: Annotated[
        Mapping[str, str],
        Wire("Categories, each with its level of detail.", pairs=True, null_is_empty=True),
    ]
    """Categories, each with its level of detail."""
    repeat: Annotated[U32, Wire("Time between two reports.", unit="s")]
    """Time between two reports. Unit: s."""


class InitAgent(Message, task="init agent"):
    """The scheduler requests values from an agent."""

    __topics__: ClassVar[tuple[Topic, ...]] = (topics.AGENT_TASK, topics.AGENT_INIT)

    kpi: Annotated[Kpis, Wire("The values to measure.")] = msgspec.field(name="KPI")
    """The values to measure."""


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
    """An agent accepts or denies the requested values."""

    __topics__: ClassVar[tuple[Topic, ...]] = (topics.AGENT_STATUS,)

    source: Annotated[str, Wire("Host of the agent.")]
    """Host of the agent."""
    status: Annotated[Literal["accepted", "denied"], Wire("Whether the agent accepts the request.")]
    """Whether the agent accepts the request."""


class KpiReport(Message, task="KPI"):
    """An agent reports measured values."""

    __topics__: ClassVar[tuple[Topic, ...]] = (topics.AGENT_STATUS,)

    source: Annotated[str, Wire("Host of the agent.")]
    """Host of the agent."""
    kpis: Annotated[
        Any,
        Wire("The measured values: texts, lists and mappings, as they came.", null_is_empty=True),
    ] = msgspec.field(name="KPIS")
    """The measured values: texts, lists and mappings, as they came."""
