"""Run every task from message to result, with real daemons, broker, libvirt and QEMU."""

import os
import subprocess
from pathlib import Path

import pytest

from fastlib import DeviceIvshmem, PciId, SwapWith
from fastlib.migfra.virt.domain_xml_policy import check_domain_xml
from fastlib.migfra.virt.xml_values import XmlPolicy
from fastlib.transport import MqttOptions, connect
from tests.support.lab.fleet import PATIENCE, SHORT_WAITS, assert_error, assert_success
from tests.support.lab.hung_folder import hung_folder
from tests.support.lab.saved_guests import BOOT_PATIENCE
from tests.support.waiting import wait_until

both_modes = pytest.mark.both_modes

pytestmark = pytest.mark.laboratory


def test_domain_goes_through_all_states(fleet):
    client = fleet.client
    guest = fleet.boot_guest("hostA", "vm1")
    assert_error(
        client.start("hostB", xml=guest.xml, probe_with_ssh=False).result(PATIENCE),
        "vm1 is active on hostA already",
    )
    assert_error(
        client.start("hostA", "vm1").result(PATIENCE), "vm1 runs on hostA already; stop it first"
    )
    assert_success(client.suspend("hostA", "vm1").result(PATIENCE))
    assert fleet.lab.host("hostA").domains() == {"vm1": "paused"}
    report = client.query("hostA").result(PATIENCE).node
    assert [(each.name, each.state, each.memory) for each in report.domains] == [
        ("vm1", "paused", 96 * 1024)
    ]
    assert report.free_memory > 96 * 1024
    assert_error(client.stop("hostA", "vm1").result(PATIENCE), "vm1 is paused.*resume it first")
    assert_success(client.resume("hostA", "vm1").result(PATIENCE))
    assert_success(client.repin("hostA", "vm1", [[0]]).result(PATIENCE))
    assert "0" in fleet.lab.host("hostA").virsh("vcpupin", "vm1").split()[-1]
    fleet.assert_runs_only_on("vm1", "hostA")
    assert_success(client.stop("hostA", "vm1").result(PATIENCE))
    assert fleet.lab.host("hostA").domains() == {"vm1": "shut off"}
    assert_success(client.stop("hostA", "vm1", undefine=True).result(PATIENCE))
    assert fleet.lab.host("hostA").domains() == {}


@pytest.fixture
def pools(fleet):
    """The hosts' own folders of two storage pools, `good` and `hung`, both active on hostA."""
    host = fleet.lab.host("hostA")
    folders = {name: Path("/var/lib/fastlib-pools") / name for name in ("good", "hung")}
    for name, folder in folders.items():
        host.run(["mkdir", "--parents", folder])
        host.virsh("pool-define-as", name, "dir", "--target", folder)
        host.virsh("pool-start", name)
    yield folders
    for name in folders:
        host.run(["virsh", "pool-destroy", name], check=False)  # a failed refresh stopped it
        host.virsh("pool-undefine", name)


def test_query_shows_the_hardware_and_the_pools_also_if_one_hangs(fleet, pools):
    """A refresh of the pool `hung` holds libvirt's lock of it, because its file system hangs."""
    host = fleet.lab.host("hostA")

    def report():
        return fleet.client.query("hostA").result(PATIENCE).node

    def rows():
        return {pool.name: pool for pool in report().storage_pools or ()}

    def answering(name):
        """Wait for a whole report of a pool: on a busy machine, libvirt may answer too late."""

        def report_of_pool():
            row = rows().get(name)
            return row if row is not None and row.details is None else None

        return wait_until(report_of_pool, f"the pool {name} answers")

    def good_beside_hung_one():
        found = rows()
        is_hung = "hung" in found and found["hung"].details is not None
        return found["good"] if is_hung and found["good"].free else None

    first = report()
    on_nodes = [cpu for node in first.numa_nodes for cpu in node.cpus]
    assert len(set(on_nodes)) == len(on_nodes) == os.cpu_count()
    assert all(node.memory > node.free_memory > 0 for node in first.numa_nodes)
    assert {pages.size for pages in first.huge_pages} == {
        int(folder.name.removeprefix("hugepages-").removesuffix("kB"))
        for folder in Path("/sys/kernel/mm/hugepages").iterdir()
    }
    assert all(pages.total >= pages.free >= 0 for pages in first.huge_pages)
    assert first.cpu_vendor in ("AMD", "Intel")
    good = answering("good")
    assert (good.type, good.path, good.state) == ("dir", str(pools["good"]), "running")
    assert good.capacity > good.free > 0
    answering("hung")
    with hung_folder(host, pools["hung"]):
        refresh = host.popen(["virsh", "pool-refresh", "hung"], stderr=subprocess.DEVNULL)
        hung = wait_until(
            lambda: (row := rows().get("hung")) and row.details and row, "the pool hangs"
        )
        assert "libvirt does not answer" in hung.details
        assert (hung.type, hung.path, hung.state, hung.free) == (None, None, None, None)
        for _ in range(8):  # more than libvirt serves for a connection at the same time
            good = wait_until(good_beside_hung_one, "the other pool answers")
            assert good.path == str(pools["good"])
    refresh.wait(PATIENCE)
    answering("hung")


def test_query_is_answered_after_the_daemon_was_away(fleet):
    """The client asks again then; the fixture checks that each request has at most one answer."""
    client, daemon = fleet.client, fleet.daemons["hostB"]
    client.query("hostB").result(PATIENCE)
    daemon.kill()
    wait_until(lambda: client.presence("hostB").status == "offline", "hostB is offline")
    handle = client.query("hostB")
    daemon.start()
    assert handle.result(PATIENCE).node.host == "hostB"


def test_start_sets_size_and_shared_memory(fleet):
    guest = fleet.lab.define_guest("vm1")
    fleet.guests["vm1"] = guest
    result = fleet.client.start(
        "hostA",
        xml=guest.xml,
        transient=True,
        probe_with_ssh=False,
        memory=196608,
        vcpus=2,
        vcpu_map=[[0], [1]],
        ivshmem=DeviceIvshmem(id="vm1-shared", size="1M"),
    )
    assert_success(result.result(PATIENCE))
    beat = guest.wait_for_heartbeat(patience=BOOT_PATIENCE)
    assert beat.cpus == 2
    assert 128 * 1024 < beat.memory <= 196608
    assert "<shmem name='vm1-shared'>" in fleet.lab.host("hostA").virsh("dumpxml", "vm1")
    moved = fleet.client.migrate("vm1", "hostA", "hostB", migration_type="live")
    assert_success(moved.result(PATIENCE))
    fleet.assert_runs_only_on("vm1", "hostB")
    assert "<shmem name='vm1-shared'>" in fleet.lab.host("hostB").virsh("dumpxml", "vm1")
    assert fleet.lab.host("hostA").domains() == {}


def test_failed_start_leaves_nothing(fleet):
    guest = fleet.lab.define_guest("vm1", bios=True)
    result = fleet.client.start(
        "hostA", xml=guest.xml, probe_with_ssh=False, pci_ids=[PciId(vendor=0x15B3, device=0x1004)]
    )
    assert_error(result.result(PATIENCE), "hostA has no free PCI device 0x15b3:0x1004")
    assert not any(fleet.domain_states().values())


def test_stop_ends_matching_domains(fleet):
    for name in ("vm1", "vm2", "other"):
        guest = fleet.lab.define_guest(name, bios=True)
        assert_success(
            fleet.client.start("hostA", xml=guest.xml, probe_with_ssh=False).result(PATIENCE)
        )
    results = fleet.client.stop("hostA", regex="vm.", force=True).result(PATIENCE)
    assert [(each.vm_name, each.status) for each in results] == [
        ("vm1", "success"),
        ("vm2", "success"),
    ]
    assert fleet.lab.running_on("other") == ["hostA"]


@both_modes
@pytest.mark.parametrize("kind", ["live", "warm"])
def test_migration_there_and_back(fleet, kind):
    """With this downtime, QEMU before 9.0 loses hardly a write of an emulated CPU."""
    options = {"max_downtime": 5000} if kind == "live" else {}
    fleet.run_guest("hostA", "vm1")
    for source, destination in (("hostA", "hostB"), ("hostB", "hostA")):
        moved = fleet.client.migrate("vm1", source, destination, migration_type=kind, **options)
        assert_success(moved.result(PATIENCE))
        fleet.assert_runs_only_on("vm1", destination)
        assert fleet.lab.host(source).domains() == {}


@both_modes
def test_offline_migration_moves_the_definition(fleet):
    assert_error(
        fleet.client.migrate("vm1", "hostA", "hostB", migration_type="offline").result(PATIENCE),
        "there is no domain vm1 on hostA",
    )
    fleet.lab.define_guest("vm1", on="hostA", bios=True)
    fleet.lab.host("hostA").virsh("autostart", "vm1")
    assert_success(
        fleet.client.migrate("vm1", "hostA", "hostB", migration_type="offline").result(PATIENCE)
    )
    facts = fleet.lab.host("hostB").virsh("dominfo", "vm1")
    assert any(line.split() == ["Autostart:", "enable"] for line in facts.splitlines())
    assert fleet.domain_states() == {"hostA": {}, "hostB": {"vm1": "shut off"}, "hostC": {}}
    assert_error(
        fleet.client.migrate("vm1", "hostB", "hostA").result(PATIENCE),
        "vm1 is shut off on hostB; start it first",
    )


@both_modes
def test_migration_pins_vcpus_at_the_destination(fleet):
    """The guest stands still meanwhile: QEMU before 9.0 loses writes of emulated CPUs."""
    fleet.run_guest("hostA", "vm1", vcpus=2)
    moved = fleet.client.migrate(
        "vm1", "hostA", "hostB", migration_type="warm", vcpu_map=[[1], [0]], time_measurement=True
    ).result(PATIENCE)
    assert_success(moved)
    timings = set(moved.time_measurement.timings)
    assert {"migrate", "resume-vm1", "downtime-vm1", "overall"} <= timings
    assert "repin" not in timings
    fleet.assert_runs_only_on("vm1", "hostB")
    for where in ("--live", "--config"):
        pins = fleet.lab.host("hostB").virsh("vcpupin", "vm1", where).split()
        assert pins[-4:] == ["0", "1", "1", "0"]
    assert_error(
        fleet.client.migrate("vm1", "hostB", "hostA", vcpu_map=[[4096]]).result(PATIENCE),
        "the vcpu-map has CPU 4096, but hostA has the CPUs 0 to",
    )


def test_migration_uses_each_transport(fleet):
    """One guest migrates back and forth; the options of sending are in test_combinations.py.

    A busy machine may need longer than the connect-timeout for SSH, and then tries again.
    """
    fleet.run_guest("hostA", "vm1")
    for transport, source, destination in (("ssh", "hostA", "hostB"), ("tls", "hostB", "hostA")):
        result = fleet.client.migrate(
            "vm1", source, destination, migration_type="live", transport=transport,
            retry_counter=20,
        ).result(PATIENCE)  # fmt: skip
        assert result.status == "success", (transport, result.details)
        fleet.assert_runs_only_on("vm1", destination)


def test_wrong_migrations_are_refused(fleet):
    def migrate(**options):
        return fleet.client.migrate("vm1", "hostA", "hostB", **options).result(PATIENCE)

    fleet.lab.define_guest("vm1", on="hostA", bios=True)
    assert_error(migrate(transport="carrier pigeon"), "unknown transport 'carrier pigeon'")
    assert_error(
        migrate(compression="lzh"), "compression must be one of mt, xbzrle, zlib, zstd, not 'lzh'"
    )
    assert_error(migrate(on_timeout="post-copy"), "post-copy needs migration-type: live")
    assert_error(
        fleet.client.migrate("vm1", "hostA", "nowhere").result(PATIENCE),
        "libvirt on nowhere has an unknown name",
    )
    assert_error(
        fleet.client.migrate("vm1", "hostA", "hostA").result(PATIENCE),
        "vm1 is on hostA, which is also the destination",
    )
    fleet.client.start("hostA", "vm1", probe_with_ssh=False).result(PATIENCE)
    fleet.lab.define_guest("vm1", on="hostB", bios=True)
    assert_error(migrate(), "hostB has another domain with the name vm1 .UUID")
    assert fleet.lab.running_on("vm1") == ["hostA"]


def test_migration_keeps_autostart(fleet):
    fleet.run_guest("hostA", "vm1")
    fleet.lab.host("hostA").virsh("autostart", "vm1")
    moved = fleet.client.migrate("vm1", "hostA", "hostB", migration_type="live")
    assert_success(moved.result(PATIENCE))
    facts = fleet.lab.host("hostB").virsh("dominfo", "vm1")
    assert any(line.split() == ["Autostart:", "enable"] for line in facts.splitlines())


@pytest.mark.parametrize("wanted", ["auto", "2"])
def test_pscom_processes_are_suspended_during_migration(fleet, wanted):
    """For `auto` they are counted by SSH, for which the domain has the name of a host here."""
    host = fleet.lab.host("hostB")
    fleet.run_guest("hostA", "hostB")
    options = MqttOptions(host="127.0.0.1", port=fleet.lab.broker.port)
    asked = []
    shell = ["sh", "-c", "cp /bin/sh /run/hydra_pmi_proxy && exec /run/hydra_pmi_proxy -c "
             "'sleep 3600 & sleep 3600 & echo there; wait'"]  # fmt: skip
    with (
        connect(options) as processes,
        host.popen(shell, stdout=-1, text=True) as proxy,
    ):
        try:
            assert proxy.stdout.readline() == "there\n"

            def answer(message):
                asked.append(message.payload)
                for number in range(2):
                    processes.send(b"done", f"fast/pscom/hostB/p{number}/response")

            processes.subscribe("fast/pscom/hostB/any_proc/request", answer)
            moved = fleet.client.migrate(
                "hostB", "hostA", "hostB", migration_type="live", pscom_hook_procs=wanted,
                time_measurement=True,
            ).result(PATIENCE)  # fmt: skip
        finally:
            for process in host.processes:
                if process.argv and process.argv[0] == "sleep":
                    process.kill()
    assert_success(moved)
    assert asked == [b"suspend", b"resume"]
    assert {"pscom-suspend-hostB", "pscom-resume-hostB"} <= set(moved.time_measurement.timings)
    fleet.assert_runs_only_on("hostB", "hostB")


@pytest.mark.both_modes(only_long=True)
@pytest.mark.parametrize("kind", ["live", "warm"])
def test_swap_exchanges_two_domains(fleet, kind):
    fleet.run_guest("hostA", "vm1")
    fleet.run_guest("hostB", "vm2")
    swapped = fleet.client.migrate(
        "vm1",
        "hostA",
        "hostB",
        migration_type=kind,
        swap_with=SwapWith(vm_name="vm2", vcpu_map=[[0]]),
    )
    assert_success(swapped.result(PATIENCE))
    fleet.assert_runs_only_on("vm1", "hostB")
    fleet.assert_runs_only_on("vm2", "hostA")
    assert fleet.lab.host("hostA").virsh("vcpupin", "vm2").split()[-2:] == ["0", "0"]


def test_swap_with_an_absent_domain_is_refused(fleet):
    fleet.run_guest("hostA", "vm1")
    swapped = fleet.client.migrate("vm1", "hostA", "hostB", swap_with="vm2")
    assert_error(swapped.result(PATIENCE), "vm2 does not run on hostB; nothing was swapped")
    fleet.assert_runs_only_on("vm1", "hostA")


def test_xml_reaches_programs_and_files_of_the_host_only_at_level_any(fleet, tmp_path):
    """An interface's script runs as root, and a disk is a file that only root may read."""
    marker, secret, script = (tmp_path / name for name in ("marker", "secret", "script"))
    script.write_text(f"#!/bin/sh\nid -u > {marker}\n")
    script.chmod(0o755)
    secret.write_bytes(bytes(512))
    secret.chmod(0o600)
    before = secret.stat()
    guest = fleet.lab.define_guest("vm1", bios=True)
    run_script = guest.xml.replace(
        "</devices>", f"<interface type='ethernet'><script path='{script}'/></interface></devices>"
    )
    read_secret = guest.xml.replace(
        "</devices>",
        f"<disk type='file'><source file='{secret}'/><target dev='hda'/></disk></devices>",
    )

    def start(xml):
        task = fleet.client.start("hostA", xml=xml, transient=True, probe_with_ssh=False)
        return task.result(PATIENCE)

    for xml in (run_script, read_secret):
        assert_success(start(xml))
        assert_success(fleet.client.stop("hostA", "vm1", force=True).result(PATIENCE))
    assert marker.read_text() == "0\n"

    marker.unlink()
    emulators = "emulators: [/usr/bin/qemu-system-x86_64]"
    fleet.configure({**SHORT_WAITS, "domain-xml": f"{{allow: checked, {emulators}}}"})
    assert_error(start(run_script), "'ethernet' as <devices> <interface type>")
    assert_error(start(run_script.replace("ethernet", "bridge")), "<devices> <interface> <script>")
    assert_error(start(read_secret), f"'{secret}' as <devices> <disk> <source file>")
    assert fleet.lab.host("hostA").domains() == {}
    assert not marker.exists()
    assert (secret.stat().st_uid, secret.stat().st_mode) == (before.st_uid, before.st_mode)
    honest = fleet.client.start("hostA", xml=guest.xml, probe_with_ssh=False)
    assert_success(honest.result(PATIENCE))
    dumped = fleet.lab.host("hostA").virsh("dumpxml", "--inactive", "vm1")
    check_domain_xml(dumped, XmlPolicy(emulators=["/usr/bin/qemu-system-x86_64"]))


class TestShortTimeouts:
    @pytest.fixture
    def daemon_options(self):
        return {"stop-timeout": 3, "pscom-timeout": 3}

    def test_stop_fails_when_the_guest_ignores_the_power_button(self, fleet):
        guest = fleet.lab.define_guest("vm1", bios=True)
        assert_success(
            fleet.client.start("hostA", xml=guest.xml, probe_with_ssh=False).result(PATIENCE)
        )
        assert_error(
            fleet.client.stop("hostA", "vm1").result(PATIENCE),
            "has not shut down within 3 s and runs on",
            "force: true",
        )
        assert fleet.lab.host("hostA").domains() == {"vm1": "running"}

    def test_migration_fails_when_pscom_processes_do_not_answer(self, fleet):
        fleet.run_guest("hostA", "vm1")
        moved = fleet.client.migrate("vm1", "hostA", "hostB", pscom_hook_procs="2")
        assert_error(
            moved.result(PATIENCE),
            "0 of 2 pscom processes in vm1 have answered to suspend within 3 s",
            "vm1 runs on hostA",
        )
        fleet.assert_runs_only_on("vm1", "hostA")
