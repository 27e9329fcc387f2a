"""A scenario: domains in their prior states, and the orders that follow."""

from collections.abc import Mapping
from typing import Final, Literal

import msgspec

from fastlib.message import Start, TaskContainer
from tests.support.lab.layout import address

HOSTS: Final = ("hostA", "hostB", "hostC")
HOST_NAMES: Final[Mapping[str, str]] = {
    name: host for host in HOSTS for name in (host, host.upper(), address(host))
}
"""The host of each name by which one is reached."""
PriorState = Literal["defined", "running", "paused", "saved"]
DiskKind = Literal["shared", "qcow2", "raw", "overlay"]
FaultKind = Literal[
    "cancel",
    "kill daemon",
    "kill libvirtd",
    "freeze libvirtd",
    "freeze host",
    "disconnect",
    "kill broker",
    "kill QEMU",
    "freeze QEMU",
]
_XML_OF: Final = "xml of "
_NEW_XML: Final = "new xml "


class PriorDomain(msgspec.Struct, frozen=True, kw_only=True):
    """A domain before the first order."""

    name: str
    host: str
    state: PriorState
    linux: bool
    """Whether it is a guest with Linux and a disk, which checks both."""
    disk: DiskKind = "shared"
    """Of a guest with Linux: a disk that all hosts reach, or an image of its host."""
    transient: bool = False
    memory: int = 32
    """MiB."""
    vcpus: int = 1
    absent_vcpus: tuple[int, ...] = ()
    pins: tuple[tuple[int, ...], ...] | None = None
    """The CPUs of each vCPU."""
    autostart: bool = False
    also_defined_on: str | None = None
    """Another host that has the same definition, of an earlier time."""

    @property
    def active(self) -> bool:
        return self.state in ("running", "paused")


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """A fault while an order is executed."""

    kind: FaultKind
    host: str
    domain: str
    """Whose QEMU it hits, if it hits one."""
    moment: float
    """Seconds after the order."""
    outage: float
    """Seconds until it is repaired."""


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """A container for the daemon of a host."""

    host: str
    container: TaskContainer
    fault: Fault | None = None

    def yaml(self) -> str:
        return self.container.to_yaml()


class Scenario(msgspec.Struct, frozen=True, kw_only=True):
    """The prepared domains, and the orders."""

    domains: tuple[PriorDomain, ...]
    orders: tuple[Order, ...]


def xml_of(name: str) -> str:
    """A placeholder for the XML of a domain of the scenario, which is known when it is defined."""
    return _XML_OF + name


def new_xml(name: str) -> str:
    """A placeholder for the XML of a domain that is not defined."""
    return _NEW_XML + name


def with_xml(order: Order, xmls: dict[str, str]) -> Order:
    """The order with real XML; `xmls` has that of each name, and gets that of new names."""

    def real(task: object) -> object:
        if not isinstance(task, Start) or task.xml is None:
            return task
        name = task.xml.removeprefix(_XML_OF).removeprefix(_NEW_XML)
        return msgspec.structs.replace(task, xml=xmls[name])

    tasks = tuple(real(task) for task in order.container.tasks)
    container = msgspec.structs.replace(order.container, tasks=tasks)
    return msgspec.structs.replace(order, container=container)


def started_names(order: Order) -> list[str]:
    """The names of the domains of the scenario that an order starts."""
    starts = [task for task in order.container.tasks if isinstance(task, Start)]
    return [
        str(task.vm_name) if task.xml is None else task.xml.removeprefix(_XML_OF) for task in starts
    ]


def new_names(scenario: Scenario) -> list[str]:
    """The names of the domains that only orders describe."""
    return [
        task.xml.removeprefix(_NEW_XML)
        for order in scenario.orders
        for task in order.container.tasks
        if isinstance(task, Start) and task.xml is not None and task.xml.startswith(_NEW_XML)
    ]


def canonical_host(name: str) -> str | None:
    """The host of the laboratory that has this name; letter case does not matter."""
    return {alias.lower(): host for alias, host in HOST_NAMES.items()}.get(name.lower())


def host_names(host: str) -> tuple[str, ...]:
    """The names of a host, its own more often."""
    return (host, host, *(name for name, each in HOST_NAMES.items() if each == host))
