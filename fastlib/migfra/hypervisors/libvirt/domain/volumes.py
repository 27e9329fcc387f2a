"""Read, create and remove disk images through libvirt's storage pools. The functions block.

An image belongs to the pool of its folder. Most hosts have no pool for most folders. Then these
functions make a transient pool for the time of the call. libvirt allows one pool for a folder. So
a call waits while another daemon's transient pool is there, and removes one that a crash left.
"""

import errno
import posixpath
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final
from xml.etree.ElementTree import Element, SubElement

import msgspec

from fastlib.migfra.errors import HypervisorError
from fastlib.migfra.hypervisors.libvirt.connection.api import api

from .image_sources import normalized
from .image_users import check_inactive, check_unused, link_target
from .pool_listing import overlays_in
from .xml import parse, text

PREFIX: Final = "fastlib-copy-"
"""Prefix of the names of transient pools."""
_WAIT_SECONDS: Final = 5.0
"""Seconds after which another daemon's transient pool counts as left by a crash."""
_POLL_SECONDS: Final = 0.05
_IN_USE: Final = "has asynchronous jobs running"
_NAME_IS_TAKEN: Final = "already exists"
_NO_STORAGE: Final = (
    "install its storage driver, such as libvirt-daemon-driver-storage-core, and restart libvirtd"
)
MOST_EMPTY_BYTES: Final = 1 << 20
"""Bytes. A qcow2 image without data has less: its header and the first tables."""


class Image(msgspec.Struct, frozen=True, kw_only=True):
    """The properties of a disk's image that its copy must have, too."""

    path: str
    format: str
    capacity: int
    """The virtual size in bytes."""
    owner: int = 0
    group: int = 0
    mode: int = 0o600
    compat: str | None = None
    """Version of qcow2, such as 1.1."""
    features: tuple[str, ...] = ()
    """Features of qcow2, such as `lazy_refcounts`."""
    cluster_bytes: int | None = None
    backing: str | None = None
    """Path of its backing file."""
    backing_format: str | None = None
    is_encrypted: bool = False


class ImageExistsError(HypervisorError):
    """There is a file with the name of an image that was to be created."""

    def __init__(self, path: str) -> None:
        super().__init__(f"there is a file {path} already; remove it, or move it away")


class Room(msgspec.Struct, frozen=True, kw_only=True):
    """The room of the file system that has a folder."""

    total: int
    """Bytes of the whole file system."""
    free: int
    """Bytes."""
    rest: Mapping[str, int] = {}
    """The bytes that each of the given images may still take, by its path. It has those that are
    there."""


def read_image(connection: Any, path: str) -> Image:
    """Read an image on its host. Raises HypervisorError if there is none."""
    with _pool_of(connection, path) as pool:
        volume = _find(pool, path)
        if volume is None:
            raise HypervisorError(f"there is no file {path}")
        return image_of(volume.XMLDesc(0))


def image_of(xml: str) -> Image:
    """Return the image from libvirt's XML of a volume."""
    root = parse(xml)
    target = root.find("target")
    if target is None:
        raise HypervisorError(f"{root.findtext('key')} is not an image")
    format, features = target.find("format"), target.find("features")
    backing_format = root.find("backingStore/format")
    cluster = target.findtext("clusterSize")
    return Image(
        path=target.findtext("path", ""),
        format="raw" if format is None else str(format.get("type")),
        capacity=int(root.findtext("capacity", "0")),
        owner=int(target.findtext("permissions/owner", "0")),
        group=int(target.findtext("permissions/group", "0")),
        mode=int(target.findtext("permissions/mode", "0600"), 8),
        compat=target.findtext("compat"),
        features=() if features is None else tuple(feature.tag for feature in features),
        cluster_bytes=None if cluster is None else int(cluster),
        backing=root.findtext("backingStore/path"),
        backing_format=None if backing_format is None else backing_format.get("type"),
        is_encrypted=target.find("encryption") is not None,
    )


def read_room(connection: Any, folder: str, paths: Sequence[str] = ()) -> Room:
    """Read the room of a folder, and what images in it may still take.

    Raises HypervisorError if libvirt cannot use the folder, also if a file system that a pool would
    mount there is missing: the pool would later hide the images.
    """
    with _pool_of(connection, posixpath.join(folder, "image")) as pool:
        if pool.name().startswith(PREFIX):
            _check_no_inactive_pool(connection, folder)
        _, total, _, free = pool.info()
        rest = {}
        for path in paths:
            volume = _find(pool, path)
            if volume is not None:
                _, capacity, allocation = volume.info()
                rest[path] = max(0, capacity - allocation)
        return Room(total=int(total), free=int(free), rest=rest)


def create_image(connection: Any, image: Image) -> None:
    """Create an image without data. It takes no room for the data that it may get.

    Raises ImageExistsError if a file of that name exists, and HypervisorError if the image is not
    as it must be. Then it is removed.
    """
    with _pool_of(connection, image.path) as pool:
        if _find(pool, image.path) is not None:
            raise ImageExistsError(image.path)
        try:
            if image.format != "raw":
                _check_free(pool, image)
            volume = pool.createXML(volume_xml(image), 0)
        except api().libvirtError as error:
            if _says_exists(error):
                raise ImageExistsError(image.path) from error
            raise
        made = image_of(volume.XMLDesc(0))
        wanted = (image.owner, image.group, image.mode, image.format, image.capacity)
        if (made.owner, made.group, made.mode, made.format, made.capacity) != wanted:
            volume.delete(0)
            raise HypervisorError(
                f"libvirt created {image.path} with owner {made.owner}:{made.group}, mode "
                f"{made.mode:o}, format {made.format} and {made.capacity} bytes, and not with "
                f"{image.owner}:{image.group}, {image.mode:o}, {image.format} and {image.capacity}"
            )
        if (made.backing, made.backing_format) != (image.backing, image.backing_format):
            volume.delete(0)
            raise HypervisorError(
                f"libvirt created {image.path} on top of {made.backing} ({made.backing_format}), "
                f"and not of {image.backing} ({image.backing_format})"
            )


def _check_free(pool: Any, image: Image) -> None:
    """Raise libvirtError if the name of an image is taken, also by a link to a missing file.

    libvirt creates a raw image only under a free name. For the others it calls `qemu-img`, which
    writes through a link.
    """
    raw = Image(path=image.path, format="raw", capacity=image.capacity)
    pool.createXML(volume_xml(raw), 0).delete(0)


def _says_exists(error: Any) -> bool:
    """Return whether libvirt has created no image because a file has its name, also a link."""
    libvirt = api()
    code, number = error.get_error_code(), error.get_int1()
    if code == libvirt.VIR_ERR_SYSTEM_ERROR:
        return bool(number == errno.EEXIST)
    if code == libvirt.VIR_ERR_OPERATION_INVALID:
        return _NAME_IS_TAKEN in str(error)  # by a socket, for example
    return bool(code == libvirt.VIR_ERR_STORAGE_VOL_EXIST)


def volume_xml(image: Image) -> str:
    """Return the XML from which libvirt creates an image."""
    root = Element("volume")
    SubElement(root, "name").text = posixpath.basename(image.path)
    SubElement(root, "capacity", unit="bytes").text = str(image.capacity)
    # Without this element libvirt allocates the whole capacity.
    SubElement(root, "allocation", unit="bytes").text = "0"
    target = SubElement(root, "target")
    SubElement(target, "format", type=image.format)
    permissions = SubElement(target, "permissions")
    SubElement(permissions, "owner").text = str(image.owner)
    SubElement(permissions, "group").text = str(image.group)
    SubElement(permissions, "mode").text = f"0{image.mode:o}"
    if image.format == "qcow2":
        SubElement(target, "compat").text = image.compat or "1.1"
        if image.cluster_bytes is not None:
            SubElement(target, "clusterSize", unit="B").text = str(image.cluster_bytes)
        features = SubElement(target, "features")
        for feature in image.features:
            SubElement(features, feature)
    if image.backing is not None:
        backing = SubElement(root, "backingStore")
        SubElement(backing, "path").text = image.backing
        SubElement(backing, "format", type=image.backing_format or "raw")
    return text(root)


def remove_image(connection: Any, path: str) -> bool:
    """Remove an image. Returns whether there was one.

    Raises HypervisorError if an active domain uses it.
    """
    with _pool_of(connection, path) as pool:
        volume = _find(pool, path)
        if volume is None:
            return False
        check_inactive(connection, path)
        volume.delete(0)
        return True


def remove_unneeded_image(connection: Any, path: str, *, on_own_host: bool) -> bool:
    """Remove an image that the host may need for something else. Returns whether there was one.

    Raises HypervisorError if any domain or image of the host needs it, or if it is a link.
    """
    if on_own_host and (target := link_target(path)) is not None:
        raise HypervisorError(f"{path} is a link to {target}; remove both if nothing needs them")
    check_unused(connection, path, _pool_of, on_own_host=on_own_host)
    return remove_image(connection, path)


def remove_left_image(connection: Any, image: Image) -> bool:
    """Remove an image that was created long ago, by its description. Returns whether there was one.

    Raises HypervisorError if it is another image by now, or if any domain or image of the host
    needs it.
    """
    with _pool_of(connection, image.path) as pool:
        volume = _find(pool, image.path)
        if volume is None:
            return False
        found = image_of(volume.XMLDesc(0))
    if found.capacity != image.capacity or image.format not in ("raw", found.format):
        raise HypervisorError("it is another image by now")
    return remove_unneeded_image(connection, image.path, on_own_host=False)


def remove_image_without_data(connection: Any, image: Image) -> bool:
    """Remove an image if it is as `create_image` makes it, and has no data yet.

    Returns whether there is none now. Raises HypervisorError like `remove_image`.
    """
    with _pool_of(connection, image.path) as pool:
        volume = _find(pool, image.path)
        if volume is None:
            return True
        if not _is_without_data(volume, image):
            return False
        check_inactive(connection, image.path)
        volume.delete(0)
        return True


def has_data(connection: Any, image: Image) -> bool:
    """Return whether there is an image that has data, or another one than `create_image` makes."""
    with _pool_of(connection, image.path) as pool:
        volume = _find(pool, image.path)
        return volume is not None and not _is_without_data(volume, image)


def _is_without_data(volume: Any, image: Image) -> bool:
    _, capacity, allocation = volume.info()
    if capacity != image.capacity or allocation > MOST_EMPTY_BYTES:
        return False
    found = image_of(volume.XMLDesc(0))
    if found.format == "raw" and allocation == 0:
        return True  # `_check_free` made it
    # A disk without data may be anything to libvirt if it is raw.
    return image.format == "raw" or (found.format, found.backing) == (image.format, image.backing)


def overlays_of(connection: Any, path: str) -> list[str]:
    """Return the images in the folder of an image that have it as their backing file.

    Raises HypervisorError if the folder has a file for which that cannot be found out.
    """
    with _pool_of(connection, path) as pool:
        overlays = overlays_in(pool, posixpath.dirname(path))
        return [overlay for overlay, backing in overlays if normalized(path) in backing]


def _find(pool: Any, path: str) -> Any:
    """Return the volume of an image, None if there is none."""
    libvirt = api()
    try:
        return pool.storageVolLookupByName(posixpath.basename(path))
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_NO_STORAGE_VOL:
            return None
        raise


@contextmanager
def _pool_of(connection: Any, path: str) -> Iterator[Any]:
    """Yield the pool of an image's folder, with what is in the folder now."""
    folder = posixpath.dirname(path)
    pool, is_own = _open_pool(connection, folder)
    try:
        yield pool
    finally:
        if is_own:
            _close_pool(pool)


def _open_pool(connection: Any, folder: str) -> tuple[Any, bool]:
    """Return the pool of a folder, and whether it was made for this call.

    Raises HypervisorError if libvirt can have none, and libvirtError.
    """
    libvirt = api()
    began = time.monotonic()
    seen, since = "", began
    while True:
        try:
            pool = connection.storagePoolLookupByTargetPath(folder)
            name = pool.name()
            if not name.startswith(PREFIX):
                _refresh(pool, time.monotonic() + _WAIT_SECONDS)
                return pool, False
            if name != seen:
                # Daemons take turns. Each has a pool of its own.
                seen, since = name, time.monotonic()
            elif time.monotonic() >= since + _WAIT_SECONDS:
                _close_pool(pool)
        except libvirt.libvirtError as error:
            code = error.get_error_code()
            if code == libvirt.VIR_ERR_NO_SUPPORT:
                raise HypervisorError(
                    f"libvirt has no storage pools there; {_NO_STORAGE}"
                ) from None
            if code != libvirt.VIR_ERR_NO_STORAGE_POOL:
                raise
            try:
                return connection.storagePoolCreateXML(_pool_xml(folder), 0), True
            except libvirt.libvirtError as refused:
                # Unless the folder is unusable, another daemon has made one at the same time.
                refusal = refused.get_error_code()
                if refusal == libvirt.VIR_ERR_SYSTEM_ERROR:
                    raise
                if refusal == libvirt.VIR_ERR_OPERATION_FAILED:
                    _check_no_inactive_pool(connection, folder)
                if time.monotonic() >= max(began, since) + _WAIT_SECONDS:
                    raise
        time.sleep(_POLL_SECONDS)


def _check_no_inactive_pool(connection: Any, folder: str) -> None:
    """Raise HypervisorError if a folder has a pool that is not active.

    libvirt allows no other pool for the folder, unless the inactive one would mount a file system.
    """
    libvirt = api()
    for pool in connection.listAllStoragePools(libvirt.VIR_CONNECT_LIST_STORAGE_POOLS_INACTIVE):
        try:
            path = parse(pool.XMLDesc(0)).findtext("target/path") or ""
        except libvirt.libvirtError as error:
            if error.get_error_code() == libvirt.VIR_ERR_NO_STORAGE_POOL:
                continue  # it was removed meanwhile
            raise
        if posixpath.normpath(path) == posixpath.normpath(folder):
            name = pool.name()
            raise HypervisorError(
                f"the storage pool {name} of {folder} is not active; start it there with virsh "
                f"pool-start {name}, or remove it with virsh pool-undefine {name}"
            )


def _refresh(pool: Any, deadline: float) -> None:
    """Let libvirt see the changes that other programs have made in a pool's folder.

    libvirt refuses that while it creates another image in the pool.
    """
    libvirt = api()
    while True:
        try:
            pool.refresh(0)
        except libvirt.libvirtError as error:
            if _IN_USE not in str(error) or time.monotonic() >= deadline:
                raise
            time.sleep(_POLL_SECONDS)
        else:
            return


def _close_pool(pool: Any) -> None:
    """Remove a transient pool, unless another daemon has removed it. Its images stay."""
    libvirt = api()
    try:
        pool.destroy()
    except libvirt.libvirtError as error:
        if error.get_error_code() != libvirt.VIR_ERR_NO_STORAGE_POOL:
            raise


def _pool_xml(folder: str) -> str:
    root = Element("pool", type="dir")
    SubElement(root, "name").text = f"{PREFIX}{uuid.uuid4()}"
    SubElement(SubElement(root, "target"), "path").text = folder
    return text(root)
