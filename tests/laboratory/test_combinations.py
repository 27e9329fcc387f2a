"""Test the table of options on real hosts: each pair works, or is refused.

Each order of `SHOWN` has several options, which are all in effect at once. With --long there is
also a migration for each pair that works.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import msgspec
import pytest

from fastlib import Migrate, MigrateParameter, SwapWith
from fastlib.migfra.hypervisors.libvirt.domain import emulator
from fastlib.migfra.virt import combinations
from fastlib.migfra.virt.combinations import Choice
from fastlib.migfra.virt.program_versions import version_text
from fastlib.transport import MqttOptions, connect
from tests.support.lab.bindings import assert_bound, assert_never_paused
from tests.support.lab.fleet import PATIENCE, Fleet, assert_error, assert_success
from tests.support.lab.libvirt_access import libvirt_of
from tests.support.lab.local_disks import LocalDisk, images_on, make_folder, remove_images
from tests.support.lab.qemu_certificates import certified
from tests.support.migration_options import (
    ALWAYS,
    LABORATORY,
    SHOWN,
    parameter_with,
    works_in_the_laboratory,
)

pytestmark = pytest.mark.laboratory
GUEST = {"dirty": 16, "rate": 32}
"""It writes more than the link of these migrations carries, so each reaches its timeout."""
SHARED_MEMORY = """\
<shmem name='shared'><model type='ivshmem-plain'/><size unit='M'>1</size></shmem>
"""


def orders(*, managed: bool, is_long: bool) -> list[Sequence[Choice]]:
    """Return the choices of each order to show, with the daemons managing the migration or not."""
    found = list(SHOWN)
    if is_long:
        pairs = (pair for pair in combinations.pairs() if works_in_the_laboratory(*pair))
        found += [pair for pair in pairs if combinations.OFFLINE not in pair]
    return [each for each in found if (combinations.MANAGED in each) is managed]


def _name(order: Sequence[Choice]) -> str:
    """Return a name for an order by its options."""
    texts = [each.value or each.option for each in order]
    return "+".join(texts if len(texts) == 2 else texts[len(ALWAYS) :])


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "choices" in metafunc.fixturenames:
        managed = metafunc.definition.get_closest_marker("managed") is not None
        is_long = metafunc.config.getoption("--long")
        found = orders(managed=managed, is_long=is_long)
        names = [_name(order) for order in found]
        metafunc.parametrize("choices", found, ids=names)


@pytest.fixture(autouse=True)
def certificates(request):
    """Give the hosts certificates for the tests of what works. The others must not need them."""
    if "choices" not in request.fixturenames:
        yield
        return
    with certified(request.getfixturevalue("fleet").lab):
        yield


@contextmanager
def answering_pscom(fleet: Fleet, name: str) -> Iterator[None]:
    """Let a pscom process of a domain answer to each request."""
    with connect(MqttOptions(host="127.0.0.1", port=fleet.lab.broker.port)) as process:
        process.subscribe(
            f"fast/pscom/{name}/any_proc/request",
            lambda message: process.send(b"done", f"fast/pscom/{name}/p0/response"),
        )
        yield


def check_shown(fleet: Fleet, choices: Sequence[Choice]) -> None:
    """Run the order, and check that each of its choices took effect."""
    parameter = parameter_with(choices)
    if combinations.ENCRYPTED not in choices:
        parameter = msgspec.structs.replace(parameter, encrypted=False)
    aborts = combinations.ABORT in choices
    if parameter.timeout is not None and not parameter.bandwidth_limit:
        parameter = msgspec.structs.replace(parameter, bandwidth_limit=20)
    if aborts:
        # Even compressed memory is not sent within the timeout.
        parameter = msgspec.structs.replace(parameter, bandwidth_limit=4)
    fleet.run_guest("hostA", "vm1", **GUEST)
    swaps = combinations.SWAP in choices
    if swaps:
        fleet.run_guest("hostB", "vm2")
    if combinations.DEVICES in choices:
        file = fleet.lab.layout.guests / "shared.xml"
        file.write_text(SHARED_MEMORY)
        fleet.lab.host("hostA").virsh("attach-device", "vm1", file, "--live")
    copies = next((each for each in choices if each.option == "copy-storage"), None)
    disks = [] if copies is None else [attach_disk(fleet, "vm1", "hostA", copies)]
    if swaps and copies is not None:
        disks.append(attach_disk(fleet, "vm2", "hostB", copies))
    with answering_pscom(fleet, "vm1"):
        handle = fleet.client.submit(
            "hostA", Migrate(vm_name="vm1", destination="hostB", parameter=parameter)
        )
        phases = []
        handle.on_progress(
            lambda progress: progress.vm_name == "vm1" and phases.append(progress.phase)
        )
        (result,) = handle.result(PATIENCE).results
    host = "hostA" if aborts else "hostB"
    if aborts:
        assert_error(result, "not finished within the timeout of 1 s", "vm1 runs on hostA")
    else:
        assert_success(result)
        assert result.encrypted is (combinations.ENCRYPTED in choices)
    if combinations.PAUSE in choices:
        assert "downtime" in phases
    if combinations.POST_COPY in choices:
        assert "post-copy" in phases
    fleet.assert_runs_only_on("vm1", host)
    if swaps:
        fleet.assert_runs_only_on("vm2", "hostB" if aborts else "hostA")
    if combinations.VCPU_MAP in choices and not aborts:
        nodes = ["0"] if combinations.MEMNODE_MAP in choices else None
        assert_bound(fleet.lab.host(host), "vm1", ["0"], nodes)
        if combinations.LIVE in choices and combinations.PAUSE not in choices:
            assert_never_paused(fleet.lab.host(host), "vm1")
    for disk in disks:
        is_moved = not aborts
        other = fleet.lab.host("hostB" if disk.host.name == "hostA" else "hostA")
        assert (disk.path.name in images_on(other)) is is_moved
        if is_moved:
            assert disk.on(other).digest == disk.digest
    if combinations.DEVICES in choices:
        assert "<shmem name='shared'" in fleet.lab.host(host).virsh("dumpxml", "vm1")


def attach_disk(fleet: Fleet, name: str, host: str, copies: Choice) -> LocalDisk:
    """Attach a disk to a running guest, which only the guest's host has."""
    kind = "overlay" if copies == combinations.COPY_INCREMENTAL else "qcow2"
    disk = LocalDisk(fleet.lab.host(host), name, kind)
    disk.write(b"")
    for other in ("hostA", "hostB"):
        make_folder(fleet.lab.host(other))
        if kind == "overlay" and other != host:
            disk.copy_backing(fleet.lab.host(other))
    file = fleet.lab.layout.guests / f"{name}-disk.xml"
    file.write_text(disk.xml.replace("dev='hda' bus='ide'", "dev='vdz' bus='virtio'"))
    fleet.lab.host(host).virsh("attach-device", name, file, "--live")
    return disk


@pytest.fixture(autouse=True)
def no_images(fleet: Fleet) -> Iterator[None]:
    """Remove the images of all hosts afterwards."""
    yield
    fleet.reset()
    for host in fleet.lab.hosts:
        remove_images(host)


def test_options_work_together(fleet, choices):
    check_shown(fleet, choices)


@pytest.mark.managed
def test_options_work_together_when_the_daemon_manages_the_migration(fleet, choices):
    check_shown(fleet, choices)


def test_laboratory_has_the_versions_of_the_table(fleet):
    for versions in LABORATORY:
        found = fleet.client.query(versions.host).result(PATIENCE).node.versions
        assert found["hypervisor"].startswith(f"QEMU {version_text(versions.hypervisor)}.")
        assert found["libvirt"].startswith(f"{version_text(versions.libvirt)}.")


def test_version_of_the_emulator_of_a_domain_decides(fleet):
    """The domain runs another emulator than the usual one, which the destination does not have."""
    host, usual = fleet.lab.host("hostA"), "/usr/bin/qemu-system-x86_64"
    host.run(["ln", "-sf", usual, "/run/other-qemu"])
    guest = fleet.lab.define_guest("vm1", bios=True)
    xml = guest.xml.replace(usual, "/run/other-qemu")
    assert_success(fleet.client.start("hostA", xml=xml, probe_with_ssh=False).result(PATIENCE))
    version = LABORATORY[0].hypervisor
    with libvirt_of(host) as connection:
        found = emulator.emulator_of(connection.lookupByName("vm1").XMLDesc(0))
        assert found.path == "/run/other-qemu"
        assert emulator.installed_version(connection, found) == version
        assert emulator.installed_version(connection, emulator.emulator_of(guest.xml)) == version
        assert emulator.process_version(connection, "vm1") == version
    moved = fleet.client.migrate("vm1", "hostA", "hostB", compression="mt")
    assert_error(moved.result(PATIENCE), "the QEMU version of hostB is unknown")
    assert fleet.lab.running_on("vm1") == ["hostA"]


def refused_orders() -> Iterator[tuple[MigrateParameter, str]]:
    """Yield the parameter of each order with two options that this laboratory must refuse."""
    for first, second in combinations.pairs():
        kinds = {first.kind, second.kind}
        if kinds - {"order", "condition"} or works_in_the_laboratory(first, second):
            continue
        if combinations.PAUSED in (first, second):
            continue  # the domain runs; see below
        rule = combinations.rule_for(first, second)
        if rule is None or rule.verdict != "no effect":
            yield parameter_with([first, second]), f"{first} with {second}"


def test_refused_options_change_nothing(fleet):
    """The domain has a device that would be detached, and its memory in a file."""
    guest = fleet.lab.define_guest("vm1", bios=True)
    xml = guest.xml.replace("</devices>", f"{SHARED_MEMORY}</devices>").replace(
        "<os>", "<memoryBacking><source type='file'/></memoryBacking><os>"
    )
    host = fleet.lab.host("hostA")
    assert_success(fleet.client.start("hostA", xml=xml, probe_with_ssh=False).result(PATIENCE))
    fleet.client.start("hostB", xml=fleet.lab.define_guest("vm2", bios=True).xml,
                       probe_with_ssh=False).result(PATIENCE)  # fmt: skip
    before = (host.virsh("dumpxml", "vm1"), fleet.domain_states())
    handles = [
        (pair, fleet.client.submit(
            "hostA", Migrate(vm_name="vm1", destination="hostB", parameter=parameter)
        ))
        for parameter, pair in refused_orders()
    ]  # fmt: skip
    assert len(handles) > 20
    for pair, handle in handles:
        (result,) = handle.result(PATIENCE).results
        assert result.status == "error", pair
        assert_error(result, "does not work with|needs (QEMU|libvirt)")
        assert handle.progress is None or handle.progress.phase == "check", pair
    assert (host.virsh("dumpxml", "vm1"), fleet.domain_states()) == before
    host.virsh("suspend", "vm1")
    moved = fleet.client.migrate(
        "vm1", "hostA", "hostB", migration_type="live", on_timeout="post-copy"
    )
    assert_error(moved.result(PATIENCE), "post-copy does not work with a domain that is paused")


def test_post_copy_with_connections_is_refused_and_the_domain_runs_on(fleet):
    """QEMU 7.2 aborts at the destination after the switch, and the domain would be lost."""
    fleet.run_guest("hostA", "vm1", **GUEST)
    options = {
        "migration_type": "live",
        "parallel_connections": 2,
        "on_timeout": "post-copy",
        "bandwidth_limit": 20,
    }
    moved = fleet.client.migrate("vm1", "hostA", "hostB", migration_timeout=3, **options)
    text = assert_error(moved.result(PATIENCE), "parallel-connections", "on-timeout: post-copy")
    assert "needs QEMU 10.1 or newer on both hosts, but hostA has QEMU 7.2" in text
    (evacuated,) = fleet.client.evacuate(
        "hostA", ["hostB"], migration_timeout=3, retry_counter=5, **options
    ).result(PATIENCE)
    assert_error(evacuated, "needs QEMU 10.1 or newer on both hosts")
    fleet.run_guest("hostB", "vm2")
    swapped = fleet.client.migrate(
        "vm1", "hostA", "hostB", migration_timeout=3, swap_with=SwapWith(vm_name="vm2"), **options
    )
    assert_error(swapped.result(PATIENCE), "needs QEMU 10.1 or newer", "nothing was swapped")
    fleet.assert_runs_only_on("vm1", "hostA")
    fleet.assert_runs_only_on("vm2", "hostB")


def test_offline_migration_ignores_how_memory_would_be_sent(fleet):
    """Options that no host supports are also ignored, because no memory is sent."""
    fleet.lab.define_guest("vm1", on="hostA", bios=True)
    ignored = [
        choice
        for choice in combinations.CHOICES
        if (rule := combinations.rule_for(combinations.OFFLINE, choice)) is not None
        and rule.verdict == "no effect"
        and choice.kind == "order"
        and choice.option not in ("compression", "on-timeout", "rdma-migration")
    ]
    hosts = ["hostA", "hostB"]
    for more in (combinations.ZSTD, combinations.ABORT, combinations.PAUSE):
        parameter = parameter_with([combinations.OFFLINE, more, *ignored])
        handle = fleet.client.submit(
            hosts[0], Migrate(vm_name="vm1", destination=hosts[1], parameter=parameter)
        )
        (result,) = handle.result(PATIENCE).results
        assert_success(result)
        assert fleet.domain_states()[hosts[0]] == {}
        assert fleet.domain_states()[hosts[1]] == {"vm1": "shut off"}
        hosts.reverse()
