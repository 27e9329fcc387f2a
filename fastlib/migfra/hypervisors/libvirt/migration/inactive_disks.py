"""Check that the QEMU of a paused domain survives a migration of the domain.

A domain that arrives paused has inactive disks until it runs: the host that it came from may still
use them. At the end of a migration or a save QEMU makes the disks inactive. QEMU before 10.0 aborts
if they are inactive already. The domain is then lost on both hosts (seen with QEMU 7.2).
"""

from typing import Any, Final
from xml.etree.ElementTree import Element

import msgspec

from fastlib.migfra.errors import HypervisorError
from fastlib.migfra.hypervisors.libvirt.connection.api import api
from fastlib.migfra.hypervisors.libvirt.connection.connection import Connection
from fastlib.migfra.hypervisors.libvirt.domain.emulator import process_version
from fastlib.migfra.hypervisors.libvirt.domain.state import MOST_UNUSED_NS, vcpu_ns
from fastlib.migfra.hypervisors.libvirt.domain.xml import parse
from fastlib.migfra.virt.program_versions import Version, version_text

SURVIVES_SINCE: Final[Version] = (10, 0)
"""The first QEMU that accepts disks that are inactive already."""


class PausedDomain(msgspec.Struct, frozen=True):
    """The facts that decide whether the disks of a domain may be inactive."""

    is_paused: bool
    has_disks: bool
    vcpu_ns: int
    """The time that its busiest vCPU has used in this process, in nanoseconds."""

    @property
    def may_be_inactive(self) -> bool:
        """Whether it may have arrived paused, and has not run since."""
        return self.is_paused and self.has_disks and self.vcpu_ns <= MOST_UNUSED_NS


async def check_inactive_disks(source: Connection, name: str) -> None:
    """Raise HypervisorError if the QEMU of a domain would abort at its migration.

    The domain must be active, and its hypervisor QEMU.
    """
    if not (await source.call(_read, name)).may_be_inactive:
        return
    version = await source.call(process_version, name)
    if version is not None and version >= SURVIVES_SINCE:
        return
    its = "its QEMU" if version is None else f"its QEMU {version_text(version)}"
    raise HypervisorError(
        f"{name} is paused on {source.host} and has not run there since it arrived, and {its} may "
        f"not survive its migration; resume {name} first, or use QEMU "
        f"{version_text(SURVIVES_SINCE)} or newer"
    )


def _read(connection: Any, name: str) -> PausedDomain:
    domain = connection.lookupByName(name)
    if domain.state()[0] != api().VIR_DOMAIN_PAUSED:
        return PausedDomain(is_paused=False, has_disks=False, vcpu_ns=0)
    return PausedDomain(
        is_paused=True,
        has_disks=has_disks(parse(str(domain.XMLDesc(0)))),
        vcpu_ns=vcpu_ns(domain),
    )


def has_disks(root: Element) -> bool:
    """Return whether QEMU has opened a file for a domain: a disk with a medium, or UEFI's flash."""
    loader = root.find("os/loader")
    is_flash = loader is not None and loader.get("type") == "pflash"
    return is_flash or root.find("devices/disk/source") is not None
