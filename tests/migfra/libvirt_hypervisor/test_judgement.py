"""Where a domain is by what both hosts say, where libvirt is, and what its XML becomes: pure."""

import pytest

from fastlib.message import DeviceIvshmem
from fastlib.migfra import HypervisorError
from fastlib.migfra.hypervisors.libvirt import HostOptions, LibvirtOptions
from fastlib.migfra.hypervisors.libvirt.description import Changes, changed, ivshmem_xml
from fastlib.migfra.hypervisors.libvirt.domains import Sighting
from fastlib.migfra.hypervisors.libvirt.uris import check_host, migration_uri, remote_uri
from fastlib.migfra.hypervisors.libvirt.whereabouts import judge

USER, MIGRATION, POSTCOPY = 1, 2, 12
GONE = Sighting()
OFF = Sighting(known=True)
RUNS = Sighting(known=True, active=True, running=True)
SENDS = Sighting(known=True, active=True, running=True, migrating=True)
HALF = Sighting(known=True, active=True, paused=True, reason=MIGRATION)
ARRIVES = Sighting(known=True, active=True, paused=True, reason=MIGRATION, migrating=True)
PAUSED = Sighting(known=True, active=True, paused=True, reason=USER)
SPLIT = Sighting(known=True, active=True, paused=True, reason=POSTCOPY)


@pytest.mark.parametrize(
    ("source", "destination", "now", "at_last"),
    [
        (RUNS, GONE, "source", "source"),
        (RUNS, None, "source", "source"),
        (RUNS, OFF, "source", "source"),
        (RUNS, ARRIVES, "wait", "destroy destination"),
        (RUNS, RUNS, "destroy destination", "destroy destination"),
        (SENDS, ARRIVES, "wait", "destroy destination"),
        (SENDS, GONE, "wait", "source"),
        (GONE, RUNS, "destination", "destination"),
        (OFF, RUNS, "destination", "destination"),
        (GONE, PAUSED, "destination", "destination"),
        (GONE, GONE, "nowhere", "nowhere"),
        (GONE, None, "wait", "unknown"),
        (None, RUNS, "destination", "destination"),
        (None, GONE, "wait", "unknown"),
        (None, None, "wait", "unknown"),
        (HALF, RUNS, "destroy source", "destroy source"),
        (HALF, GONE, "resume source", "resume source"),
        (HALF, None, "wait", "unknown"),
        (HALF, ARRIVES, "wait", "destroy destination"),
        (PAUSED, GONE, "source", "source"),
        (PAUSED, RUNS, "destroy source", "destroy source"),
        (SPLIT, RUNS, "wait", "destination"),
        (SPLIT, None, "wait", "unknown"),
    ],
)
def test_judgement(source, destination, now, at_last):
    for last, expected in ((False, now), (True, at_last)):
        verdict = judge(source, destination, last=last)
        told = verdict.action or (verdict.place if verdict.final else "wait")
        assert told == expected
        assert not (last and told == "wait")


def test_one_that_was_paused_stays_so():
    assert judge(HALF, GONE, was_running=False).action is None
    assert judge(HALF, GONE, was_running=False).place == "source"


@pytest.mark.parametrize("host", ["", "a b", "a/b", "a?x=1", "a@b", "a:1", "-a", "ä", "a#"])
def test_hosts_that_would_leave_their_place(host):
    with pytest.raises(HypervisorError, match="cannot be the name of a host"):
        check_host(host)


def test_uris():
    def uri(host="node02", transport="ssh", **options):
        return remote_uri(LibvirtOptions(**options), host, "qemu", transport)

    assert uri() == "qemu+ssh://node02/system?no_tty=1"
    assert uri("fe80::1", "tcp") == "qemu+tcp://[fe80::1]/system"
    assert uri(ssh_user="a@b", ssh_key="/k y", port=23) == (
        "qemu+ssh://a%40b@node02:23/system?no_tty=1&keyfile=/k%20y"
    )
    assert uri(transport="tls", tls_directory="/pki") == "qemu+tls://node02/system?pkipath=/pki"
    told = LibvirtOptions(hosts={"node02": HostOptions(address="10.0.0.2", migration_address="m")})
    assert remote_uri(told, "node02", "qemu", "tcp") == "qemu+tcp://10.0.0.2/system"
    assert migration_uri(told, "node02", rdma=False) == "tcp://m"
    assert migration_uri(LibvirtOptions(), "node02", rdma=True) == "rdma://node02-ib"
    assert migration_uri(LibvirtOptions(), "node02", rdma=False) is None
    told = LibvirtOptions(migration_host="<host>-mig")
    assert migration_uri(told, "node02", rdma=False) == "tcp://node02-mig"


@pytest.mark.parametrize("text", ["remote-uri: 'qemu://x/'", "local-uri: 'qemu://<nix>'"])
def test_templates(text):
    with pytest.raises(ValueError, match=r"no <host>|<nix> is no placeholder"):
        LibvirtOptions.from_yaml(text)


CELLS = """<domain><name>a</name><vcpu current='1'>2</vcpu><cpu><topology sockets='2' cores='1'
threads='1'/><numa><cell id='0'/><cell id='1'/></numa></cpu>
<cputune><vcpupin vcpu='1' cpuset='1'/></cputune></domain>"""


def test_changes():
    assert changed(CELLS, Changes()) is CELLS
    xml = changed(CELLS, Changes(memnode_map=[[0], [1, 2]], vcpu_map=[[3, 1]]))
    assert '<memnode cellid="1" mode="strict" nodeset="1,2" />' in xml
    assert '<vcpupin vcpu="0" cpuset="1,3" />' in xml
    assert 'cpuset="1"' not in xml
    assert '<memory mode="strict" nodeset="0" />' in changed(CELLS, Changes(memnode_map=[[0]]))
    for changes, why in (
        (Changes(memnode_map=[[0]] * 3), "3 rows, but the domain has 2 NUMA cells"),
        (Changes(memnode_map=[[]]), "no memory node in a row"),
        (Changes(vcpus=3), "<topology> is one of 2 CPUs, not of 3"),
        (Changes(vcpu_map=[[0]] * 3), "has 3 rows, but the domain has 2 vCPUs"),
        (Changes(vcpu_map=[[]]), "has no CPU for vCPU 0"),
    ):
        with pytest.raises(HypervisorError, match=why):
            changed(CELLS, changes)


def test_shared_memory():
    assert '<size unit="MiB">64</size>' in ivshmem_xml(DeviceIvshmem(id="a", size="64M"))
    assert '<size unit="GiB">1</size>' in ivshmem_xml(DeviceIvshmem(id="a", size="1GiB"))
    for device in (DeviceIvshmem(id="a", size="many"), DeviceIvshmem(id="a", size="1M", path="/x")):
        with pytest.raises(HypervisorError, match="ivshmem device 'a'"):
            ivshmem_xml(device)
