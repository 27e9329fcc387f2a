"""Saved images, snapshots and checkpoints: how they are read, and their effect on tasks."""

import asyncio
import errno

import msgspec
import pytest

from fastlib import DeviceIvshmem, PciAddress, PciId, Start, Stop
from fastlib.message.tasks import MigrateParameter
from fastlib.migfra import HypervisorError
from fastlib.migfra.hypervisors.libvirt.domain import control, creation, saved_state
from fastlib.migfra.hypervisors.libvirt.domain.saved_state import KeptData
from fastlib.migfra.hypervisors.libvirt.domain.snapshots import SnapshotRecord, is_internal
from fastlib.migfra.hypervisors.libvirt.domain.xml import parse
from fastlib.migfra.hypervisors.libvirt.migration.kept_data import refusal as migration_refusal
from fastlib.migfra.hypervisors.libvirt.tasks.recovery import recover
from fastlib.migfra.hypervisors.libvirt.tasks.start import PAUSED_RUN, start
from fastlib.migfra.hypervisors.libvirt.tasks.stop import stop
from fastlib.migfra.hypervisors.simulated import run_virtual
from fastlib.migfra.virt.migration_spec import MigrationSpec
from fastlib.migfra.virt.saved_state import SavedImage
from tests.support.libvirt.fake_domain import SHUT_OFF, UUID, refusal
from tests.support.libvirt.fake_libvirt import FakeDevice, FakeHosts

IMAGE = f"""<domain type='kvm'><name>vm1</name><uuid>{UUID}</uuid>
  <memory unit='KiB'>1024</memory><currentMemory unit='KiB'>512</currentMemory>
  <vcpu placement='static' current='2'>4</vcpu>
  <cputune><vcpupin vcpu='0' cpuset='0-2,5'/></cputune>
  <numatune><memory mode='strict' nodeset='0-1'/></numatune>
</domain>"""
KEEP_NVRAM, KEEP_TPM = 8, 64
FACTS = SavedImage(
    uuid=UUID,
    memory=1024,
    vcpus=2,
    maximum_vcpus=4,
    pinning={0: frozenset({0, 1, 2, 5})},
    memory_nodes=[frozenset({0, 1})],
)


def saved_domain(**options):
    hosts = FakeHosts(nodes=["node01", "node02"], **options)
    hosts.domain.state_now = [SHUT_OFF, 0]
    hosts.domain.saved_image = IMAGE
    hosts.source.node_devices = [FakeDevice("0000:01:02.0", 1, 2)]
    hosts.domain.on["create"] = lambda: restore(hosts.domain)
    return hosts


def restore(domain):
    if domain.saved_image is not None:
        domain.saved_image = None
        domain.state_now = [1, 3]


def do(hosts, task):
    function = start if isinstance(task, Start) else stop
    return asyncio.run(function(hosts.runtime, task, hosts.context))


def order(**parts):
    return Start(vm_name="vm1", probe_with_ssh=False, **parts)


# What is read


def test_image_is_read_from_its_file():
    hosts = saved_domain()
    assert saved_state.image(hosts.source, "vm1") == FACTS
    hosts.domain.saved_image = None
    assert saved_state.image(hosts.source, "vm1") is None
    assert saved_state.image(hosts.source, "vm9") is None
    hosts.source.images_left_behind["vm9"] = IMAGE
    assert saved_state.image(hosts.source, "vm9") == FACTS


@pytest.mark.parametrize("code", ["OPERATION_FAILED", "XML_ERROR", "XML_DETAIL", "SYSTEM_ERROR"])
def test_unreadable_image_has_its_problem(code):
    hosts = saved_domain()
    hosts.domain.refuses["managedSaveGetXMLDesc"] = refusal(code, "save image\n is incomplete")
    problem = SavedImage(problem="save image is incomplete")
    assert saved_state.image(hosts.source, "vm1") == problem


@pytest.mark.parametrize(("number", "is_image"), [(errno.EACCES, False), (errno.EIO, True)])
def test_unreadable_file_does_not_count_as_saved_image(number, is_image):
    """libvirt of a user's session may not read the folder of the system's libvirt."""
    hosts = saved_domain()

    def read(path, flags):
        raise refusal("SYSTEM_ERROR", f"Failed to open file '{path}'", number)

    hosts.source.saveImageGetXMLDesc = read
    assert (saved_state.image(hosts.source, "vm9") is not None) is is_image


@pytest.mark.parametrize("code", ["NO_DOMAIN", "OPERATION_DENIED", "ACCESS_DENIED"])
def test_refused_look_at_an_image_is_an_error(code):
    hosts = saved_domain()
    hosts.domain.refuses["managedSaveGetXMLDesc"] = error = refusal(code, "no")
    with pytest.raises(type(error)):
        saved_state.image(hosts.source, "vm1")


def test_image_of_another_domain_cannot_be_restored():
    hosts = saved_domain()
    hosts.domain.saved_image = IMAGE.replace(UUID, "0" * 36)
    found = saved_state.image(hosts.source, "vm1")
    assert found.problem == f"it belongs to another domain, with the UUID {'0' * 36}"


@pytest.mark.parametrize(
    ("xml", "nodes"),
    [
        ("", []),
        ("<numatune><memory mode='interleave' nodeset='0'/></numatune>", []),
        (
            "<numatune><memnode cellid='1' mode='strict' nodeset='3'/>"
            "<memnode cellid='0' mode='strict' nodeset='2'/></numatune>",
            [frozenset({2}), frozenset({3})],
        ),
    ],
)
def test_memory_nodes_are_those_of_a_strict_binding(xml, nodes):
    hosts = saved_domain()
    hosts.domain.saved_image = f"<domain><memory>1</memory>{xml}</domain>"
    assert saved_state.image(hosts.source, "vm1").memory_nodes == nodes


# Start


def test_start_restores_the_image_and_reports_it():
    hosts = saved_domain()
    assert do(hosts, order()) == "continued from its saved image"
    assert hosts.domain.isActive()


def test_domain_that_was_saved_while_paused_runs_after_the_start():
    hosts = saved_domain()
    hosts.domain.on["create"] = lambda: setattr(hosts.domain, "state_now", [3, 2])
    assert do(hosts, order()) == "continued from its saved image"
    assert hosts.domain.state_now[0] == 1


CHANGES = [
    {"memory": 2048},
    {"vcpus": 4},
    {"vcpus": 2},  # the image has 2 of 4
    {"vcpu_map": [[0]]},
    {"memnode_map": [[0]]},
    {"pci_ids": [PciId(vendor=1, device=2)]},
    {"devs": [PciAddress(bus=1, device=2, function=0)]},
    {"ivshmem": DeviceIvshmem(id="x", size="1M")},
]
XML = f"<domain type='kvm'><name>vm1</name><uuid>{UUID}</uuid><memory>1024</memory></domain>"


@pytest.mark.parametrize("saved_state", [None, "restore"])
@pytest.mark.parametrize(
    "task",
    [
        *(order(**change) for change in CHANGES),
        Start(xml=XML, probe_with_ssh=False),
    ],
    ids=lambda task: "-".join(task.emit()),
)
def test_start_is_refused_when_changes_would_be_lost(task, saved_state):
    hosts = saved_domain()
    with pytest.raises(HypervisorError, match="delete it with saved-state: discard"):
        do(hosts, Start(**{**fields(task), "saved_state": saved_state}))
    assert hosts.calls == []
    assert hosts.domain.saved_image == IMAGE


def fields(task):
    return {field: getattr(task, field) for field in task.__struct_fields__}


@pytest.mark.parametrize(("transient", "known"), [(False, True), (False, False), (True, False)])
def test_discard_deletes_the_image(transient, known):
    hosts = saved_domain()
    if not known:
        del hosts.source.domains["vm1"]
        hosts.source.images_left_behind["vm1"] = IMAGE
    task = Start(xml=XML, transient=transient, probe_with_ssh=False)
    with pytest.raises(HypervisorError, match="saved-state: discard"):
        do(hosts, task)
    assert hosts.calls == []
    found = do(hosts, Start(**{**fields(task), "saved_state": "discard"}))
    assert found == "its saved image is deleted"
    assert "node01: managedsave-remove" in hosts.calls
    assert hosts.source.domains["vm1"].saved_image is None
    assert hosts.source.images_left_behind == {}


@pytest.mark.parametrize("left_behind", [False, True])
def test_image_on_another_node_forbids_the_start(left_behind):
    hosts = saved_domain()
    hosts.domain.saved_image = None
    if left_behind:
        hosts.destination.images_left_behind["vm1"] = IMAGE
    else:
        there = type(hosts.domain)(state=SHUT_OFF)
        there.saved_image = IMAGE
        hosts.destination.add(there)
    with pytest.raises(HypervisorError, match="vm1 has a saved image on node02, which may have"):
        do(hosts, order())
    assert hosts.calls == []
    found = do(hosts, order(saved_state="discard"))
    if left_behind:
        assert "delete /var/lib/libvirt/qemu/save/vm1.save there" in found
    else:
        assert found == "its saved image is deleted on node02"
        assert there.saved_image is None


def test_image_of_another_domain_on_another_node_does_not_matter():
    hosts = saved_domain()
    hosts.domain.saved_image = None
    hosts.destination.images_left_behind["vm1"] = IMAGE.replace(UUID, "0" * 36)
    assert do(hosts, order()) is None


def test_failed_restore_keeps_the_image():
    hosts = saved_domain()
    hosts.domain.refuses["create"] = refusal("INTERNAL_ERROR", "Not a migration stream")
    with pytest.raises(HypervisorError, match=r"Not a migration stream.*its saved image is kept"):
        do(hosts, order())
    assert hosts.domain.saved_image == IMAGE


def test_image_that_appears_during_the_start_is_saved_again():
    """Otherwise the domain would run without the changes of the task."""
    hosts = saved_domain()
    hosts.domain.saved_image = None
    hosts.domain.on["create"] = lambda: setattr(hosts.domain, "state_now", [1, 3])
    with pytest.raises(HypervisorError, match="a saved image that was not there before the start"):
        do(hosts, order(memory=2048))
    assert hosts.domain.saved_image is not None
    assert "node01: destroy" not in hosts.calls


def test_image_that_vanishes_during_the_start_ends_it():
    """Another host may have deleted it to boot the domain there."""
    hosts = saved_domain()
    hosts.domain.on["create"] = lambda: setattr(hosts.domain, "saved_image", None)
    with pytest.raises(HypervisorError, match="the saved image of vm1 was deleted during the star"):
        do(hosts, order())
    assert not hosts.domain.isActive()
    assert "node01: resume" not in hosts.calls


def test_failed_start_says_that_the_image_is_deleted():
    hosts = saved_domain()
    hosts.domain.refuses["create"] = refusal("INTERNAL_ERROR", "no memory")
    with pytest.raises(HypervisorError, match="no memory; its saved image is deleted"):
        do(hosts, order(saved_state="discard"))


def test_start_that_fails_later_says_that_the_image_is_deleted():
    hosts = saved_domain()
    hosts.domain.refuses["attach"] = refusal("INTERNAL_ERROR", "no slot")
    task = order(saved_state="discard", devs=[PciAddress(bus=1, device=2, function=0)])
    with pytest.raises(HypervisorError, match=r"no slot.*; its saved image is deleted$"):
        do(hosts, task)
    assert not hosts.domain.isActive()


def test_restored_domain_is_saved_again_if_the_start_fails():
    hosts = saved_domain(probe_port=1)
    hosts.domain.on["create"] = lambda: (restore(hosts.domain), hosts.cancellation.cancel())
    with pytest.raises(HypervisorError):
        do(hosts, Start(vm_name="vm1", probe_hostname="127.0.0.1"))
    assert hosts.calls[-1] == "node01: managedsave"
    assert hosts.domain.saved_image is not None
    assert "node01: destroy" not in hosts.calls


@pytest.mark.parametrize("was_restoring", [False, True])
def test_interrupted_restore_of_a_paused_image_is_finished(was_restoring):
    hosts = saved_domain()
    hosts.domain.saved_image = None
    hosts.domain.state_now = [3, 2]
    hosts.context.save_state(**{"restores-image": was_restoring})
    recovering = recover(hosts.runtime, order(), hosts.context)
    if was_restoring:
        assert asyncio.run(recovering) == "found done after the daemon's restart"
        assert hosts.domain.state_now[0] == 1
    else:
        with pytest.raises(HypervisorError, match="vm1 is paused after a migration on node01"):
            asyncio.run(recovering)
        assert hosts.domain.state_now == [3, 2]


def test_recovery_waits_for_a_restore_in_progress():
    """libvirt continues it when the daemon is killed."""

    async def scenario():
        hosts = saved_domain()
        hosts.domain.state_now = [3, 2]
        hosts.domain.job = {}
        hosts.context.save_state(**{"restores-image": True})
        recovering = asyncio.create_task(recover(hosts.runtime, order(), hosts.context))
        await asyncio.sleep(60)
        assert hosts.calls == []
        hosts.domain.job = None
        assert await recovering == "found done after the daemon's restart"
        assert hosts.domain.state_now[0] == 1

    run_virtual(scenario())


def test_domain_that_ends_before_it_runs_is_an_error():
    hosts = saved_domain()
    hosts.domain.saved_image = None
    hosts.domain.on["create"] = lambda: setattr(hosts.domain, "state_now", [SHUT_OFF, 3])
    with pytest.raises(HypervisorError, match="vm1 has ended on node01 before it ran"):
        do(hosts, order())


def test_journal_names_a_transient_domain_only_when_it_may_run(monkeypatch):
    """Recovery resumes it without another check."""
    hosts = saved_domain()
    del hosts.source.domains["vm1"]
    hosts.source.images_left_behind["vm1"] = IMAGE
    found = []
    for module, name in ((creation, "check_made"), (saved_state, "remove")):
        function = getattr(module, name)

        def look(*arguments, function=function):
            found.append(hosts.context.saved_state.get(PAUSED_RUN))
            return function(*arguments)

        monkeypatch.setattr(module, name, look)
    task = Start(xml=XML, transient=True, saved_state="discard", probe_with_ssh=False)
    do(hosts, task)
    assert found == [None, None]
    assert PAUSED_RUN in hosts.context.saved_state


def test_restored_domain_that_runs_is_not_resumed_by_a_later_recovery():
    hosts = saved_domain()
    do(hosts, order())
    assert hosts.context.saved_state == {"restores-image": False}


# Stop


def test_undefine_does_not_delete_the_newest_memory():
    hosts = saved_domain()
    with pytest.raises(HypervisorError, match="has a saved image on node01 with its newest memory"):
        do(hosts, Stop(vm_name="vm1", undefine=True))
    assert hosts.calls == []
    found = do(hosts, Stop(vm_name="vm1", undefine=True, force=True))
    assert found == "vm1 was shut off already; its saved image is deleted"
    assert hosts.calls == ["node01: managedsave-remove", "node01: undefine"]


def test_stop_deletes_an_image_that_is_older_than_the_run():
    hosts = saved_domain()
    hosts.domain.state_now = [1, 1]
    found = do(hosts, Stop(vm_name="vm1", force=True))
    assert found == "its old saved image is deleted"
    assert hosts.domain.saved_image is None


def test_stop_keeps_an_image_of_another_domain():
    hosts = saved_domain()
    hosts.domain.state_now = [1, 1]
    hosts.domain.saved_image = other = IMAGE.replace(UUID, "0" * 36)
    assert do(hosts, Stop(vm_name="vm1", force=True)) is None
    assert hosts.domain.saved_image == other


def test_stop_keeps_an_image_that_is_being_made():
    hosts = saved_domain()
    hosts.domain.state_now = [1, 1]
    hosts.domain.job = {}
    assert saved_state.remove_old(hosts.source, "vm1") is False
    hosts.domain.state_now = [SHUT_OFF, 0]
    assert saved_state.remove_old(hosts.source, "vm1") is False
    assert hosts.domain.saved_image == IMAGE


@pytest.mark.parametrize("undefine", [False, True])
def test_stop_fails_when_the_domain_is_saved_instead(undefine):
    """libvirt-guests saves domains when the host shuts down."""
    hosts = saved_domain()
    hosts.domain.saved_image = None
    hosts.domain.state_now = [1, 1]

    def save():
        hosts.domain.saved_image = IMAGE
        hosts.domain.state_now = [SHUT_OFF, 5]

    hosts.domain.on["shutdown"] = save
    task = Stop(vm_name="vm1", undefine=undefine)
    with pytest.raises(
        HypervisorError, match="has not shut down on node01: it was saved in the meantime"
    ):
        run_virtual(stop(hosts.runtime, task, hosts.context))
    assert hosts.domain.saved_image == IMAGE
    assert hosts.calls == ["node01: shutdown"]


def test_undo_keeps_a_definition_that_has_a_saved_image():
    """libvirt restored an image that no check had seen, and the undo has saved it again."""
    hosts = saved_domain()
    del hosts.source.domains["vm1"]
    define = hosts.source.defineXML

    def define_with_image(xml):
        domain = define(xml)
        domain.on["create"] = lambda: setattr(domain, "state_now", [3, 2])
        return domain

    hosts.source.defineXML = define_with_image
    with pytest.raises(
        HypervisorError, match=r"not there before the start.*has a saved image with"
    ):
        do(hosts, Start(xml=XML, probe_with_ssh=False))
    assert hosts.source.domains["vm1"].saved_image is not None
    assert hosts.calls[-1] == "node01: managedsave"


@pytest.mark.parametrize("libvirt_knows_it", [False, True])
def test_undefine_keeps_the_state_of_the_tpm(libvirt_knows_it):
    """On shared storage it may belong to a domain that runs on another host."""
    hosts = saved_domain()
    asked = []

    def undefine(flags):
        if flags & KEEP_TPM and not libvirt_knows_it:
            raise refusal("INVALID_ARG", "unsupported flags (0x40) in function undefine")
        asked.append(flags)

    hosts.domain.undefineFlags = undefine
    control.undefine(hosts.source, "vm1")
    (flags,) = asked
    assert bool(flags & KEEP_TPM) is libvirt_knows_it
    assert flags & KEEP_NVRAM


# Migrations


def spec(kind):
    return MigrationSpec(
        name="vm1",
        source="node01",
        destination="node02",
        parameter=MigrateParameter(migration_type=kind),
    )


BARE, SAVED = KeptData(), KeptData(image=FACTS)
FIRST = SnapshotRecord(name="first", xml="<domainsnapshot/>")
EXTERNAL = KeptData(
    snapshots=[FIRST, SnapshotRecord(name="second", xml="<domainsnapshot/>", is_internal=False)]
)
REFUSED = [
    ("offline", SAVED, BARE, "has a saved image on node01 with its newest memory"),
    ("offline", BARE, SAVED, "node02 has a saved image of vm1, which a later start there would"),
    ("live", BARE, SAVED, "node02 has a saved image of vm1, which a later start there would"),
    ("live", SAVED, BARE, "node01 has a saved image of vm1 that is older than the running domain"),
    ("warm", SAVED, BARE, "node01 has a saved image of vm1 that is older than the running domain"),
    ("live", EXTERNAL, BARE, "vm1 has 1 external snapshot on node01"),
    ("offline", EXTERNAL, BARE, "which libvirt does not migrate: second; delete"),
    ("live", KeptData(checkpoints=1), BARE, "vm1 has 1 checkpoint on node01"),
    ("offline", KeptData(checkpoints=2), BARE, "vm1 has 2 checkpoints on node01"),
]


@pytest.mark.parametrize(("kind", "here", "there", "reason"), REFUSED)
def test_migration_is_refused_if_it_would_lose_or_outdate_kept_data(kind, here, there, reason):
    found = migration_refusal(spec(kind), here, there)
    assert reason in found
    assert "virsh" in found


@pytest.mark.parametrize("kind", ["live", "warm", "offline"])
def test_migration_without_kept_data_is_not_refused(kind):
    assert migration_refusal(spec(kind), BARE, BARE) is None
    there = msgspec.structs.replace(EXTERNAL, checkpoints=1)
    assert migration_refusal(spec(kind), BARE, there) is None
    assert migration_refusal(spec(kind), KeptData(snapshots=[FIRST]), BARE) is None


@pytest.mark.parametrize(
    ("xml", "is_internal_one"),
    [
        ("<memory snapshot='internal'/><disks><disk snapshot='internal'/></disks>", True),
        ("<memory snapshot='no'/><disks><disk snapshot='no'/></disks>", True),
        (
            "<memory snapshot='external' file='/m'/><disks><disk snapshot='internal'/></disks>",
            False,
        ),
        ("<disks><disk snapshot='internal'/><disk snapshot='external'/></disks>", False),
    ],
)
def test_snapshot_is_internal_if_no_part_has_a_file_of_its_own(xml, is_internal_one):
    assert is_internal(parse(f"<domainsnapshot>{xml}</domainsnapshot>")) == is_internal_one
