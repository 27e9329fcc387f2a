"""The rules for images that starts create: which may be created, used as a base, and removed.

A cluster has no files. So any path may be a base, and a new path is free until a start takes it.
"""

from collections.abc import Sequence

from fastlib.migfra.errors import HypervisorError
from fastlib.migfra.virt.new_disks import DiskPlan

from .database import Database
from .tables import Domain


def check_new_disks(database: Database, domain: Domain, disks: Sequence[DiskPlan]) -> None:
    """Raise HypervisorError if a domain cannot get new disks. Needs a transaction."""
    taken = set(database.images(domain.name).values()) | ({"vda"} if domain.disk else set())
    problems = []
    for disk in disks:
        if disk.target in taken:
            problems.append(
                f"{domain.name} has a disk {disk.target} already; choose another target"
            )
        if database.image_owner(disk.path) is not None:
            problems.append(
                f"there is an image {disk.path} already, where a disk of {domain.name} belongs; if "
                f"an earlier start of {domain.name} has created it, leave out disks"
            )
        owner = None if disk.base is None else database.image_owner(disk.base)
        writer = None if owner is None or owner[0] is None else database.find_domain(owner[0])
        if writer is not None and (writer.active or writer.name == domain.name):
            problems.append(
                f"{disk.base} is a disk of {writer.name}, which may write it, so it cannot be a "
                "base; stop that domain, or use a copy"
            )
    if problems:
        raise HypervisorError("; ".join(problems))


def create_images(database: Database, name: str, disks: Sequence[DiskPlan]) -> str | None:
    """Create the images of new disks. Returns the sentence about them. Needs a transaction."""
    for disk in disks:
        database.insert_image(disk.path, name, disk.target, disk.base)
    return f"created {', '.join(disk.words for disk in disks)}" if disks else None


def remove_images(database: Database, name: str) -> str:
    """Remove the images of a domain. Returns the sentence about them. Needs a transaction.

    Raises HypervisorError if one is the base of another image.
    """
    images = database.images(name)
    for path in images:
        overlays = [overlay for overlay in database.overlays(path) if overlay not in images]
        if overlays:
            raise HypervisorError(
                f"{path} is the backing file of {', '.join(overlays)}, so it is not removed; "
                f"remove these, or stop {name} without remove-storage"
            )
    for path in images:
        database.delete_image(path)
    if not images:
        return f"no start has created images for {name}"
    return f"removed {', '.join(f'{target} ({path})' for path, target in images.items())}"
