"""The refusals of `start vm` before it changes anything, and its undo."""

import xml.etree.ElementTree as ElementTree

import msgspec
import pytest

from fastlib import DeviceIvshmem, PciAddress, PciId, Repin, Start, Stop, Suspend
from fastlib.message.tasks import Query
from fastlib.migfra import HypervisorError
from fastlib.migfra.hypervisors.libvirt import DomainXmlOptions
from fastlib.migfra.hypervisors.libvirt.domain import creation, host_room
from fastlib.migfra.hypervisors.libvirt.domain.creation import Values, differences
from fastlib.migfra.hypervisors.libvirt.domain.definition_xml import with_changes
from fastlib.migfra.hypervisors.libvirt.domain.host_room import (
    HostCpus,
    check_cpus,
    check_memory_nodes,
)
from fastlib.migfra.hypervisors.libvirt.domain.identity import (
    Namesakes,
    check_identity,
    common_uuid,
)
from fastlib.migfra.hypervisors.libvirt.domain.state import DomainState
from fastlib.migfra.hypervisors.libvirt.errors import LostError
from fastlib.migfra.hypervisors.libvirt.tasks import start_checks
from fastlib.migfra.hypervisors.libvirt.tasks.start import PAUSED_RUN
from fastlib.migfra.hypervisors.libvirt.tasks.start_spec import StartSpec
from fastlib.migfra.hypervisors.libvirt.whereabouts import HostAnswer
from fastlib.migfra.virt.memory_needs import HostNode
from tests.support.libvirt.driver import domain, run_scenario
from tests.support.libvirt.fake_libvirt import FakeHosts

UUID = "6695eb01-f6a4-8304-79aa-97f2502e193f"
OTHER_UUID = "7795eb01-f6a4-8304-79aa-97f2502e193f"
HOLES = """<vcpu current='2'>3</vcpu><vcpus><vcpu id='0' enabled='yes' hotpluggable='no'/>
<vcpu id='1' enabled='no' hotpluggable='yes'/>
<vcpu id='2' enabled='yes' hotpluggable='yes'/></vcpus>
<cputune><vcpupin vcpu='1' cpuset='7'/></cputune>"""


async def xml_of(runner, name, active=False):
    local = await runner.hypervisor._runtime.local()
    flags = 0 if active else 2
    return await local.call(lambda raw: raw.lookupByName(name).XMLDesc(flags))


async def pins_of(runner, name):
    root = ElementTree.fromstring(await xml_of(runner, name, active=True))
    return {pin.get("vcpu"): pin.get("cpuset") for pin in root.findall("cputune/vcpupin")}


async def define(runner, xml):
    local = await runner.hypervisor._runtime.local()
    await local.call(lambda raw: raw.defineXML(xml) and None)


async def names_of(runner):
    return sorted(each.name for each in (await runner.do(Query())).domains)


def with_uuid(name="vm1", uuid=UUID):
    return domain(name).replace("<memory", f"<uuid>{uuid}</uuid><memory")


@pytest.mark.parametrize(
    ("start", "why"),
    [
        (Start(xml=domain(" vm1 ")), "' vm1 ' cannot be the name of a domain: it has a space"),
        (Start(vm_name="vm1 "), "'vm1 ' cannot be the name of a domain: it has a space"),
        (Start(xml=domain("a b")), "'a b' cannot be the name of a host.*give probe-hostname"),
        (Start(xml=domain("größe")), "give probe-hostname, or probe-with-ssh: false"),
        (Start(xml=domain("a..b")), "'a..b' must be a host name; give probe-hostname"),
        (Start(xml=domain("x" * 64)), "must be a host name; give probe-hostname"),
        (Start(xml=domain(), probe_hostname="a b"), "'a b' cannot be the name of a host"),
        (Start(xml=domain(), vcpu_map=[[8]], probe_with_ssh=False), "node01 has the CPUs 0 to 7"),
        (Start(xml=domain(), vcpu_map=[[0]] * 3, probe_with_ssh=False), "3 rows, .* 2 vCPUs"),
        (Start(xml=domain(), memory=1 << 40, probe_with_ssh=False), "KiB in total; give it less"),
        (Start(xml=domain(memory=1 << 40), probe_with_ssh=False), "KiB in total; give it less"),
        (
            Start(
                xml=domain(), devs=[PciAddress(bus=1, device=2, function=3)], probe_with_ssh=False
            ),
            "has no PCI device 0000:01:02.3; see lspci",
        ),
        (
            Start(xml=domain(), pci_ids=[PciId(vendor=1, device=2)], probe_with_ssh=False),
            "has no free PCI device 0x0001:0x0002: it has none at all",
        ),
        (
            Start(xml=domain(), ivshmem=DeviceIvshmem(id="a", size="3M"), probe_with_ssh=False),
            "must be a power of two and at least 1M",
        ),
        (
            Start(xml=domain(), ivshmem=DeviceIvshmem(id="a/b", size="1M"), probe_with_ssh=False),
            "the id of an ivshmem device must consist",
        ),
        (Start(xml=domain(), driver="none", probe_with_ssh=False), "unknown driver 'none'"),
        (
            Start(
                xml=domain().replace("<memory", "<clock offset='x'/><memory"),
                probe_with_ssh=False,
            ),
            "does not follow libvirt's schema; correct it until virt-xml-validate accepts it",
        ),
        (
            Start(
                xml=domain().replace("<os>", "<cpu><topology sockets='a'/></cpu><os>"),
                vcpus=2,
                probe_with_ssh=False,
            ),
            "the domain's XML has 'a' as <topology sockets>",
        ),
        (
            Start(
                xml=domain().replace(
                    "<os>", "<cputune><vcpupin vcpu='q' cpuset='0'/></cputune><os>"
                ),
                vcpus=2,
                probe_with_ssh=False,
            ),
            "the domain's XML has 'q' as <cputune> <vcpupin vcpu>",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_start_is_refused_before_anything_changes(tmp_path, start, why):
    async def scenario(runner):
        with pytest.raises(HypervisorError, match=why):
            await runner.do(start)
        assert "start" not in runner.phases or "schema" in why
        assert await names_of(runner) == []

    run_scenario(scenario, tmp_path)


def test_refused_changes_leave_the_definition(tmp_path):
    async def scenario(runner):
        await define(runner, domain())
        before = await xml_of(runner, "vm1")
        for start in (
            Start(vm_name="vm1", vcpu_map=[[99]], probe_with_ssh=False),
            Start(vm_name="vm1", memory=1 << 40, probe_with_ssh=False),
            Start(vm_name="vm1", memory=1 << 14, probe_hostname="a b"),
            Start(xml=domain(), transient=True, probe_with_ssh=False),
        ):
            with pytest.raises(HypervisorError):
                await runner.do(start)
            assert await xml_of(runner, "vm1") == before

    run_scenario(scenario, tmp_path)


def test_domain_that_is_defined_cannot_be_transient(tmp_path):
    async def scenario(runner):
        await define(runner, domain())
        with pytest.raises(HypervisorError, match="vm1 is defined on node01, so it cannot be"):
            await runner.do(Start(xml=domain(), transient=True, probe_with_ssh=False))

    run_scenario(scenario, tmp_path)


def test_another_domain_with_the_name_or_uuid_is_refused(tmp_path):
    async def scenario(runner):
        await define(runner, with_uuid("vm1", UUID))
        await define(runner, with_uuid("other", OTHER_UUID))
        with pytest.raises(HypervisorError, match=f"another domain with the name vm1 .UUID {UUID}"):
            await runner.do(Start(xml=with_uuid("vm1", OTHER_UUID), probe_with_ssh=False))
        with pytest.raises(HypervisorError, match="has a domain other with the UUID"):
            await runner.do(Start(xml=with_uuid("vm2", OTHER_UUID.upper()), probe_with_ssh=False))
        assert await names_of(runner) == ["other", "vm1"]
        same = with_uuid("vm1", UUID.replace("-", "").upper())
        await runner.do(Start(xml=same, probe_with_ssh=False))
        await runner.do(Stop(vm_name="vm1"))
        await runner.do(Start(xml=domain("vm1", memory=2048), probe_with_ssh=False))
        assert f"<uuid>{UUID}</uuid>" in await xml_of(runner, "vm1")

    run_scenario(scenario, tmp_path)


@pytest.mark.parametrize("transient", [False, True])
def test_domain_that_libvirt_made_otherwise_is_taken_back(tmp_path, monkeypatch, transient):
    """libvirt reads another amount of memory than fastlib."""
    made = creation._made

    def made_otherwise(opened, known):
        found = made(opened, known)
        values = msgspec.structs.replace(found.values, memory=1)
        return msgspec.structs.replace(found, values=values)

    async def scenario(runner):
        monkeypatch.setattr(creation, "_made", made_otherwise)
        with pytest.raises(HypervisorError, match="the memory is 1 KiB instead of 65536 KiB"):
            await runner.do(Start(xml=domain(), transient=transient, probe_with_ssh=False))
        assert await names_of(runner) == []
        if transient:
            return
        await define(runner, domain())
        before = await xml_of(runner, "vm1")
        with pytest.raises(HypervisorError, match="the memory is 1 KiB instead of 2048 KiB"):
            await runner.do(Start(vm_name="vm1", memory=2048, probe_with_ssh=False))
        assert await xml_of(runner, "vm1") == before

    run_scenario(scenario, tmp_path)


def test_definition_that_breaks_the_schema_stays_startable(tmp_path, monkeypatch):
    """libvirt does not always follow its own schema, so only a task's XML is validated."""
    flags = []
    define_with = creation._validated

    def validated(call, xml, flag):
        flags.append(flag)
        return define_with(call, xml, flag)

    async def scenario(runner):
        await define(runner, domain())
        monkeypatch.setattr(creation, "_validated", validated)
        await runner.do(Start(vm_name="vm1", memory=2048, probe_with_ssh=False))
        assert flags == []
        await runner.do(Stop(vm_name="vm1"))
        await runner.do(Start(xml=domain(), probe_with_ssh=False))
        assert len(flags) == 1

    run_scenario(scenario, tmp_path)


def test_rows_of_a_start_are_for_the_vcpus_online(tmp_path):
    async def scenario(runner):
        xml = domain().replace("<vcpu>2</vcpu>", HOLES)
        await runner.do(Start(xml=xml, vcpu_map=[[0], [2]], probe_with_ssh=False))
        assert await pins_of(runner, "vm1") == {"0": "0", "2": "2"}
        await runner.do(Stop(vm_name="vm1"))
        with pytest.raises(HypervisorError, match="3 rows, but the domain has 2 vCPUs online"):
            await runner.do(Start(vm_name="vm1", vcpu_map=[[0]] * 3, probe_with_ssh=False))

    run_scenario(scenario, tmp_path)


def test_rows_of_a_repin_are_for_the_vcpus_online(tmp_path):
    async def scenario(runner):
        xml = domain().replace("<vcpu>2</vcpu>", HOLES)
        await runner.do(Start(xml=xml, probe_with_ssh=False))
        await runner.do(Repin(vm_name="vm1", vcpu_map=[[1], [2, 3]]))
        assert await pins_of(runner, "vm1") == {"0": "1", "1": "7", "2": "2-3"}
        assert await runner.recover(Repin(vm_name="vm1", vcpu_map=[[1], [3, 2]]))
        await runner.do(Repin(vm_name="vm1", vcpu_map=[[4]]))
        assert await pins_of(runner, "vm1") == {"0": "4", "1": "7", "2": "2-3"}
        with pytest.raises(HypervisorError, match="has 3 rows, but vm1 has 2 vCPUs online"):
            await runner.do(Repin(vm_name="vm1", vcpu_map=[[0]] * 3))

    run_scenario(scenario, tmp_path)


def test_domain_that_starts_elsewhere_at_the_same_time_is_ended(tmp_path, monkeypatch):
    answers = iter([False, True])

    async def ask(runtime, name, hosts, driver, transport=None, uuid=None):
        active = next(answers)
        return [HostAnswer(host="node02", state=DomainState(known=active, active=active))]

    async def scenario(runner):
        monkeypatch.setattr(start_checks, "ask_hosts", ask)
        with pytest.raises(HypervisorError, match="vm1 was started on node02 at the same time"):
            await runner.do(Start(xml=domain(), probe_with_ssh=False))
        assert await names_of(runner) == []

    run_scenario(scenario, tmp_path)


def test_interrupted_start_lets_its_domain_run(tmp_path):
    """The daemon was killed when the domain existed, but did not run yet."""

    async def scenario(runner):
        await runner.do(Start(xml=with_uuid(), probe_with_ssh=False))
        await runner.do(Suspend(vm_name="vm1"))
        start = Start(xml=with_uuid(), probe_with_ssh=False)
        with pytest.raises(HypervisorError, match="vm1 is paused on node01"):
            await runner.recover(start)
        with pytest.raises(HypervisorError, match="vm1 is paused on node01"):
            await runner.recover(start, **{PAUSED_RUN: OTHER_UUID})
        assert await runner.recover(start, **{PAUSED_RUN: UUID})
        assert await runner.state("vm1") == "running"

    run_scenario(scenario, tmp_path)


FOREIGN = with_uuid().replace(
    "</domain>",
    "<devices><disk><source file='/var/elsewhere'/><target dev='vda'/></disk></devices></domain>",
)


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"allow": "defined-only"}, "lets tasks start only domains that are defined"),
        ({}, "/var/elsewhere"),
    ],
)
@pytest.mark.parametrize("runs", [False, True])
def test_interrupted_start_is_checked_by_the_present_configuration(tmp_path, options, why, runs):
    """An earlier run has made the domain, with a configuration that allowed more."""

    async def scenario(runner):
        await runner.do(Start(xml=FOREIGN, probe_with_ssh=False))
        if not runs:
            await runner.do(Suspend(vm_name="vm1"))
        start = Start(xml=FOREIGN, probe_with_ssh=False)
        runtime = runner.hypervisor._runtime
        runtime.options = msgspec.structs.replace(
            runtime.options, domain_xml=DomainXmlOptions(**options)
        )
        if runs:
            assert await runner.recover(start, **{PAUSED_RUN: UUID})
            return
        with pytest.raises(HypervisorError) as caught:
            await runner.recover(start, **{PAUSED_RUN: UUID})
        text = "vm1 is paused on node01, and is not resumed, because the configuration no longer"
        assert text in str(caught.value)
        assert why in str(caught.value)
        assert await runner.state("vm1") == "paused"

    run_scenario(scenario, tmp_path, domain_xml=DomainXmlOptions(allow="any"))


def test_answer_names_the_state_when_libvirt_was_lost_in_a_start(tmp_path, monkeypatch):
    create = creation.create_defined

    def lost(connection, name, uuid, paused):
        create(connection, name, uuid, paused)
        raise LostError("the connection to libvirt on node01 is lost")

    async def scenario(runner):
        await define(runner, domain())
        monkeypatch.setattr(creation, "create_defined", lost)
        with pytest.raises(LostError, match="node01 is lost; vm1 runs on node01"):
            await runner.do(Start(vm_name="vm1", probe_with_ssh=False))

    run_scenario(scenario, tmp_path)


@pytest.mark.parametrize("transient", [False, True])
def test_domain_whose_xml_cannot_be_read_back_is_removed(tmp_path, monkeypatch, transient):
    def unreadable(xml, *, persistent, name=None):
        if name is not None:
            raise HypervisorError("the domain's XML has 'x' as <vcpu>")
        return values_of(xml, persistent=persistent)

    values_of = creation.values_of

    async def scenario(runner):
        monkeypatch.setattr(creation, "values_of", unreadable)
        with pytest.raises(HypervisorError, match=r"cannot be compared .*'x' as <vcpu>"):
            await runner.do(Start(xml=domain(), transient=transient, probe_with_ssh=False))
        assert await names_of(runner) == []

    run_scenario(scenario, tmp_path)


def test_offline_cpu_is_refused():
    cpus = HostCpus(count=4, offline=frozenset({2, 3}))
    check_cpus("node01", cpus, [[0], [1, 0]])
    with pytest.raises(HypervisorError, match="CPU 2, which is offline on node01; choose others"):
        check_cpus("node01", cpus, [[0], [1, 2]])
    with pytest.raises(HypervisorError, match="CPU 4, but node01 has the CPUs 0 to 3"):
        check_cpus("node01", cpus, [[4, 2]])


def test_cpus_of_a_host_with_and_without_a_cpu_map():
    class Host:
        def __init__(self, kind):
            self.kind = kind

        def getInfo(self):
            return ["x86_64", 4096, 3, 2000, 1, 2, 2, 1]

        def getType(self):
            return self.kind

        def getCPUMap(self):
            return 4, [True, True, False, True], 3

    assert host_room.read_cpus(Host("QEMU")) == HostCpus(count=4, offline=frozenset({2}))
    assert host_room.read_cpus(Host("TEST")) == HostCpus(count=4)


def test_memory_node_that_the_host_lacks_is_refused():
    class Host:
        def __init__(self, cells):
            self.cells = cells

        def getCapabilities(self):
            topology = f"<topology><cells>{self.cells}</cells></topology>"
            return f"<capabilities><host>{topology}</host></capabilities>"

    nodes = host_room.read_memory_nodes(Host("<cell id='0'/><cell id='2'/>"))
    assert nodes == {0, 2}
    check_memory_nodes("node01", nodes, [[0], [2]])
    with pytest.raises(HypervisorError, match="has memory node 1, but node01 has 0,2"):
        check_memory_nodes("node01", nodes, [[0], [1]])
    unknown = host_room.read_memory_nodes(Host(""))
    assert unknown is None
    check_memory_nodes("node01", unknown, [[7]])


# Pure decisions


def meant(**changes):
    values = {
        "name": "vm1", "uuid": UUID, "memory": 1000, "vcpus": (0, 2),
        "pins": {0: frozenset({1}), 2: None}, "persistent": True,
    }  # fmt: skip
    return Values(**{**values, **changes})


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, []),
        ({"memory": 1001}, ["the memory is 1001 KiB instead of 1000 KiB"]),
        ({"memory": 1001, "granule": 2048}, []),
        ({"memory": 3048, "granule": 2048}, ["the memory is 3048 KiB instead of 1000 KiB"]),
        ({"memory": 999, "granule": 2048}, ["the memory is 999 KiB instead of 1000 KiB"]),
        ({"name": " vm1 "}, ["the name is ' vm1 ' instead of 'vm1'"]),
        ({"uuid": OTHER_UUID}, [f"the UUID is {OTHER_UUID} instead of {UUID}"]),
        ({"vcpus": (0, 1)}, ["the vCPUs online are (0, 1) instead of (0, 2)"]),
        ({"pins": {0: None}}, ["vCPU 0 may use the CPUs all instead of 1"]),
        ({"pins": {0: frozenset({1}), 2: frozenset({5})}}, []),
        ({"persistent": False}, ["it is transient instead of persistent"]),
    ],
)
def test_differences_between_meant_and_made(changes, words):
    assert differences(meant(), meant(**changes)) == words


def known(uuid, name_of_uuid=None, **state):
    return Namesakes(
        by_name=DomainState(known=uuid is not None, uuid=uuid or "", **state),
        name_of_uuid=name_of_uuid,
    )


def test_identity_of_a_domain_on_another_host():
    check_identity("vm1", UUID, "node02", known(None))
    check_identity("vm1", UUID, "node02", known(UUID, "vm1"))
    check_identity("vm1", None, "node02", known(OTHER_UUID))
    with pytest.raises(HypervisorError, match=f"name vm1 .UUID {OTHER_UUID}, not {UUID}"):
        check_identity("vm1", UUID, "node02", known(OTHER_UUID))
    with pytest.raises(HypervisorError, match=r"node02 has a domain old with the UUID .* of vm1"):
        check_identity("vm1", UUID, "node02", known(None, "old"))


def test_definition_on_another_host_gives_the_uuid():
    assert common_uuid("vm1", {}) is None
    assert common_uuid("vm1", {"b": known(None), "c": known(UUID), "d": known(UUID)}) == UUID
    with pytest.raises(HypervisorError, match=r"different domains have the name vm1 .UUID .* on b"):
        common_uuid("vm1", {"b": known(OTHER_UUID), "c": known(UUID)})


def test_start_is_compared_with_huge_pages_that_are_free_and_memory_that_nodes_have():
    hosts = FakeHosts()
    pages = {2048: 9}
    few, many = ({2048: count} for count in (3, 4))
    in_use = HostNode(total=8192, free=0, pages=pages, free_pages=few)
    hosts.source.set_nodes(in_use, HostNode(total=8191, free=8191, pages=pages, free_pages=few))

    def check(inner, **fields):
        xml = domain(memory=8192).replace("<os>", f"{inner}<os>")
        task = Start(xml=xml, probe_with_ssh=False, **fields)
        spec = StartSpec.of(task, None)
        whole = with_changes(xml, spec.changes)
        start_checks._check_room(hosts.source, "node01", hosts.runtime.options, spec, whole, None)

    check("<numatune><memory nodeset='0'/></numatune>")
    with pytest.raises(HypervisorError, match="8191 KiB of memory in total on its memory node 1"):
        check("", memnode_map=[[1]])
    huge = "<memoryBacking><hugepages/></memoryBacking>"
    check(huge)
    with pytest.raises(HypervisorError, match=r"has 3 huge pages of 2048 KiB free on .* node 0"):
        check(huge, memnode_map=[[0]])
    hosts.source.set_nodes(HostNode(total=9, free=9, pages=pages, free_pages=many))
    check(huge, memnode_map=[[0]])
