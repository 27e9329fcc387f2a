"""The description of a simulated cluster: hosts, links, domains and planned faults.

Rates are MiB/s, memory is KiB as on the wire, times are seconds of the cluster's own time.
"""

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Final, Literal

import msgspec

from fastlib.codec.annotations import Wire
from fastlib.codec.rules import Between, Positive, Rule
from fastlib.message.numbers import U32, U64
from fastlib.migfra.plugin_api.config_section import ConfigSection

State = Literal["running", "paused", "shut off"]
"""The state of a domain."""
FaultKind = Literal["error", "hang", "unreachable", "managedsave", "shutdown"]
"""A call fails; it takes longer; a host is out of the others' reach; somebody saves a domain, which
is shut off then; or a host shuts down, after all of its domains were saved."""
SAVING: Final = ("managedsave", "shutdown")
"""The faults that save domains. They do so once, when their time has come."""


class HostDescription(ConfigSection):
    """A host of the cluster."""

    name: Annotated[str, Wire("Name of the host.")]
    cpus: Annotated[U32, Wire("Its CPUs.")] = 16
    memory: Annotated[U64, Wire("Its memory.", unit="KiB")] = 64 << 20


class LinkDescription(ConfigSection):
    """The link between two hosts."""

    rules: ClassVar[tuple[Rule, ...]] = (Positive("bandwidth"), Positive("connection_bandwidth"))

    hosts: Annotated[Sequence[str], Wire("The two hosts.")]
    bandwidth: Annotated[float, Wire("What it carries.", unit="MiB/s")]
    duplex: Annotated[bool, Wire("Whether it carries that much in each direction.")] = True
    connection_bandwidth: Annotated[
        float | None,
        Wire("What one connection carries at most; absent means no bound.", unit="MiB/s"),
    ] = None


class DomainDescription(ConfigSection):
    """A domain that is defined in the cluster."""

    rules: ClassVar[tuple[Rule, ...]] = (Between("dirty_rate", 0),)

    name: Annotated[str, Wire("Name of the domain.")]
    host: Annotated[str, Wire("The host that it is on.")]
    state: Annotated[State, Wire("What it does.")] = "running"
    managed_save: Annotated[
        bool, Wire("Whether it has a saved image on its host; it is shut off then.")
    ] = False
    vcpus: Annotated[U32, Wire("Its virtual CPUs.")] = 1
    memory: Annotated[U64, Wire("Its memory.", unit="KiB")] = 1 << 20
    dirty_rate: Annotated[float, Wire("How fast it writes to its memory.", unit="MiB/s")] = 0.0
    working_set: Annotated[
        U64 | None, Wire("The memory that it writes to; absent means all.", unit="KiB")
    ] = None


class _NeedsHost(Rule):
    """A fault has what its kind needs."""

    attributes = ("kind", "host")

    def broken(self, get: Any) -> tuple[str | None, str] | None:
        kind = get("kind")
        if kind in ("unreachable", "shutdown") and get("host") is None:
            return "kind", f"{kind} needs {{host}}"
        return None


class Fault(ConfigSection):
    """Something that goes wrong, by plan or by chance."""

    rules: ClassVar[tuple[Rule, ...]] = (
        _NeedsHost(),
        Between("percent", 0, 100),
        Between("begin", 0),
        Positive("until"),
        Positive("seconds"),
        Between("rate", 0, 1),
    )

    kind: Annotated[
        FaultKind,
        Wire(
            "A call fails, a call hangs, a host is out of reach, domains are saved, or a host "
            "saves its domains and shuts down."
        ),
    ]
    task: Annotated[
        str | None, Wire("The calls that are meant, such as start or migrate; absent means all.")
    ] = None
    vm_name: Annotated[str | None, Wire("The domain that is meant; absent means all.")] = None
    host: Annotated[str | None, Wire("The host that is meant; absent means all.")] = None
    percent: Annotated[
        float | None, Wire("How far a migration is then; absent means at its begin.")
    ] = None
    begin: Annotated[float, Wire("From when on.", unit="s")] = msgspec.field(
        default=0.0, name="from"
    )
    until: Annotated[float | None, Wire("Until when; absent means ever.", unit="s")] = None
    seconds: Annotated[
        float | None, Wire("How long a call hangs; absent means ever.", unit="s")
    ] = None
    times: Annotated[
        U32 | None, Wire("How often it happens to each domain; absent means always.")
    ] = None
    rate: Annotated[float, Wire("How likely it is, each time.")] = 1.0
    text: Annotated[str | None, Wire("What the error says.")] = None


class ClusterDescription(ConfigSection):
    """A cluster as it is when it is made."""

    rules: ClassVar[tuple[Rule, ...]] = (Positive("bandwidth"),)

    hosts: Annotated[Sequence[HostDescription], Wire("Its hosts.")] = ()
    links: Annotated[Sequence[LinkDescription], Wire("What differs from `bandwidth`.")] = ()
    domains: Annotated[Sequence[DomainDescription], Wire("The domains defined in it.")] = ()
    bandwidth: Annotated[
        float, Wire("What any two hosts have between them, in each direction.", unit="MiB/s")
    ] = 1024.0
    faults: Annotated[Sequence[Fault], Wire("What goes wrong in it.")] = ()
    seed: Annotated[U64, Wire("Of what goes wrong by chance.")] = 0
