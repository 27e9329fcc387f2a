"""The translation of libvirt's errors into one sentence with the host, the reason and the remedy.

Where a machine can be made to fail in earnest, it is: connections are opened to where nobody is,
and calls made that the driver `test` refuses. The other texts are those that libvirt 9.0 gave.
"""

import os
import socket
import threading
from contextlib import contextmanager

import pytest

from fastlib.migfra import HypervisorError
from fastlib.migfra.hypervisors.libvirt import errors
from fastlib.migfra.hypervisors.libvirt.connection.api import api
from fastlib.migfra.hypervisors.libvirt.errors import (
    LibvirtError,
    LostError,
    NoDomainError,
    UnsupportedCallError,
    is_without_secrets,
    not_opened,
    silent,
    translated,
)
from tests.support.libvirt.errors import error_of

HOST = "node07"
MISSING = "does not run; start libvirtd there"
SILENT_PORT = "does not run, or does not listen; start libvirtd there"
REFUSED = "does not permit it; run the daemon as root or in the group libvirt"
KEY = "refuses this user's SSH key; put it into authorized_keys there"
HOST_KEY = "has an unknown SSH key; add it to known_hosts"
UNTRUSTED = "is not trusted, or does not trust this host; check the certificates of both"
UNKNOWN = "has an unknown name; check its spelling and DNS"
FAR = "is unreachable; check the host and its network"
DRIVER = "has no such driver; install it, for example libvirt-daemon-driver-qemu"
SSH = "cannot be reached: the program ssh is not installed here; install it"
ENDED = "cannot be reached, because ssh has ended; call ssh by hand, which gives the reason"
OTHERWISE = "cannot be reached; check that libvirtd runs there"


def made(text, code="VIR_ERR_SYSTEM_ERROR"):
    """Return the error that libvirt-python makes of an error of libvirt."""
    return error_of(getattr(api(), code), text)


def opening(uri):
    """Return the error of a connection that cannot be opened.

    If ssh ends before libvirt writes its first call, libvirt does not read the message of ssh. On a
    busy machine that happens often, so this opens the connection again.
    """
    libvirt = api()
    while True:
        with pytest.raises(libvirt.libvirtError) as caught:
            libvirt.open(uri)
        if "+ssh:" not in uri or "Broken pipe" not in str(caught.value):
            return caught.value


def test_made_error_has_its_own_text_after_another_error():
    opening("nothing:///here")
    assert str(made("of this test")) == "of this test"


def check_opening(error, uri, meaning):
    found = not_opened(error, HOST, uri)
    said = " ".join(str(error).split())
    assert str(found) == f"libvirt on {HOST} {meaning} ({uri}: {said})"
    assert isinstance(found, LostError)
    assert found.code == error.get_error_code()


@contextmanager
def closed_port():
    """A port of this machine that is taken, and on which no program listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


@pytest.mark.parametrize(
    ("uri", "meaning"),
    [
        ("qemu+unix:///system?socket={path}/libvirt-sock", MISSING),
        ("qemu+tcp://127.0.0.1:{port}/system", SILENT_PORT),
        ("qemu+tcp://name.invalid/system", UNKNOWN),
        ("qemu+tls://127.0.0.1:{port}/system?pkipath={path}", UNTRUSTED),
        ("qemu+tls://127.0.0.1:{port}/system?pkipath={path}/nobody", UNTRUSTED),
        ("qemu+carrier://127.0.0.1/system", OTHERWISE),
        ("test://{path}/nobody.xml", OTHERWISE),
    ],
)
def test_open_explains_unreachable_host(uri, meaning, tmp_path):
    with closed_port() as port:
        uri = uri.format(port=port, path=tmp_path)
        check_opening(opening(uri), uri, meaning)


@pytest.mark.parametrize(
    ("host", "meaning"), [("127.0.0.1", SILENT_PORT), ("name.invalid", UNKNOWN)]
)
def test_open_by_ssh_explains_unreachable_host(host, meaning):
    with closed_port() as port:
        uri = f"qemu+ssh://{host}:{port}/system?no_tty=1"
        error = opening(uri)
    if "Cannot find 'ssh'" in str(error):
        meaning = SSH
    check_opening(error, uri, meaning)


def test_open_by_ssh_ignores_warning_about_missing_key(tmp_path):
    """The warning of ssh has `No such file or directory`, which is not an error of libvirt."""
    with closed_port() as port:
        uri = f"qemu+ssh://127.0.0.1:{port}/system?no_tty=1&keyfile={tmp_path}/none"
        error = opening(uri)
    meaning = SSH if "Cannot find 'ssh'" in str(error) else SILENT_PORT
    check_opening(error, uri, meaning)


def test_open_by_ssh_names_missing_program(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    uri = "qemu+ssh://127.0.0.1/system?no_tty=1"
    check_opening(opening(uri), uri, SSH)


def test_open_by_ssh_names_ssh_for_a_pipe_that_broke_before_its_message():
    error = made("Cannot write data: Broken pipe")
    check_opening(error, "qemu+ssh://root@node07/system", ENDED)
    check_opening(error, "qemu+tcp://node07/system", OTHERWISE)


def test_open_by_ssh_explains_messages_of_ssh(tmp_path):
    """Another program in the place of ssh prints the messages of ssh."""
    for number, (said, meaning) in enumerate(
        (
            ("root@127.0.0.1: Permission denied (publickey).", KEY),
            ("Host key verification failed.", HOST_KEY),
            ("ssh: connect to host 127.0.0.1 port 22: Connection timed out", FAR),
            ("ssh: connect to host 127.0.0.1 port 22: No route to host", FAR),
            ("Failed to connect socket to '/run/libvirt-sock': No such file or directory", MISSING),
            ("Failed to connect socket to '/run/libvirt-sock': Permission denied", REFUSED),
            ("sh: 1: nc: not found", OTHERWISE),
        )
    ):
        ssh = tmp_path / f"ssh{number}"
        # It ends after libvirt's first call, else libvirt reports the broken pipe instead.
        ssh.write_text(f'#!/bin/sh\nhead -c 4 >/dev/null\necho "{said}" >&2\nexit 255\n')
        ssh.chmod(0o755)
        uri = f"qemu+ssh://127.0.0.1/system?no_tty=1&command={ssh}"
        error = opening(uri)
        assert said in str(error)
        check_opening(error, uri, meaning)


def test_open_explains_missing_permission_for_socket(tmp_path):
    """A socket that this user may not touch."""
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o000)
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)  # root is never refused
    try:
        uri = f"qemu+unix:///system?socket={closed}/libvirt-sock"
        error = opening(uri)
    finally:
        os.seteuid(user)
        closed.chmod(0o700)
    check_opening(error, uri, REFUSED)


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 400 Bad Request"])
def test_open_fails_when_another_server_answers(answer):
    def serve():
        peer, _ = server.accept()
        with peer:
            peer.recv(4096)
            peer.sendall(answer)

    with socket.create_server(("127.0.0.1", 0)) as server:
        serving = threading.Thread(target=serve)
        serving.start()
        uri = f"qemu+tcp://127.0.0.1:{server.getsockname()[1]}/system"
        check_opening(opening(uri), uri, OTHERWISE)
        serving.join()


@pytest.mark.parametrize(
    ("code", "said", "meaning"),
    [
        ("VIR_ERR_NO_CONNECT", "no connection driver available for lxctools:///", DRIVER),
        ("VIR_ERR_AUTH_FAILED", "authentication failed: Failed to verify peer's certificate",
         UNTRUSTED),
        ("VIR_ERR_SYSTEM_ERROR", "Our own certificate /pki/clientcert.pem failed validation against"
         " /pki/cacert.pem: The certificate hasn't got a known issuer.", UNTRUSTED),
        ("VIR_ERR_AUTH_UNAVAILABLE", "authentication unavailable: no polkit agent available to "
         "authenticate action 'org.libvirt.unix.manage'", REFUSED),
        ("VIR_ERR_AUTH_FAILED", "authentication failed: authentication failed", REFUSED),
        ("VIR_ERR_SYSTEM_ERROR", "Cannot recv data: Warning: Identity file /k not accessible: No "
         "such file or directory.\nroot@node07: Permission denied (publickey).: Connection reset by"
         " peer", KEY),
        ("VIR_ERR_SYSTEM_ERROR", "Cannot recv data: @@@ WARNING: REMOTE HOST IDENTIFICATION HAS "
         "CHANGED! @@@\r\nOffending ED25519 key in /k:1\r\nHost key verification failed.: "
         "Connection reset by peer", HOST_KEY),
        ("VIR_ERR_SYSTEM_ERROR", "unable to connect to server at 'node07:16509': Network is "
         "unreachable", FAR),
        ("VIR_ERR_SYSTEM_ERROR", "unable to connect to server at 'node07:16509': No route to host",
         FAR),
        ("VIR_ERR_SYSTEM_ERROR", "Unable to resolve address 'node07' service '16509': Temporary "
         "failure in name resolution", UNKNOWN),
    ],
)  # fmt: skip
def test_open_explains_errors_seen_on_other_hosts(code, said, meaning):
    check_opening(made(said, code), "qemu+tcp://node07/system", meaning)


# Calls


def test_error_codes_match_those_of_libvirt():
    """fastlib has the codes, because it must recognise errors without libvirt-python."""
    libvirt = api()
    for name, code in {
        "NO_SUPPORT": errors._NO_SUPPORT,
        "NO_CONNECT": errors._NO_CONNECT,
        "INVALID_CONN": errors._INVALID_CONN,
        "NO_DOMAIN": errors._NO_DOMAIN,
        "OPERATION_INVALID": errors._INVALID,
        "OPERATION_TIMEOUT": errors._BUSY,
        "SYSTEM_ERROR": errors._SYSTEM_ERROR,
        "OPERATION_ABORTED": errors._ABORTED,
        "ARGUMENT_UNSUPPORTED": errors._UNSUPPORTED_ARGUMENT,
    }.items():
        assert getattr(libvirt, f"VIR_ERR_{name}") == code, name
    names = (
        "OPERATION_DENIED", "AUTH_FAILED", "AUTH_CANCELLED", "AUTH_UNAVAILABLE", "ACCESS_DENIED",
    )  # fmt: skip
    assert {getattr(libvirt, f"VIR_ERR_{name}") for name in names} == errors._AUTH


ABSENT_DAEMON = "Failed to connect socket to '/run/libvirt/virtsecretd-sock': {}"


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("NO_SUPPORT", "this function is not supported by the connection driver"),
        ("ACCESS_DENIED", "access denied: 'connect' denied access"),
        ("OPERATION_DENIED", "operation forbidden: read only access prevents it"),
        ("AUTH_UNAVAILABLE", "authentication unavailable"),
        ("SYSTEM_ERROR", ABSENT_DAEMON.format("No such file or directory")),
    ],
)
def test_host_is_without_secrets_if_libvirt_has_none_or_does_not_permit_them(code, said):
    assert is_without_secrets(getattr(api(), f"VIR_ERR_{code}"), said)


def test_other_errors_do_not_mean_that_a_host_has_no_secrets():
    libvirt = api()
    says_so = {libvirt.VIR_ERR_NO_SUPPORT, *errors._AUTH}
    codes = {value for name, value in vars(libvirt).items() if name.startswith("VIR_ERR_")}
    assert len(codes) > 100
    assert {code for code in codes if is_without_secrets(code, "whatever it says")} == says_so
    assert not is_without_secrets(None, "it has not answered")
    refused = ABSENT_DAEMON.format("Connection refused")
    assert not is_without_secrets(libvirt.VIR_ERR_SYSTEM_ERROR, refused)


@pytest.fixture
def connection():
    connection = api().open("test:///default")
    yield connection
    connection.close()


@pytest.mark.parametrize(
    ("call", "kind", "text"),
    [
        (lambda c: c.lookupByName("vm9"), NoDomainError,
         "there is no domain vm9 on node07; check its spelling"),
        (lambda c: c.lookupByName("test").abortJob(), UnsupportedCallError,
         "libvirt on node07 cannot do that: this function is not supported by the connection "
         "driver: virDomainAbortJob"),
        (lambda c: c.lookupByName("test").migrateToURI3("qemu+tcp://node08/system", {}, 0),
         UnsupportedCallError,
         "libvirt on node07 cannot do that: argument unsupported: direct migration is not "
         "supported by the source host"),
        (lambda c: c.lookupByName("test").create(), LibvirtError,
         "libvirt on node07: internal error: Domain 'test' is already running"),
    ],
)  # fmt: skip
def test_refused_calls_raise_their_kind_of_error(connection, call, kind, text):
    with pytest.raises(api().libvirtError) as caught:
        call(connection)
    found = translated(caught.value, HOST, "vm9")
    assert str(found) == text
    assert type(found) is kind
    assert isinstance(found, HypervisorError)
    assert (found.code, found.said) == (caught.value.get_error_code(), str(caught.value))


def test_call_on_closed_connection_raises_lost_error():
    connection = api().open("test:///default")
    connection.close()
    with pytest.raises(api().libvirtError) as caught:
        connection.getHostname()
    found = translated(caught.value, HOST)
    assert isinstance(found, LostError)
    assert str(found) == (
        "the connection to libvirt on node07 is lost (invalid connection pointer in "
        "virConnectGetHostname); check that libvirtd runs there"
    )


@pytest.mark.parametrize(
    ("code", "said", "kind", "text"),
    [
        ("VIR_ERR_NO_DOMAIN", "Domain not found: no domain with matching name 'vm9'", NoDomainError,
         "there is no domain vm9 on node07; check its spelling"),
        ("VIR_ERR_OPERATION_TIMEOUT", "Timed out during operation: cannot acquire state change lock"
         " (held by monitor=remoteDispatchDomainMigratePerform3Params)", LibvirtError,
         "vm9 is busy on node07, such as with a migration or a snapshot; try again when that has "
         "ended ({said})"),
        ("VIR_ERR_OPERATION_ABORTED", "operation aborted: migration out: canceled by client",
         LibvirtError, "it was aborted on node07; try again ({said})"),
        ("VIR_ERR_OPERATION_INVALID", "Requested operation is not valid: domain is not running",
         LibvirtError, "the state of vm9 on node07 does not allow that: {said}"),
        ("VIR_ERR_ACCESS_DENIED", "access denied", LibvirtError,
         "libvirt on node07 does not permit it ({said}); run the daemon as a user that may"),
        ("VIR_ERR_SYSTEM_ERROR", "Cannot recv data: Input/output error", LostError,
         "the connection to libvirt on node07 is lost ({said}); check that libvirtd runs there"),
        ("VIR_ERR_INTERNAL_ERROR", "internal error: client socket is closed", LostError,
         "the connection to libvirt on node07 is lost ({said}); check that libvirtd runs there"),
        ("VIR_ERR_INTERNAL_ERROR", "internal error: connection closed due to keepalive timeout",
         LostError,
         "the connection to libvirt on node07 is lost ({said}); check that libvirtd runs there"),
        ("VIR_ERR_SYSTEM_ERROR", "End of file while reading data: Input/output error", LostError,
         "the connection to libvirt on node07 is lost ({said}); check that libvirtd runs there"),
        ("VIR_ERR_NO_SUPPORT", "this function is not supported by the connection driver: "
         "virConnectListAllNodeDevices", UnsupportedCallError,
         "libvirt on node07 cannot do that: {said}"),
        ("VIR_ERR_OPERATION_FAILED", "operation failed: Failed to connect to remote libvirt URI "
         "qemu+tcp://node08/system", LibvirtError, "libvirt on node07: {said}"),
        ("VIR_ERR_INTERNAL_ERROR", "internal error: unable to execute QEMU command 'migrate':\n"
         "  two lines", LibvirtError,
         "libvirt on node07: internal error: unable to execute QEMU command 'migrate': two lines"),
        ("VIR_ERR_INTERNAL_ERROR", "internal error: unable to execute QEMU command "
         "'migrate-set-capabilities': Postcopy is not supported", LibvirtError,
         "libvirt on node07: {said}; post-copy needs userfaultfd at the destination; set "
         "vm.unprivileged_userfaultfd to 1 there, or choose another on-timeout"),
        ("VIR_ERR_INTERNAL_ERROR", "internal error: unable to execute QEMU command "
         "'migrate-set-parameters': Parameter 'multifd-compression' does not accept value 'zstd'",
         LibvirtError,
         "libvirt on node07: {said}; one of the two QEMUs is built without this compression; "
         "choose another one"),
        ("VIR_ERR_INTERNAL_ERROR", "internal error: qemu unexpectedly closed the monitor: x: "
         "Could not open '/images/vm9.qcow2': Permission denied", LibvirtError,
         "libvirt on node07: {said}; let QEMU's user open the file and enter its folder on the "
         "host where the domain starts or arrives; user, group and dynamic_ownership in "
         "/etc/libvirt/qemu.conf decide who that is"),
        ("VIR_ERR_OPERATION_FAILED", "Cannot access storage file '/images/vm9.qcow2' (as "
         "uid:64055, gid:64055): Permission denied", LibvirtError,
         "libvirt on node07: {said}; let QEMU's user open the file and enter its folder on the "
         "host where the domain starts or arrives; user, group and dynamic_ownership in "
         "/etc/libvirt/qemu.conf decide who that is"),
        ("VIR_ERR_INTERNAL_ERROR", "internal error: unable to execute QEMU command 'migrate': "
         "Unknown ramblock \"pc.ram\", cannot accept migration", LibvirtError,
         "libvirt on node07: {said}; QEMU at the destination divides the memory of the domain in "
         "another way; order the migration without memnode-map"),
        ("VIR_ERR_INTERNAL_ERROR", "internal error: unable to execute QEMU command "
         "'block-export-add': Cannot get 'write' permission without 'resize': Image size is not a "
         "multiple of request alignment", LibvirtError,
         "libvirt on node07: {said}; QEMU copies a disk with cache='none' only if its size is a "
         "multiple of the blocks of the file system, such as 4096 bytes; enlarge it with virsh "
         "blockresize, or set cache='writeback' and start the domain again"),
        ("VIR_ERR_INTERNAL_ERROR", "internal error: unable to execute QEMU command "
         "'block-export-add': Block node is read-only", LibvirtError,
         "libvirt on node07: {said}; QEMU at the destination cannot write an image; let its user "
         "write it, and let the size of a raw disk with cache='none' be a multiple of the blocks "
         "of the file system, such as 4096 bytes"),
        ("VIR_ERR_OPERATION_FAILED", "operation failed: job 'migration out' failed: Unable to "
         "write to socket: Broken pipe", LibvirtError,
         "libvirt on node07: {said}; the connection between both QEMUs has ended; the log of the "
         "domain on the destination, below /var/log/libvirt/qemu, may have the reason"),
        ("VIR_ERR_INTERNAL_ERROR", "internal error: unable to execute QEMU command 'object-add': "
         "Cannot load certificate '/pki/server-cert.pem' & key '/pki/server-key.pem': The "
         "certificate and the given key do not match.", LibvirtError,
         "libvirt on node07: {said}; that file is on the destination; replace the certificate or "
         "the key there, or let QEMU's user read both"),
        ("VIR_ERR_INTERNAL_ERROR", "internal error: unable to execute QEMU command 'object-add': "
         "Cannot load certificate '/pki/client-cert.pem' & key '/pki/client-key.pem': Error while "
         "reading file.", LibvirtError,
         "libvirt on node07: {said}; that file is on the source; replace the certificate or "
         "the key there, or let QEMU's user read both"),
        ("VIR_ERR_INTERNAL_ERROR", "internal error: unable to execute QEMU command 'object-add': "
         "Cannot load CA certificate '/pki/ca-cert.pem': Error while reading file.", LibvirtError,
         "libvirt on node07: {said}; let QEMU's user enter the folder of the certificates and "
         "read its files, on both hosts"),
        ("VIR_ERR_INTERNAL_ERROR", "internal error: unable to execute QEMU command 'object-add': "
         "Unable to access credentials /pki/ca-cert.pem: Permission denied", LibvirtError,
         "libvirt on node07: {said}; let QEMU's user enter the folder of the certificates and "
         "read its files, on both hosts"),
        ("VIR_ERR_INTERNAL_ERROR", "internal error: unable to execute QEMU command 'object-add': "
         "Certificate /pki/server-cert.pem usage does not permit key encipherment", LibvirtError,
         "libvirt on node07: {said}; older versions of QEMU need keyEncipherment in a critical "
         "keyUsage; issue a certificate with it, or without keyUsage"),
    ],
)  # fmt: skip
def test_errors_seen_on_other_hosts_are_translated(code, said, kind, text):
    found = translated(made(said, code), HOST, "vm9")
    assert type(found) is kind
    assert str(found) == text.format(said=said)
    assert found.code == getattr(api(), code)


def test_error_without_domain_says_the_domain():
    found = translated(made("not valid: domain is not running", "VIR_ERR_OPERATION_INVALID"), HOST)
    assert str(found).startswith("the state of the domain on node07 does not allow that")


def test_open_times_out_when_host_does_not_answer():
    assert str(silent(HOST, 45.0)) == (
        "libvirt on node07 has not answered for 45 s; check the host, its network and its libvirtd"
    )
