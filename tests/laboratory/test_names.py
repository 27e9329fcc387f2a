"""Odd names, UUIDs, vCPU holes and pins on real hosts: libvirt runs exactly the order."""

import xml.etree.ElementTree as ElementTree

import pytest

from tests.support.lab.fleet import PATIENCE, assert_error, assert_success

pytestmark = pytest.mark.laboratory


def pins(host, name, where):
    """Return the CPUs of each vCPU that has its own pin, as libvirt reports them."""
    flags = ["--inactive"] if where == "definition" else []
    root = ElementTree.fromstring(host.virsh("dumpxml", *flags, name))
    return {pin.get("vcpu"): pin.get("cpuset") for pin in root.findall("cputune/vcpupin")}


def test_names_and_uuids_that_are_not_the_domains_are_refused(fleet):
    """Each refusal leaves both hosts as they are."""
    client = fleet.client
    guest = fleet.lab.define_guest("vm1", on="hostB", bios=True)
    other = fleet.lab.define_guest("vm2", bios=True)
    before = fleet.domain_states()
    uuid = ElementTree.fromstring(guest.xml).findtext("uuid")
    own = ElementTree.fromstring(other.xml).findtext("uuid")

    def start(xml, **options):
        return client.start("hostA", xml=xml, **{"probe_with_ssh": False, **options}).result(
            PATIENCE
        )

    for transient in (False, True):
        for name in (" vm3 ", "vm3\n", " <![CDATA[vm1]]>", "vm<!-- c -->3"):
            named = other.xml.replace("<name>vm2</name>", f"<name>{name}</name>")
            assert_error(start(named, transient=transient), "<name>|cannot be the name of a domain")
        assert_error(
            start(guest.xml.replace(uuid, own), transient=transient),
            "hostB has another domain with the name vm1",
        )
        assert_error(
            start(other.xml.replace(own, uuid.upper()), transient=transient),
            f"hostB has a domain vm1 with the UUID {uuid} of vm2",
        )
        spaced = other.xml.replace("<name>vm2</name>", "<name>a b</name>")
        assert_error(
            start(spaced, probe_with_ssh=None, transient=transient),
            "'a b' cannot be the name of a host",
            "give probe-hostname, or probe-with-ssh: false",
        )
        assert_error(
            start(other.xml.replace("<os>", "<oss/><os>"), transient=transient),
            "does not follow libvirt's schema",
        )
        assert_error(start(other.xml, vcpu_map=[[4096]], transient=transient), "CPU 4096")
        assert_error(start(other.xml, memnode_map=[[63]], transient=transient), "memory node 63")
    assert_error(client.start("hostB", "vm1 ").result(PATIENCE), "it has a space at an end")
    assert fleet.domain_states() == before
    # Without a UUID it is the domain that hostB knows, in libvirt's usual size.
    same = guest.xml.replace(f"<uuid>{uuid}</uuid>", "")
    assert_success(start(same, memory=8193))
    assert fleet.lab.host("hostA").virsh("domuuid", "vm1").strip() == uuid
    assert fleet.lab.running_on("vm1") == ["hostA"]


def test_pins_are_those_of_the_vcpus_that_exist(fleet):
    """vCPU 1 is not there. Rows are for 0 and 2, at the start, at a repin and at an arrival."""
    client, host = fleet.client, fleet.lab.host("hostA")
    guest = fleet.lab.define_guest("vm1", bios=True, vcpus=3, absent_vcpus=(1,))
    assert_success(
        client.start("hostA", xml=guest.xml, vcpu_map=[[0], [1]], probe_with_ssh=False).result(
            PATIENCE
        )
    )
    for where in ("live", "definition"):
        assert pins(host, "vm1", where) == {"0": "0", "2": "1"}
    assert_success(client.repin("hostA", "vm1", [[1], [0]]).result(PATIENCE))
    for where in ("live", "definition"):
        assert pins(host, "vm1", where) == {"0": "1", "2": "0"}
    for wrong, why in (
        ([[0], [0], [0]], "3 rows, but vm1 has 2 vCPUs online"),
        ([[0], [4096]], "CPU 4096"),
        ([[0], []], "no CPU for vCPU 1"),
    ):
        assert_error(client.repin("hostA", "vm1", wrong).result(PATIENCE), why)
    for where in ("live", "definition"):
        assert pins(host, "vm1", where) == {"0": "1", "2": "0"}
    moved = client.migrate("vm1", "hostA", "hostB", vcpu_map=[[0], [0, 1]])
    assert_success(moved.result(PATIENCE))
    for where in ("live", "definition"):
        assert pins(fleet.lab.host("hostB"), "vm1", where) == {"0": "0", "2": "0-1"}
    assert fleet.domain_states()["hostB"] == {"vm1": "running"}


def test_libvirts_own_definition_starts_with_changes(fleet):
    """fastlib does not validate definitions that libvirt wrote. So they can be started."""
    fleet.lab.define_guest("a b", on="hostA", bios=True)
    started = fleet.client.start("hostA", "a b", memory=10000, vcpus=2, probe_with_ssh=False)
    assert_success(started.result(PATIENCE))
    assert fleet.lab.running_on("a b") == ["hostA"]
    facts = fleet.lab.host("hostA").virsh("dominfo", "a b")
    assert "10240 KiB" in facts  # QEMU rounds up to MiB
    assert_success(fleet.client.stop("hostA", "a b", force=True, undefine=True).result(PATIENCE))
    assert fleet.domain_states()["hostA"] == {}


def test_two_hosts_never_both_start_a_domain(fleet):
    """Both get the order at the same time. At most one starts it, and an error has the reason."""
    guest = fleet.lab.define_guest("vm1", bios=True)
    starts = [
        fleet.client.start(host, xml=guest.xml, probe_with_ssh=False) for host in ("hostA", "hostB")
    ]
    results = [start.result(PATIENCE) for start in starts]
    succeeded = [result for result in results if result.status == "success"]
    assert len(succeeded) == len(fleet.lab.running_on("vm1")) <= 1
    for result in results:
        if result.status == "error":
            assert_error(result, "vm1 (was started|is active) on host[AB] (at|already)")
