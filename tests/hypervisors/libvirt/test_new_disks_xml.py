"""New disks in a domain's XML, and the record of their images."""

import pytest

from fastlib import NewDisk, Start
from fastlib.migfra import HypervisorError
from fastlib.migfra.hypervisors.libvirt.domain.new_disks_xml import (
    has_record,
    recorded_images,
    with_disks,
)
from fastlib.migfra.hypervisors.libvirt.domain.xml import parse
from fastlib.migfra.hypervisors.libvirt.tasks.new_disks_check import read_owner
from fastlib.migfra.virt.new_disks import plan_disks
from fastlib.migfra.virt.xml_values import XmlPolicy
from tests.support.libvirt.driver import domain, run_scenario

ANY = XmlPolicy(allow="any")
WITH_DISK = domain().replace(
    "</domain>",
    "<metadata><own:note xmlns:own='urn:own'>kept</own:note></metadata><devices>"
    "<disk type='file'><source file='/i/a'/><target dev='vda'/></disk></devices></domain>",
)


def plans(*disks):
    return plan_disks(Start(vm_name="vm1", disks=disks), "vm1", ANY, "/i")


def disk(target="vdb", **options):
    return NewDisk(target=target, **{"size": 1, **options})


def test_disk_names_its_format_and_is_recorded():
    xml = with_disks(WITH_DISK, plans(disk(), disk("sda", format="raw", cache="unsafe")), {})
    root = parse(xml)
    assert recorded_images(xml) == {"/i/vm1-vdb.qcow2": "vdb", "/i/vm1-sda.raw": "sda"}
    assert has_record(xml)
    assert root.findtext("metadata/{urn:own}note") == "kept"
    found = {
        each.find("target").attrib["dev"]: {
            **each.find("driver").attrib, **each.find("source").attrib, **each.find("target").attrib
        }
        for each in root.findall("devices/disk")[1:]
    }  # fmt: skip
    assert found["vdb"] == {
        "name": "qemu", "type": "qcow2", "cache": "none", "file": "/i/vm1-vdb.qcow2",
        "dev": "vdb", "bus": "virtio",
    }  # fmt: skip
    assert (found["sda"]["type"], found["sda"]["cache"]) == ("raw", "unsafe")
    # The prefix is the one that people see in `virsh dumpxml`.
    assert "<fastlib:disk " in xml


def test_new_record_has_the_earlier_images_and_replaces_the_one_in_the_xml():
    earlier = with_disks(domain(), plans(disk()), {})
    forged = earlier.replace("/i/vm1-vdb.qcow2", "/etc/shadow")
    assert recorded_images(with_disks(forged, (), {})) == {}
    assert not has_record(with_disks(forged, (), {}))
    again = with_disks(domain(), plans(disk("vdc")), recorded_images(earlier))
    assert recorded_images(again) == {"/i/vm1-vdb.qcow2": "vdb", "/i/vm1-vdc.qcow2": "vdc"}


def test_domain_that_uses_a_name_or_an_image_already_is_refused():
    for new, why in (
        (disk("vda"), "vm1 has a disk vda already; choose another target"),
        (disk(path="/i/a"), "vm1 uses /i/a already; choose another path for disk vdb"),
        (disk(base="/i/a"), "vm1 uses /i/a already, which would be the base of its own disk vdb"),
    ):
        with pytest.raises(HypervisorError, match=why):
            with_disks(WITH_DISK, plans(new), {})


def test_libvirt_stores_the_record(tmp_path):
    async def scenario(runner):
        xml = with_disks(domain(), plans(disk()), {})
        local = await runner.hypervisor._runtime.local()
        stored = await local.call(lambda raw: raw.defineXML(xml).XMLDesc(0))
        assert recorded_images(stored) == {"/i/vm1-vdb.qcow2": "vdb"}

    run_scenario(scenario, tmp_path)


def test_driver_without_image_files_is_refused(tmp_path):
    async def scenario(runner):
        with pytest.raises(HypervisorError, match=r"driver test, .* qemu only; leave out disks"):
            await runner.do(Start(xml=domain(), disks=[disk()], probe_with_ssh=False))
        assert await runner.state("vm1") is None

    run_scenario(scenario, tmp_path)


@pytest.mark.parametrize(
    ("labels", "owner"),
    [
        ("<model>dac</model><baselabel type='kvm'>+64055:+108</baselabel>", (64055, 108)),
        ("<model>dac</model><baselabel type='kvm'>root:root</baselabel>", (0, 0)),
        ("<model>selinux</model><baselabel type='kvm'>system_u:x</baselabel>", (0, 0)),
        ("<model>dac</model>", (0, 0)),
    ],
)
def test_image_belongs_to_the_user_of_qemu(labels, owner):
    class Connection:
        def getCapabilities(self):
            return f"<capabilities><host><secmodel>{labels}</secmodel></host></capabilities>"

    assert read_owner(Connection()) == owner
