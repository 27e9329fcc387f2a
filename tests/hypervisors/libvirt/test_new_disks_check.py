"""The size of a new disk whose base is unusual. The answers of libvirt are replaced."""

import asyncio

import pytest

from fastlib import NewDisk, Start
from fastlib.migfra import HypervisorError
from fastlib.migfra.hypervisors.libvirt.domain.volumes import Image, Room
from fastlib.migfra.hypervisors.libvirt.options import DomainXmlOptions
from fastlib.migfra.hypervisors.libvirt.tasks import new_disks_check
from fastlib.migfra.virt.new_disks import MIB, plan_disks
from fastlib.migfra.virt.xml_values import XmlPolicy
from tests.support.libvirt.fake_libvirt import FakeHosts


@pytest.fixture
def plan(tmp_path, monkeypatch):
    def plan(base_bytes, size=None):
        base = Image(path=f"{tmp_path}/base", format="raw", capacity=base_bytes)
        replaced = {
            "read_image": lambda *_: base,
            "read_room": lambda *_: Room(total=1 << 40, free=1 << 40),
            "read_owner": lambda *_: (0, 0),
            "uses_of": lambda *_, **__: {},
        }
        for name, function in replaced.items():
            monkeypatch.setattr(new_disks_check, name, function)
        disk = NewDisk(target="vda", base=base.path, size=size)
        policy = XmlPolicy(allow="any")
        plans = plan_disks(Start(vm_name="vm1", disks=[disk]), "vm1", policy, str(tmp_path))
        hosts = FakeHosts(domain_xml=DomainXmlOptions(allow="any"))
        planned = asyncio.run(new_disks_check.plan_images(hosts.runtime, None, "vm1", plans))
        return planned[0].image.capacity

    return plan


@pytest.mark.parametrize(("base", "disk"), [(1, 512), (512, 512), (1000, 1024), (MIB, MIB)])
def test_overlay_of_a_raw_base_ends_with_a_sector(plan, base, disk):
    assert plan(base) == disk


def test_empty_base_needs_a_size(plan):
    with pytest.raises(HypervisorError, match="of disk vda of vm1 is empty; set size"):
        plan(0)
    assert plan(0, size=1) == MIB
