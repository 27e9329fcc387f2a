"""Save and restore a domain. The functions block."""

from collections.abc import Callable
from typing import Any

from fastlib.migfra.hypervisors.libvirt.connection.api import api

from .state import read_xml


def definition(connection: Any, name: str) -> str | None:
    """Read the definition of a domain. Returns None for a transient one."""
    if not connection.lookupByName(name).isPersistent():
        return None
    return read_xml(connection, name)


def save(connection: Any, name: str, path: str) -> None:
    """Save a running domain into a file. The domain ends."""
    connection.lookupByName(name).saveFlags(path, None, 0)


def restore(
    connection: Any, name: str, path: str, paused: bool, change: Callable[[str], str] | None
) -> None:
    """Restore a domain from a file. Raises LibvirtError, for example if it is active already.

    `change` makes the domain's XML from that in the file. None leaves it as it is.
    """
    libvirt = api()
    flags = libvirt.VIR_DOMAIN_SAVE_PAUSED if paused else libvirt.VIR_DOMAIN_SAVE_RUNNING
    xml = None
    if change is not None:
        xml = change(str(connection.saveImageGetXMLDesc(path, libvirt.VIR_DOMAIN_XML_SECURE)))
    connection.restoreFlags(path, xml, flags)


def define(connection: Any, name: str, xml: str) -> None:
    """Define a domain again."""
    connection.defineXML(xml)
