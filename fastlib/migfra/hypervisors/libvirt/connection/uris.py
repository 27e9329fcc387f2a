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
"""A checked driver. Only `check_driver` makes one."""
CheckedTransport = NewType("CheckedTransport", str)
"""A checked transport. Only `check_transport` makes one."""
TRANSPORTS: Final = ("ssh", "tcp", "tls")


def check_driver(options: LibvirtOptions, driver: str | None) -> Driver:
    """Return a task's driver, or the configured one. Raises HypervisorError if not allowed."""
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
    """Return a task's transport, or the configured one. Raises HypervisorError if not allowed."""
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
    """Return the URI of this host's libvirt."""
    return _filled(options.local_uri, driver)


def remote_uri(
    options: LibvirtOptions, host: str, driver: Driver, transport: CheckedTransport
) -> str:
    """Return the URI of another host's libvirt. Raises HypervisorError for an invalid name."""
    # Certificates and lists of known keys have names without a final dot.
    address = check_host(_of(options, host).address or host).rstrip(".")
    if options.port is not None:
        address += f":{options.port}"
    if transport == "ssh" and options.ssh_user is not None:
        address = f"{quote(options.ssh_user, safe='')}@{address}"
    uri = _filled(options.remote_uri, driver, address, transport)
    query = {}
    if transport == "ssh":
        query["no_tty"] = "1"  # no user is there to enter a password
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


def destination_names(
    options: LibvirtOptions, host: str, reported: str, rdma: bool
) -> tuple[str, ...]:
    """Return the names that the certificate of a destination may have, the best one first.

    They are the names of the order and of the configuration. `reported` is the name that the host
    gives itself. It counts only if it is the order's name with a domain.
    """
    uri = migration_uri(options, host, rdma)
    named = [] if uri is None else [uri.partition("://")[2]]
    named += [host, _of(options, host).address or host]
    if reported.partition(".")[0].lower() == host.lower():
        named.append(reported)
    return tuple(dict.fromkeys(name.strip("[]").rstrip(".") for name in named))


def is_own_name(options: LibvirtOptions, own: str, host: str) -> bool:
    """Return whether a name is surely this host's; False if unsure. Queries no host."""
    if host == own:
        return True
    return (is_same_name(host, own) or is_loopback(host)) and _options_of(options, host) is None


def _of(options: LibvirtOptions, host: str) -> HostOptions:
    return _options_of(options, host) or HostOptions()


def _options_of(options: LibvirtOptions, host: str) -> HostOptions | None:
    """Return the options of a host. Each spelling of its name matches."""
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
