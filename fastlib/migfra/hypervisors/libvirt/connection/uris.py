"""The URIs of the hosts' libvirt. Checks names that become parts of them."""

from typing import Final, NewType
from urllib.parse import quote, urlencode

from fastlib.migfra.errors import HypervisorError
from fastlib.migfra.hypervisors.libvirt.options import DRIVERS, HostOptions, LibvirtOptions
from fastlib.migfra.virt.host_names import (
    canonical_name,
    check_destination,
    check_host,
    is_loopback,
    is_same_name,
)

Driver = NewType("Driver", str)
"""A driver that was checked. Only `check_driver` makes one."""
CheckedTransport = NewType("CheckedTransport", str)
"""A transport that was checked. Only `check_transport` makes one."""
TRANSPORTS: Final = ("ssh", "tcp", "tls")


def check_driver(options: LibvirtOptions, driver: str | None) -> Driver:
    """The driver of a task, or the configured one. Raises HypervisorError if it is not allowed."""
    if driver is None or driver == options.driver:
        return Driver(options.driver)
    if driver not in DRIVERS or driver == "test":
        known = ", ".join(name for name in DRIVERS if name != "test")
        raise HypervisorError(f"unknown driver {driver[:40]!r}; the drivers are {known}")
    if driver not in (options.drivers or ()):
        raise HypervisorError(
            f"the configuration does not let tasks choose the driver {driver!r}; leave out "
            "driver, or let the operator add it to drivers in the section hypervisor"
        )
    return Driver(driver)


def check_transport(options: LibvirtOptions, transport: str | None) -> CheckedTransport:
    """The transport of a task, or the configured one. Raises HypervisorError if not allowed."""
    if transport is None or transport == options.transport:
        return CheckedTransport(options.transport)
    if transport not in TRANSPORTS:
        raise HypervisorError(
            f"unknown transport {transport[:40]!r}; the transports are {', '.join(TRANSPORTS)}"
        )
    if transport not in (options.transports or ()):
        raise HypervisorError(
            f"the configuration does not let tasks choose the transport {transport!r}; leave out "
            "transport, or let the operator add it to transports in the section hypervisor"
        )
    return CheckedTransport(transport)


def check_known_host(options: LibvirtOptions, host: str) -> None:
    """Raise HypervisorError for a host that is neither a destination nor one of `nodes`."""
    if not any(is_same_name(host, node) for node in options.nodes):
        check_destination(host, destinations=options.destinations, nodes=options.nodes)


def local_uri(options: LibvirtOptions, driver: Driver) -> str:
    """The URI of this host's libvirt."""
    return _filled(options.local_uri, driver)


def remote_uri(
    options: LibvirtOptions, host: str, driver: Driver, transport: CheckedTransport
) -> str:
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


def _filled(template: str, driver: Driver, host: str = "", transport: str = "") -> str:
    return (
        template.replace("<driver>", driver)
        .replace("<transport>", transport)
        .replace("<host>", host)
        .replace("<path>", DRIVERS[driver])
    )
