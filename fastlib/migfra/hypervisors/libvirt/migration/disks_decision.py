"""Decide which disks of an active domain a migration copies, and which ones prevent it. Pure."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Final

import msgspec

from fastlib.migfra.hypervisors.libvirt.domain.disks_xml import Disk
from fastlib.migfra.hypervisors.libvirt.domain.file_probe import FileFacts
from fastlib.migfra.virt.migration_spec import MigrationSpec

from .storage_decision import Sharing

FORMATS: Final = ("raw", "qcow2")
"""Formats that fastlib copies. libvirt can create others, but QEMU does not support them well."""
_UNASKED: Final = FileFacts(presence="unknown", error="libvirt did not answer")
_KINDS: Final = {
    "block": "a block device",
    "network": "a network disk",
    "volume": "a volume of a storage pool",
    "other": "not a file",
}


class DiskFacts(msgspec.Struct, frozen=True, kw_only=True):
    """The answers of both hosts about the disks, by the paths of their images."""

    sharing: Mapping[str, Sharing] = {}
    there: Mapping[str, FileFacts] = {}
    """The files on the destination."""
    on_network: Collection[str] = ()
    """Paths on a network file system. libvirt and QEMU keep the caches of such files right."""


class DiskDecision(msgspec.Struct, frozen=True, kw_only=True):
    """The conclusion."""

    copied: Sequence[Disk] = ()
    shared: Sequence[Disk] = ()
    """Files that both hosts have been shown to share, and that no cache hides."""
    decided: Collection[str] = ()
    """Paths for which no other check is necessary."""
    problems: Sequence[str] = ()
    """The reasons not to migrate, with their remedies."""


def decide(spec: MigrationSpec, disks: Sequence[Disk], facts: DiskFacts) -> DiskDecision:
    """Decide on each disk that the domain writes."""
    copied, shared, decided = [], [], []
    problems = list(_unknown_names(spec, disks))
    for disk in disks:
        is_wanted = _is_wanted(spec, disk)
        if disk.is_transient:
            decided.append(disk.path)
            problems.append(
                f"{disk.words} of {spec.name} is transient, and libvirt does not migrate such a "
                "disk; remove <transient/> from the definition and start the domain again"
            )
            continue
        if not disk.is_file:
            problems += _not_a_file(spec, disk, disks)
            continue
        presence = facts.there.get(disk.path, _UNASKED).presence
        if facts.sharing.get(disk.path) == "shared" and presence != "absent":
            decided.append(disk.path)
            problem = _problem_of_shared(spec, disk, facts)
            if problem is not None:
                problems.append(problem)
            elif disk.is_direct:
                shared.append(disk)
        elif disk.kind != "file":
            problems += _not_a_file(spec, disk, disks)
        elif is_wanted:
            decided.append(disk.path)
            found = list(_problems_of_copy(spec, disk, facts))
            problems += found
            if not found:
                copied.append(disk)
        elif presence == "absent":
            decided.append(disk.path)
            problems.append(_not_shared(spec, disk))
        elif presence == "present" and facts.sharing.get(disk.path) == "separate":
            decided.append(disk.path)
            problems.append(_not_shared(spec, disk, has_other=True))
    return DiskDecision(copied=copied, shared=shared, decided=frozenset(decided), problems=problems)


def _is_named(spec: MigrationSpec, disk: Disk) -> bool:
    return disk.target in (spec.parameter.copy_disks or ())


def _is_wanted(spec: MigrationSpec, disk: Disk) -> bool:
    """Return whether the order asks for a copy of a disk, if the hosts do not share it."""
    if spec.parameter.copy_storage is None:
        return False
    if spec.parameter.copy_disks is None:
        return not disk.is_shareable
    return _is_named(spec, disk)


def _unknown_names(spec: MigrationSpec, disks: Sequence[Disk]) -> Iterator[str]:
    targets = [disk.target for disk in disks]
    for name in dict.fromkeys(spec.parameter.copy_disks or ()):
        if name not in targets:
            yield (
                f"copy-disks has {name[:40]!r}, but {spec.name} writes "
                + (f"only the disks {', '.join(targets)}" if targets else "no disk")
            )


def _not_a_file(spec: MigrationSpec, disk: Disk, disks: Sequence[Disk]) -> Iterator[str]:
    is_named = _is_named(spec, disk)
    if is_named or (_is_wanted(spec, disk) and disk.kind in ("block", "volume")):
        if is_named:
            remedy = "leave it out of copy-disks"
        else:
            has_files = any(each.kind == "file" for each in disks)
            remedy = f"if {spec.source} and {spec.destination} share it, " + (
                "name the other disks in copy-disks" if has_files else "order no copy-storage"
            )
        yield (
            f"{disk.words} of {spec.name} is {_KINDS[disk.kind]}, and copy-storage copies image "
            f"files only; {remedy}"
        )


def _problem_of_shared(spec: MigrationSpec, disk: Disk, facts: DiskFacts) -> str | None:
    if _is_named(spec, disk):
        return (
            f"{disk.words} of {spec.name} is on storage that {spec.source} and {spec.destination} "
            "share, so a copy would overwrite itself; leave it out of copy-disks"
        )
    if disk.is_direct or disk.path in facts.on_network:
        return None
    return (
        f"{disk.words} of {spec.name} has cache='{disk.cache}' on storage that {spec.source} and "
        f"{spec.destination} share, so {spec.destination} could read old data; set cache='none' in "
        "the <driver> of the disk, and start the domain again"
    )


def _not_shared(spec: MigrationSpec, disk: Disk, *, has_other: bool = False) -> str:
    """Return the refusal. `has_other` says that the destination has another file at the path."""
    if disk.is_shareable:
        remedy = "put it on shared storage, because several domains may write it"
    elif spec.parameter.copy_storage is not None:
        remedy = f"add {disk.target} to copy-disks, which copies it, or put it on shared storage"
    else:
        remedy = "order copy-storage: all, which copies it, or put it on shared storage"
    what, hosts = f"{disk.words} of {spec.name}", (spec.source, spec.destination)
    if has_other:
        return (
            f"{what} is another file on {hosts[1]} than on {hosts[0]}, such as an older copy; "
            f"remove it there, and {remedy}"
        )
    return f"{what} is not on storage that {hosts[0]} and {hosts[1]} share; {remedy}"


def _problems_of_copy(spec: MigrationSpec, disk: Disk, facts: DiskFacts) -> Iterator[str]:
    what, there = f"{disk.words} of {spec.name}", facts.there.get(disk.path, _UNASKED)
    if disk.is_shareable:
        yield f"{what} is not copied, because several domains may write it; leave it out"
    if disk.format not in FORMATS:
        yield (
            f"{what} has the format {disk.format[:20]!r}, and copy-storage copies raw and qcow2 "
            "only; convert it with qemu-img convert while the domain is shut off"
        )
    if disk.is_encrypted:
        yield (
            f"{what} is encrypted by libvirt, and copy-storage copies no such disk; put it on "
            "shared storage"
        )
    if disk.is_slice:
        yield (
            f"{what} is a part of its file (<slices>), and copy-storage copies whole files only; "
            "put it on shared storage"
        )
    if disk.names_backing and spec.parameter.copy_storage == "all":
        yield (
            f"the definition of {spec.name} names the backing file of {disk.words}, which its copy "
            "would not have; remove <backingStore> from the definition and start the domain again, "
            "or order copy-storage: incremental"
        )
    if there.presence == "unknown":
        yield (
            f"whether {spec.destination} has a file for {what} already could not be found out: "
            f"{there.error}"
        )
    elif there.presence == "present" and facts.sharing.get(disk.path) == "separate":
        yield (
            f"{spec.destination} has another file {disk.path} already, where the copy of disk "
            f"{disk.target} of {spec.name} belongs; remove it there, or move it away"
        )
    elif there.presence == "present":
        yield (
            f"{spec.destination} has a file {disk.path} too, and whether it is the one of "
            f"{spec.source} could not be found out, so a copy of disk {disk.target} of {spec.name} "
            "could overwrite itself; let the daemon write to that folder, or remove the file "
            f"on {spec.destination} if it is another one"
        )
