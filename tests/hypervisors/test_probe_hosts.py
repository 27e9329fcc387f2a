"""The hosts that a start may probe on SSH."""

import pytest

from fastlib.migfra import HypervisorError
from fastlib.migfra.hypervisors.libvirt import LibvirtOptions
from fastlib.migfra.virt.probe_hosts import check_probe_host


@pytest.mark.parametrize(
    ("asked", "domain", "allowed"),
    [
        ("vm1", "vm1", ()),
        ("VM1.cluster.example", "vm1", ()),
        ("vm1-ib", "vm1", ()),
        ("gateway", "vm1", ["gateway."]),
        ("a.vm.example", "vm1", [".vm.example"]),
        ("10.1.2.3", "vm1", ["10.0.0.0/8"]),
        ("10.1.2.3", "vm1", ["10.1.2.3"]),
        ("[fd00::1]", "vm1", ["fd00::/16"]),
        ("localhost", "vm1", ["localhost"]),
    ],
)
def test_own_name_and_allowed_hosts_are_probed(asked, domain, allowed):
    assert check_probe_host(asked, domain, allowed) == asked.strip("[]")


@pytest.mark.parametrize(
    ("asked", "domain", "allowed"),
    [
        ("other", "vm1", ()),
        ("vm10", "vm1", ()),
        ("10.1.2.3", "vm1", ()),
        ("fd00::1", "vm1", ["10.0.0.0/8"]),
        ("11.1.2.3", "vm1", ["10.0.0.0/8"]),
        ("xvm.example", "vm1", [".vm.example"]),
        # A name that the task chooses for the domain must not make an address its own.
        ("10.1.2.3", "10.1.2.3", ()),
        ("10.1.2.3", "10", ()),
        ("127.1", "127.1", ()),
        ("2130706433", "2130706433", ()),
        ("0x7f000001", "0x7f000001", ()),
        ("x.0x7f", "x", ()),
        ("localhost", "localhost", ()),
        ("localhost.localdomain", "localhost", ()),
        ("::1", "::1", ()),
    ],
)
def test_other_hosts_are_refused(asked, domain, allowed):
    with pytest.raises(HypervisorError, match="add it to probe-hosts"):
        check_probe_host(asked, domain, allowed)


@pytest.mark.parametrize("text", ["10.0.0.0/33", "a b", "", "fe80::1%eth0"])
def test_configuration_refuses_invalid_hosts(text):
    with pytest.raises(ValueError, match="must be a host, a domain or a network"):
        LibvirtOptions(probe_hosts=[text])
