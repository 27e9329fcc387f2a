"""Certificates of both hosts: what is accepted, and what each error names."""

import re
import subprocess
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest

from fastlib.migfra.hypervisors.libvirt.domain.certificate_files import HostCertificates
from fastlib.migfra.hypervisors.libvirt.domain.file_probe import FileContent
from fastlib.migfra.hypervisors.libvirt.domain.qemu_conf import TlsSettings, tls_settings
from fastlib.migfra.hypervisors.libvirt.migration.certificate_checks import (
    own_problems,
    problems_between,
)
from tests.support.certificates import DAY, Authority

FOLDER = "/etc/pki/qemu"
OURS = Authority("ours")
CERTIFICATE = OURS.issue("node02", ["node02"])
CLIENT = OURS.issue("node01")


def content(data):
    return FileContent(is_present=data is not None, data=data)


def host(name, role, *, authority=OURS.pem, certificate=None, **changes):
    certificate = certificate or (CERTIFICATE if role == "server" else CLIENT).pem
    found = HostCertificates(
        host=name,
        role=role,
        folder=FOLDER,
        authority=content(authority),
        certificate=content(certificate),
        key=FileContent(is_present=True),
    )
    return msgspec.structs.replace(found, **changes)


SOURCE = host("node01", "client")
DESTINATION = host("node02", "server")


def problems(source=SOURCE, destination=DESTINATION, names=("node02",)):
    found, name = problems_between(source, destination, names)
    assert (name is None) or not found or source.certificate.data is not None
    return [(problem.kind, problem.text) for problem in found]


def signed(certificate):
    """The destination with another certificate."""
    pem = certificate if isinstance(certificate, bytes) else certificate.pem
    return msgspec.structs.replace(DESTINATION, certificate=content(pem))


def test_commands_of_the_documentation_make_valid_certificates(tmp_path):
    page = (Path(__file__).parents[3] / "docs/how-to/real-domains.md").read_text()
    (commands,) = re.findall(r"```sh\n(openssl .*?)```", page, re.DOTALL)
    subprocess.run(["bash", "-ec", commands], cwd=tmp_path, check=True, capture_output=True)
    hosts = []
    for name, role in ("node01", "client"), ("node02", "server"):
        files = {each.name: each.read_bytes() for each in (tmp_path / name).iterdir()}
        assert set(files) == {
            "ca-cert.pem",
            *(f"{each}-{kind}.pem" for each in ("client", "server") for kind in ("cert", "key")),
        }
        authority, certificate = files["ca-cert.pem"], files[f"{role}-cert.pem"]
        hosts.append(host(name, role, authority=authority, certificate=certificate))
    assert problems_between(*hosts, ["node02"]) == ([], "node02")


def test_valid_certificates_have_no_problem():
    assert problems_between(SOURCE, DESTINATION, ["node02"]) == ([], "node02")
    assert own_problems(SOURCE) == own_problems(DESTINATION) == []


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({"authority": content(None)}, "ca-cert.pem"),
        ({"certificate": content(None)}, "{role}-cert.pem"),
        ({"key": content(None)}, "{role}-key.pem"),
    ],
)
@pytest.mark.parametrize("role", ["client", "server"])
def test_missing_file_is_named_with_its_host(changes, path, role):
    hosts = {"client": SOURCE, "server": DESTINATION}
    hosts[role] = msgspec.structs.replace(hosts[role], **changes)
    text = f"{hosts[role].host} has no {FOLDER}/{path.format(role=role)}; put it there"
    assert problems(hosts["client"], hosts["server"]) == [("missing", text)]
    assert [problem.text for problem in own_problems(hosts[role])] == [text]


@pytest.mark.parametrize(
    ("part", "file"),
    [("authority", "ca-cert.pem"), ("certificate", "client-cert.pem"), ("key", "client-key.pem")],
)
def test_folder_in_place_of_a_file_is_called_a_folder(part, file):
    folder = FileContent(is_present=True, is_folder=True, problem="it is a folder, not a file")
    source = msgspec.structs.replace(SOURCE, **{part: folder})
    text = f"{FOLDER}/{file} on node01 must be a file, but it is a folder; replace it"
    assert problems(source) == [("invalid", text)]


def test_key_that_libvirt_cannot_open_counts_as_present():
    """Only its presence is looked up: QEMU reads it, maybe as another user."""
    key = FileContent(problem="Permission denied")
    assert own_problems(msgspec.structs.replace(SOURCE, key=key)) == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"certificate": FileContent(is_present=True, problem="denied")},
         "/server-cert.pem on node02 cannot be read: denied"),
        ({"certificate": content(b"")}, "must have a certificate in PEM"),
        ({"certificate": content(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----")},
         "must have a certificate in PEM"),
    ],
)  # fmt: skip
def test_file_that_is_no_certificate_is_refused(changes, words):
    ((kind, text),) = problems(destination=msgspec.structs.replace(DESTINATION, **changes))
    assert kind == "invalid"
    assert words in text


@pytest.mark.parametrize(
    ("certificate", "words"),
    [
        (OURS.issue("node02", ["node02"], end=-timedelta(hours=1)), "has expired: CN=node02"),
        (OURS.issue("node02", ["node02"], begin=DAY), "is not valid yet: CN=node02"),
        (OURS.issue("node02", ["node02"], purposes=["client"]), "must be for the purpose server"),
        (Authority("others").issue("node02", ["node02"]), "but CN=others signed it"),
        (Authority("ours").issue("node02", ["node02"]), "but CN=ours signed it"),
        (OURS.issue("node03", ["node03", "10.0.0.3"]), "but it is for node03, 10.0.0.3"),
        (OURS.issue("node02", ["node03"]), "must be for node02, but it is for node03"),
        (OURS.issue("node02", []), None),
        (OURS.issue("node02", ["10.0.0.2"]), "must be for node02, but it is for 10.0.0.2"),
        (OURS.issue("NODE02"), None),
        (OURS.issue("x", ["node02"], purposes=[]), None),
    ],
)
def test_certificate_of_the_destination_is_checked(certificate, words):
    found = problems(destination=signed(certificate))
    if words is None:
        assert found == []
        return
    ((kind, text),) = found
    assert kind == "invalid"
    assert text.startswith(f"{FOLDER}/server-cert.pem on node02 ")
    assert words in text


@pytest.mark.parametrize(
    ("certificate", "words"),
    [
        (OURS.issue(end=-DAY), "has expired"),
        (OURS.issue(purposes=["server"]), "must be for the purpose client"),
        (Authority("others").issue(), "of /etc/pki/qemu/ca-cert.pem on node02 (CN=ours), but"),
        (OURS.issue("any name", ["any.name"]), None),
    ],
)
def test_certificate_of_the_source_is_checked(certificate, words):
    source = msgspec.structs.replace(SOURCE, certificate=content(certificate.pem))
    found = problems(source)
    if words is None:
        assert found == []
    else:
        ((kind, text),) = found
        assert (kind, text.startswith("/etc/pki/qemu/client-cert.pem on node01 ")) == (
            "invalid",
            True,
        )
        assert words in text


def test_own_qemu_checks_a_certificate_that_the_destination_does_not_need():
    lax = msgspec.structs.replace(DESTINATION, verifies_source=False)
    for certificate, words in (
        (OURS.issue(end=-DAY), "has expired"),
        (Authority("others").issue(), "of /etc/pki/qemu/ca-cert.pem on node01 (CN=ours), but"),
        (OURS.issue(purposes=["server"]), None),
        (OURS.issue("any name", ["any.name"]), None),
    ):
        source = msgspec.structs.replace(SOURCE, certificate=content(certificate.pem))
        texts = [text for _, text in problems(source, lax)]
        assert len(texts) == (words is not None)
        assert all(words in text for text in texts)


def test_source_needs_no_certificate_where_the_destination_does_not_verify():
    source = msgspec.structs.replace(SOURCE, certificate=content(None), key=content(None))
    assert problems(source) != []
    lax = msgspec.structs.replace(DESTINATION, verifies_source=False)
    assert problems(source, lax) == []
    nothing = msgspec.structs.replace(source, authority=content(None))
    assert problems(nothing, lax) != []


def test_each_host_may_trust_several_authorities():
    other = Authority("others")
    both = {"authority": content(OURS.pem + other.pem)}
    source = msgspec.structs.replace(SOURCE, **both)
    destination = signed(other.issue("node02", ["node02"]))
    assert problems(source, msgspec.structs.replace(destination, **both)) == []
    # QEMU also checks its own certificate by its own file.
    ((_, text),) = problems(source, destination)
    assert "server-cert.pem on node02 must be signed by an authority of" in text
    assert "ca-cert.pem on node02 (CN=ours), but CN=others signed it" in text


def test_chain_in_the_file_of_the_certificate_is_followed():
    middle = Authority("middle", by=OURS)
    last = Authority("last", by=middle)
    own = last.issue("node02", ["node02"]).pem
    assert problems(destination=signed(own + last.pem + middle.pem)) == []
    ((_, text),) = problems(destination=signed(own + last.pem))
    assert "(CN=ours), but CN=middle signed it" in text
    old = Authority("middle", by=OURS, end=-timedelta(hours=1))
    own = old.issue("node02", ["node02"]).pem
    ((_, text),) = problems(destination=signed(own + old.pem))
    assert "has expired: CN=middle" in text


def test_expired_authority_is_named():
    old = Authority("old", end=-timedelta(hours=1))
    both = {"authority": content(old.pem)}
    source = msgspec.structs.replace(SOURCE, certificate=content(old.issue().pem), **both)
    destination = msgspec.structs.replace(signed(old.issue("node02", ["node02"])), **both)
    texts = [text for _, text in problems(source, destination)]
    assert len(texts) == 2
    for text, name in zip(texts, ("node01", "node02"), strict=True):
        assert text.startswith(f"/etc/pki/qemu/ca-cert.pem on {name} has expired: CN=old")


@pytest.mark.parametrize(
    ("names", "own", "found"),
    [
        (["a", "b"], ["b", "a"], "a"),
        (["node02.example.org"], ["*.example.org"], "node02.example.org"),
        (["NODE02."], ["node02"], "NODE02."),
        (["a.node02.example.org"], ["*.example.org"], None),
        (["example.org"], ["*.example.org"], None),
        (["node02"], ["*"], None),
        (["org"], ["*.org"], None),
        (["10.0.0.2"], ["10.0.0.2"], "10.0.0.2"),
        (["fe80::2"], ["fe80:0::2"], "fe80::2"),
        (["10.0.0.2"], ["10.0.0.3", "node02"], None),
    ],
)
def test_names_are_compared_like_gnutls_does(names, own, found):
    problems, name = problems_between(SOURCE, signed(OURS.issue("cn", own)), names)
    assert name == found
    assert bool(problems) == (found is None)


def test_common_name_counts_only_without_alternative_names():
    assert problems(destination=signed(OURS.issue("node02"))) == []
    assert problems(destination=signed(OURS.issue("node02", ["node03"]))) != []


def test_destination_refuses_a_revoked_certificate():
    for revoked, words in ((CERTIFICATE, ""), (CLIENT, "is revoked by /etc/pki/qemu/ca-crl.pem")):
        lists = content(OURS.revoke(revoked))
        text = "".join(
            text
            for _, text in problems(
                destination=msgspec.structs.replace(DESTINATION, revocations=lists)
            )
        )
        assert words in text
        assert bool(words) == bool(text)
    lists = content(Authority("ours").revoke(CLIENT) + Authority("others").revoke(CLIENT))
    ((_, text),) = problems(destination=msgspec.structs.replace(DESTINATION, revocations=lists))
    assert text.startswith("/etc/pki/qemu/client-cert.pem on node01 is revoked by ")
    broken = msgspec.structs.replace(DESTINATION, revocations=content(b"no"))
    ((_, text),) = problems(destination=broken)
    assert "ca-crl.pem on node02 must have revocation lists in PEM" in text


def test_empty_key_is_named():
    key = FileContent(is_present=True, is_empty=True)
    ((_, text),) = problems(destination=msgspec.structs.replace(DESTINATION, key=key))
    assert text == "/etc/pki/qemu/server-key.pem on node02 is empty; replace it"


def test_newer_qemu_reads_chains_and_ignores_authorities_that_it_does_not_need():
    middle = Authority("middle", by=OURS)
    pem = middle.issue("node02", ["node02"]).pem + middle.pem
    old = Authority("old", end=-DAY).pem
    for version, words in (
        ((10, 1), "ca-cert.pem on node02 must have the certificates of all authorities between"),
        ((10, 2), None),
        (None, None),
    ):
        destination = msgspec.structs.replace(signed(pem), qemu=version)
        assert [words in text for _, text in problems(destination=destination)] == (
            [True] if words else []
        )
        source = msgspec.structs.replace(SOURCE, qemu=version, authority=content(OURS.pem + old))
        texts = [text for _, text in problems(source)]
        assert ["has expired: CN=old" in text for text in texts] == ([True] if words else [])
        assert all(text.endswith("; renew it, or remove it from the file") for text in texts)


# qemu.conf


@pytest.mark.parametrize(
    ("text", "has_own", "expected"),
    [
        ("", False, TlsSettings(folder="/etc/pki/qemu")),
        ("", True, TlsSettings(folder="/etc/pki/libvirt-migrate")),
        ('#migrate_tls_x509_cert_dir = "/a"\n', False, TlsSettings(folder="/etc/pki/qemu")),
        ('default_tls_x509_cert_dir = "/a/"', False, TlsSettings(folder="/a")),
        ('default_tls_x509_cert_dir = "/a"', True, TlsSettings(folder="/etc/pki/libvirt-migrate")),
        ("x = 1\n migrate_tls_x509_cert_dir='/b'\ndefault_tls_x509_cert_dir = \"/a\"\n", True,
         TlsSettings(folder="/b")),
        ("default_tls_x509_verify = 0", False,
         TlsSettings(folder="/etc/pki/qemu", verifies_source=False)),
        ("default_tls_x509_verify = 0\nmigrate_tls_x509_verify = 1", False,
         TlsSettings(folder="/etc/pki/qemu")),
        ("migrate_tls_x509_verify=0 # no", False,
         TlsSettings(folder="/etc/pki/qemu", verifies_source=False)),
    ],
)  # fmt: skip
def test_settings_of_qemu_conf(text, has_own, expected):
    assert tls_settings(text, has_own_folder=has_own) == expected
