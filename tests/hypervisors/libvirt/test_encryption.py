"""Whether a migration is encrypted: by the configuration, the order, and both hosts' certificates.

The hosts are fake ones (see fake_libvirt.py); tests/laboratory/test_encryption.py has real ones.
"""

import asyncio
import errno
import sys

import pytest

from fastlib import Migrate, MigrateParameter
from fastlib.migfra import FinalError, HypervisorError
from fastlib.migfra.hypervisors.libvirt.connection.uris import destination_names
from fastlib.migfra.hypervisors.libvirt.domain import qemu_conf
from fastlib.migfra.hypervisors.libvirt.migration import migration
from fastlib.migfra.hypervisors.libvirt.migration.encryption import (
    check_own_certificates,
    decide_encryption,
)
from fastlib.migfra.hypervisors.libvirt.migration.record import MigrationState
from fastlib.migfra.hypervisors.libvirt.migration.swap import encrypted_of
from fastlib.migfra.hypervisors.libvirt.migration.swap_via_storage import MigrationViaStorage
from fastlib.migfra.hypervisors.libvirt.options import HostOptions, LibvirtOptions
from fastlib.migfra.hypervisors.libvirt.tasks.migrate import migrate
from fastlib.migfra.plugin_api.cancel_scope import CancelScope
from fastlib.migfra.virt.encryption import effective_mode
from fastlib.migfra.virt.migration_spec import MigrationSpec
from tests.support.certificates import DAY, Authority
from tests.support.libvirt.fake_domain import RUNNING, SHUT_OFF, FakeDomain
from tests.support.libvirt.fake_libvirt import FakeHosts

FOLDER = "/etc/pki/qemu"


def task_of(**parameter):
    parameter.setdefault("migration_type", "live")
    return Migrate(vm_name="vm1", destination="node02", parameter=MigrateParameter(**parameter))


def certified(**options):
    """Hosts whose certificates are all valid."""
    hosts = FakeHosts(**options)
    hosts.give_certificates()
    return hosts


def decide(hosts, **parameter):
    spec = MigrationSpec.from_task(task_of(**parameter), "node01")
    return asyncio.run(decide_encryption(hosts.runtime, spec, hosts.context))


def refusal(hosts, **parameter):
    with pytest.raises(FinalError) as caught:
        decide(hosts, **parameter)
    return str(caught.value)


@pytest.mark.parametrize(
    ("configured", "ordered", "mode"),
    [
        ("required", None, "required"),
        ("required", True, "required"),
        ("required", False, "encrypted: false does not work with encryption: required"),
        ("preferred", None, "preferred"),
        ("preferred", True, "required"),
        ("preferred", False, "off"),
        ("off", None, "off"),
        ("off", True, "encrypted: true does not work with encryption: off"),
        ("off", False, "off"),
    ],
)
def test_order_chooses_within_the_configuration(configured, ordered, mode):
    if " " in mode:
        with pytest.raises(FinalError, match=mode):
            effective_mode(configured, ordered)
    else:
        assert effective_mode(configured, ordered) == mode


def test_preferred_is_the_default():
    assert LibvirtOptions().encryption == "preferred"


@pytest.mark.parametrize("ordered", [None, True, False])
@pytest.mark.parametrize("configured", ["required", "preferred", "off"])
def test_hosts_with_certificates_encrypt_unless_it_is_off(configured, ordered):
    hosts = certified(encryption=configured)
    if (configured, ordered) in (("required", False), ("off", True)):
        assert "does not work with" in refusal(hosts, encrypted=ordered)
        return
    found = decide(hosts, encrypted=ordered)
    is_off = configured == "off" or ordered is False
    assert (found.encrypted, found.server_name) == (not is_off, None if is_off else "node02")


@pytest.mark.parametrize("side", ["source", "destination"])
def test_missing_files_leave_it_unencrypted_where_it_is_preferred(side):
    hosts = certified()
    host = getattr(hosts, side)
    host.files.clear()
    name = host.getHostname()
    found = decide(hosts)
    assert not found.encrypted
    assert found.reason.startswith(f"{name} has no {FOLDER}/ca-cert.pem; put it there")
    ordered = refusal(hosts, encrypted=True)
    assert ordered == f"vm1 cannot be sent encrypted: {found.reason}"
    required = FakeHosts(encryption="required")
    required.source.files, required.destination.files = hosts.source.files, hosts.destination.files
    assert refusal(required) == ordered


@pytest.mark.parametrize("encrypted", [None, True])
@pytest.mark.parametrize(
    ("file", "data", "words"),
    [
        ("server-cert.pem", Authority("foreign").issue("node02", ["node02"]).pem,
         "server-cert.pem on node02 must be signed by an authority of /etc/pki/qemu/ca-cert.pem on "
         "node01"),
        ("server-cert.pem", errno.EACCES, "server-cert.pem on node02 cannot be read"),
        ("server-cert.pem", b"no certificate", "must have a certificate in PEM"),
    ],
    ids=["foreign", "unreadable", "no PEM"],
)  # fmt: skip
def test_certificate_that_is_not_valid_is_refused_in_every_mode(encrypted, file, data, words):
    hosts = certified()
    hosts.destination.files[f"{FOLDER}/{file}"] = data
    text = refusal(hosts, encrypted=encrypted)
    assert text.startswith("vm1 cannot be sent encrypted: /etc/pki/qemu/")
    assert words in text
    assert ("or send the order with encrypted: false" in text) == (encrypted is None)
    assert decide(hosts, encrypted=False).encrypted is False


def test_refused_migration_changes_nothing_and_is_not_tried_again(monkeypatch):
    hosts = certified()
    foreign = Authority("foreign").issue("node02", ["node02"])
    hosts.destination.files[f"{FOLDER}/server-cert.pem"] = foreign.pem
    with pytest.raises(FinalError, match=r"vm1 did not migrate|cannot be sent encrypted"):
        asyncio.run(migrate(hosts.runtime, task_of(), hosts.context))
    assert hosts.domain.state_now == [RUNNING, 1]
    assert hosts.calls == []


def test_folder_of_qemu_conf_is_read_on_each_host():
    hosts = FakeHosts()
    authority = hosts.give_certificates("/elsewhere")
    assert decide(hosts).reason.startswith("node01 has no /etc/pki/qemu/ca-cert.pem")
    hosts.source.files[qemu_conf.PATH] = b'migrate_tls_x509_cert_dir = "/elsewhere"\n'
    assert decide(hosts).reason.startswith("node02 has no /etc/pki/qemu/ca-cert.pem")
    hosts.destination.files[qemu_conf.PATH] = b'default_tls_x509_cert_dir = "/elsewhere"\n'
    assert decide(hosts).encrypted
    # libvirt prefers this folder to the one of all purposes.
    hosts.destination.files[qemu_conf.OWN_FOLDER] = errno.EISDIR
    assert decide(hosts).reason.startswith("node02 has no /etc/pki/libvirt-migrate/ca-cert.pem")
    for name, data in authority.qemu_files("node02").items():
        hosts.destination.files[f"{qemu_conf.OWN_FOLDER}/{name}"] = data
    assert decide(hosts).encrypted


def test_unreadable_qemu_conf_counts_like_a_missing_certificate():
    hosts = certified()
    hosts.destination.files[qemu_conf.PATH] = errno.EACCES
    assert "qemu.conf on node02 cannot be read" in decide(hosts).reason
    assert "qemu.conf on node02 cannot be read" in refusal(hosts, encrypted=True)


@pytest.mark.parametrize("file", ["ca-cert.pem", "server-cert.pem", "server-key.pem"])
def test_folder_in_place_of_a_file_is_called_a_folder(file):
    hosts = certified()
    path = f"/etc/pki/qemu/{file}"
    hosts.destination.files[path] = errno.EISDIR
    words = f"{path} on node02 must be a file, but it is a folder; replace it"
    assert words in refusal(hosts)
    assert words in refusal(hosts, encrypted=True)


def test_folder_in_place_of_the_settings_is_called_a_folder():
    hosts = certified()
    hosts.destination.files[qemu_conf.PATH] = errno.EISDIR
    assert "qemu.conf on node02 cannot be read: it is a folder" in decide(hosts).reason


def test_private_keys_are_not_read():
    hosts = certified()
    read = []
    original = FakeDomain.blockPeek

    def peek(self, disk, *arguments):
        read.append(self.disks[disk])
        return original(self, disk, *arguments)

    FakeDomain.blockPeek = peek
    try:
        assert decide(hosts).encrypted
    finally:
        FakeDomain.blockPeek = original
    assert {path.rpartition("/")[2] for path in read} == {
        "ca-cert.pem", "client-cert.pem", "server-cert.pem",
    }  # fmt: skip


def test_missing_package_is_named_with_its_command(monkeypatch):
    hosts = certified()
    monkeypatch.setitem(sys.modules, "cryptography", None)
    assert "needs cryptography, which is not installed: " in decide(hosts).reason
    assert "needs cryptography, which is not installed: " in refusal(hosts, encrypted=True)


def test_offline_migration_and_other_hypervisors_have_nothing_to_encrypt():
    hosts = certified(encryption="required")
    hosts.domain.state_now = [SHUT_OFF, 0]
    assert decide(hosts, migration_type="offline") is None
    xen = FakeHosts()
    xen.source.kind = xen.destination.kind = "Xen"
    assert decide(xen) is None
    with pytest.raises(HypervisorError, match="encrypted needs QEMU, but node01 has the hyperv"):
        asyncio.run(migrate(xen.runtime, task_of(encrypted=True), xen.context))


def test_option_that_cannot_be_encrypted_decides_where_it_is_preferred():
    hosts = certified()
    assert decide(hosts, parallel_connections=2).encrypted
    found = decide(hosts, rdma_migration=True)
    assert not found.encrypted
    assert "rdma-migration does not work with encrypted" in found.reason
    hosts.source.version = hosts.destination.version = 5_001_000
    found = decide(hosts, parallel_connections=2)
    assert not found.encrypted
    assert "parallel-connections with encrypted needs QEMU 5.2 or newer" in found.reason
    assert decide(hosts, compression="xbzrle").encrypted


def test_result_says_which_it_was(monkeypatch):
    async def run(runtime, spec, arguments, scope, context):
        domain = hosts.source.domains.pop(spec.name)
        domain.host = hosts.destination
        hosts.destination.domains[spec.name] = domain

    monkeypatch.setattr(migration, "run_migration", run)
    for hosts, encrypted in ((certified(), True), (FakeHosts(), False)):
        result = asyncio.run(migrate(hosts.runtime, task_of(), hosts.context))
        assert (result.status, result.encrypted) == ("success", encrypted)


@pytest.mark.parametrize(
    ("states", "whole"),
    [
        ([True, True], True),
        ([True, False], False),
        ([False, False], False),
        ([None, None], None),
        ([], None),
    ],
)
def test_swap_is_encrypted_if_both_domains_are(states, whole):
    assert encrypted_of(MigrationState(encrypted=state) for state in states) is whole


def test_domain_is_not_saved_to_storage_where_encryption_is_required():
    hosts = certified()
    spec = MigrationSpec.from_task(task_of(encrypted=True), "node01")
    saved = MigrationViaStorage(
        hosts.runtime, spec, CancelScope(hosts.context), hosts.context, hosts.context.measurement
    )
    with pytest.raises(FinalError, match="writes the memory into a file of snapshot-directory"):
        asyncio.run(saved._decide_encryption())
    plain = MigrationSpec.from_task(task_of(), "node01")
    saved = MigrationViaStorage(
        hosts.runtime, plain, CancelScope(hosts.context), hosts.context, hosts.context.measurement
    )
    assert asyncio.run(saved._decide_encryption()).encrypted is False


# Names


@pytest.mark.parametrize(
    ("options", "host", "reported", "names"),
    [
        ({}, "node02", "node02", ("node02",)),
        ({}, "node02", "node02.example.org", ("node02", "node02.example.org")),
        ({}, "node02", "node03.example.org", ("node02",)),
        ({}, "10.0.0.2", "node02", ("10.0.0.2",)),
        ({"migration_host": "<host>-mig"}, "node02", "node02", ("node02-mig", "node02")),
        ({"hosts": {"node02": HostOptions(migration_address="10.1.0.2", address="node02.mgmt")}},
         "node02", "node02", ("10.1.0.2", "node02", "node02.mgmt")),
        ({"hosts": {"node02": HostOptions(migration_address="fe80::2")}}, "node02", "x",
         ("fe80::2", "node02")),
    ],
)  # fmt: skip
def test_names_of_the_order_and_of_the_configuration_count(options, host, reported, names):
    assert destination_names(LibvirtOptions(**options), host, reported, rdma=False) == names


# --check


def check(hosts):
    async def main():
        connection = await hosts.runtime.connections.get("node01")
        await check_own_certificates(hosts.runtime, connection)

    asyncio.run(main())


def test_check_accepts_valid_certificates(caplog):
    check(certified())
    check(certified(encryption="required"))
    check(FakeHosts(encryption="off"))
    assert caplog.records == []


def test_check_reports_missing_certificates(caplog):
    check(FakeHosts())
    assert "migrations are not encrypted: node01 has no /etc/pki/qemu/ca-cert.pem" in caplog.text
    with pytest.raises(HypervisorError) as caught:
        check(FakeHosts(encryption="required"))
    text = str(caught.value)
    assert text.startswith("encryption is required, but node01 has no /etc/pki/qemu/ca-cert.pem")
    assert "server-key.pem" in text
    assert text.count("ca-cert.pem") == 1


@pytest.mark.parametrize("encryption", ["required", "preferred"])
def test_check_refuses_certificates_that_are_not_valid(encryption):
    hosts = certified(encryption=encryption)
    authority = Authority("new")
    hosts.source.files[f"{FOLDER}/ca-cert.pem"] = authority.pem
    old = authority.issue("node01", end=-DAY / 2)
    hosts.source.files[f"{FOLDER}/client-cert.pem"] = old.pem
    with pytest.raises(HypervisorError) as caught:
        check(hosts)
    text = str(caught.value)
    assert "client-cert.pem on node01 has expired: CN=node01" in text
    assert "server-cert.pem on node01 must be signed by an authority" in text
    hosts.runtime.options = LibvirtOptions(encryption="off")
    check(hosts)
