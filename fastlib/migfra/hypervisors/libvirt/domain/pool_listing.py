"""List the images of a storage pool that have backing files. The functions block."""

from collections.abc import Iterator
from typing import Any

from fastlib.migfra.errors import HypervisorError
from fastlib.migfra.hypervisors.libvirt.connection.api import api

from .backing_names import possible_files
from .image_sources import normalized
from .xml import parse


def overlays_in(pool: Any, folder: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield the path of each image that has a backing file, and the files that this may be.

    Raises HypervisorError if that cannot be found out for an image.
    """
    libvirt = api()
    for volume in pool.listAllVolumes():
        try:
            root = parse(volume.XMLDesc(0))
            name, path = root.findtext("backingStore/path"), str(volume.path())
        except UnicodeDecodeError:
            raise HypervisorError(
                f"{folder} has a file whose name is not in UTF-8, so the images that need others "
                "cannot be listed; rename or move that file"
            ) from None
        except libvirt.libvirtError as error:
            if error.get_error_code() == libvirt.VIR_ERR_NO_STORAGE_VOL:
                continue  # it was removed meanwhile
            raise
        if name:
            yield path, tuple(map(normalized, possible_files(name, path)))
