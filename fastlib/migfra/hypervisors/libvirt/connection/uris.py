"""The URIs of the hosts' libvirt. Checks names that become parts of them."""

import ipaddress
import re
from typing import Final
from urllib.parse import quote, urlencode

from fastlib.migfra.errors import HypervisorError
from fastlib.migfra.hypervisors.libvirt.options import DRIVERS, HostOptions, LibvirtOptions
from fastlib.migfra.virt.host_names import canonical_name, is_loopback, is_same_name

TRANSPORTS: Final = ("ssh", "tcp", "tls")
_HOST: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,252}")


def check_host(host: str) -> str:
    """A host's name or address as it stands in a URI. Raises HypervisorError."""
    if _HOST.fullmatch(host):
        return host
    try:
        return f"[{ipaddress.IPv6Address(host.strip('[]')).compressed}]"
    except ValueError:
        raise HypervisorError(
            f"{host[:60]!r} cannot be the name of a host: letters, digits, '.', '-' and '_' can"
        ) from None


def check_driver(options: LibvirtOptions, driver: str | None) -> str:
    """The driver of a task, or the configured one. Raises HypervisorError."""
    if driver is None or driver == options.driver:
        return options.driver
    if driver not in DRIVERS or driver == "test":
        known = ", ".join(name for name in DRIVERS if name != "test")
        raise HypervisorError(f"there is no driver {driver[:40]!r}; there are {known}")
    return driver


def check_transport(options: LibvirtOptions, transport: str | None) -> str:
    """The transport of a task, or the configured one. Raises HypervisorError."""
    if transport is None:
        return options.transport
    if transport not in TRANSPORTS:
        raise HypervisorError(
            f"there is no transport {transport[:40]!r}; there are {', '.join(TRANSPORTS)}"
        )
    return transport


def local_uri(options: LibvirtOptions, driver: str) -> str:
    """The URI of this host's libvirt."""
    return _filled(options.local_uri, driver)


def remote_uri(options: LibvirtOptions, host: str, driver: str, transport: str) -> str:
    """The URI of another host's libvirt. Raises HypervisorError for an unsound name."""
    # A final dot would not be in certificates and lists of known keys.
    address = check_host(_of(options, host).address or host).rstrip(".")
    if options.port is not None:
        address += f":{options.port}"
    if transport == "ssh" and options.ssh_user is not None:
        address = f"{quote(options.ssh_user, safe='')}@{address}"
    uri = _filled(options.remote_uri, driver, address, transport)
    query = {}
    if transport == "ssh":
        query["no_tty"] = "1"  # nobody is there to be asked for a password
        if options.ssh_key is not None:
            query["keyfile"] = options.ssh_key
    if transport == "tls" and options.tls_directory is not None:
        query["pkipath"] = options.tls_directory
    if not query:
        return uri
    return f"{uri}{'&' if '?' in uri else '?'}{urlencode(query, safe='/', quote_via=quote)}"


def migration_uri(options: LibvirtOptions, host: str, rdma: bool) -> str | None:
    """Return the URI that memory is sent to. None lets the destination choose."""
    address = _of(options, host).migration_address
    if rdma:
        return f"rdma://{check_host(address or options.rdma_host.replace('<host>', host))}"
    if address is None and options.migration_host is not None:
        address = options.migration_host.replace("<host>", host)
    return None if address is None else f"tcp://{check_host(address)}"


def is_own_name(options: LibvirtOptions, own: str, host: str) -> bool:
    """Tell without asking anybody that a name is this host's. False if it may be another's."""
    if host == own:
        return True
    return (is_same_name(host, own) or is_loopback(host)) and _options_of(options, host) is None


def _of(options: LibvirtOptions, host: str) -> HostOptions:
    return _options_of(options, host) or HostOptions()


def _options_of(options: LibvirtOptions, host: str) -> HostOptions | None:
    """The options of a host, under whatever spelling of its name."""
    if host in options.hosts:
        return options.hosts[host]
    wanted = canonical_name(host)
    return next(
        (each for name, each in options.hosts.items() if canonical_name(name) == wanted), None
    )


def _filled(template: str, driver: str, host: str = "", transport: str = "") -> str:
    return (
        template.replace("<driver>", driver)
        .replace("<transport>", transport)
        .replace("<host>", host)
        .replace("<path>", DRIVERS[driver])
    )
