"""Hosts are identified by their UUID and hostname, under each of their names."""

import pytest

from fastlib import Migrate
from fastlib.migfra import HypervisorError
from fastlib.migfra.hypervisors.libvirt import HostOptions, LibvirtOptions
from fastlib.migfra.hypervisors.libvirt.connection.uris import is_own_name, remote_uri
from fastlib.migfra.hypervisors.libvirt.domain.host_identity import (
    HostIdentity,
    check_same_host,
    check_two_hosts,
    compare_hosts,
    read_identity,
)
from fastlib.migfra.hypervisors.libvirt.domain.state import PAUSED_FOR_MIGRATION
from fastlib.migfra.hypervisors.libvirt.migration import checks
from fastlib.migfra.hypervisors.libvirt.migration.reconcile import reconcile
from fastlib.migfra.hypervisors.libvirt.migration.record import MigrationState
from fastlib.migfra.hypervisors.libvirt.whereabouts import ask_hosts
from fastlib.migfra.hypervisors.simulated import run_virtual
from fastlib.migfra.virt.host_names import (
    canonical_name,
    is_loopback,
    is_same_name,
)
from fastlib.migfra.virt.migration_spec import MigrationSpec
from tests.support.libvirt.fake_domain import PAUSED
from tests.support.libvirt.fake_libvirt import FakeHost, FakeHosts

ONE, TWO = "c65f1cf1-7787-5327-b1c0-7ebdbf57fdd6", "03000200-0400-0500-0006-000700080009"


def identity(name, uuid=None, hostname=""):
    return HostIdentity(name=name, uuid=uuid, hostname=hostname)


@pytest.mark.parametrize(
    ("one", "other", "relation"),
    [
        (identity("a", ONE, "a"), identity("10.0.0.1", ONE, "a"), "same"),
        (identity("a", ONE, "a"), identity("b", TWO, "b"), "different"),
        # libvirt's hostname depends on DNS, which may be away at times.
        (identity("a", ONE, "a"), identity("alias", ONE, "A.example.org."), "same"),
        (identity("a", ONE, "a1"), identity("b", ONE, "a10"), "shared UUID"),
        (identity("a", ONE, "a"), identity("b", ONE, "b"), "shared UUID"),
        # The name may lead elsewhere by the option `hosts`: the UUIDs decide.
        (identity("a", ONE, "a"), identity("A", TWO, "b"), "different"),
        # Without a UUID there are only the names.
        (identity("a", None, "x"), identity("A.", ONE, "x"), "same"),
        (identity("a", None, "x"), identity("b", None, "x"), "different"),
    ],
)
def test_hosts_are_compared_by_uuid(one, other, relation):
    assert compare_hosts(one, other) == compare_hosts(other, one) == relation


def test_uuid_is_read_from_capabilities():
    hosts = FakeHosts()
    assert read_identity(hosts.source, "x") == identity("x", None, "node01")
    hosts.source.set_host_uuid(ONE.upper())
    assert read_identity(hosts.source, "x") == identity("x", ONE, "node01")


def test_shared_uuid_is_refused_with_remedy():
    with pytest.raises(HypervisorError, match=r"same host UUID 03000200.*set host_uuid in libvirt"):
        check_two_hosts(identity("a", TWO, "a"), identity("b", TWO, "b"))
    check_two_hosts(identity("a", ONE, "a"), identity("b", TWO, "b"))


@pytest.mark.parametrize(
    ("host", "canonical"),
    [
        ("Node01.Example.ORG.", "node01.example.org"),
        ("[FE80::0:1]", "fe80::1"),
        ("10.0.0.1", "10.0.0.1"),
    ],
)
def test_names_have_one_spelling(host, canonical):
    assert canonical_name(host) == canonical
    assert is_same_name(host, canonical)


@pytest.mark.parametrize(
    ("host", "own"),
    [
        ("node01", True),
        ("NODE01", True),
        ("node01.", True),
        ("localhost", True),
        ("localhost.localdomain", True),
        ("127.0.0.2", True),
        ("[::1]", True),
        ("node01.example.org", False),
        ("10.0.0.1", False),
    ],
)
def test_own_names_are_known_without_asking(host, own):
    assert is_own_name(LibvirtOptions(), "node01", host) is own
    assert is_loopback(host) is (own and not host.lower().startswith("node01"))


def test_options_of_host_hold_for_each_spelling_of_its_name():
    options = LibvirtOptions(hosts={"Node02": HostOptions(address="10.0.0.2.")})
    assert remote_uri(options, "node02.", "qemu", "tcp") == "qemu+tcp://10.0.0.2/system"
    # What the options send elsewhere is not this host.
    assert not is_own_name(options, "node02", "NODE02")


@pytest.mark.parametrize("destination", ["NODE01", "node01.", "localhost", "::1"])
def test_own_spellings_are_refused_as_destination_without_asking(destination):
    hosts = FakeHosts()
    hosts.source.is_there = False
    spec = MigrationSpec.from_task(Migrate(vm_name="vm1", destination=destination), "node01")
    with pytest.raises(HypervisorError, match="is on node01, which is also the destination"):
        run_virtual(checks.check(hosts.runtime, spec, hosts.context))


def test_migration_to_source_under_other_name_is_refused():
    hosts = FakeHosts()
    hosts.runtime.connections.hosts["node01.example.org"] = hosts.source
    hosts.source.set_host_uuid(ONE)
    spec = MigrationSpec.from_task(
        Migrate(vm_name="vm1", destination="node01.example.org"), "node01"
    )
    with pytest.raises(HypervisorError, match=r"node01\.example\.org is node01 itself"):
        run_virtual(checks.check(hosts.runtime, spec, hosts.context))
    assert hosts.calls == []


def asked(hosts, *names):
    return [
        answer.host for answer in run_virtual(ask_hosts(hosts.runtime, "vm1", names, driver=None))
    ]


def test_host_is_not_queried_under_its_other_names():
    hosts = FakeHosts()
    hosts.runtime.connections.hosts["alias"] = hosts.source
    hosts.source.set_host_uuid(ONE)
    hosts.destination.set_host_uuid(TWO)
    hosts.runtime.connections.hosts["node02.example.org"] = hosts.destination
    names = ["node01", "NODE01", "alias", "node02", "node02.example.org"]
    assert asked(hosts, *names) == ["node02"]


def test_host_need_not_reach_itself_by_its_hostname():
    hosts = FakeHosts()
    away = hosts.runtime.connections.hosts["node01.example.org"] = FakeHost("x", lambda _: None)
    away.is_there = False
    assert asked(hosts, "node01.example.org") == ["node01.example.org"]
    hosts.source._hostname = "Node01.example.org"
    assert asked(hosts, "node01.example.org") == []


def test_other_host_with_the_same_uuid_is_queried():
    """Otherwise a faulty BIOS would let a domain run twice."""
    hosts = FakeHosts()
    hosts.source.set_host_uuid(ONE)
    hosts.destination.set_host_uuid(ONE)
    assert asked(hosts, "node01", "node02") == ["node02"]


def test_name_that_leads_to_another_host_by_now_is_noticed():
    hosts = FakeHosts()
    hosts.destination.set_host_uuid(ONE)
    check_same_host(hosts.destination, identity("spare", ONE, "node02"))
    check_same_host(hosts.destination, identity("spare", ONE, "renamed"))
    check_same_host(hosts.destination, identity("spare", TWO, "node02.example.org"))
    check_same_host(hosts.destination, identity("spare", None, "node03"))
    with pytest.raises(HypervisorError, match="spare is node02 now, and was node03 when"):
        check_same_host(hosts.destination, identity("spare", TWO, "node03"))


def test_reconcile_does_not_query_another_host_with_the_destinations_name():
    """The domain is paused since the switch-over. It may run on the former host of the name."""
    hosts = FakeHosts()
    hosts.destination.set_host_uuid(ONE)
    hosts.domain.state_now = [PAUSED, PAUSED_FOR_MIGRATION]
    spec = MigrationSpec.from_task(Migrate(vm_name="vm1", destination="node02"), "node01")
    before = identity("node02", TWO, "node03")

    def place(**state):
        state = MigrationState(source="node01", destination="node02", **state)
        return run_virtual(reconcile(hosts.runtime, spec, state, hosts.context)).place

    assert place(destination_identity=before) == "unknown"
    assert hosts.calls == []
    assert place(destination_identity=identity("node02", ONE, "node02")) == "source"
    assert hosts.calls == ["node01: resume"]
