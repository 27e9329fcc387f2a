"""The rule that each order must keep, as a pure function.

After any legal order, in any state of libvirt, each domain runs on at most one host, with its
newest memory and disks, as its order described. Otherwise the order was refused before anything
changed, and the answer says why.

The images of disks are checked in `disk_rule.py`, and what a guest says of its own memory and disk
in `guest_checks.py`.
"""

import re
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from typing import Final
from xml.etree import ElementTree

from fastlib.message import (
    Evacuate,
    Migrate,
    MigrateParameter,
    Repin,
    Result,
    Resume,
    Start,
    Stop,
    Suspend,
    SwapWith,
    Task,
)

from .disk_rule import disk_violations
from .fleet_view import DomainView, FleetView, cpu_text
from .outcome import Outcome, Violation
from .scenario import HOST_NAMES, HOSTS, canonical_host


def violations(outcome: Outcome) -> list[Violation]:
    """The parts of the rule that are broken; none if all is well."""
    return list(dict.fromkeys(_violations(outcome)))


def _violations(outcome: Outcome) -> Iterator[Violation]:
    targets = _targets(outcome)
    yield from _at_most_one_host(outcome)
    yield from _no_stale_image(outcome)
    yield from _others_unchanged(outcome, set(targets))
    yield from _nothing_lost(outcome, targets)
    yield from _true_statements(outcome)
    yield from disk_violations(outcome)
    count = len(outcome.order.container.tasks)
    if len(outcome.results) < count:
        yield _broken("one result for each member", f"{len(outcome.results)} for {count}")
        return
    for name, members in targets.items():
        yield from _each_as_it_says(outcome, name, members)


def _broken(part: str, observed: str) -> Violation:
    return Violation(part=part, observed=observed)


# The domains that an order is about

_Members = list[tuple[Task, Result | None]]
"""The members of a container that are about one domain, with their results."""


def _targets(outcome: Outcome) -> dict[str, _Members]:
    """Each domain that an order may change. Several members may be about the same one."""
    order, before = outcome.order, outcome.before
    results = list(outcome.results)
    tasks = order.container.tasks
    found: dict[str, _Members] = defaultdict(list)
    if len(tasks) == len(results) and len(tasks) > 1:
        pairs = list(zip(tasks, results, strict=True))
    else:
        pairs = [(tasks[0], result) for result in results]
    for task in tasks:
        if isinstance(task, Evacuate) or (isinstance(task, Stop) and task.vm_name is None):
            for name, view in before.hosts[order.host].items():
                if view.active and _is_meant(task, name):
                    named = [(task, each) for each in results if each.vm_name == name]
                    found[name] += named or [(task, None)]
    for task, result in pairs:
        if isinstance(task, Start):
            found[_start_name(task)].append((task, result))
        elif isinstance(task, Migrate):
            found[task.vm_name].append((task, result))
            swap = None if task.parameter is None else task.parameter.swap_with
            if swap is not None:
                found[swap.vm_name].append((task, result))
        elif isinstance(task, Stop | Suspend | Resume | Repin) and task.vm_name is not None:
            found[task.vm_name].append((task, result))
    return found


def _is_meant(task: Task, name: str) -> bool:
    if isinstance(task, Evacuate):
        return task.vm_name in (None, name)
    assert isinstance(task, Stop)
    assert task.regex is not None
    return re.fullmatch(task.regex, name) is not None


def _start_name(task: Start) -> str:
    if task.xml is None:
        assert task.vm_name is not None
        return task.vm_name
    return str(ElementTree.fromstring(task.xml).findtext("name"))


# Always


def _at_most_one_host(outcome: Outcome) -> Iterator[Violation]:
    for name in outcome.after.names:
        hosts = sorted(outcome.after.active_places(name))
        if len(hosts) > 1:
            yield _broken("a domain is active on at most one host", f"{name!r} is on {hosts}")


def _no_stale_image(outcome: Outcome) -> Iterator[Violation]:
    """A managed save image of a domain that has run since would bring old memory back."""
    after = outcome.after
    for host, names in after.images.items():
        for name in names:
            active = sorted(after.active_places(name))
            if active:
                part = "no managed save image is older than a run of its domain"
                yield _broken(part, f"{name!r} is active on {active}; an image is on {host}")
            elif name not in after.hosts[host]:
                part = "each managed save image has its domain's definition beside it"
                yield _broken(part, f"an image of {name!r} is on {host}: {_where(after, name)}")


def _others_unchanged(outcome: Outcome, targets: set[str]) -> Iterator[Violation]:
    names = {*outcome.before.names, *outcome.after.names} - targets
    for name in sorted(names):
        if not _was_killed(outcome, name):
            yield from _unchanged(outcome, name, "a domain that the order does not name")


def _was_killed(outcome: Outcome, name: str) -> bool:
    """Whether a killed QEMU was that of the domain, and not one that waited for its memory."""
    fault = outcome.fault
    if fault is None or fault.kind != "kill QEMU" or fault.domain != name:
        return False
    if fault.host in outcome.before.active_places(name):
        return True
    # The domain may have arrived before its QEMU there was killed.
    return any(
        each.status == "success" or "is active neither on" in str(each.details)
        for each in outcome.results
        if each.vm_name == name
    )


def _unchanged(
    outcome: Outcome, name: str, what: str, except_hosts: Collection[str] = ()
) -> Iterator[Violation]:
    before, after = outcome.before.places(name), outcome.after.places(name)
    for host in sorted(set(HOSTS).difference(except_hosts)):
        if changes := _differences(before.get(host), after.get(host)):
            yield _broken(f"{what} is unchanged", f"{name!r} on {host}: {'; '.join(changes)}")


def _differences(before: DomainView | None, after: DomainView | None) -> list[str]:
    if before is None or after is None:
        return [] if before is after else [f"{_summary(before)} became {_summary(after)}"]
    found = []
    for field in DomainView.__struct_fields__:
        old, new = getattr(before, field), getattr(after, field)
        if old != new:
            found.append(f"{field} was {_short(old)} and is {_short(new)}")
    return found


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 80 else f"{text[:80]}…"


def _summary(view: DomainView | None) -> str:
    if view is None:
        return "nothing"
    kept = "persistent" if view.persistent else "transient"
    return f"{view.state} {kept} {view.uuid}{' with an image' if view.saved else ''}"


def _where(view: FleetView, name: str) -> str:
    found = {host: _summary(each) for host, each in view.places(name).items()}
    return str(found or "it is on no host")


def _nothing_lost(outcome: Outcome, targets: Mapping[str, _Members]) -> Iterator[Violation]:
    """A domain goes, or ends, only if an order to stop it did not fail, or its QEMU was killed."""
    for name in outcome.before.names:
        members = targets.get(name, [])
        stops = [
            task
            for task, result in members
            if isinstance(task, Stop) and not _is_refused(outcome, result)
        ]
        was_active, is_active = (
            outcome.before.active_places(name),
            outcome.after.active_places(name),
        )
        may_end = bool(stops) or _was_killed(outcome, name)
        may_end |= any(_may_end_late(task, result) for task, result in members)
        if was_active and not is_active and not may_end:
            yield _broken(
                "an active domain stays active",
                f"{name!r} was {_where(outcome.before, name)}, is {_where(outcome.after, name)}",
            )
        if any(task.undefine for task in stops):
            continue
        was_persistent = any(each.persistent for each in outcome.before.places(name).values())
        if was_persistent and not any(
            each.persistent for each in outcome.after.places(name).values()
        ):
            yield _broken(
                "a persistent domain stays defined",
                f"{name!r} was {_where(outcome.before, name)}, is {_where(outcome.after, name)}",
            )


_MAY_END_LATE: Final = (
    "has not shut down within|the shutdown of .+ was requested and may still complete|"
    "a requested shutdown may still complete"
)


def may_end_late(outcome: Outcome, name: str) -> bool:
    """Whether a domain may shut down after the order, as its answer says."""
    return any(_may_end_late(task, result) for task, result in _targets(outcome).get(name, ()))


def _is_refused(outcome: Outcome, result: Result | None) -> bool:
    return result is not None and result.status == "error" and outcome.fault is None


def _may_end_late(task: Task, result: Result | None) -> bool:
    """A guest that was asked to shut down may still do so after the end of the order."""
    return (
        isinstance(task, Stop)
        and result is not None
        and re.search(_MAY_END_LATE, str(result.details)) is not None
    )


def _needs_no_comparison(task: Task, result: Result) -> bool:
    """An order that was executed, but whose domain does not answer on SSH, is not a refusal."""
    return isinstance(task, Start) and "has not answered on SSH" in str(result.details)


_STATEMENTS: Final = ("runs on", "is paused on", "is shut off on", "is active on")


def _true_statements(outcome: Outcome) -> Iterator[Violation]:
    """Each state that an answer names is the one that libvirt has."""
    names = sorted({*outcome.before.names, *outcome.after.names}, key=len, reverse=True)
    for result in outcome.results:
        details = str(result.details or "")
        for name in names:
            for verb in _STATEMENTS:
                for host_name, host in HOST_NAMES.items():
                    text = f"{name} {verb} {host_name}"
                    at = details.find(text)
                    if at < 0 or (at > 0 and details[at - 1] not in " (;:'\""):
                        continue
                    view = outcome.after.places(name).get(host)
                    state = "shut off" if view is None else view.state
                    if not _is_so(verb, state):
                        observed = f"{text!r}, but there it is {state}: {details}"
                        yield _broken("each state that an answer names is true", observed)
            if f"{name} has been shut off" in details and outcome.after.active_places(name):
                observed = f"{details!r}, but it is {_where(outcome.after, name)}"
                yield _broken("each state that an answer names is true", observed)


def _is_so(verb: str, state: str) -> bool:
    if verb == "runs on":
        return state == "running"
    if verb == "is paused on":
        return state == "paused"
    return (state in ("shut off", "crashed")) == (verb == "is shut off on")


# What each member says


def _each_as_it_says(outcome: Outcome, name: str, members: _Members) -> Iterator[Violation]:
    """A member that succeeded explains a change, as far as it describes it; no other does."""
    done = [
        (task, result)
        for task, result in members
        if result is not None and (result.status == "success" or _needs_no_comparison(task, result))
    ]
    # Of several stops, one that takes the definition away explains more than the others.
    undefining = [each for each in done if isinstance(each[0], Stop) and each[0].undefine]
    for described, success in undefining or done:
        yield from _as_described(outcome, name, described, success)
    # What succeeded beside a refusal changes only the host of the order.
    explained = {outcome.order.host} if done else set()
    for task, result in members:
        if _was_killed(outcome, name):
            continue
        if result is None:
            yield from _unchanged(outcome, name, "a domain that no result names", explained)
        elif (
            (task, result) not in done and outcome.fault is None and not _may_end_late(task, result)
        ):
            yield from _unchanged(outcome, name, "a domain whose order was refused", explained)


# After a success


def _as_described(outcome: Outcome, name: str, task: Task, result: Result) -> Iterator[Violation]:
    host = outcome.order.host
    here = outcome.after.hosts[host].get(name)
    if _was_killed(outcome, name):
        return
    if isinstance(task, Start):
        yield from _started(outcome, name, task, here)
    elif isinstance(task, Stop):
        yield from _stopped(outcome, name, task, here)
    elif isinstance(task, Suspend | Resume):
        wanted = "paused" if isinstance(task, Suspend) else "running"
        if here is None or here.state != wanted:
            yield _state(task, name, f"{wanted} on {host}", outcome)
    elif isinstance(task, Repin):
        if here is None or not here.active:
            yield _state(task, name, f"active on {host}", outcome)
        else:
            yield from _pinned(name, here, task.vcpu_map, defined=here.persistent)
    elif isinstance(task, Migrate):
        yield from _migrated(outcome, name, task, result)
    elif isinstance(task, Evacuate):
        hosts = {canonical_host(each) for each in task.destinations} - {host}
        yield from _arrived(outcome, name, task, hosts, None)


def _state(task: Task, name: str, wanted: str, outcome: Outcome) -> Violation:
    return _broken(
        f"a successful {task.declaration.task} has its end state",
        f"{name!r} should be {wanted}, and is {_where(outcome.after, name)}",
    )


def _started(
    outcome: Outcome, name: str, task: Start, here: DomainView | None
) -> Iterator[Violation]:
    part = "a started domain is what its order described"
    if here is None or here.state != "running":
        yield _state(task, name, f"running on {outcome.order.host}", outcome)
        return
    if here.persistent == bool(task.transient) and not (
        task.transient and name in outcome.before.hosts[outcome.order.host]
    ):
        yield _broken(part, f"{name!r} is {_summary(here)}, transient was {task.transient}")
    described = None if task.xml is None else ElementTree.fromstring(task.xml)
    before = outcome.before.hosts[outcome.order.host].get(name)
    memory = task.memory or _described_memory(described) or (before.memory if before else None)
    if memory is not None and here.memory != _as_libvirt_rounds(memory):
        yield _broken(part, f"{name!r} has {here.memory} KiB, not {memory}")
    if task.vcpus is not None and (here.maximum_vcpus, len(here.vcpus)) != (task.vcpus,) * 2:
        yield _broken(part, f"{name!r} has {here.vcpus} vCPUs, not {task.vcpus}")
    is_as_before = before is None or (
        (here.maximum_vcpus, here.vcpus) == (before.maximum_vcpus, before.vcpus)
    )
    if task.vcpus is None and task.xml is None and before is not None and not is_as_before:
        yield _broken(part, f"{name!r} has other vCPUs: {here.vcpus}, not {before.vcpus}")
    if task.vcpu_map is not None:
        yield from _pinned(name, here, task.vcpu_map, defined=False)
    # That it does not answer on SSH is more important to tell.
    is_told = re.search("saved image|not answered on SSH", str(outcome.results))
    if before is not None and before.saved and not is_told:
        yield _broken("details say what became of the saved image", str(outcome.results))


def _described_memory(xml: ElementTree.Element | None) -> int | None:
    if xml is None:
        return None
    memory = xml.find("memory")
    assert memory is not None
    factor = {"MiB": 1024, "KiB": 1}[memory.get("unit", "KiB")]
    return int(memory.text or "0") * factor


def _as_libvirt_rounds(memory: int) -> int:
    """libvirt gives QEMU whole MiB."""
    return -(-memory // 1024) * 1024


def _stopped(
    outcome: Outcome, name: str, task: Stop, here: DomainView | None
) -> Iterator[Violation]:
    host = outcome.order.host
    before = outcome.before.hosts[host].get(name)
    if here is not None and here.active:
        yield _state(task, name, f"inactive on {host}", outcome)
    elif task.undefine and here is not None:
        yield _state(task, name, f"unknown on {host}", outcome)
    if task.undefine or before is None or not before.persistent:
        return
    if here is None or here.definition != before.definition:
        yield _broken("a stopped domain keeps its definition", _where(outcome.after, name))


def _pinned(
    name: str, here: DomainView, rows: Mapping[int, object] | object, *, defined: bool
) -> Iterator[Violation]:
    """The map is that of the vCPUs that are there, in their order."""
    assert isinstance(rows, tuple)
    wanted = [cpu_text(row) for row in rows]
    for what, pins in (("", here.pins), ("the definition of ", here.defined_pins)):
        if what and not defined:
            continue
        have = dict(pins)
        present = [have.get(vcpu) for vcpu in here.vcpus[: len(wanted)]]
        if present != wanted:
            observed = f"{what}{name!r} has {have} with the vCPUs {here.vcpus}, not {wanted}"
            yield _broken("the vCPUs that are there are pinned as described", observed)


def _bound(name: str, here: DomainView, wanted: str) -> Iterator[Violation]:
    """The memory is on the nodes of the map, now and at the next start."""
    found = {here.nodes, here.defined_nodes}
    if found != {wanted}:
        observed = f"that of {name!r} is on {found}, not on {wanted}"
        yield _broken("the memory is on the nodes of the order", observed)


def _migrated(outcome: Outcome, name: str, task: Migrate, result: Result) -> Iterator[Violation]:
    parameter = task.parameter
    swap = None if parameter is None else parameter.swap_with
    destination = canonical_host(task.destination)
    if swap is not None and name == swap.vm_name:
        yield from _arrived(outcome, name, task, {outcome.order.host}, swap)
        return
    if parameter is not None and parameter.migration_type == "offline":
        yield from _moved_offline(outcome, name, task, destination)
        return
    yield from _arrived(outcome, name, task, {destination}, parameter)


def _moved_offline(
    outcome: Outcome, name: str, task: Migrate, destination: str | None
) -> Iterator[Violation]:
    before = outcome.before.hosts[outcome.order.host].get(name)
    places = outcome.after.places(name)
    there = places.get(str(destination))
    if there is None or there.active or outcome.order.host in places:
        yield _state(task, name, f"defined on {destination} alone", outcome)
    elif before is not None:
        yield from _same_domain(name, before, there)
        if before.saved and not there.saved:
            yield _broken("a saved domain keeps its memory", _where(outcome.after, name))


def _arrived(
    outcome: Outcome,
    name: str,
    task: Task,
    destinations: set[str | None],
    maps: MigrateParameter | SwapWith | None,
) -> Iterator[Violation]:
    active = outcome.before.active_places(name)
    places = outcome.after.active_places(name)
    if len(active) != 1 or len(places) != 1 or not set(places) <= destinations:
        yield _state(task, name, f"active on one of {sorted(map(str, destinations))}", outcome)
        return
    ((source, before),) = active.items()
    ((_, after),) = places.items()
    if after.state != before.state:
        yield _state(task, name, before.state, outcome)
    if before.persistent and source not in places and source in outcome.after.places(name):
        yield _broken("a migrated domain leaves no definition", _where(outcome.after, name))
    yield from _same_domain(name, before, after)
    if maps is not None and maps.memnode_map is not None:
        (row,) = maps.memnode_map
        yield from _bound(name, after, cpu_text(row))
    elif after.nodes != before.nodes:
        yield _broken("a migration keeps the memory nodes", f"{before.nodes}, then {after.nodes}")
    if maps is not None and maps.vcpu_map is not None:
        yield from _pinned(name, after, maps.vcpu_map, defined=after.persistent)
    elif after.pins != before.pins:
        yield _broken("a migration keeps the pinning", f"{before.pins} became {after.pins}")


def _same_domain(name: str, before: DomainView, after: DomainView) -> Iterator[Violation]:
    for field in ("uuid", "persistent", "autostart", "memory", "vcpus", "maximum_vcpus"):
        old, new = getattr(before, field), getattr(after, field)
        if old != new:
            part = "a migrated domain is the same domain"
            yield _broken(part, f"{field} of {name!r} was {old} and is {new}")
