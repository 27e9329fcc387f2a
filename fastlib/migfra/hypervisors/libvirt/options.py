"""The configuration keys of the hypervisor libvirt, besides `type: libvirt`."""

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

from msgspec import Meta

from fastlib.codec.annotations import Wire
from fastlib.codec.rules import Positive, Rule, ValueRule
from fastlib.message import PciId
from fastlib.migfra.plugin_api.config_section import ConfigSection, Count, Port, Seconds
from fastlib.migfra.virt.encryption import EncryptionMode
from fastlib.migfra.virt.migration_limits import (
    DEFAULT_MIGRATIONS,
    INCOMING_MEANING,
    OUTGOING_MEANING,
)
from fastlib.migfra.virt.probe_hosts import is_probe_host
from fastlib.migfra.virt.xml_values import Level, XmlPolicy, is_sound_path

Transport = Literal["ssh", "tcp", "tls"]
DriverName = Literal["qemu", "lxctools", "lxc", "xen", "test"]
MigrationMode = Literal["peer-to-peer", "managed"]
DRIVERS: Mapping[str, str] = {
    "qemu": "/system",
    "lxctools": "/",
    "lxc": "/",
    "xen": "/system",
    "test": "/default",
}
"""The supported drivers of libvirt, with the path in their URIs."""
PLACES = frozenset({"<driver>", "<transport>", "<host>", "<path>"})


class Template(ValueRule):
    """A text must have only known placeholders. `<host>` must be among them. None is allowed."""

    def __init__(self, attribute: str, *, places: frozenset[str] = PLACES) -> None:
        super().__init__(attribute)
        self._places = places

    def problem_with(self, value: Any) -> str | None:
        found = set(re.findall("<[^<>]*>", value))
        if unknown := found - self._places:
            known = ", ".join(sorted(self._places))
            return f"{min(unknown)} is not a placeholder; the placeholders are {known}"
        if "<host>" in self._places and "<host>" not in found:
            return "must contain <host>, or all hosts would be the same"
        return None

    def describe(self, keys: Mapping[str, str]) -> str:
        places = ", ".join(sorted(self._places))
        needed = "; <host> is needed" if "<host>" in self._places else ""
        return f"{keys[self.attribute]} may have these placeholders: {places}{needed}"

    def value_schema(self) -> dict[str, Any]:
        known = "|".join(sorted(place[1:-1] for place in self._places))
        schema: dict[str, Any] = {"not": {"type": "string", "pattern": f"<(?!({known})>)[^<>]*>"}}
        return {**schema, "pattern": "<host>"} if "<host>" in self._places else schema


class AbsolutePaths(ValueRule):
    """Each path must be absolute, and without `..`."""

    def problem_with(self, value: Any) -> str | None:
        found = [path for path in value if not is_sound_path(path)]
        return f"{found[0]!r} must be an absolute path without '..'" if found else None

    def describe(self, keys: Mapping[str, str]) -> str:
        return f"each of {keys[self.attribute]} must be an absolute path without '..'"

    def value_schema(self) -> dict[str, Any]:
        return {"items": {"type": "string", "pattern": "^/(?!(.*/)?[.][.](/|$))"}}


class AbsolutePath(ValueRule):
    """A path must be absolute, and without `..`."""

    def problem_with(self, value: Any) -> str | None:
        return None if is_sound_path(value) else f"{value!r} must be an absolute path without '..'"

    def describe(self, keys: Mapping[str, str]) -> str:
        return f"{keys[self.attribute]} must be an absolute path without '..'"

    def value_schema(self) -> dict[str, Any]:
        return {"pattern": "^/(?!(.*/)?[.][.](/|$))"}


class ProbeHosts(ValueRule):
    """Each must be a name, a domain or a network."""

    def problem_with(self, value: Any) -> str | None:
        found = [text for text in value if not is_probe_host(text)]
        return f"{found[0]!r} must be a host, a domain or a network" if found else None

    def describe(self, keys: Mapping[str, str]) -> str:
        return f"each of {keys[self.attribute]} must be a host, a domain or a network"


class HostOptions(ConfigSection):
    """The addresses of a host that cannot be reached by its name."""

    address: Annotated[
        str | None, Wire("Name or address of its libvirt; absent means the host's name.")
    ] = None
    migration_address: Annotated[
        str | None, Wire("Name or address that memory is sent to; absent means 'migration-host'.")
    ] = None


class DomainXmlOptions(ConfigSection):
    """The permitted content of the XML of a task `start vm`."""

    allow: Annotated[
        Level,
        Wire(
            "defined-only: tasks have no XML. checked: only the elements and attributes of a list, "
            "with sources below 'directories' and in 'pools'. any: everything, so a task is root."
        ),
    ] = "checked"
    directories: Annotated[
        Sequence[str], Wire("Folders with the files and block devices that domains may use.")
    ] = XmlPolicy().directories
    pools: Annotated[Sequence[str], Wire("Storage pools whose volumes domains may use.")] = (
        XmlPolicy().pools
    )
    emulators: Annotated[Sequence[str], Wire("Programs that the XML may name as its emulator.")] = (
        XmlPolicy().emulators
    )

    rules: ClassVar[tuple[Rule, ...]] = (AbsolutePaths("directories"), AbsolutePaths("emulators"))

    @property
    def policy(self) -> XmlPolicy:
        """Return these options as the policy for `check_domain_xml`."""
        return XmlPolicy(
            allow=self.allow,
            directories=self.directories,
            pools=self.pools,
            emulators=self.emulators,
        )


class LibvirtOptions(ConfigSection):
    """How to reach libvirt, and the timeouts."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Template("local_uri", places=PLACES - {"<host>", "<transport>"}),
        Template("remote_uri"),
        Template("migration_host", places=frozenset({"<host>"})),
        Template("rdma_host", places=frozenset({"<host>"})),
        ProbeHosts("probe_hosts"),
        AbsolutePath("image_directory"),
        Positive("start_timeout"),
        Positive("stop_timeout"),
        Positive("connect_timeout"),
        Positive("call_timeout"),
        Positive("stall_timeout"),
        Positive("unreachable_timeout"),
        Positive("recover_timeout"),
        Positive("pscom_timeout"),
    )

    driver: Annotated[DriverName, Wire("The driver of tasks that do not name one.")] = "qemu"
    transport: Annotated[
        Transport, Wire("The transport to other hosts' libvirt, for tasks that do not name one.")
    ] = "ssh"
    nodes: Annotated[
        Sequence[str],
        Wire("Hosts that are checked before a start: the domain must not run there already."),
    ] = ()
    ignore_unreachable_nodes: Annotated[
        bool,
        Wire("Whether a domain is started although one of the nodes, on which it may run, is "
        "unreachable."),
    ] = False  # fmt: skip

    # Choices of tasks
    drivers: Annotated[
        Sequence[DriverName] | None,
        Wire("Further drivers that tasks may choose; absent means only 'driver'."),
    ] = None
    transports: Annotated[
        Sequence[Transport] | None,
        Wire("Further transports that tasks may choose; absent means only 'transport'."),
    ] = None
    destinations: Annotated[
        Sequence[str] | None,
        Wire(
            "Hosts that tasks may choose as destinations; absent means 'nodes', or any host if "
            "there are no nodes."
        ),
    ] = None
    pci_ids: Annotated[
        Sequence[PciId] | None,
        Wire(
            "Kinds of PCI devices that tasks may attach with 'pci-ids' or 'devs'; absent means all."
        ),
    ] = None
    domain_xml: Annotated[DomainXmlOptions, Wire("The permitted content of a start's XML.")] = (
        DomainXmlOptions()
    )

    start_timeout: Annotated[
        Seconds, Wire("The longest time until a started domain answers on SSH.", unit="s")
    ] = 60.0
    stop_timeout: Annotated[Seconds, Wire("The longest time of a domain's shutdown.", unit="s")] = (
        60.0
    )

    # Where
    local_uri: Annotated[str, Wire("URI of this host's libvirt.")] = "<driver>://<path>"
    remote_uri: Annotated[str, Wire("URI of another host's libvirt.")] = (
        "<driver>+<transport>://<host><path>"
    )
    hosts: Annotated[
        Mapping[str, HostOptions], Wire("Hosts that cannot be reached by their names.")
    ] = {}
    port: Annotated[Port | None, Wire("Port of the transport; absent means its usual one.")] = None
    ssh_user: Annotated[str | None, Wire("User of the transport ssh; absent means migfra's.")] = (
        None
    )
    ssh_key: Annotated[str | None, Wire("File with the key for the transport ssh.")] = None
    tls_directory: Annotated[
        str | None,
        Wire("Folder with cacert.pem, clientcert.pem and clientkey.pem for the transport tls."),
    ] = None
    connect_timeout: Annotated[
        Seconds, Wire("The longest time until a connection is open.", unit="s")
    ] = 10.0
    keep_alive: Annotated[
        Annotated[int, Meta(ge=1, le=3600)],
        Wire("Time without traffic after which a keep-alive message is sent to a host.", unit="s"),
    ] = 5
    keep_alive_count: Annotated[
        Annotated[int, Meta(ge=1, le=100)],
        Wire("Number of keep-alive messages that may stay unanswered."),
    ] = 3
    call_timeout: Annotated[
        Seconds, Wire("The longest time until libvirt answers; libvirt may itself wait up to 30 s.",
                      unit="s")
    ] = 45.0  # fmt: skip

    # Migration
    outgoing_migrations: Annotated[Count, Wire(OUTGOING_MEANING)] = DEFAULT_MIGRATIONS
    incoming_migrations: Annotated[Count, Wire(INCOMING_MEANING)] = DEFAULT_MIGRATIONS
    migration: Annotated[
        MigrationMode,
        Wire(
            "Controller of a migration: the source's libvirt (peer-to-peer), which survives the "
            "end of the daemon and notices a cut link, or the daemon (managed), if hosts cannot "
            "reach each other's libvirt."
        ),
    ] = "peer-to-peer"
    migration_host: Annotated[
        str | None,
        Wire("Name of a host in the network for memory, such as <host>-mig; absent means the name "
        "that the destination reports."),
    ] = None  # fmt: skip
    rdma_host: Annotated[str, Wire("Name of a host for migration by RDMA.")] = "<host>-ib"
    encryption: Annotated[
        EncryptionMode,
        Wire(
            "Whether memory and disks are sent encrypted. required: always; migrations that cannot "
            "be encrypted are refused. preferred: where both hosts have certificates. off: never."
        ),
    ] = "preferred"
    recover_timeout: Annotated[
        Seconds,
        Wire(
            "Time without progress after which the daemon no longer tries to resume an interrupted "
            "post-copy.",
            unit="s",
        ),
    ] = 1200.0
    post_copy_without_recovery: Annotated[
        bool,
        Wire(
            "Whether post-copy is allowed between hosts that cannot resume it. Then a cut link "
            "ends the domain."
        ),
    ] = False
    stall_timeout: Annotated[
        Seconds, Wire("Time without progress after which a migration is aborted.", unit="s")
    ] = 30.0
    unreachable_timeout: Annotated[
        Seconds,
        Wire(
            "Time for which the daemon retries a step that must be done, such as resuming a domain "
            "or removing an unfinished copy of a disk, while the libvirt of a host is unreachable.",
            unit="s",
        ),
    ] = 30.0
    pscom_timeout: Annotated[
        Seconds, Wire("The longest time until pscom processes answer.", unit="s")
    ] = 10.0
    pscom_count_command: Annotated[
        str,
        Wire("Command that prints the number of pscom processes, for tasks that say auto. It runs "
        "in the domain through ssh."),
    ] = (
        "p=$(pgrep -d, 'hydra_pmi_proxy|psidforwarder'); "
        'if [ -n "$p" ]; then pgrep -c -P "$p"; else echo 0; fi; true'
    )  # fmt: skip
    image_directory: Annotated[
        str, Wire("The folder of the images that tasks create by 'disks' without a path.")
    ] = "/var/lib/libvirt/images"
    overcommit_disks: Annotated[
        bool,
        Wire(
            "Whether the images of new disks and of copies may together be larger than the room "
            "for them. Then domains may find their disks full."
        ),
    ] = False
    reserved_memory: Annotated[
        Annotated[int, Meta(ge=0, le=1 << 40)],
        Wire("Memory of a host that is kept free of domains.", unit="KiB"),
    ] = 0
    snapshot_directory: Annotated[
        str | None,
        Wire("A folder that all hosts share, for swaps where no host has memory for both domains."),
    ] = None
    probe_port: Annotated[Port, Wire("The port at which a started domain answers on SSH.")] = 22
    probe_hosts: Annotated[
        Sequence[str],
        Wire(
            "Values that probe-hostname may have besides the domain: hosts, DNS domains such as "
            "'.example.org', networks such as '10.0.0.0/8'."
        ),
    ] = ()
