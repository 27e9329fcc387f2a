"""Find the images of a host that are not full yet, and whose room is promised. Blocks."""

from collections.abc import Sequence
from typing import Any

import msgspec

from fastlib.migfra.hypervisors.libvirt.connection.api import api

from .disks_xml import disks_of
from .image_sources import definitions
from .new_disks_xml import images_in
from .state import is_arriving


class PromisedImages(msgspec.Struct, frozen=True, kw_only=True):
    """The paths of images. Some may be full, or missing."""

    arriving: Sequence[str] = ()
    """Those of domains that are sent to the host, from any other host."""
    recorded: Sequence[str] = ()
    """Those that starts have created for the host's domains."""


def read_promised_images(connection: Any) -> PromisedImages:
    """Read the images of a host whose room is promised."""
    libvirt = api()
    arriving = []
    for domain in connection.listAllDomains(libvirt.VIR_CONNECT_LIST_DOMAINS_ACTIVE):
        try:
            if is_arriving(connection, domain):
                disks = disks_of(domain.XMLDesc(0))
                arriving += [disk.path for disk in disks if disk.kind == "file"]
        except libvirt.libvirtError as error:
            if error.get_error_code() != libvirt.VIR_ERR_NO_DOMAIN:
                raise
    recorded = [path for found in definitions(connection) for path in images_in(found.root)]
    return PromisedImages(
        arriving=tuple(dict.fromkeys(arriving)), recorded=tuple(dict.fromkeys(recorded))
    )
