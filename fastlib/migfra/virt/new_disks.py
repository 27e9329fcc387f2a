"""Read the disks that a task `start vm` creates, and check them without the host. Pure."""

import posixpath
import re
from collections.abc import Iterator
from typing import Final

import msgspec

from fastlib.message import NewDisk, Start, Stop
from fastlib.message.devices import DiskBus, DiskCache, DiskFormat
from fastlib.migfra.errors import HypervisorError

from .xml_values import XmlPolicy, is_below, is_sound_path

MIB: Final = 1 << 20
DEFAULT_CACHE: Final[DiskCache] = "none"
_BUSES: Final[dict[str, DiskBus]] = {"vd": "virtio", "sd": "scsi", "hd": "ide"}
"""The bus of a disk, by the beginning of its name."""
_TARGET: Final = re.compile(r"(vd|sd|hd)[a-z]{1,2}", re.ASCII)


class DiskPlan(msgspec.Struct, frozen=True, kw_only=True):
    """A disk to create, with all defaults filled in."""

    target: str
    path: str
    format: DiskFormat
    base: str | None
    size: int | None
    """Bytes. None means the size of the base."""
    bus: DiskBus
    cache: DiskCache

    @property
    def words(self) -> str:
        """The disk with its path, for errors and details."""
        return f"{self.target} ({self.path})"


def plan_disks(task: Start, name: str, policy: XmlPolicy, folder: str) -> tuple[DiskPlan, ...]:
    """Return the disks of a task that starts the domain `name`.

    `folder` is the one for images without a path. Raises HypervisorError with all problems of the
    order: contradictions, and paths that the policy does not allow.
    """
    if not task.disks:
        return ()
    plans = tuple(_plan(disk, name, folder) for disk in task.disks)
    problems = [problem for plan in plans for problem in _problems(plan, policy, folder)]
    for of, values in (
        ("target", [plan.target for plan in plans]),
        ("path", [plan.path for plan, disk in zip(plans, task.disks, strict=True) if disk.path]),
    ):
        twice = sorted({value for value in values if values.count(value) > 1})
        problems += [f"disks has the {of} {value!r} twice; change one" for value in twice]
    if task.transient:
        problems.append(
            "a transient domain cannot have disks, because nothing would know its images once it "
            "has ended; leave out transient, and stop it with undefine and remove-storage"
        )
    if problems:
        raise HypervisorError("; ".join(problems))
    return plans


def check_removal(task: Stop) -> None:
    """Raise HypervisorError if a task removes images, but not the definition that names them."""
    if task.remove_storage and not task.undefine:
        raise HypervisorError(
            "remove-storage needs undefine: true, because the domain's definition names the "
            "images; set it, or leave out remove-storage"
        )


def _plan(disk: NewDisk, name: str, folder: str) -> DiskPlan:
    format = disk.format or "qcow2"
    path = disk.path
    if path is None:
        path = posixpath.join(folder, f"{name}-{disk.target}.{format}")
    return DiskPlan(
        target=disk.target,
        path=_normal(path),
        format=format,
        base=None if disk.base is None else _normal(disk.base),
        size=None if disk.size is None else disk.size * MIB,
        bus=disk.bus or _BUSES.get(disk.target[:2], "virtio"),
        cache=disk.cache or DEFAULT_CACHE,
    )


def _normal(path: str) -> str:
    """Return a path without doubled slashes, if it is one that tasks may name."""
    return f"/{posixpath.normpath(path).lstrip('/')}" if is_sound_path(path) else path


def _problems(plan: DiskPlan, policy: XmlPolicy, folder: str) -> Iterator[str]:
    target = plan.target
    if not _TARGET.fullmatch(target):
        yield (
            f"{target[:40]!r} cannot be the target of a disk; expected vd, sd or hd and letters, "
            "such as vda"
        )
        return
    if plan.base is not None and plan.format == "raw":
        yield (
            f"disk {target} has a base and the format raw, which cannot name a base; leave out "
            "format, which makes it qcow2, or leave out base"
        )
    if plan.base == plan.path:
        yield f"disk {target} has the same path as its base; choose another path"
    for of, path in (("path", plan.path), ("base", plan.base)):
        if path is not None and (why := _unsound(path, policy, folder)) is not None:
            yield f"disk {target} has {path[:200]!r} as its {of}, which tasks must not use: {why}"


def _unsound(path: str, policy: XmlPolicy, folder: str) -> str | None:
    if not is_sound_path(path) or path == "/":
        return "expected an absolute path of a file, without '..'"
    if is_below(path, "/dev"):
        return "expected an image file, not a device"
    places = allowed_folders(policy, folder)
    if any(is_below(path, place) for place in places):
        return None
    return (
        f"expected a path below {' or '.join(places)}; choose another, or let the operator add "
        "its folder to domain-xml: {directories: …}"
    )


def allowed_folders(policy: XmlPolicy, folder: str) -> tuple[str, ...]:
    """Return the folders below which tasks may create images and name bases."""
    if policy.allow == "any":
        return ("/",)
    return tuple(dict.fromkeys([*policy.directories, folder]))
