"""Scenarios of a seed.

Orders are drawn from `fastlib.testing.strategies`, so that a new option takes part without a change
here. What they name is then replaced by what exists in the laboratory: domains, hosts, transports,
CPUs. Values that only cost time are left out: gigabytes, hours, PCI devices, RDMA.
"""

import random
import re
import string
from collections.abc import Mapping
from typing import Any, Final

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fastlib.message import (
    DeviceIvshmem,
    Evacuate,
    Message,
    Migrate,
    Repin,
    Resume,
    Start,
    Stop,
    Suspend,
    SwapWith,
    Task,
    TaskContainer,
)
from fastlib.message.tasks import EvacuateParameter, MigrateParameter
from fastlib.migfra.errors import HypervisorError
from fastlib.migfra.virt.names import check_name
from fastlib.testing import strategies as fast

from .scenario import (
    HOSTS,
    DiskKind,
    Fault,
    FaultKind,
    Order,
    PriorDomain,
    PriorState,
    Scenario,
    canonical_host,
    host_names,
    new_xml,
    xml_of,
)

LINUX_GUESTS: Final = (
    {"name": "vm1", "vcpus": 1, "absent_vcpus": ()},
    {"name": "90 % 'Käse' vm", "vcpus": 2, "absent_vcpus": (1,)},
)
"""Each boots once, and is then restored. So there are few of them. Linux does not boot where a vCPU
is absent before one that is there; a BIOS does. With two vCPUs that run, an emulated Linux crashes
after some live migrations, by virsh as well, because QEMU before 9.0 loses writes. So guests with
several vCPUs are those with a BIOS."""
_LINUX_LEAST_DOWNTIME: Final = 300
"""Milliseconds of `max-downtime`, at least, where a guest with Linux is. The lower it is, the more
often QEMU looks which memory was written, and each time QEMU before 9.0 may lose a write of an
emulated CPU (its commit 03bfc2188f mends that). With 1 ms, Linux crashed after 15 of 35 live
migrations by virsh, with 300 ms after none of 18."""
LINUX_MEMORY: Final = 96
"""MiB."""
_ODD_NAMES: Final = (
    "vm2", "1", "007", "a b", 'q"uote', "it's", "100%", "%s", "Grüße", "日本語のVM", "a,b=c",
    "x" * 120, "<&>", "vm1.save", "6b6ba07b-2ea5-4a6e-9d3c-9f3f9a1d7c01", "null", "a: b",
    "(a)", "$HOME", "vm 1", "ﬁ", "e\u0301", "vm*", "[ab]", "@",
)  # fmt: skip


def _is_legal(name: str) -> bool:
    try:
        return check_name(name) == name
    except HypervisorError:
        return False


_NAMES = st.one_of(
    st.sampled_from(_ODD_NAMES),
    st.text(
        st.sampled_from(string.ascii_letters + string.digits + " _.:;,!?%&'\"()<>=@^~|*äß€Ж日"),
        min_size=1,
        max_size=12,
    ),
).filter(_is_legal)
_BYTES: Final = 1 << 16
"""More than a scenario needs."""


def scenarios(number: int, orders: int) -> list[Scenario]:
    """The scenarios of a seed, with that many orders in all."""
    drawn: list[Scenario] = []

    @settings(database=None, deadline=None, suppress_health_check=list(HealthCheck))
    @given(_scenarios())
    def draw(scenario: Scenario) -> None:
        drawn.append(scenario)

    # Without Hypothesis's search, whose examples begin simple and are much alike.
    draw_from = draw.hypothesis.fuzz_one_input  # type: ignore[attr-defined]
    source = random.Random(number)
    left = orders
    while left > 0:
        draw_from(source.randbytes(_BYTES))
        left = orders - sum(len(scenario.orders) for scenario in drawn)
    drawn[-1] = msgspec.structs.replace(drawn[-1], orders=drawn[-1].orders[: left or None])
    return drawn


# Domains


@st.composite
def _scenarios(draw: st.DrawFn) -> Scenario:
    domains = draw(_domains())
    model = _Model(domains)
    orders = []
    for _ in range(draw(st.integers(3, 5))):
        order = draw(_orders(model))
        model.follow(order)
        orders.append(order)
    return Scenario(domains=domains, orders=tuple(orders))


@st.composite
def _domains(draw: st.DrawFn) -> tuple[PriorDomain, ...]:
    guests = draw(st.sampled_from([(0,), (0,), (1,), (0, 1), ()]))
    found = [draw(_linux_domains(LINUX_GUESTS[index])) for index in guests]
    # A container that starts two guests goes to one host, and each image may be on another one.
    if found and (kind := draw(st.sampled_from(_DISKS))) != "shared":
        found[0] = msgspec.structs.replace(found[0], disk=kind)
    taken = {domain.name for domain in found} | {str(each["name"]) for each in LINUX_GUESTS}
    for _ in range(draw(st.integers(0 if found else 1, 2))):
        name = draw(_NAMES.filter(lambda name: name not in taken))
        taken.add(name)
        vcpus = draw(st.integers(1, 4))
        absent = draw(st.sampled_from([(), (), (1,), (2,), (1, 2)]))
        found.append(
            draw(
                _with_state(
                    name=name,
                    linux=False,
                    memory=draw(st.sampled_from([16, 32, 64])),
                    vcpus=vcpus,
                    absent_vcpus=tuple(each for each in absent if each < vcpus),
                )
            )
        )
    return tuple(found)


def _linux_domains(guest: Mapping[str, Any]) -> st.SearchStrategy[PriorDomain]:
    return _with_state(linux=True, memory=LINUX_MEMORY, **guest)


_DISKS: Final[tuple[DiskKind, ...]] = ("shared", "qcow2", "raw", "overlay")
_STATES: Final[tuple[PriorState, ...]] = (
    *("running",) * 3, "paused", *("saved",) * 2, "defined",
)  # fmt: skip


@st.composite
def _with_state(draw: st.DrawFn, /, **facts: Any) -> PriorDomain:
    host = draw(st.sampled_from(HOSTS))
    state = draw(st.sampled_from(_STATES))
    transient = state in ("running", "paused") and draw(st.integers(0, 4)) == 0
    pins = draw(st.one_of(st.none(), _cpu_maps(facts["vcpus"], exact=True)))
    others = [each for each in HOSTS if each != host]
    return PriorDomain(
        host=host,
        state=state,
        transient=transient,
        pins=pins,
        autostart=not transient and draw(st.integers(0, 4)) == 0,
        also_defined_on=draw(st.sampled_from([None] * 6 + others)) if not transient else None,
        **facts,
    )


def _cpu_maps(vcpus: int, exact: bool = False) -> st.SearchStrategy[tuple[tuple[int, ...], ...]]:
    rows = st.sampled_from([(0,), (1,), (0, 1)])
    fitting = st.lists(rows, min_size=vcpus if exact else 1, max_size=vcpus).map(tuple)
    if exact:
        return fitting
    any_rows = st.sampled_from([(0,), (1,), (0, 1), (), (4096,)])
    return st.one_of(*[fitting] * 7, st.lists(any_rows, max_size=5).map(tuple))


_NODE_MAPS: Final = st.sampled_from([*[((0,),)] * 4, ((5,),), ((0,), (0,)), ((),)])
"""The hosts have node 0, and the domains have no NUMA cells."""


# Orders


class _Model:
    """The places of domains and whether they are active, if each order is executed."""

    def __init__(self, domains: tuple[PriorDomain, ...]) -> None:
        self.domains = {domain.name: domain for domain in domains}
        self.hosts = {domain.name: domain.host for domain in domains}
        self.active = {domain.name: domain.active for domain in domains}

    def follow(self, order: Order) -> None:
        for task in order.container.tasks:
            name = getattr(task, "vm_name", None)
            if isinstance(task, Migrate) and name in self.hosts:
                self.hosts[name] = canonical_host(task.destination) or self.hosts[name]
            elif isinstance(task, Start | Stop) and name in self.active:
                self.active[name] = isinstance(task, Start)


_ON_ACTIVE: Final = (
    *(Migrate,) * 9, *(Stop,) * 3, *(Evacuate,) * 2, *(Repin,) * 2, Suspend, Resume, *(Start,) * 2,
)  # fmt: skip
_ON_INACTIVE: Final = (*(Start,) * 6, *(Migrate,) * 2, Stop)
_SEVERAL: Final = (Start, Stop, Suspend, Resume)


@st.composite
def _orders(draw: st.DrawFn, model: _Model) -> Order:
    linux_first = sorted(model.domains, key=lambda name: not model.domains[name].linux)
    name = draw(st.sampled_from([*linux_first, linux_first[0]]))
    # Most orders fit the state of their domain.
    fits = draw(st.integers(0, 9)) != 0
    kind: Any = draw(st.sampled_from(_ON_ACTIVE if model.active[name] == fits else _ON_INACTIVE))
    host = model.hosts[name]
    if draw(st.integers(0, 14)) == 0:
        host = draw(st.sampled_from(HOSTS))
    names = [name]
    if kind in _SEVERAL and len(model.domains) > 1 and draw(st.integers(0, 3)) == 0:
        names = draw(st.permutations(sorted(model.domains)))[:2]
    tasks = [_narrow(draw, draw(fast.from_message(kind, texts=fast.NAMES)), model, host, each)
             for each in names]  # fmt: skip
    return Order(
        host=host, container=TaskContainer(tasks=tasks), fault=draw(_faults(kind, host, name))
    )


def _present(domain: PriorDomain) -> int:
    """The number of vCPUs that are there."""
    return domain.vcpus - len(domain.absent_vcpus)


_KINDS: Final[tuple[FaultKind, ...]] = (
    "cancel", "kill daemon", "kill libvirtd", "freeze libvirtd", "freeze host", "disconnect",
    "kill broker", "kill QEMU", "freeze QEMU",
)  # fmt: skip


@st.composite
def _faults(draw: st.DrawFn, kind: Any, host: str, name: str) -> Fault | None:
    moving = kind in (Migrate, Evacuate)
    if draw(st.integers(0, 1 if moving else 4)) != 0:
        return None
    return Fault(
        kind=draw(st.sampled_from(_KINDS)),
        host=draw(st.sampled_from([host, *HOSTS])),
        domain=name,
        # Most orders end within a part of a second, and a fault after that would hit nothing.
        moment=draw(st.sampled_from([*(0.0,) * 3, 0.05, 0.1, 0.2, 0.5, 1.2])),
        outage=draw(st.integers(0, 8)) / 2,
    )


# Messages


def _narrow(draw: st.DrawFn, task: Task, model: _Model, host: str, name: str) -> Task:
    domain = model.domains[name]
    if isinstance(task, Start):
        return _start(draw, task, domain, model)
    if isinstance(task, Migrate):
        return _migrate(draw, task, model, host, name)
    changes: dict[str, Any] = {}
    if isinstance(task, Stop):
        # A stop by name, or one by an expression.
        by_name = task.vm_name is not None
        regex = draw(st.sampled_from([re.escape(name), ".*", "vm.*", "[0-9].*", "nobody"]))
        changes = {"vm_name": name if by_name else None, "regex": None if by_name else regex}
        if not domain.linux and draw(st.integers(0, 4)):
            changes["force"] = True  # its BIOS ignores the power button
    elif isinstance(task, Evacuate):
        destinations = st.lists(_any_host(), min_size=1, max_size=4).map(tuple)
        changes = {
            "destinations": draw(destinations),
            "vm_name": None if task.vm_name is None or draw(st.integers(0, 3)) else name,
            "parameter": _endurable(_options(draw, _parameter(draw, task), "live", model), model),
        }
    elif isinstance(task, Repin):
        changes = {"vm_name": name, "vcpu_map": draw(_cpu_maps(_present(domain)))}
    else:
        changes = {"vm_name": name}
    return msgspec.structs.replace(task, **changes, **_common(draw, task))


def _common(draw: st.DrawFn, task: Task) -> dict[str, Any]:
    """Few tasks name a driver; extensions are other packages' business."""
    keep = task.driver is not None and draw(st.integers(0, 14)) == 0
    return {"driver": draw(st.sampled_from(["qemu", task.driver])) if keep else None}


def _start(draw: st.DrawFn, task: Start, domain: PriorDomain, model: _Model) -> Start:
    memory = st.sampled_from(
        [98304, 131072, 163840] if domain.linux else [16384, 32768, 65536, 100000] * 3 + [1, 2**40]
    )
    probe = draw(st.integers(0, 9)) == 0
    strategies: Mapping[str, st.SearchStrategy[Any]] = {
        "vcpus": st.sampled_from([1] if domain.linux else [1, 2, 3, 4] * 3 + [300]),
        "memory": memory,
        "memnode_map": _NODE_MAPS,
        "vcpu_map": _cpu_maps(1 if task.vcpus is not None else _present(domain)),
        "ivshmem": st.just(DeviceIvshmem(id="shared", size="1M")),
        "probe_hostname": st.just(task.probe_hostname),
        "saved_state": st.just(task.saved_state),
    }
    keep = {"ivshmem": 0.1, "memnode_map": 0.2, "saved_state": 0.3}
    changes = _thin(draw, task, strategies, keep, 0.35)
    changes |= {"pci_ids": None, "devs": None}
    changes["probe_with_ssh"] = task.probe_with_ssh if probe else False
    # A domain that runs cannot be started, another one can.
    another = model.active[domain.name] and draw(st.integers(0, 3)) != 0
    by_xml = another or (task.xml is not None and (not domain.linux or draw(st.booleans())))
    changes["xml"] = xml_of(domain.name) if by_xml else None
    changes["vm_name"] = domain.name if not by_xml or task.vm_name is not None else None
    if another:
        changes |= {"xml": new_xml("new one"), "vm_name": None, "memory": None}
    # What is defined is not started as a transient domain.
    may_be_transient = another or draw(st.integers(0, 5)) == 0
    changes["transient"] = task.transient if by_xml and may_be_transient else None
    return msgspec.structs.replace(task, **changes, **_common(draw, task))


@st.composite
def _any_host(draw: st.DrawFn, others_than: str | None = None) -> str:
    host = draw(st.sampled_from([each for each in HOSTS if each != others_than]))
    return draw(st.sampled_from(host_names(host)))


def _migrate(draw: st.DrawFn, task: Migrate, model: _Model, host: str, name: str) -> Migrate:
    destination = draw(_any_host(others_than=host if draw(st.integers(0, 9)) else None))
    active = model.active[name]
    kind = draw(
        st.sampled_from(["live", "live", "warm", None] if active else ["offline"] * 5 + [None])
    )
    parameter = _endurable(_options(draw, _parameter(draw, task), kind, model), model)
    partners = [
        each
        for each, where in model.hosts.items()
        if each != name and where == canonical_host(destination) and model.active[each]
    ]
    swap = None
    if partners and draw(st.integers(0, 2)) == 0:
        partner = draw(st.sampled_from(partners))
        rows = _cpu_maps(_present(model.domains[partner]))
        swap = SwapWith(
            vm_name=partner,
            vcpu_map=draw(st.one_of(st.none(), rows)),
            memnode_map=draw(st.one_of(st.none(), st.none(), _NODE_MAPS)),
        )
    keep_map = parameter.vcpu_map is not None and draw(st.booleans())
    keep_nodes = parameter.memnode_map is not None and draw(st.booleans())
    parameter = msgspec.structs.replace(
        parameter,
        swap_with=swap,
        vcpu_map=draw(_cpu_maps(_present(model.domains[name]))) if keep_map else None,
        memnode_map=draw(_NODE_MAPS) if keep_nodes else None,
    )
    return msgspec.structs.replace(
        task, vm_name=name, destination=destination, parameter=parameter, **_common(draw, task)
    )


def _parameter(draw: st.DrawFn, task: Migrate | Evacuate) -> Any:
    """The options of a task; half of the tasks come without, which would be too many."""
    kind = MigrateParameter if isinstance(task, Migrate) else EvacuateParameter
    if task.parameter is not None or draw(st.integers(0, 2)) == 0:
        return task.parameter or kind()
    return draw(fast.from_message(kind, texts=fast.NAMES))


def _endurable(parameter: Any, model: _Model) -> Any:
    """The options with a `max-downtime` that the emulated Linux survives, if there is one."""
    has_linux = any(domain.linux for domain in model.domains.values())
    if parameter.max_downtime is None or not has_linux:
        return parameter
    downtime = max(parameter.max_downtime, _LINUX_LEAST_DOWNTIME)
    return msgspec.structs.replace(parameter, max_downtime=downtime)


def _options(draw: st.DrawFn, parameter: Any, kind: str | None, model: _Model) -> Any:
    """The options of a migration, with values that exist here."""
    strategies: Mapping[str, st.SearchStrategy[Any]] = {
        "retry_counter": st.sampled_from([0, 1, 2]),
        "pscom_hook_procs": st.sampled_from(["0", "1"]),
        "transport": st.sampled_from([*["tcp", "tls", "ssh"] * 5, "pigeon"]),
        "bandwidth_limit": st.sampled_from([*[20, 50, 200, 0] * 4, 2**32 - 1]),
        "max_downtime": st.sampled_from([*[30, 300, 2000] * 5, 1, 2**32 - 1]),
        "timeout": st.sampled_from([1, 1, 2, 3, 0]),
        "on_timeout": st.sampled_from(["post-copy", "post-copy", "pause", "abort"]),
        "parallel_connections": st.sampled_from([*[1, 2, 4] * 5, 256]),
        "compression": st.sampled_from([*["mt", "xbzrle", "zlib", "zstd"] * 4, "lzh"]),
    }
    keep = {"pscom_hook_procs": 0.1, "compression": 0.3, "on_timeout": 0.5}
    changes = _thin(draw, parameter, strategies, keep, 0.6)
    changes["migration_type"] = kind if draw(st.integers(0, 14)) else parameter.migration_type
    changes["rdma_migration"] = None
    if kind == "live" and draw(st.integers(0, 2)) == 0:
        # By themselves, few migrations last until their timeout.
        changes |= {"bandwidth_limit": draw(st.sampled_from([8, 20])), "timeout": 1}
        changes["on_timeout"] = draw(strategies["on_timeout"])
    return msgspec.structs.replace(parameter, **changes, **_copies(draw, kind, model))


def _copies(draw: st.DrawFn, kind: str | None, model: _Model) -> dict[str, Any]:
    """The options that copy disks; most orders have them if a guest has a disk of its host."""
    is_needed = any(domain.disk != "shared" for domain in model.domains.values())
    is_odd = draw(st.integers(0, 7)) == 0
    if kind == "offline" or is_needed == is_odd:
        return {"copy_storage": None, "copy_disks": None, "source_disks": None}
    return {
        "copy_storage": draw(st.sampled_from(["all", "all", "incremental"])),
        "copy_disks": draw(st.sampled_from([None] * 6 + [("hda",), ("vda",)])),
        "source_disks": draw(st.sampled_from(["remove", "remove", "keep", None])),
    }


def _thin(
    draw: st.DrawFn,
    message: Message,
    strategies: Mapping[str, st.SearchStrategy[Any]],
    keep: Mapping[str, float],
    otherwise: float,
) -> dict[str, Any]:
    """New values of the fields that are given; some of them are left out.

    With all that a strategy gives, nearly every order would contradict itself.
    """
    changes: dict[str, Any] = {}
    for field, values in strategies.items():
        if getattr(message, field) is None:
            continue
        kept = draw(st.integers(0, 99)) < 100 * keep.get(field, otherwise)
        changes[field] = draw(values) if kept else None
    return changes
