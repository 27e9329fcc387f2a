"""The URIs of hosts, made of names that must not break them."""

import pytest

from fastlib.migfra import HypervisorError
from fastlib.migfra.hypervisors.libvirt import HostOptions, LibvirtOptions
from fastlib.migfra.hypervisors.libvirt.connection.uris import check_host, migration_uri, remote_uri


@pytest.mark.parametrize("host", ["", "a b", "a/b", "a?x=1", "a@b", "a:1", "-a", "ä", "a#"])
def test_host_name_that_breaks_uri_is_refused(host):
    with pytest.raises(HypervisorError, match="cannot be the name of a host"):
        check_host(host)


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
    with pytest.raises(ValueError, match=r"no <host>|<nix> is no placeholder"):
        LibvirtOptions.from_yaml(text)
