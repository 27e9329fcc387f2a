"""PCI devices and shared memory for fake hosts, and domains that have them."""

from fastlib.message import PciAddress
from fastlib.migfra.hypervisors.libvirt.domain.device_xml import attached_devices, pci_xml
from tests.support.libvirt.fake_domain import RUNNING, FakeDomain
from tests.support.libvirt.fake_libvirt import FakeDevice, FakeHost

KIND = (0x15B3, 0x1004)
FIRST, SECOND, THIRD = "0000:03:00.1", "0000:03:00.2", "0000:03:00.3"
HOSTDEV = """<hostdev mode='subsystem' type='pci' managed='yes'><driver name='vfio'/><source>
<address domain='0x0000' bus='0x03' slot='0x00' function='0x1'/></source><alias name='hostdev0'/>
<rom bar='off'/><address type='pci' domain='0x0000' bus='0x00' slot='0x06' function='0x0'/>
</hostdev>"""
INTERFACE = """<interface type='hostdev' managed='yes'><mac address='52:54:00:6d:90:02'/>
<driver name='vfio'/><source><address type='pci' domain='0x0000' bus='0x03' slot='0x00'
function='0x1'/></source><vlan><tag id='42'/></vlan><alias name='hostdev0'/>
<address type='pci' domain='0x0000' bus='0x00' slot='0x06' function='0x0'/></interface>"""
SHMEM = """<shmem name='shared'><model type='ivshmem-plain'/><size unit='M'>64</size>
<alias name='shmem0'/><address type='pci' domain='0x0000' bus='0x00' slot='0x07' function='0x0'/>
</shmem>"""


def host_with_devices(
    *addresses: str, name: str = "node01", kind: tuple[int, int] = KIND
) -> FakeHost:
    """A host with the domain vm1 and PCI devices of a kind, the last address first."""
    log: list[str] = []
    host = FakeHost(name, log.append)
    host.add(FakeDomain())
    host.node_devices = [FakeDevice(address, *kind) for address in reversed(addresses)]
    host.node_devices.append(FakeDevice("0000:00:1f.0", 0x8086, 0x2918))
    host.node_devices.append(FakeDevice("0000:00:00.0", None, None))
    return host


def attach_to_other_domain(host: FakeHost, name: str, address: str, state: int = RUNNING) -> None:
    """Another domain that has the device."""
    other = host.add(FakeDomain(name, state))
    other.devices.append(pci_xml(PciAddress.parse(address)))


def host_addresses(domain: FakeDomain) -> list[str | None]:
    """Where on the host the PCI devices of a domain are."""
    return [each.address for each in attached_devices(domain.XMLDesc()) if each.kind == "pci"]
