"""A domain on storage: functions that block, for `Connection.call`."""

from typing import Any

from .api import api
from .domains import find


def save(connection: Any, name: str, path: str) -> str | None:
    """Save a running domain into a file, which ends it. Its definition, None if it has none."""
    libvirt = api()
    domain = connection.lookupByName(name)
    xml = None
    if domain.isPersistent():
        flags = libvirt.VIR_DOMAIN_XML_SECURE | libvirt.VIR_DOMAIN_XML_INACTIVE
        xml = str(domain.XMLDesc(flags))
    domain.saveFlags(path, None, 0)
    return xml


def restore(connection: Any, name: str, path: str, xml: str | None, paused: bool) -> None:
    """Let a domain go on from a file, defined as it was before. Does nothing if it is active."""
    libvirt = api()
    domain = find(connection, name)
    if domain is None or not domain.isActive():
        flags = libvirt.VIR_DOMAIN_SAVE_PAUSED if paused else libvirt.VIR_DOMAIN_SAVE_RUNNING
        connection.restoreFlags(path, None, flags)
    if xml is not None:
        connection.defineXML(xml)
