"""The options of the simulated hypervisor. Times are seconds of the cluster's own time."""

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar

from fastlib.codec.annotations import Wire
from fastlib.codec.rules import Between, Positive, Rule
from fastlib.migfra.hypervisors.simulated.cluster.description import ClusterDescription, Fault
from fastlib.migfra.plugin_api.config_section import ConfigSection, Count
from fastlib.migfra.virt.encryption import EncryptionMode
from fastlib.migfra.virt.migration_limits import (
    DEFAULT_MIGRATIONS,
    INCOMING_MEANING,
    OUTGOING_MEANING,
)


class _OneCluster(Rule):
    """A cluster must be in this process or in a file, not in both."""

    attributes = ("cluster", "file")

    def broken(self, get: Any) -> tuple[str | None, str] | None:
        if get("file") is not None and get("cluster") is not None:
            return "file", "a cluster must be in this process ({cluster}) or in a {file}, not both"
        return None


class SimulatedOptions(ConfigSection):
    """The configuration keys of the simulated hypervisor, besides `type: simulated`."""

    rules: ClassVar[tuple[Rule, ...]] = (
        _OneCluster(),
        Positive("speed"),
        Positive("tick"),
        Between("start_seconds", 0),
        Between("stop_seconds", 0),
        Between("call_seconds", 0),
    )

    cluster: Annotated[
        str | None, Wire("Name of a cluster in this process; absent means default.")
    ] = None
    file: Annotated[str | None, Wire("SQLite file of a cluster that processes share.")] = None
    create: Annotated[
        ClusterDescription | None, Wire("The cluster to create if there is none yet.")
    ] = None
    speed: Annotated[float, Wire("Number of the cluster's seconds in one real second.")] = 1.0
    tick: Annotated[
        float, Wire("Interval at which a migration reads its share of the link.", unit="s")
    ] = 0.25
    start_seconds: Annotated[float, Wire("Time of a domain's boot.", unit="s")] = 2.0
    stop_seconds: Annotated[float, Wire("Time of a domain's shutdown.", unit="s")] = 1.0
    call_seconds: Annotated[float, Wire("Time of any other call.", unit="s")] = 0.01
    outgoing_migrations: Annotated[Count, Wire(OUTGOING_MEANING)] = DEFAULT_MIGRATIONS
    incoming_migrations: Annotated[Count, Wire(INCOMING_MEANING)] = DEFAULT_MIGRATIONS
    encryption: Annotated[
        EncryptionMode,
        Wire(
            "Whether migrations are encrypted. required: always; others are refused. preferred: "
            "where both hosts have certificates. off: never."
        ),
    ] = "preferred"
    faults: Annotated[
        Sequence[Fault], Wire("Faults on this host, besides those of the cluster.")
    ] = ()
