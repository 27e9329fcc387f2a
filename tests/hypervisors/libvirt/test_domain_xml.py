"""Changes of a domain's definition, and the XML of shared memory."""

import pytest

from fastlib.message import DeviceIvshmem
from fastlib.migfra import HypervisorError
from fastlib.migfra.hypervisors.libvirt.domain.definition_xml import Changes, with_changes
from fastlib.migfra.hypervisors.libvirt.domain.device_xml import ivshmem_xml

CELLS = """<domain><name>a</name><vcpu current='1'>2</vcpu><cpu><topology sockets='2' cores='1'
threads='1'/><numa><cell id='0'/><cell id='1'/></numa></cpu>
<cputune><vcpupin vcpu='1' cpuset='1'/></cputune></domain>"""


def test_definition_changes():
    assert with_changes(CELLS, Changes()) == CELLS
    xml = with_changes(CELLS, Changes(memnode_map=[[0], [1, 2]], vcpu_map=[[3, 1]]))
    assert '<memnode cellid="1" mode="strict" nodeset="1,2" />' in xml
    assert '<vcpupin vcpu="0" cpuset="1,3" />' in xml
    assert 'cpuset="1"' not in xml
    assert '<memory mode="strict" nodeset="0" />' in with_changes(CELLS, Changes(memnode_map=[[0]]))
    for changes, why in (
        (Changes(memnode_map=[[0]] * 3), "3 rows, but the domain has 2 NUMA cells"),
        (Changes(memnode_map=[[]]), "no memory node in a row"),
        (Changes(vcpus=3), "<topology> is one of 2 CPUs, not of 3"),
        (Changes(vcpu_map=[[0]] * 3), "has 3 rows, but the domain has 2 vCPUs"),
        (Changes(vcpu_map=[[]]), "has no CPU for vCPU 0"),
    ):
        with pytest.raises(HypervisorError, match=why):
            with_changes(CELLS, changes)


def test_ivshmem_xml_checks_size_and_path():
    assert '<size unit="MiB">64</size>' in ivshmem_xml(DeviceIvshmem(id="a", size="64M"))
    assert '<size unit="GiB">1</size>' in ivshmem_xml(DeviceIvshmem(id="a", size="1GiB"))
    for device in (DeviceIvshmem(id="a", size="many"), DeviceIvshmem(id="a", size="1M", path="/x")):
        with pytest.raises(HypervisorError, match="ivshmem device 'a'"):
            ivshmem_xml(device)
