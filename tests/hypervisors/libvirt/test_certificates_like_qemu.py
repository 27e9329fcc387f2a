"""The checks of certificates against QEMU itself: both accept the same files.

`qemu-img` and `qemu-nbd` load certificates by the same code as a migration.
"""

import re
import shutil
import subprocess
from base64 import b64encode
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from cryptography import x509

from fastlib.migfra.hypervisors.libvirt.domain.certificate_files import HostCertificates
from fastlib.migfra.hypervisors.libvirt.domain.file_probe import FileContent
from fastlib.migfra.hypervisors.libvirt.migration.certificate_checks import (
    own_problems,
    problems_between,
)
from tests.support import end_of_run
from tests.support.certificates import AUTHORITY, DAY, Authority, key_usage

# The group of RFC 3526, section 2, in the form of PKCS #3.
PRIME = (
    "FFFFFFFFFFFFFFFFC90FDAA22168C234C4C6628B80DC1CD129024E088A67CC74020BBEA63B139B22514A08798E3404DD"
    "EF9519B3CD3A431B302B0A6DF25F14374FE1356D6D51C245E485B576625E7EC6F44C42E9A637ED6B0BFF5CB6F406B7ED"
    "EE386BFB5A899FA5AE9F24117C4B1FE649286651ECE45B3DC2007CB8A163BF0598DA48361C55D39A69163FA8FD24CF5F"
    "83655D23DCA3AD961C62F356208552BB9ED529077096966D670C354E4ABC9804F1746C08CA237327FFFFFFFFFFFFFFFF"
)
GROUP = (
    b"-----BEGIN DH PARAMETERS-----\n"
    + b64encode(bytes.fromhex(f"3081c7 0281c100{PRIME} 020102"))
    + b"\n-----END DH PARAMETERS-----\n"
)
OURS = Authority("ours")
OTHERS = Authority("others")
MIDDLE = Authority("middle", by=OURS)
OLD = Authority("old", end=-DAY)
HOST = OURS.issue("node02", ["node02"])
SHORT = Authority("short", extensions=[(x509.BasicConstraints(ca=True, path_length=0), True)])
BELOW_SHORT = Authority("below", by=SHORT)
NO_BASICS = Authority("a", extensions=[])
NO_AUTHORITY = Authority(
    "b", extensions=[(x509.BasicConstraints(ca=False, path_length=None), True)]
)
NO_SIGNER = Authority("c", extensions=[AUTHORITY, key_usage("digital_signature")])
LAX_NO_SIGNER = Authority("d", extensions=[AUTHORITY, key_usage("crl_sign", critical=False)])
SIGNER = Authority("e", extensions=[AUTHORITY, key_usage("key_cert_sign")])
OWN_FILES = {
    # name: authorities, certificate, further certificates of its file
    "valid": (OURS.pem, HOST, b""),
    "certificate of an authority": (OURS.pem, OURS.issue("x", extensions=[AUTHORITY]), b""),
    "signs": (OURS.pem, OURS.issue("x", extensions=[key_usage("digital_signature")]), b""),
    "cannot sign": (OURS.pem, OURS.issue("x", extensions=[key_usage("key_agreement")]), b""),
    "not signed by its own authority": (OURS.pem, OTHERS.issue("x"), b""),
    "two authorities": (OTHERS.pem + OURS.pem, HOST, b""),
    "an expired authority beside it": (OURS.pem + OLD.pem, HOST, b""),
    "no authority beside it": (OURS.pem + OURS.issue("x").pem, HOST, b""),
    "no basic constraints": (NO_BASICS.pem, NO_BASICS.issue("x"), b""),
    "CA:FALSE": (NO_AUTHORITY.pem, NO_AUTHORITY.issue("x"), b""),
    "an authority that may not sign": (NO_SIGNER.pem, NO_SIGNER.issue("x"), b""),
    "an authority not meant to sign": (LAX_NO_SIGNER.pem, LAX_NO_SIGNER.issue("x"), b""),
    "an authority that may sign": (SIGNER.pem, SIGNER.issue("x"), b""),
    "chain beside the certificate": (OURS.pem, MIDDLE.issue("x"), MIDDLE.pem),
    "chain of authorities": (MIDDLE.pem + OURS.pem, MIDDLE.issue("x"), b""),
    "chain that is longer than allowed": (
        SHORT.pem + BELOW_SHORT.pem, BELOW_SHORT.issue("x"), b""
    ),
    "last authority of a chain alone": (MIDDLE.pem, MIDDLE.issue("x"), b""),
    "expired": (OURS.pem, OURS.issue("x", end=-DAY), b""),
    "not yet valid": (OURS.pem, OURS.issue("x", begin=DAY), b""),
    "another certificate after it": (OURS.pem, HOST, OTHERS.pem),
}  # fmt: skip
NAMES = {
    # name: the certificate of the destination, and its name in the order
    "name": (HOST, "node02"),
    "other name": (HOST, "node03"),
    "only an address beside the common name": (OURS.issue("node02", ["10.0.0.2"]), "node02"),
    "common name": (OURS.issue("Node02"), "node02"),
    "address": (OURS.issue("x", ["10.0.0.2"]), "10.0.0.2"),
    "any host of a domain": (OURS.issue("x", ["*.a.org"]), "node02.a.org"),
    "dot at the end": (OURS.issue("x", ["node02.a.org."]), "node02.a.org"),
    "no subject": (OURS.issue("", ["node02"]), "node02"),
}


@pytest.fixture(scope="module")
def qemu_version(request):
    if shutil.which("qemu-img") is None or shutil.which("qemu-nbd") is None:
        end_of_run.skip_now(request.node, "certificates like QEMU", "qemu-img is not installed")
    text = subprocess.run(["qemu-img", "--version"], check=True, capture_output=True, text=True)
    major, minor = re.search(r"version (\d+)\.(\d+)", text.stdout).groups()
    return int(major), int(minor)


def in_parallel(check, cases):
    with ThreadPoolExecutor(4) as pool:
        return dict(zip(cases, pool.map(lambda case: check(*case), cases.items()), strict=True))


def write_files(folder, role, authorities, certificate, further=b""):
    folder.mkdir()
    (folder / "ca-cert.pem").write_bytes(authorities)
    (folder / f"{role}-cert.pem").write_bytes(certificate.pem + further)
    (folder / f"{role}-key.pem").write_bytes(certificate.key)


def credentials(folder, endpoint):
    return ["--object", f"tls-creds-x509,id=tls,endpoint={endpoint},dir={folder},verify-peer=yes"]


def host(role, version, authorities, certificate, further=b""):
    def content(data):
        return FileContent(is_present=True, data=data)

    return HostCertificates(
        host="node02",
        role=role,
        folder="/etc/pki/qemu",
        authority=content(authorities),
        certificate=content(certificate.pem + further),
        key=FileContent(is_present=True),
        qemu=version,
    )


def test_host_accepts_the_same_files_of_its_own(tmp_path, qemu_version):
    image = tmp_path / "image"
    image.write_bytes(bytes(4096))

    def check(name, files):
        folder = tmp_path / name
        write_files(folder, "client", *files)
        command = ["qemu-img", "info", "-f", "raw", *credentials(folder, "client"), image]
        done = subprocess.run(command, capture_output=True, text=True)
        return done.returncode == 0, done.stderr

    of_qemu = in_parallel(check, OWN_FILES)
    for name, files in OWN_FILES.items():
        accepts, why = of_qemu[name]
        found = own_problems(host("client", qemu_version, *files))
        assert (not found) == accepts, (name, why, found)
    assert {accepts for accepts, _ in of_qemu.values()} == {True, False}


@contextmanager
def served(folder, certificate):
    """Serve an image by NBD with a certificate. Yields the path of the socket."""
    write_files(folder, "server", OURS.pem, certificate)
    (folder / "dh-params.pem").write_bytes(GROUP)  # else QEMU computes one, for seconds
    image, socket, ready = folder / "image", folder / "socket", folder / "pid"
    image.write_bytes(bytes(4096))
    command = ["qemu-nbd", "-f", "raw", "-t", "-k", socket, "--fork", "--pid-file", ready]
    command += [*credentials(folder, "server"), "--tls-creds", "tls", "-x", "image", image]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield socket
    finally:
        subprocess.run(["kill", ready.read_text().strip()], check=True)


@pytest.fixture
def short_path():
    """A folder in which the path of a socket is short enough."""
    with TemporaryDirectory(prefix="tls-") as folder:
        yield Path(folder)


def test_source_accepts_the_same_names(short_path, qemu_version):
    own = OURS.issue("node01")
    client = short_path / "client"
    write_files(client, "client", OURS.pem, own)

    def check(title, case):
        certificate, name = case
        with served(short_path / title, certificate) as socket:
            options = f"driver=nbd,server.type=unix,server.path={socket},export=image"
            options += f",tls-creds=tls,tls-hostname={name}"
            command = ["qemu-img", "info", *credentials(client, "client"), "--image-opts", options]
            done = subprocess.run(command, capture_output=True, text=True)
        return done.returncode == 0, done.stderr

    of_qemu = in_parallel(check, NAMES)
    for title, (certificate, name) in NAMES.items():
        accepts, why = of_qemu[title]
        source = host("client", qemu_version, OURS.pem, own)
        destination = host("server", qemu_version, OURS.pem, certificate)
        found, _ = problems_between(source, destination, [name])
        assert (not found) == accepts, (title, why, found)
    assert {accepts for accepts, _ in of_qemu.values()} == {True, False}
