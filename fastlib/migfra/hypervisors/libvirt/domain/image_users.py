"""Find the domains and images of a host that need an image, before it is removed. Blocks.

A domain that is shut off may need an image that its definition does not name: as the backing file
of its disk, by a link, or as a volume of a pool.
"""

import os
import posixpath
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Final
from xml.etree.ElementTree import Element

from fastlib.migfra.errors import HypervisorError
from fastlib.migfra.hypervisors.libvirt.connection.api import api

from .image_chain import LONGEST_CHAIN
from .image_sources import definitions, normalized, path_of
from .pool_listing import overlays_in

OpenPool = Callable[[Any, str], AbstractContextManager[Any]]
"""Opens the pool of an image's folder, by the connection and the path of the image."""
_DEVICES: Final = "/dev/"


def check_inactive(connection: Any, path: str) -> None:
    """Raise HypervisorError if an active domain uses an image."""
    active = api().VIR_CONNECT_LIST_DOMAINS_ACTIVE
    for found in definitions(connection, active):
        sources = found.root.iter("source")
        if any(path_of(connection, source) == normalized(path) for source in sources):
            raise HypervisorError(f"{path} belongs to {found.name}")


def check_unused(connection: Any, path: str, open_pool: OpenPool, *, on_own_host: bool) -> None:
    """Raise HypervisorError if a domain or an image of the host needs an image, or may need it.

    Links are followed only if the connection is that of this process's own host.
    """
    search = _Search(connection, path, open_pool, on_own_host)
    search.run()


class _Search:
    """The search for the users of one image."""

    def __init__(self, connection: Any, path: str, open_pool: OpenPool, on_own_host: bool) -> None:
        self._connection = connection
        self._path = path
        self._open_pool = open_pool
        self._resolve: Callable[[str], str] = os.path.realpath if on_own_host else normalized
        self._backing: dict[str, dict[str, tuple[str, ...]]] = {}
        """The files that the backing file of each image may be, by its folder."""

    def run(self) -> None:
        self._check_folder(posixpath.dirname(self._path))
        for name, _, _, root in definitions(self._connection):
            for source in root.iter("source"):
                path = path_of(self._connection, source)
                if path is not None and self._is_wanted(path):
                    raise HypervisorError(f"{self._path} belongs to {name}")
            for disk in root.iterfind("devices/disk"):
                self._check_disk(name, disk)

    def _check_disk(self, name: str, disk: Element) -> None:
        driver, source = disk.find("driver"), disk.find("source")
        if source is None or driver is None or driver.get("type") != "qcow2":
            return  # the content of a raw disk names no other file
        path = path_of(self._connection, source)
        if path is not None:
            self._check_chain(name, path)

    def _check_chain(self, name: str, image: str) -> None:
        """Follow the backing files of a disk."""
        waiting, seen = [image], {image}
        while waiting and len(seen) <= LONGEST_CHAIN:
            current = waiting.pop()
            if current.startswith(_DEVICES):
                raise HypervisorError(
                    f"the backing file of {current} ({name}) cannot be read through libvirt, so "
                    f"{self._path} may belong to it"
                )
            folder = posixpath.dirname(current)
            self._check_folder(folder)
            further = set(self._backing[folder].get(current, ())) - seen
            seen |= further
            waiting += further

    def _check_folder(self, folder: str) -> None:
        """Check that no image in a folder has the image as its backing file."""
        if folder in self._backing:
            return
        found = self._backing[folder] = self._read_folder(folder)
        for image, backing in found.items():
            if any(map(self._is_wanted, backing)):
                raise HypervisorError(f"{self._path} is the backing file of {image}")

    def _read_folder(self, folder: str) -> dict[str, tuple[str, ...]]:
        libvirt = api()
        found: dict[str, tuple[str, ...]] = {}
        try:
            with self._open_pool(self._connection, posixpath.join(folder, "image")) as pool:
                for path, backing in overlays_in(pool, folder):
                    found[posixpath.join(folder, posixpath.basename(path))] = backing
        except libvirt.libvirtError as error:
            if error.get_error_code() != libvirt.VIR_ERR_SYSTEM_ERROR:
                raise
            # There is no such folder, or libvirt cannot read it. Then no domain can use its images.
        return found

    def _is_wanted(self, path: str) -> bool:
        return self._resolve(path) == self._resolve(self._path)


def link_target(path: str) -> str | None:
    """Return the file that a path of this host leads to if it is a link, else None."""
    return os.path.realpath(path) if os.path.islink(path) else None
