"""Read, delete and renew the data that libvirt keeps of a domain besides its definition.

These are its saved image (managed save), and the metadata of snapshots and checkpoints. An image is
a file that libvirt finds by the domain's name. `hasManagedSaveImage` does not report a file that an
undefined domain left behind, but a start restores it. So this module reads the file itself. The
functions block.
"""

import errno
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

import msgspec

from fastlib.migfra.errors import HypervisorError
from fastlib.migfra.hypervisors.libvirt.connection.api import api
from fastlib.migfra.hypervisors.libvirt.errors import LostError, NoDomainError, translated
from fastlib.migfra.virt.domain_vcpus import read_pins, read_vcpus
from fastlib.migfra.virt.domain_xml import read_memory, read_uuid
from fastlib.migfra.virt.saved_state import SavedImage

from .snapshots import SnapshotRecord, read_records
from .state import PAUSED_FOR_MIGRATION, find, has_job
from .tuning_xml import read_memory_nodes
from .xml import parse

_NOT_PERMITTED: Final = frozenset({29, 88})
"""The connection is read-only, or access is denied."""
_DIRECTORY: Final = "/var/lib/libvirt/qemu/save"
"""The folder of the images of libvirt's system daemon. Used only for a name without a domain."""


class KeptData(msgspec.Struct, frozen=True, kw_only=True):
    """The data that libvirt keeps of a domain besides its definition."""

    image: SavedImage | None = None
    snapshots: Sequence[SnapshotRecord] = ()
    checkpoints: int = 0


def read(connection: Any, name: str) -> KeptData:
    """Read the data that libvirt keeps of a domain. The host need not know the domain."""
    domain = find(connection, name)
    if domain is None:
        return KeptData(image=image(connection, name))
    return KeptData(
        image=image(connection, name),
        snapshots=_all(lambda: read_records(domain)),
        checkpoints=len(_all(domain.listAllCheckpoints)),
    )


def _all(call: Callable[[], Sequence[Any]]) -> Sequence[Any]:
    libvirt = api()
    try:
        return call()
    except libvirt.libvirtError as error:
        if error.get_error_code() not in (libvirt.VIR_ERR_NO_SUPPORT, libvirt.VIR_ERR_NO_DOMAIN):
            raise
        return ()  # a driver without them, or the domain has gone in the meantime


def image(connection: Any, name: str) -> SavedImage | None:
    """Read a domain's saved image. Returns None if there is none."""
    domain = find(connection, name)
    if domain is None:
        return _image_without_domain(connection, name)
    found = image_of(domain)
    if found is not None and found.uuid not in (None, domain.UUIDString()):
        return SavedImage(
            uuid=found.uuid, problem=f"it belongs to another domain, with the UUID {found.uuid}"
        )
    return found


def names_with_image(connection: Any, names: Iterable[str]) -> frozenset[str]:
    """Return those of the names for which the host has a saved image."""
    return frozenset(name for name in names if image(connection, name) is not None)


def image_of(domain: Any) -> SavedImage | None:
    """Read the saved image of a `virDomain`. Returns None if there is none."""
    libvirt = api()
    try:
        return _described(domain.managedSaveGetXMLDesc(0))
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_OPERATION_INVALID:
            return None
        if error.get_error_code() == libvirt.VIR_ERR_NO_SUPPORT:
            return SavedImage() if _has_flag(domain) else None
        return _unreadable(error)


def _has_flag(domain: Any) -> bool:
    libvirt = api()
    try:
        return bool(domain.hasManagedSaveImage())
    except libvirt.libvirtError as error:
        if error.get_error_code() != libvirt.VIR_ERR_NO_SUPPORT:
            raise
        return False


def _image_without_domain(connection: Any, name: str) -> SavedImage | None:
    """Read the image of a domain that the host no longer knows."""
    libvirt = api()
    if connection.getType() != "QEMU":
        return None
    try:
        return _described(connection.saveImageGetXMLDesc(path(name), 0))
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_SYSTEM_ERROR and error.get_int1() in (
            errno.ENOENT,
            errno.ENOTDIR,
            errno.EACCES,  # libvirt of a user's session keeps them in another folder
        ):
            return None
        if error.get_error_code() == libvirt.VIR_ERR_NO_SUPPORT:
            return None
        return _unreadable(error)


def path(name: str) -> str:
    """Return the path of a saved image in libvirt's usual folder."""
    return f"{_DIRECTORY}/{name}.save"


def _unreadable(error: Any) -> SavedImage:
    """Return an unreadable image for libvirt's error. Raises the error if it has another reason.

    libvirt would delete some of these files at the next start, and boot the domain.
    """
    known = translated(error, "the host")
    if isinstance(known, LostError | NoDomainError) or known.code in _NOT_PERMITTED:
        raise error
    return SavedImage(problem=" ".join(str(error).split()))


def _described(xml: str) -> SavedImage:
    """Read the description that libvirt wrote into an image."""
    root = parse(xml)
    try:
        found, pins = read_vcpus(root), read_pins(root)
        return SavedImage(
            uuid=read_uuid(root),
            memory=read_memory(root),
            vcpus=len(found.online),
            maximum_vcpus=found.maximum,
            pinning={row: pins[vcpu] for row, vcpu in enumerate(found.online) if vcpu in pins},
            memory_nodes=read_memory_nodes(root),
        )
    except HypervisorError as error:
        return SavedImage(uuid=root.findtext("uuid"), problem=str(error))


def was_restored(connection: Any, name: str, run: int) -> bool | None:
    """Return whether a run that has just begun continues an image. None if it is not known."""
    libvirt = api()
    domain = find(connection, name)
    if domain is None or domain.ID() != run or connection.getType() != "QEMU":
        return None
    return domain.state() in (
        [libvirt.VIR_DOMAIN_RUNNING, libvirt.VIR_DOMAIN_RUNNING_RESTORED],
        [libvirt.VIR_DOMAIN_PAUSED, PAUSED_FOR_MIGRATION],
    )


def remove(connection: Any, name: str) -> bool:
    """Delete a domain's saved image. Returns False if there was none."""
    domain = find(connection, name)
    if domain is None or image(connection, name) is None:
        return False
    domain.managedSaveRemove(0)
    return True


def remove_old(connection: Any, name: str) -> bool:
    """Delete the saved image of an active domain. Returns False if there was none.

    The domain has run since it was saved, so its disks are newer than the image. Without this its
    next start would restore the image. Another domain's image and an unreadable one are kept.
    """
    domain, found = find(connection, name), image(connection, name)
    if domain is None or found is None or found.problem is not None:
        return False
    # Query the job after the image was read: a domain that is saved now has a job, or has ended.
    if not domain.isActive() or has_job(domain):
        return False
    domain.managedSaveRemove(0)
    return True


def save_again(connection: Any, name: str, uuid: str, run: int) -> None:
    """Save a restored domain again, with its present memory.

    `run` is libvirt's id of the restored run. A later run is not saved.
    """
    domain = find(connection, name)
    if domain is None or domain.UUIDString() != uuid:
        return
    if domain.isActive() and domain.ID() == run:
        domain.managedSave(api().VIR_DOMAIN_SAVE_RUNNING)
