"""Pin the vCPUs of a running domain, all of them or none. The functions block."""

from collections.abc import Sequence
from typing import Any
from xml.etree.ElementTree import Element

import msgspec

from fastlib.migfra.errors import HypervisorError
from fastlib.migfra.hypervisors.libvirt.connection.api import api
from fastlib.migfra.hypervisors.libvirt.errors import is_unknown_flag
from fastlib.migfra.virt.domain_vcpus import (
    Pins,
    cpu_set,
    default_pin,
    read_pins,
    read_vcpus,
    rows_for_online,
)

from .control import active_domain
from .host_room import check_cpus, read_cpus
from .xml import parse


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One call that pins a vCPU, and the data to undo it."""

    vcpu: int
    cpus: frozenset[int]
    before: frozenset[int]
    in_definition: bool
    """Whether it changes the definition. If not, it changes the running domain."""


def pin(connection: Any, name: str, vcpu_map: Sequence[Sequence[int]]) -> None:
    """Change the CPUs that a running domain's vCPUs may use, also in its definition.

    Row i is for the i-th vCPU that is online. After a HypervisorError all vCPUs are pinned as
    before, or the error names those that are not.
    """
    domain = active_domain(connection, name)
    live = parse(domain.XMLDesc(0))
    rows = rows_for_online(name, read_vcpus(live), vcpu_map)
    cpus = read_cpus(connection)
    check_cpus("the host", cpus, vcpu_map)
    everything = frozenset(range(cpus.count)) - cpus.offline
    definition = None
    if domain.isPersistent():
        definition = parse(domain.XMLDesc(api().VIR_DOMAIN_XML_INACTIVE))
    steps = plan_steps(live, definition, rows, everything)
    done: list[Step] = []
    for step in steps:
        try:
            _pin(domain, step.vcpu, step.cpus, cpus.count, in_definition=step.in_definition)
        except api().libvirtError as error:
            problems = _take_back(domain, [*done, step], cpus.count)
            if not problems:
                raise
            raise HypervisorError(
                f"vCPU {step.vcpu} of {name} could not be pinned ({error}), and the CPUs of others "
                f"could not be restored: {'; '.join(problems)}; repin it again"
            ) from error
        done.append(step)


def plan_steps(
    live: Element, definition: Element | None, rows: Pins, everything: frozenset[int]
) -> list[Step]:
    """Return the calls that pin the vCPUs: first for the running domain, then for its definition.

    The definition may have fewer vCPUs than the running domain. It gets the rows of its own vCPUs.
    """
    steps = _steps(live, rows, everything, in_definition=False)
    if definition is not None:
        most = read_vcpus(definition).maximum
        own = {vcpu: cpus for vcpu, cpus in rows.items() if vcpu < most}
        steps += _steps(definition, own, everything, in_definition=True)
    return steps


def _steps(
    root: Element, rows: Pins, everything: frozenset[int], *, in_definition: bool
) -> list[Step]:
    pins = read_pins(root)
    default = default_pin(root) or everything
    return [
        Step(
            vcpu=vcpu,
            cpus=cpus,
            before=pins.get(vcpu, default),
            in_definition=in_definition,
        )
        for vcpu, cpus in sorted(rows.items())
    ]


def _pin(domain: Any, vcpu: int, cpus: frozenset[int], count: int, *, in_definition: bool) -> None:
    libvirt = api()
    allowed = tuple(cpu in cpus for cpu in range(count))
    kind = libvirt.VIR_DOMAIN_AFFECT_CONFIG if in_definition else libvirt.VIR_DOMAIN_AFFECT_LIVE
    try:
        domain.pinVcpuFlags(vcpu, allowed, kind)
    except libvirt.libvirtError as error:
        if not is_unknown_flag(error, kind):
            raise
        if in_definition:
            return  # a driver that has no definitions
        domain.pinVcpuFlags(vcpu, allowed, 0)


def _take_back(domain: Any, done: Sequence[Step], count: int) -> list[str]:
    """Restore the CPUs of each vCPU, the last one first. Returns the failures, in words."""
    problems = []
    for step in reversed(done):
        try:
            _pin(domain, step.vcpu, step.before, count, in_definition=step.in_definition)
        except api().libvirtError as error:
            where = "in the definition" if step.in_definition else "now"
            problems.append(
                f"vCPU {step.vcpu} may {where} use other CPUs than {cpu_set(step.before)}: {error}"
            )
    return problems


def is_pinned(connection: Any, name: str, vcpu_map: Sequence[Sequence[int]]) -> bool:
    """Return whether a running domain is pinned according to a map."""
    domain = active_domain(connection, name)
    live = parse(domain.XMLDesc(0))
    rows = rows_for_online(name, read_vcpus(live), vcpu_map)
    pins = read_pins(live)
    return all(pins.get(vcpu) == cpus for vcpu, cpus in rows.items())
