"""The URIs of hosts. Names must not change their structure."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastlib.migfra import HypervisorError
from fastlib.migfra.hypervisors.libvirt import HostOptions, LibvirtOptions
from fastlib.migfra.hypervisors.libvirt.connection.uris import check_host, migration_uri, remote_uri


@pytest.mark.parametrize("host", ["", "a b", "a/b", "a?x=1", "a@b", "a:1", "-a", "ä", "a#"])
def test_host_name_that_breaks_uri_is_refused(host):
    with pytest.raises(HypervisorError, match="cannot be the name of a host"):
        check_host(host)


@pytest.mark.parametrize(
    "host",
    [
        "fe80::1%eth0", "fe80::1%25eth0", "fe80::1%x/../../etc?a=b#c", "[fe80::1%a b]", "fe80::1% ",
        "[[::1]]", "[::1", "[node02]", "::1]/x", "a\n", "node02\0", "1.2.3.4/8", "%6eode",
    ],
)  # fmt: skip
def test_address_with_scope_or_other_text_is_refused(host):
    with pytest.raises(HypervisorError, match="cannot be the name of a host"):
        check_host(host)


@pytest.mark.parametrize(
    ("host", "made"),
    [("::1", "[::1]"), ("[FE80::0:1]", "[fe80::1]"), ("10.0.0.1", "10.0.0.1"), ("n_1.a", "n_1.a")],
)
def test_sound_host_has_one_form(host, made):
    assert check_host(host) == made


@given(host=st.one_of(st.text(), st.text("fe80:%[]/?#@ .-1a", max_size=20)))
@settings(max_examples=100)
def test_checked_host_has_no_special_character_of_uris(host):
    try:
        made = check_host(host)
    except HypervisorError:
        return
    assert re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*|\[[0-9a-f:.]+\]", made)


def test_uris_of_hosts():
    def uri(host="node02", transport="ssh", **options):
        return remote_uri(LibvirtOptions(**options), host, "qemu", transport)

    assert uri() == "qemu+ssh://node02/system?no_tty=1"
    assert uri("fe80::1", "tcp") == "qemu+tcp://[fe80::1]/system"
    assert uri(ssh_user="a@b", ssh_key="/k y", port=23) == (
        "qemu+ssh://a%40b@node02:23/system?no_tty=1&keyfile=/k%20y"
    )
    assert uri(transport="tls", tls_directory="/pki") == "qemu+tls://node02/system?pkipath=/pki"
    options = LibvirtOptions(
        hosts={"node02": HostOptions(address="10.0.0.2", migration_address="m")}
    )
    assert remote_uri(options, "node02", "qemu", "tcp") == "qemu+tcp://10.0.0.2/system"
    assert migration_uri(options, "node02", rdma=False) == "tcp://m"
    assert migration_uri(LibvirtOptions(), "node02", rdma=True) == "rdma://node02-ib"
    assert migration_uri(LibvirtOptions(), "node02", rdma=False) is None
    options = LibvirtOptions(migration_host="<host>-mig")
    assert migration_uri(options, "node02", rdma=False) == "tcp://node02-mig"


@pytest.mark.parametrize("text", ["remote-uri: 'qemu://x/'", "local-uri: 'qemu://<nix>'"])
def test_invalid_uri_template_is_refused(text):
    with pytest.raises(ValueError, match=r"contain <host>|<nix> is not a placeholder"):
        LibvirtOptions.from_yaml(text)
