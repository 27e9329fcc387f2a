"""The definitions of a host's domains, and the paths of the images in them. The functions block."""

import posixpath
from collections.abc import Iterator
from typing import Any, NamedTuple
from xml.etree.ElementTree import Element

from fastlib.migfra.hypervisors.libvirt.connection.api import api

from .file_probe import is_probe
from .xml import parse


class Definition(NamedTuple):
    """One definition of a domain: the present one, or that of its next start."""

    name: str
    uuid: str
    is_active: bool
    """Whether the domain is active, whichever definition this is."""
    root: Element


def definitions(connection: Any, which: int = 0) -> Iterator[Definition]:
    """Yield the present definition of each domain, and that of its next start if it may differ.

    `which` has flags of `virConnectListAllDomains`. A domain that ends meanwhile is left out.
    """
    libvirt = api()
    for domain in connection.listAllDomains(which):
        name = domain.name()
        if is_probe(name):
            continue
        try:
            is_active = bool(domain.isActive())
            texts = [domain.XMLDesc(0)]
            if is_active and domain.isPersistent():
                texts.append(domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE))
        except libvirt.libvirtError as error:
            if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
                continue
            raise
        for text in texts:
            yield Definition(name, domain.UUIDString(), is_active, parse(text))


def path_of(connection: Any, source: Element) -> str | None:
    """Return the path of a source, also of a volume; None if it is in the network or unknown.

    It is normalized. A volume counts even if its pool is inactive: the file may be there.
    """
    pool, volume = source.get("pool"), source.get("volume")
    if pool is None or volume is None:
        path = source.get("file") or source.get("dev")
        return None if path is None else normalized(path)
    libvirt = api()
    try:
        xml = connection.storagePoolLookupByName(pool).XMLDesc(0)
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_NO_STORAGE_POOL:
            return None
        raise
    folder = parse(xml).findtext("target/path")
    return None if folder is None else normalized(posixpath.join(folder, volume))


def normalized(path: str) -> str:
    """Return a path without `//`, `.` and `..`. libvirt keeps these in a definition."""
    return f"/{posixpath.normpath(path).lstrip('/')}" if path.startswith("/") else path
