"""Refuse a migration that would lose or outdate data that libvirt keeps of the domain. Pure.

A migration moves the domain and its definition alone. libvirt 9 leaves a saved image on the source,
refuses to move a domain with snapshots in the middle of the migration, and forgets checkpoints.
fastlib takes the records of internal snapshots along. External ones depend on files beside the
disks, and libvirt's records of them name these files.
"""

from fastlib.migfra.hypervisors.libvirt.domain.saved_state import KeptData, path
from fastlib.migfra.virt.migration_spec import MigrationSpec


def refusal(spec: MigrationSpec, here: KeptData, there: KeptData) -> str | None:
    """Return the reason why the domain must not migrate, with the remedy. None if it may.

    `here` is the data on the source, `there` the data on the destination under the same name.
    """
    name, source, destination = spec.name, spec.source, spec.destination
    if there.image is not None:
        return (
            f"{destination} has a saved image of {name}, which a later start there would restore "
            f"over newer disks; delete it there with virsh managedsave-remove {name}, or delete "
            f"{path(name)} if libvirt there does not know the domain"
        )
    if here.image is not None and spec.kind == "offline":
        return (
            f"{name} has a saved image on {source} with its newest memory, which does not migrate; "
            "start it there and migrate it live or warm, or delete the image with virsh "
            f"managedsave-remove {name}"
        )
    if here.image is not None:
        return (
            f"{source} has a saved image of {name} that is older than the running domain, and "
            f"would stay behind; delete it with virsh managedsave-remove {name}"
        )
    external = [record.name for record in here.snapshots if not record.is_internal]
    if external:
        return (
            f"{name} has {_count(len(external), 'external snapshot')} on {source}, which libvirt "
            f"does not migrate: {', '.join(external)}; delete libvirt's records of them with virsh "
            f"snapshot-delete {name} --metadata; to merge their files first, use virsh blockcommit "
            f"{name} DISK --active --pivot"
        )
    if here.checkpoints:
        return (
            f"{name} has {_count(here.checkpoints, 'checkpoint')} on {source}, which libvirt would "
            f"forget in a migration; delete them first with virsh checkpoint-delete {name}"
        )
    return None


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
