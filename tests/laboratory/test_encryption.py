"""Encrypted migrations between real hosts: what crosses the network, and what is refused."""

import pytest

from fastlib import SwapWith
from tests.support.certificates import DAY, Authority
from tests.support.lab import qemu_certificates
from tests.support.lab.capture import Capture
from tests.support.lab.fleet import PATIENCE, assert_error, assert_success
from tests.support.lab.local_disks import PATTERN as DISK_PATTERN
from tests.support.lab.local_disks import LocalDisk, make_folder, remove_images
from tests.support.lab.qemu_certificates import FOLDER, certified

pytestmark = pytest.mark.laboratory
PATTERN = "beat count="
"""A text in the memory of each guest with Linux: the program that writes the beats has it."""
LEAST_BYTES = 4 << 20
"""Less than what a guest's memory takes on the network."""


@pytest.fixture
def authority(fleet):
    with certified(fleet.lab) as authority:
        yield authority


def migrate(fleet, **options):
    """Migrate vm1. It stands still meanwhile: QEMU before 9.0 loses writes of an emulated CPU in a
    live migration, and most when encryption makes that slow.
    """
    options = {"migration_type": "warm", **options}
    return fleet.client.migrate("vm1", "hostA", "hostB", **options).result(PATIENCE)


def assert_refused(fleet, *patterns, **options):
    """The migration is refused before anything moves, and the guest runs on."""
    before = fleet.lab.host("hostA").virsh("dumpxml", "vm1")
    assert_error(migrate(fleet, **options), "vm1 cannot be sent encrypted: ", *patterns)
    assert fleet.lab.host("hostA").virsh("dumpxml", "vm1") == before
    assert fleet.lab.running_on("vm1") == ["hostA"]


@pytest.fixture
def disk(fleet):
    """A disk of hostA alone. Afterwards its images are removed."""
    for host in fleet.lab.hosts:
        remove_images(host)
        make_folder(host)
    yield LocalDisk(fleet.lab.host("hostA"), "vm1")
    fleet.reset()
    for host in fleet.lab.hosts:
        remove_images(host)


def test_memory_and_disk_are_readable_on_the_network_only_without_encryption(
    fleet, disk, add_figure
):
    fleet.run_guest("hostA", "vm1", disk=disk)
    options = {"migration_type": "live", "copy_storage": "all", "source_disks": "remove"}
    patterns = (PATTERN, DISK_PATTERN)
    with Capture(fleet.lab, "hostA", *patterns) as plain:
        result = fleet.client.migrate("vm1", "hostA", "hostB", **options).result(PATIENCE)
    assert_success(result)
    assert result.encrypted is False
    fleet.assert_runs_only_on("vm1", "hostB")
    with certified(fleet.lab), Capture(fleet.lab, "hostB", *patterns) as encrypted:
        result = fleet.client.migrate("vm1", "hostB", "hostA", **options).result(PATIENCE)
    assert_success(result)
    assert result.encrypted is True
    fleet.assert_runs_only_on("vm1", "hostA")
    for what, pattern in (("memory", PATTERN), ("disk", DISK_PATTERN)):
        add_figure(
            f"packets with a text of the guest's {what}: {plain.hits[pattern]} of "
            f"{plain.bytes >> 20} MiB without encryption, {encrypted.hits[pattern]} of "
            f"{encrypted.bytes >> 20} MiB with it"
        )
    assert min(plain.bytes, encrypted.bytes) > LEAST_BYTES
    assert min(plain.hits.values()) > 0
    assert set(encrypted.hits.values()) == {0}


@pytest.mark.both_modes
def test_each_kind_of_migration_is_encrypted(fleet, authority):
    fleet.run_guest("hostA", "vm1")
    fleet.run_guest("hostB", "vm2")
    with Capture(fleet.lab, "hostA", PATTERN) as capture:
        swapped = migrate(fleet, swap_with=SwapWith(vm_name="vm2"), encrypted=True)
        assert_success(swapped)
        evacuated = fleet.client.evacuate("hostA", ["hostC"], encrypted=True).result(PATIENCE)
    for result in (swapped, *evacuated):
        assert_success(result)
        assert result.encrypted is True
    assert [result.vm_name for result in evacuated] == ["vm2"]
    assert (capture.hits, capture.bytes > LEAST_BYTES) == ({PATTERN: 0}, True)
    fleet.assert_runs_only_on("vm1", "hostB")
    fleet.assert_runs_only_on("vm2", "hostC")
    plain = fleet.client.migrate("vm2", "hostC", "hostA", encrypted=False).result(PATIENCE)
    assert_success(plain)
    assert plain.encrypted is False


def test_foreign_certificate_is_refused_and_the_domain_runs_on(fleet, authority):
    guest = fleet.run_guest("hostA", "vm1")
    foreign = Authority("somebody else").qemu_files("hostB")
    qemu_certificates.install(fleet.lab.host("hostB"), foreign)
    for options in ({}, {"encrypted": True}):
        assert_refused(
            fleet,
            f"{FOLDER}/server-cert.pem on hostB must be signed by an authority of "
            f"{FOLDER}/ca-cert.pem on hostA",
            "CN=somebody else signed it",
            **options,
        )
    guest.wait_for_heartbeat(guest.wait_for_heartbeat())
    # The destination does not trust the source either, if only the source trusts both.
    both = {**authority.qemu_files("hostA")}
    both["ca-cert.pem"] += foreign["ca-cert.pem"]
    qemu_certificates.install(fleet.lab.host("hostA"), both)
    assert_refused(fleet, f"{FOLDER}/client-cert.pem on hostA must be signed by an authority of")
    fleet.assert_runs_only_on("vm1", "hostA")


def test_each_unusable_certificate_is_named(fleet, authority):
    fleet.run_guest("hostA", "vm1")
    source, destination = fleet.lab.host("hostA"), fleet.lab.host("hostB")
    good = authority.qemu_files("hostB")
    old = authority.issue("hostB", ["hostB"], end=-DAY / 24)
    other = authority.issue("hostC", ["hostC"])
    for file, data, pattern in (
        ("server-cert.pem", None, "hostB has no /etc/pki/qemu/server-cert.pem; put it there"),
        ("server-key.pem", None, "hostB has no /etc/pki/qemu/server-key.pem; put it there"),
        ("ca-cert.pem", None, "hostB has no /etc/pki/qemu/ca-cert.pem; put it there"),
        ("server-cert.pem", old.pem, "server-cert.pem on hostB has expired: CN=hostB was valid"),
        ("server-cert.pem", other.pem, "must be for hostB, but it is for hostC"),
        ("server-cert.pem", b"no", "must have a certificate in PEM"),
    ):
        files = {**good, file: data} if data else {n: d for n, d in good.items() if n != file}
        qemu_certificates.install(destination, files)
        assert_refused(fleet, pattern, encrypted=True)
    qemu_certificates.install(destination, good)
    own = authority.qemu_files("hostA")
    own["client-cert.pem"] = authority.issue("hostA", end=-DAY / 24).pem
    qemu_certificates.install(source, own)
    assert_refused(fleet, "client-cert.pem on hostA has expired", encrypted=True)
    qemu_certificates.install(source, authority.qemu_files("hostA"))
    result = migrate(fleet, encrypted=True)
    assert_success(result)
    assert result.encrypted is True


def test_folder_of_certificates_is_that_of_libvirt(fleet, authority):
    """libvirt prefers this folder, and so does the check."""
    fleet.run_guest("hostA", "vm1")
    host = fleet.lab.host("hostB")
    own = "/etc/pki/libvirt-migrate"
    qemu_certificates.install(host, authority.qemu_files("hostB"), own)
    try:
        # libvirtd reads its configuration, and looks for the folder, when it starts.
        host.libvirtd.kill()
        host.libvirtd.start()
        qemu_certificates.remove(host)
        result = migrate(fleet, encrypted=True)
        assert_success(result)
        assert result.encrypted is True
    finally:
        qemu_certificates.remove(host, own)
        host.libvirtd.kill()
        host.libvirtd.start()


class TestRequired:
    """The configuration requires encryption."""

    @pytest.fixture
    def daemon_options(self):
        return {"encryption": "required"}

    def test_nothing_is_sent_in_clear(self, fleet):
        fleet.run_guest("hostA", "vm1")
        with Capture(fleet.lab, "hostA", PATTERN) as capture:
            assert_refused(fleet, "hostA has no /etc/pki/qemu/ca-cert.pem")
            (evacuated,) = fleet.client.evacuate("hostA", ["hostB"]).result(PATIENCE)
            assert_error(evacuated, "vm1 cannot be sent encrypted: hostA has no /etc/pki/qemu")
            refused = migrate(fleet, encrypted=False)
            assert_error(refused, "encrypted: false does not work with encryption: required")
        assert capture.hits == {PATTERN: 0}
        with certified(fleet.lab):
            result = migrate(fleet)
        assert_success(result)
        assert result.encrypted is True
        fleet.assert_runs_only_on("vm1", "hostB")

    def test_check_names_the_file(self, fleet):
        done = fleet.daemons["hostA"].check()
        assert done.returncode != 0
        assert "encryption is required, but hostA has no /etc/pki/qemu/ca-cert.pem" in done.stderr
        with certified(fleet.lab):
            done = fleet.daemons["hostA"].check()
        assert done.returncode == 0, done.stderr
