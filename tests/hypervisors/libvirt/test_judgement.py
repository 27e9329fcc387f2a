"""Where a domain is by what both hosts say, where libvirt is, and what its XML becomes: pure."""

import pytest

from fastlib.message import DeviceIvshmem
from fastlib.migfra import HypervisorError
from fastlib.migfra.hypervisors.libvirt import HostOptions, LibvirtOptions
from fastlib.migfra.hypervisors.libvirt.connection.uris import check_host, migration_uri, remote_uri
from fastlib.migfra.hypervisors.libvirt.domain.definition_xml import Changes, with_changes
from fastlib.migfra.hypervisors.libvirt.domain.device_xml import ivshmem_xml
from fastlib.migfra.hypervisors.libvirt.domain.state import DomainState
from fastlib.migfra.hypervisors.libvirt.migration.reconcile_decision import MigrationFacts, decide


def observed(state, reason=0, **facts):
    return DomainState(known=True, active=True, **{state: True}, reason=reason, **facts)


GONE = DomainState()
OFF = DomainState(known=True)
RUNS = observed("running", 1)
AGAIN = observed("running", 6)  # it had stood still for the switch-over
SENDS = observed("running", 1, migrating=True)
HALF = observed("paused", 2)
USER = observed("paused", 1)
SPLIT = observed("paused", 12)
BROKEN = observed("paused", 13)
ARRIVES = observed("paused", 2, migrating=True)
STARTS = observed("paused", 11)
ARRIVED = observed("running", 2)
FETCHES = observed("running", 10, migrating=True)
TORN = observed("running", 11)
FAULTY = observed("paused", 5)  # by an error of its disk, so it has run


@pytest.mark.parametrize(
    ("source", "destination", "now", "at_last"),
    [
        # It has never stopped on the source.
        (RUNS, GONE, "source", "source"),
        (RUNS, None, "source", "source"),
        (RUNS, OFF, "source", "source"),
        (RUNS, ARRIVES, "wait", "end destination"),
        (RUNS, STARTS, "wait", "end destination"),
        (RUNS, ARRIVED, "wait", "both"),
        (RUNS, FAULTY, "wait", "both"),
        # It had stopped there, so that it may have run on the destination.
        (AGAIN, GONE, "source", "source"),
        (AGAIN, OFF, "source", "source"),
        (AGAIN, None, "wait", "source, perhaps there"),
        (AGAIN, ARRIVES, "wait", "end destination"),
        (AGAIN, ARRIVED, "pause source", "pause source"),
        (AGAIN, FAULTY, "wait", "both"),
        # It is still moving.
        (SENDS, ARRIVES, "wait", "unknown"),
        (SENDS, ARRIVED, "wait", "unknown"),
        (SENDS, GONE, "wait", "unknown"),
        (SENDS, None, "wait", "unknown"),
        # The source has nothing of it.
        (GONE, ARRIVED, "destination", "destination"),
        (OFF, ARRIVED, "destination", "destination"),
        (GONE, USER, "destination", "destination"),
        (GONE, ARRIVES, "wait", "unknown"),
        (GONE, FETCHES, "wait", "unknown, split"),
        (GONE, TORN, "wait", "unknown, split"),
        (GONE, GONE, "nowhere", "nowhere"),
        (GONE, None, "wait", "unknown"),
        # The source cannot be asked.
        (None, ARRIVED, "wait", "destination, perhaps here"),
        (None, TORN, "wait", "unknown, split"),
        (None, ARRIVES, "wait", "unknown"),
        (None, GONE, "wait", "unknown"),
        (None, None, "wait", "unknown"),
        # It stands still on the source since the switch-over.
        (HALF, ARRIVED, "end source", "end source"),
        (HALF, FAULTY, "end source", "end source"),
        (HALF, USER, "end source", "end source"),
        (HALF, FETCHES, "wait", "unknown, split"),
        (HALF, GONE, "resume source", "resume source"),
        (HALF, OFF, "wait", "unknown, ended there"),
        (HALF, None, "wait", "unknown"),
        (HALF, ARRIVES, "wait", "end destination"),
        # It is paused for another reason.
        (USER, GONE, "source", "source"),
        (USER, None, "wait", "source, perhaps there"),
        (USER, ARRIVES, "wait", "end destination"),
        (USER, ARRIVED, "destination, stale here", "destination, stale here"),
        (USER, USER, "wait", "both"),
        # Post-copy.
        (SPLIT, ARRIVED, "wait", "destination, stale here"),
        (SPLIT, FETCHES, "wait", "unknown, split"),
        (BROKEN, TORN, "wait", "unknown, split"),
        (SPLIT, None, "wait", "unknown, split"),
    ],
)
def test_judgement(source, destination, now, at_last):
    for last, expected in ((False, now), (True, at_last)):
        decision = decide(source, destination, last=last)
        outcome = decision.action or (decision.place if decision.final else "wait")
        what, _, note = expected.partition(", ")  # the note is one of NOTES
        assert outcome == what
        assert not (last and outcome == "wait")
        if note and decision.final:
            assert NOTES[note] in decision.note


NOTES = {
    "perhaps there": "it may run on {destination} as well",
    "perhaps here": "whether {source} has a copy of it cannot be asked",
    "stale here": "a copy that is paused on {source}",
    "split": "its memory is divided",
    "ended there": "it had arrived on {destination} and has ended there",
}

SIGHTINGS = [
    None, GONE, OFF, RUNS, AGAIN, SENDS, HALF, USER, SPLIT, BROKEN, ARRIVES, STARTS, ARRIVED,
    FETCHES, TORN, FAULTY,
]  # fmt: skip


@pytest.mark.parametrize("arrives_paused", [False, True])
@pytest.mark.parametrize("destination", SIGHTINGS)
@pytest.mark.parametrize("source", SIGHTINGS)
def test_what_may_have_run_is_never_ended(source, destination, arrives_paused):
    facts = MigrationFacts(arrives_paused=arrives_paused)
    for last in (False, True):
        action = decide(source, destination, facts, last=last).action
        if action == "end destination":
            assert destination.paused
            assert destination.reason in ({1, 2, 11} if arrives_paused else {2, 11})
            assert source.active
            assert not source.migrating
        elif action == "end source":
            assert (source.paused, source.reason, source.migrating) == (True, 2, False)
            assert destination.active
        elif action == "resume source":
            assert (source.paused, source.reason, source.migrating) == (True, 2, False)
            assert destination == GONE
        elif action == "pause source":
            assert source == AGAIN
            assert destination.running
        else:
            assert action is None


def test_one_that_was_paused_stays_so():
    decision = decide(HALF, GONE, MigrationFacts(was_running=False))
    assert (decision.action, decision.place) == (None, "source")


def test_one_that_arrives_paused_has_not_run():
    facts = MigrationFacts(arrives_paused=True)
    for source in (RUNS, AGAIN, USER):
        assert decide(source, USER, facts, last=True).action == "end destination"
        assert decide(source, USER, MigrationFacts(), last=True).action is None


def test_a_definition_that_the_destination_had_before_tells_nothing():
    assert decide(HALF, OFF, MigrationFacts(known_on_destination=True)).action == "resume source"


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
    options = LibvirtOptions(
        hosts={"node02": HostOptions(address="10.0.0.2", migration_address="m")}
    )
    assert remote_uri(options, "node02", "qemu", "tcp") == "qemu+tcp://10.0.0.2/system"
    assert migration_uri(options, "node02", rdma=False) == "tcp://m"
    assert migration_uri(LibvirtOptions(), "node02", rdma=True) == "rdma://node02-ib"
    assert migration_uri(LibvirtOptions(), "node02", rdma=False) is None
    options = LibvirtOptions(migration_host="<host>-mig")
    assert migration_uri(options, "node02", rdma=False) == "tcp://node02-mig"


@pytest.mark.parametrize("text", ["remote-uri: 'qemu://x/'", "local-uri: 'qemu://<nix>'"])
def test_templates(text):
    with pytest.raises(ValueError, match=r"no <host>|<nix> is no placeholder"):
        LibvirtOptions.from_yaml(text)


CELLS = """<domain><name>a</name><vcpu current='1'>2</vcpu><cpu><topology sockets='2' cores='1'
threads='1'/><numa><cell id='0'/><cell id='1'/></numa></cpu>
<cputune><vcpupin vcpu='1' cpuset='1'/></cputune></domain>"""


def test_changes():
    assert with_changes(CELLS, Changes()) is CELLS
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


def test_shared_memory():
    assert '<size unit="MiB">64</size>' in ivshmem_xml(DeviceIvshmem(id="a", size="64M"))
    assert '<size unit="GiB">1</size>' in ivshmem_xml(DeviceIvshmem(id="a", size="1GiB"))
    for device in (DeviceIvshmem(id="a", size="many"), DeviceIvshmem(id="a", size="1M", path="/x")):
        with pytest.raises(HypervisorError, match="ivshmem device 'a'"):
            ivshmem_xml(device)
