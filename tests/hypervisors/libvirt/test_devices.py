"""PCI devices of the host and shared memory: given to a domain, taken away, and given back.

The hosts are fakes (see fake_libvirt.py), as no machine of the tests has a device to pass through.
"""

import xml.etree.ElementTree as ElementTree

import pytest

from fastlib.message import PciAddress, PciId
from fastlib.migfra import HypervisorError
from fastlib.migfra.hypervisors.libvirt.connection.api import api
from fastlib.migfra.hypervisors.libvirt.domain import devices
from tests.support.libvirt.fake_domain import SHUT_OFF, FakeDomain, refusal
from tests.support.libvirt.pci_devices import (
    FIRST,
    HOSTDEV,
    INTERFACE,
    KIND,
    SECOND,
    SHMEM,
    THIRD,
    attach_to_other_domain,
    host_addresses,
    host_with_devices,
)

CARD = PciId(vendor=0x15B3, device=0x1004)


class Clock:
    """A clock in place of `time` in `devices`."""

    def __init__(self):
        self.now = 0.0

    def monotonic(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds


@pytest.fixture(autouse=True)
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(devices, "time", clock)
    return clock


def only(found):
    (one,) = found
    return one


# Attach


def test_attach_takes_first_free_device_of_the_kind():
    host = host_with_devices(FIRST, SECOND, THIRD)
    attach_to_other_domain(host, "vm2", FIRST)
    assert str(devices.attach_kind(host, "vm1", CARD)) == SECOND
    assert str(devices.attach_kind(host, "vm1", CARD)) == THIRD
    assert host_addresses(host.domains["vm1"]) == [SECOND, THIRD]


def test_inactive_domain_occupies_no_device():
    host = host_with_devices(FIRST)
    attach_to_other_domain(host, "vm2", FIRST, SHUT_OFF)
    assert str(devices.attach_kind(host, "vm1", CARD)) == FIRST


def test_interface_occupies_its_pci_device():
    host = host_with_devices(FIRST)
    host.add(FakeDomain("vm2")).devices.append(INTERFACE)
    with pytest.raises(HypervisorError, match="they are in use by vm2"):
        devices.attach_kind(host, "vm1", CARD)


def test_attach_names_users_when_no_device_is_free():
    host = host_with_devices(FIRST, SECOND)
    attach_to_other_domain(host, "vm3", FIRST)
    attach_to_other_domain(host, "vm2", SECOND)
    with pytest.raises(HypervisorError) as caught:
        devices.attach_kind(host, "vm1", CARD)
    assert str(caught.value) == (
        "node01 has no free PCI device 0x15b3:0x1004: they are in use by vm2, vm3"
    )


@pytest.mark.parametrize("kind", [(0x15B3, 0x1003), (0x15B4, 0x1004)])
def test_attach_fails_when_host_has_no_device_of_the_kind(kind):
    host = host_with_devices(FIRST, kind=kind)
    with pytest.raises(HypervisorError, match="PCI device 0x15b3:0x1004: it has none at all"):
        devices.attach_kind(host, "vm1", CARD)


def test_attach_fails_when_libvirt_has_no_device_driver():
    host = host_with_devices(FIRST)
    host.knows_devices = False
    with pytest.raises(
        HypervisorError, match=r"node01 cannot list PCI devices.* libvirt-daemon-driver-node"
    ):
        devices.attach_kind(host, "vm1", CARD)


def test_attach_skips_device_that_libvirt_refuses(monkeypatch):
    """Another domain takes it between the query and the call."""
    host = host_with_devices(FIRST, SECOND)
    monkeypatch.setattr(devices, "_taken", lambda connection: {})
    attach_to_other_domain(host, "vm2", FIRST)
    assert str(devices.attach_kind(host, "vm1", CARD)) == SECOND
    with pytest.raises(HypervisorError) as caught:
        devices.attach_kind(host, "vm1", CARD)
    text = str(caught.value)
    assert text.startswith("no PCI device 0x15b3:0x1004 can be attached to vm1: 0000:03:00.1: ")
    assert "domain vm2; 0000:03:00.2: " in text


def test_attach_by_address_attaches_that_device():
    host = host_with_devices(FIRST)
    devices.attach_address(host, "vm1", PciAddress.parse(FIRST))
    assert host_addresses(host.domains["vm1"]) == [FIRST]
    assert 'managed="yes"' in only(host.domains["vm1"].given)


def test_attach_by_address_names_the_user():
    host = host_with_devices(FIRST)
    attach_to_other_domain(host, "vm2", FIRST)
    with pytest.raises(HypervisorError) as caught:
        devices.attach_address(host, "vm1", PciAddress.parse(FIRST))
    assert str(caught.value) == ("the PCI device 0000:03:00.1 is in use by vm2; choose another")
    assert not host.domains["vm1"].given


def test_attach_by_address_raises_error_of_libvirt():
    host = host_with_devices(FIRST)
    host.domains["vm1"].refuses["attach"] = refusal("INTERNAL_ERROR", "no such device")
    with pytest.raises(api().libvirtError, match="no such device"):
        devices.attach_address(host, "vm1", PciAddress.parse(FIRST))


def test_domain_that_disappears_occupies_no_device():
    host = host_with_devices(FIRST)
    other = host.add(FakeDomain("vm2"))

    def gone(flags=0):
        raise refusal("NO_DOMAIN", "Domain not found")

    other.XMLDesc = gone
    devices.attach_address(host, "vm1", PciAddress.parse(FIRST))

    def broken(flags=0):
        raise refusal("INTERNAL_ERROR", "broken")

    other.XMLDesc = broken
    with pytest.raises(api().libvirtError, match="broken"):
        devices.attach_address(host, "vm1", PciAddress.parse(SECOND))


# Look and detach


def test_attached_returns_devices_with_their_kinds():
    host = host_with_devices(FIRST)
    host.domains["vm1"].devices += ["<disk/>", INTERFACE, SHMEM, "<hostdev type='usb'/>"]
    card, shared = devices.attached(host, "vm1")
    assert (card.kind, card.address, card.vendor, card.device) == ("pci", FIRST, *KIND)
    assert (shared.kind, shared.address, shared.vendor) == ("ivshmem", None, None)
    devices.check_movable("vm1", [card, shared])


def test_device_of_unknown_kind_cannot_migrate():
    host = host_with_devices()
    host.domains["vm1"].devices += [HOSTDEV, SHMEM]
    for knows in (True, False):
        host.knows_devices = knows
        found = devices.attached(host, "vm1")
        with pytest.raises(HypervisorError) as caught:
            devices.check_movable("vm1", found)
        assert f"the kind of the PCI device {FIRST} of vm1" in str(caught.value)
        assert "or detach the device first" in str(caught.value)


def test_attached_raises_other_errors_of_libvirt(monkeypatch):
    host = host_with_devices(FIRST)
    host.domains["vm1"].devices += [HOSTDEV]

    def broken(flags):
        raise refusal("INTERNAL_ERROR", "udev is broken")

    monkeypatch.setattr(host, "listAllDevices", broken)
    with pytest.raises(api().libvirtError, match="udev is broken"):
        devices.attached(host, "vm1")


@pytest.mark.parametrize("looks", [0, 1, 7])
def test_detach_waits_for_the_guest(clock, looks):
    host = host_with_devices(FIRST)
    domain = host.domains["vm1"]
    domain.devices += [HOSTDEV, SHMEM]
    domain.looks_to_let_go = looks
    devices.detach(host, "vm1", HOSTDEV)
    assert domain.devices == [SHMEM]
    assert clock.now == pytest.approx(looks * 0.1)


def test_detach_fails_when_guest_keeps_the_device(clock, monkeypatch):
    monkeypatch.setattr(devices, "_DETACH_SECONDS", 3.0)
    host = host_with_devices(FIRST)
    domain = host.domains["vm1"]
    domain.devices.append(HOSTDEV)
    domain.looks_to_let_go = None
    with pytest.raises(HypervisorError) as caught:
        devices.detach(host, "vm1", HOSTDEV)
    assert str(caught.value) == (
        "vm1 has not released a device within 3 s; its operating system must support hot "
        "unplugging and have booted"
    )
    assert 3.0 <= clock.now < 3.2
    assert host_addresses(domain) == [FIRST]


# Reattach


def detached(host, xml, name="vm1"):
    """Detach a device from a domain, like a migration."""
    host.domains[name].devices.append(xml)
    device = devices.attached(host, name)[-1]
    devices.detach(host, name, device.xml)
    return device


def test_reattach_on_source_prefers_the_same_device():
    host = host_with_devices("0000:02:00.0", FIRST)
    device = detached(host, HOSTDEV)
    devices.reattach(host, "vm1", device, True)
    assert host_addresses(host.domains["vm1"]) == [FIRST]


def test_reattach_on_source_takes_another_device_when_the_first_is_taken():
    host = host_with_devices(FIRST, SECOND)
    device = detached(host, HOSTDEV)
    attach_to_other_domain(host, "vm2", FIRST)
    devices.reattach(host, "vm1", device, True)
    assert host_addresses(host.domains["vm1"]) == [SECOND]


@pytest.mark.parametrize("xml", [HOSTDEV, SHMEM])
def test_reattach_on_source_skips_device_that_was_never_detached(xml):
    host = host_with_devices(FIRST, SECOND)
    domain = host.domains["vm1"]
    domain.devices.append(xml)
    device = only(devices.attached(host, "vm1"))
    devices.reattach(host, "vm1", device, True)
    assert not domain.given
    assert domain.devices == [xml]


def test_reattach_on_destination_ignores_equal_addresses():
    """The device with the same address on the destination is another device."""
    home, there = host_with_devices(FIRST), host_with_devices(FIRST, SECOND, name="node02")
    device = detached(home, HOSTDEV)
    there.domains["vm1"].devices.append(HOSTDEV)
    devices.reattach(there, "vm1", device, False)
    assert host_addresses(there.domains["vm1"]) == [FIRST, SECOND]


def given(xml, address):
    """Return the device that a domain on another host gets."""
    home, there = host_with_devices(FIRST), host_with_devices(address, name="node02")
    devices.reattach(there, "vm1", detached(home, xml), False)
    element = ElementTree.fromstring(only(there.domains["vm1"].given))
    assert element.find("alias") is None
    assert element.find("address") is None
    source = element.find("source/address")
    assert [source.get(key) for key in ("domain", "bus", "slot", "function")] == [
        "0x0001", "0x82", "0x1c", "0x7",
    ]  # fmt: skip
    return element


def test_reattach_keeps_driver_and_rom():
    element = given(HOSTDEV, "0001:82:1c.7")
    assert (element.tag, element.get("managed")) == ("hostdev", "yes")
    assert element.find("driver").get("name") == "vfio"
    assert element.find("rom").get("bar") == "off"


def test_reattach_keeps_mac_driver_and_vlan_of_an_interface():
    element = given(INTERFACE, "0001:82:1c.7")
    assert (element.tag, element.get("type")) == ("interface", "hostdev")
    assert element.find("mac").get("address") == "52:54:00:6d:90:02"
    assert element.find("driver").get("name") == "vfio"
    assert element.find("vlan/tag").get("id") == "42"
    assert element.find("source/address").get("type") == "pci"


@pytest.mark.parametrize("at_home", [True, False])
def test_reattach_gives_two_devices_of_one_kind(at_home):
    host = host_with_devices(FIRST, SECOND)
    both = [detached(host, HOSTDEV), detached(host, HOSTDEV.replace("'0x1'", "'0x2'"))]
    where = host if at_home else host_with_devices(SECOND, THIRD, name="node02")
    for device in both:
        devices.reattach(where, "vm1", device, at_home)
    domain = where.domains["vm1"]
    assert host_addresses(domain) == ([FIRST, SECOND] if at_home else [SECOND, THIRD])


def test_reattach_fails_for_second_device_when_host_has_one():
    home, there = host_with_devices(FIRST, SECOND), host_with_devices(THIRD, name="node02")
    both = [detached(home, HOSTDEV), detached(home, HOSTDEV.replace("'0x1'", "'0x2'"))]
    devices.reattach(there, "vm1", both[0], False)
    with pytest.raises(HypervisorError, match=r"node02 has no free PCI .*: they are in use by vm1"):
        devices.reattach(there, "vm1", both[1], False)


def test_reattach_spares_addresses_of_other_detached_devices():
    """Otherwise the second one would count as never detached."""
    host = host_with_devices(FIRST, SECOND)
    one, other = detached(host, HOSTDEV), detached(host, HOSTDEV.replace("'0x1'", "'0x2'"))
    attach_to_other_domain(host, "vm2", FIRST)
    with pytest.raises(HypervisorError, match=r"node01 has no free PCI .*: they are in use by vm2"):
        devices.reattach(host, "vm1", one, True, [other.address])
    devices.reattach(host, "vm1", other, True, [one.address])
    assert host_addresses(host.domains["vm1"]) == [SECOND]


@pytest.mark.parametrize("at_home", [True, False])
def test_reattach_removes_guest_address_of_shared_memory(at_home):
    home = host_with_devices()
    device = detached(home, SHMEM)
    where = home if at_home else host_with_devices(name="node02")
    devices.reattach(where, "vm1", device, at_home)
    element = ElementTree.fromstring(only(where.domains["vm1"].given))
    assert (element.get("name"), element.find("size").text) == ("shared", "64")
    assert element.find("model").get("type") == "ivshmem-plain"
    assert element.find("alias") is None
    assert element.find("address") is None


# Before anything is attached


def test_start_needs_a_free_device_for_each_that_it_asks_for():
    host = host_with_devices(FIRST, SECOND, THIRD)
    kind = PciId(vendor=KIND[0], device=KIND[1])
    first, second = PciAddress.parse(FIRST), PciAddress.parse(SECOND)
    empty = "<domain><devices/></domain>"
    devices.check_available(host, empty, [first], [kind, kind])
    for addresses, kinds, why in (
        ([first, first], [], f"the PCI device {FIRST} is requested twice"),
        ([first, second], [kind, kind], "all of its 3 are requested already"),
        ([PciAddress.parse("0000:04:00.0")], [], "node01 has no PCI device 0000:04:00.0"),
    ):
        with pytest.raises(HypervisorError, match=why):
            devices.check_available(host, empty, addresses, kinds)
    own = f"<domain><devices>{HOSTDEV}</devices></domain>"
    with pytest.raises(HypervisorError, match=f"the domain's XML has the PCI device {FIRST}"):
        devices.check_available(host, own, [first], [])
    attach_to_other_domain(host, "vm2", SECOND)
    with pytest.raises(HypervisorError, match=f"{SECOND} is in use by vm2; choose another"):
        devices.check_available(host, empty, [second], [])
    devices.check_available(host, empty, [], [kind, kind])
    with pytest.raises(HypervisorError, match="has no free PCI device 0x15b3:0x1004"):
        devices.check_available(host, empty, [], [kind] * 3)


def test_start_attaches_only_kinds_that_the_configuration_allows():
    host = host_with_devices(FIRST)
    kind, other = PciId(vendor=KIND[0], device=KIND[1]), PciId(vendor=1, device=2)
    first, empty = PciAddress.parse(FIRST), "<domain><devices/></domain>"
    for addresses, kinds in (([first], []), ([], [kind])):
        devices.check_available(host, empty, addresses, kinds, [other, kind])
        for allowed in ([], [other]):
            with pytest.raises(HypervisorError, match="let the operator add its kind to pci-ids"):
                devices.check_available(host, empty, addresses, kinds, allowed)


def test_devices_of_a_domain_that_leaves_count_as_free():
    host = host_with_devices(FIRST)
    attach_to_other_domain(host, "vm2", FIRST)
    kinds = [PciId(vendor=KIND[0], device=KIND[1])]
    devices.check_replacements(host, kinds, "vm2")
    with pytest.raises(HypervisorError, match="they are in use by vm2"):
        devices.check_replacements(host, kinds, None)


@pytest.mark.parametrize(
    "attributes", ["bus='x'", "bus='0x100'", "slot='0x20'", "function='8'", "domain='-1'", "bus=''"]
)
def test_malformed_address_in_xml_names_the_attribute(attributes):
    xml = (
        "<domain><devices><hostdev type='pci'><source><address "
        f"{attributes}/></source></hostdev></devices></domain>"
    )
    with pytest.raises(HypervisorError, match=f"as <address {attributes.partition('=')[0]}>"):
        devices.attached_devices(xml)
