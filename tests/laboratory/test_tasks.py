"""Every task, from message to result: daemons, broker, libvirt and QEMU are real."""

import pytest

from fastlib import DeviceIvshmem, PciId, SwapWith
from fastlib.transport import MqttOptions, connect
from tests.support.lab.fleet import PATIENCE, error, success

both_ways = pytest.mark.both_ways

pytestmark = pytest.mark.laboratory


def test_life_of_a_domain(clean):
    client = clean.client
    guest = clean.running("hostA", "vm1")
    error(
        client.start("hostB", xml=guest.xml, probe_with_ssh=False).result(PATIENCE),
        "vm1 is active on hostA already",
    )
    error(client.start("hostA", "vm1").result(PATIENCE), "vm1 runs on hostA already; stop it first")
    success(client.suspend("hostA", "vm1").result(PATIENCE))
    assert clean.lab.host("hostA").domains() == {"vm1": "paused"}
    report = client.query("hostA").result(PATIENCE).node
    assert [(each.name, each.state, each.memory) for each in report.domains] == [
        ("vm1", "paused", 96 * 1024)
    ]
    assert report.free_memory > 96 * 1024
    error(client.stop("hostA", "vm1").result(PATIENCE), "vm1 is paused.*resume it first")
    success(client.resume("hostA", "vm1").result(PATIENCE))
    success(client.repin("hostA", "vm1", [[0]]).result(PATIENCE))
    assert "0" in clean.lab.host("hostA").virsh("vcpupin", "vm1").split()[-1]
    clean.check("vm1", "hostA")
    success(client.stop("hostA", "vm1").result(PATIENCE))
    assert clean.lab.host("hostA").domains() == {"vm1": "shut off"}
    success(client.stop("hostA", "vm1", undefine=True).result(PATIENCE))
    assert clean.lab.host("hostA").domains() == {}


def test_start_with_another_size_and_shared_memory(clean):
    guest = clean.lab.define_guest("vm1")
    clean.guests["vm1"] = guest
    result = clean.client.start(
        "hostA",
        xml=guest.xml,
        transient=True,
        probe_with_ssh=False,
        memory=196608,
        vcpus=2,
        vcpu_map=[[0], [1]],
        ivshmem=DeviceIvshmem(id="vm1-shared", size="1M"),
    )
    success(result.result(PATIENCE))
    beat = guest.await_beat()
    assert beat.cpus == 2
    assert 128 * 1024 < beat.memory <= 196608
    assert "<shmem name='vm1-shared'>" in clean.lab.host("hostA").virsh("dumpxml", "vm1")
    moved = clean.client.migrate("vm1", "hostA", "hostB", migration_type="live")
    success(moved.result(PATIENCE))
    clean.check("vm1", "hostB")
    assert "<shmem name='vm1-shared'>" in clean.lab.host("hostB").virsh("dumpxml", "vm1")
    assert clean.lab.host("hostA").domains() == {}


def test_a_start_that_fails_leaves_nothing(clean):
    guest = clean.lab.define_guest("vm1", bios=True)
    result = clean.client.start(
        "hostA", xml=guest.xml, probe_with_ssh=False, pci_ids=[PciId(vendor=0x15B3, device=0x1004)]
    )
    error(result.result(PATIENCE), "hostA has no free PCI device 0x15b3:0x1004")
    assert clean.states() == {"hostA": {}, "hostB": {}}


def test_stop_those_that_match(clean):
    for name in ("vm1", "vm2", "other"):
        guest = clean.lab.define_guest(name, bios=True)
        success(clean.client.start("hostA", xml=guest.xml, probe_with_ssh=False).result(PATIENCE))
    results = clean.client.stop("hostA", regex="vm.", force=True).result(PATIENCE)
    assert [(each.vm_name, each.status) for each in results] == [
        ("vm1", "success"),
        ("vm2", "success"),
    ]
    assert clean.lab.running_on("other") == ["hostA"]


def test_a_guest_that_ignores_the_power_button(clean):
    guest = clean.lab.define_guest("vm1", bios=True)
    success(clean.client.start("hostA", xml=guest.xml, probe_with_ssh=False).result(PATIENCE))
    error(
        clean.client.stop("hostA", "vm1").result(PATIENCE),
        "has not shut down within 12 s and runs on",
        "force: true",
    )
    assert clean.lab.host("hostA").domains() == {"vm1": "running"}


@both_ways
@pytest.mark.parametrize("kind", ["live", "warm"])
def test_there_and_back(clean, kind):
    clean.running("hostA", "vm1")
    for source, destination in (("hostA", "hostB"), ("hostB", "hostA")):
        moved = clean.client.migrate("vm1", source, destination, migration_type=kind)
        success(moved.result(PATIENCE))
        clean.check("vm1", destination)
        assert clean.lab.host(source).domains() == {}


@both_ways
def test_offline(clean):
    error(
        clean.client.migrate("vm1", "hostA", "hostB", migration_type="offline").result(PATIENCE),
        "there is no domain vm1 on hostA",
    )
    clean.lab.define_guest("vm1", on="hostA", bios=True)
    success(
        clean.client.migrate("vm1", "hostA", "hostB", migration_type="offline").result(PATIENCE)
    )
    assert clean.states() == {"hostA": {}, "hostB": {"vm1": "shut off"}}
    error(
        clean.client.migrate("vm1", "hostB", "hostA").result(PATIENCE),
        "vm1 is shut off on hostB; start it first",
    )


@both_ways
def test_arrives_paused_and_pinned(clean):
    clean.running("hostA", "vm1", vcpus=2)
    moved = clean.client.migrate(
        "vm1", "hostA", "hostB", migration_type="live", vcpu_map=[[1], [0]], time_measurement=True
    ).result(PATIENCE)
    success(moved)
    assert {"migrate", "repin", "resume-vm1", "downtime-vm1", "overall"} <= set(
        moved.time_measurement.timings
    )
    clean.check("vm1", "hostB")
    for where in ("--live", "--config"):
        pins = clean.lab.host("hostB").virsh("vcpupin", "vm1", where).split()
        assert pins[-4:] == ["0", "1", "1", "0"]
    error(
        clean.client.migrate("vm1", "hostB", "hostA", vcpu_map=[[4096]]).result(PATIENCE),
        "the vcpu-map has CPU 4096, but hostA has the CPUs 0 to",
    )


@pytest.mark.parametrize(
    "options",
    [
        {"parallel_connections": 2},
        {"compression": "mt"},
        {"compression": "xbzrle"},
        {"max_downtime": 500, "auto_converge": True},
        {"bandwidth_limit": 200},
    ],
    ids=str,
)
def test_options(clean, options):
    clean.running("hostA", "vm1")
    moved = clean.client.migrate("vm1", "hostA", "hostB", migration_type="live", **options)
    success(moved.result(PATIENCE))
    clean.check("vm1", "hostB")


@pytest.mark.parametrize("transport", ["ssh", "tls"])
def test_transports(clean, transport):
    clean.running("hostA", "vm1")
    moved = clean.client.migrate(
        "vm1", "hostA", "hostB", migration_type="live", transport=transport
    )
    success(moved.result(PATIENCE))
    clean.check("vm1", "hostB")


def test_wrong_orders(clean):
    def migrate(**options):
        return clean.client.migrate("vm1", "hostA", "hostB", **options).result(PATIENCE)

    clean.lab.define_guest("vm1", on="hostA", bios=True)
    error(migrate(transport="carrier pigeon"), "there is no transport 'carrier pigeon'")
    error(migrate(compression="lzh"), "compression is one of mt, xbzrle, zlib, zstd, not 'lzh'")
    error(migrate(on_timeout="post-copy"), "post-copy needs migration-type: live")
    error(
        clean.client.migrate("vm1", "hostA", "nowhere").result(PATIENCE),
        "libvirt on nowhere has a name that is not known",
    )
    error(
        clean.client.migrate("vm1", "hostA", "hostA").result(PATIENCE),
        "vm1 is on hostA, and is to go there as well",
    )
    clean.client.start("hostA", "vm1", probe_with_ssh=False).result(PATIENCE)
    clean.lab.define_guest("vm1", on="hostB", bios=True)
    error(migrate(), "hostB has another domain with the name vm1 .UUID")
    assert clean.lab.running_on("vm1") == ["hostA"]


def test_what_starts_with_its_host_does_so_on_the_other(clean):
    clean.running("hostA", "vm1")
    clean.lab.host("hostA").virsh("autostart", "vm1")
    moved = clean.client.migrate("vm1", "hostA", "hostB", migration_type="live")
    success(moved.result(PATIENCE))
    facts = clean.lab.host("hostB").virsh("dominfo", "vm1")
    assert any(line.split() == ["Autostart:", "enable"] for line in facts.splitlines())


@pytest.mark.parametrize("wanted", ["auto", "2"])
def test_processes_that_are_suspended_meanwhile(clean, wanted):
    """For `auto` they are counted by SSH, for which the domain has the name of a host here."""
    host = clean.lab.host("hostB")
    clean.running("hostA", "hostB")
    options = MqttOptions(host="127.0.0.1", port=clean.lab.broker.port)
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
            moved = clean.client.migrate(
                "hostB", "hostA", "hostB", migration_type="live", pscom_hook_procs=wanted,
                time_measurement=True,
            ).result(PATIENCE)  # fmt: skip
        finally:
            for process in host.processes:
                if process.argv and process.argv[0] == "sleep":
                    process.kill()
    success(moved)
    assert asked == [b"suspend", b"resume"]
    assert {"pscom-suspend-hostB", "pscom-resume-hostB"} <= set(moved.time_measurement.timings)
    clean.check("hostB", "hostB")


def test_processes_that_do_not_answer(clean):
    clean.running("hostA", "vm1")
    moved = clean.client.migrate("vm1", "hostA", "hostB", pscom_hook_procs="2")
    error(
        moved.result(PATIENCE),
        "0 of 2 pscom processes in vm1 have answered to suspend within 2 s",
        "vm1 runs on hostA",
    )
    clean.check("vm1", "hostA")


@pytest.mark.both_ways(nightly=True)
@pytest.mark.parametrize("kind", ["live", "warm"])
def test_swap(clean, kind):
    clean.running("hostA", "vm1")
    clean.running("hostB", "vm2")
    swapped = clean.client.migrate(
        "vm1",
        "hostA",
        "hostB",
        migration_type=kind,
        swap_with=SwapWith(vm_name="vm2", vcpu_map=[[0]]),
    )
    success(swapped.result(PATIENCE))
    clean.check("vm1", "hostB")
    clean.check("vm2", "hostA")
    assert clean.lab.host("hostA").virsh("vcpupin", "vm2").split()[-2:] == ["0", "0"]


def test_swap_with_one_that_is_not_there(clean):
    clean.running("hostA", "vm1")
    swapped = clean.client.migrate("vm1", "hostA", "hostB", swap_with="vm2")
    error(swapped.result(PATIENCE), "vm2 does not run on hostB; nothing was swapped")
    clean.check("vm1", "hostA")
