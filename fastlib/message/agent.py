"""What agents and the scheduler say to each other (PROTOCOL.md section 5)."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec

from ..codec.declare import Wire
from .base import Message
from .numbers import U32


class Init(Message, task="init"):
    """An agent says that it is there."""

    hostname: Annotated[str, Wire("Host of the agent.", aliases=("source",))]


class Kpis(Message):
    """What an agent is to measure."""

    categories: Annotated[
        Mapping[str, str], Wire("Categories and how much of each matters.", pairs=True)
    ]
    repeat: Annotated[U32, Wire("Time between two reports.", unit="s")]


class InitAgent(Message, task="init agent"):
    """The scheduler says what an agent is to measure."""

    kpi: Annotated[Kpis, Wire("What to measure.")] = msgspec.field(name="KPI")


class JobDescription(Message):
    """A job on the agent's host."""

    job_id: Annotated[str, Wire("Id of the job at the batch system.")]
    process_id: Annotated[U32, Wire("Process of the job.")]


class StopMonitoring(Message, task="stop monitoring"):
    """The scheduler ends the measuring of a job."""

    job_description: Annotated[JobDescription, Wire("The job.")]


class Configuration(Message, task="configuration"):
    """An agent answers what it was asked to measure."""

    source: Annotated[str, Wire("Host of the agent.")]
    status: Annotated[Literal["accepted", "denied"], Wire("Whether it measures that.")]


class KpiReport(Message, task="KPI"):
    """An agent reports what it measured."""

    source: Annotated[str, Wire("Host of the agent.")]
    kpis: Annotated[Any, Wire("The measured values: texts, lists and mappings as they stand.")] = (
        msgspec.field(name="KPIS")
    )
