"""Find out which QEMU runs a domain, or would run it on another host. The functions block."""

import json
import re
from typing import Any, Final
from xml.etree.ElementTree import Element

import msgspec

from fastlib.migfra.hypervisors.libvirt.connection.api import api
from fastlib.migfra.virt.program_versions import Version, version_of

from .xml import parse

_MACHINE: Final = re.compile(r"[a-z0-9-]+-(\d{1,3})\.(\d{1,3})")
"""A machine type with the version of QEMU that introduced it, such as pc-q35-7.2."""


class Emulator(msgspec.Struct, frozen=True, kw_only=True):
    """A domain's emulator, as its XML names it. Without a path it is the host's usual one."""

    path: str | None = None
    architecture: str | None = None
    machine: str | None = None
    virtualization: str | None = None
    """The type of the domain, such as kvm or qemu."""


def emulator_of(xml: str) -> Emulator:
    """Read the emulator of a domain from its XML."""
    return emulator_of_root(parse(xml))


def emulator_of_root(root: Element) -> Emulator:
    """Read the emulator of a domain from the root of its XML."""
    kind = root.find("os/type")
    return Emulator(
        path=root.findtext("devices/emulator"),
        architecture=None if kind is None else kind.get("arch"),
        machine=None if kind is None else kind.get("machine"),
        virtualization=root.get("type"),
    )


def machine_version(machine: str | None) -> Version | None:
    """Return the version in the name of a machine type. None if it has none.

    A QEMU that runs such a machine has at least this version.
    """
    found = _MACHINE.fullmatch(machine or "")
    return None if found is None else (int(found[1]), int(found[2]))


def installed_version(connection: Any, emulator: Emulator) -> Version | None:
    """Return the version of an emulator that is installed on a host. None if it is not known.

    libvirt reports the version of the host's usual emulator. For another emulator the name of its
    newest machine type has the version.
    """
    if emulator.path is not None:
        usual = _capabilities(connection, None, None, emulator)
        if usual.findtext("path") != emulator.path:
            own = _capabilities(connection, emulator.path, emulator.architecture, emulator)
            return machine_version(own.findtext("machine"))
    return version_of(connection.getVersion())


def _capabilities(
    connection: Any, path: str | None, architecture: str | None, emulator: Emulator
) -> Any:
    return parse(
        connection.getDomainCapabilities(path, architecture, None, emulator.virtualization, 0)
    )


def process_version(connection: Any, name: str) -> Version | None:
    """Return the version of the QEMU process that runs a domain. None if it does not report one.

    This queries QEMU's monitor, and libvirt then writes "tainted: custom-monitor" into its log.
    libvirt has no other way. So call this only where the answer decides.
    """
    import libvirt_qemu

    domain = connection.lookupByName(name)
    try:
        answer = libvirt_qemu.qemuMonitorCommand(domain, '{"execute": "query-version"}', 0)
    except api().libvirtError as error:
        if error.get_error_code() in (api().VIR_ERR_NO_SUPPORT, api().VIR_ERR_ACCESS_DENIED):
            return None
        raise
    version = json.loads(answer)["return"]["qemu"]
    return version["major"], version["minor"]
