"""Decide how a start uses a saved image of its domain. Pure.

A saved image (libvirt: managed save image) has the memory of a domain that was saved and shut off.
The next start restores the domain from it, with the size and the devices of that time. The image is
only valid until the domain runs again: afterwards its disks are newer.
"""

from collections.abc import Mapping, Sequence
from typing import Final, Literal, Self

import msgspec

from fastlib.message.numbers import CpuMap, NodeMap
from fastlib.message.tasks import SavedState, Start

Action = Literal["boot", "restore", "discard", "refuse"]
_DEVICES: Final = {
    "pci_ids": "pci-ids",
    "devs": "devs",
    "ivshmem": "ivshmem",
    "disks": "disks",
}
"""The fields of a task that attach devices, with their keys."""
_MIB: Final = 1024
"""KiB."""
RESTORED: Final = "continued from its saved image"
"""The details of a start that restored an image."""
DISCARDED: Final = "its saved image is deleted"
"""The details of a start that deleted an image. Its error has them too."""


class SavedImage(msgspec.Struct, frozen=True, kw_only=True):
    """A saved image of a domain. An unknown value is None."""

    uuid: str | None = None
    memory: int | None = None
    """KiB."""
    vcpus: int | None = None
    """The number of vCPUs that are online."""
    maximum_vcpus: int | None = None
    """The most vCPUs while it runs. A start with `vcpus` sets both numbers to the same value."""
    pinning: Mapping[int, frozenset[int]] | None = None
    """The CPUs of each pinned vCPU, by the number of its row in a vcpu-map."""
    memory_nodes: Sequence[frozenset[int]] | None = None
    """One entry for all of the memory, or one for each NUMA node of the domain."""
    problem: str | None = None
    """The reason why the hypervisor cannot restore it. None if none is known."""


class StartOrder(msgspec.Struct, frozen=True, kw_only=True):
    """The parts of a start that an image can contradict."""

    name: str
    host: str
    saved_state: SavedState | None = None
    memory: int | None = None
    """KiB."""
    vcpus: int | None = None
    vcpu_map: CpuMap | None = None
    memnode_map: NodeMap | None = None
    devices: Sequence[str] = ()
    """The keys of the task that attach devices."""
    xml: bool = False
    """Whether the task describes the domain by XML."""

    @classmethod
    def of(cls, task: Start, name: str, host: str) -> Self:
        """Read a task that starts the domain `name` on `host`."""
        return cls(
            name=name,
            host=host,
            saved_state=task.saved_state,
            memory=task.memory,
            vcpus=task.vcpus,
            vcpu_map=task.vcpu_map,
            memnode_map=task.memnode_map,
            devices=[key for field, key in _DEVICES.items() if getattr(task, field)],
            xml=task.xml is not None,
        )


class Decision(msgspec.Struct, frozen=True):
    """The decision about a start."""

    action: Action
    reason: str | None = None
    """The reason of a refusal, with the remedy."""


def decide(order: StartOrder, image: SavedImage | None, elsewhere: Sequence[str] = ()) -> Decision:
    """Decide about a start. `elsewhere` names the other hosts with an image of the domain."""
    name, host = order.name, order.host
    if order.saved_state == "discard":
        return Decision("discard" if image is not None or elsewhere else "boot")
    if elsewhere:
        return Decision(
            "refuse",
            f"{name} has a saved image on {', '.join(elsewhere)}, which may have its newest "
            "memory; start it there, or delete the image with saved-state: discard",
        )
    if image is None:
        if order.saved_state == "restore":
            return Decision(
                "refuse",
                f"{name} has no saved image on {host} to restore; leave out saved-state to boot it",
            )
        return Decision("boot")
    if image.problem is not None:
        return Decision(
            "refuse",
            f"{name} has a saved image on {host} that cannot be restored ({image.problem}); it is "
            "kept, and saved-state: discard deletes it",
        )
    differing = contradictions(order, image)
    if differing:
        them = "it" if len(differing) == 1 else "them"
        return Decision(
            "refuse",
            f"{name} has a saved image on {host}, which cannot be restored with "
            f"{' and '.join(differing)}; leave {them} out to restore the image, or delete it with "
            "saved-state: discard",
        )
    return Decision("restore")


def contradictions(order: StartOrder, image: SavedImage) -> list[str]:
    """List the keys of a start that the image cannot honour, each with both values if known."""
    found = []
    memory = _rounded(order.memory, image.memory)
    if memory is not None and memory != image.memory:
        found.append(f"memory ({memory} KiB{_known(image.memory)})")
    vcpus, maximum = order.vcpus, image.maximum_vcpus
    if vcpus is not None and (vcpus != image.vcpus or maximum not in (None, vcpus)):
        of = "" if maximum in (None, image.vcpus) else f" of {maximum}"
        found.append(f"vcpus ({vcpus}{_known(image.vcpus)}{of})")
    if order.vcpu_map is not None and not _has_pinning(order.vcpu_map, image):
        found.append("vcpu-map")
    if order.memnode_map is not None and not _has_memory_nodes(order.memnode_map, image):
        found.append("memnode-map")
    if order.xml:
        found.append("xml")
    return [*found, *order.devices]


def _known(value: int | None) -> str:
    return "" if value is None else f", the image has {value}"


def _rounded(wanted: int | None, has: int | None) -> int | None:
    """Return the memory of an order, rounded up to MiB like in QEMU if the image has that value."""
    if wanted is not None and has == -(-wanted // _MIB) * _MIB:
        return has
    return wanted


def _has_pinning(vcpu_map: CpuMap, image: SavedImage) -> bool:
    pinning = image.pinning
    return pinning is not None and all(
        pinning.get(vcpu) == frozenset(row) for vcpu, row in enumerate(vcpu_map)
    )


def _has_memory_nodes(memnode_map: NodeMap, image: SavedImage) -> bool:
    nodes = image.memory_nodes
    return nodes is not None and list(nodes) == [frozenset(row) for row in memnode_map]
