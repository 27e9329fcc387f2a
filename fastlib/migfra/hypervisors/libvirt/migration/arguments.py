"""The flags and parameters of libvirt's call that migrates a domain."""

from typing import Any

import msgspec

from fastlib.migfra.hypervisors.libvirt.connection.api import api
from fastlib.migfra.virt.combinations import PARALLEL_ONLY
from fastlib.migfra.virt.migration_spec import MigrationSpec

from .destination_xml import DestinationXml
from .disks_check import CopyPlan


class MigrateArguments(msgspec.Struct, frozen=True, kw_only=True):
    """The arguments of libvirt's call."""

    name: str
    flags: int
    parameters: dict[str, Any]
    destination_uri: str | None
    """URI of the destination for the source. None if the daemon connects both."""


def migrate_arguments(
    spec: MigrationSpec,
    *,
    persistent: bool,
    peer: str | None,
    migration_uri: str | None,
    server_name: str | None = None,
    plan: CopyPlan = CopyPlan(),  # noqa: B008, it is immutable
    arrives_paused: bool = False,
    xml: DestinationXml | None = None,
) -> MigrateArguments:
    """Return the arguments. `peer` is the URI of the destination, None without peer-to-peer.

    `server_name` is the name in the destination's certificate, None without encryption. With
    `arrives_paused`, libvirt does not start the domain at the destination. `xml` is the domain's
    XML for the destination, None if it is that of the source.
    """
    libvirt = api()
    options = spec.parameter
    flags = 0
    parameters: dict[str, Any] = {}
    if peer is not None:
        flags |= libvirt.VIR_MIGRATE_PEER2PEER
    if persistent:
        flags |= libvirt.VIR_MIGRATE_PERSIST_DEST | libvirt.VIR_MIGRATE_UNDEFINE_SOURCE
    if spec.kind == "offline":
        flags |= libvirt.VIR_MIGRATE_OFFLINE
        return MigrateArguments(name=spec.name, flags=flags, parameters={}, destination_uri=peer)
    if spec.kind == "live":
        flags |= libvirt.VIR_MIGRATE_LIVE
    if arrives_paused:
        flags |= libvirt.VIR_MIGRATE_PAUSED
    if xml is not None:
        parameters[libvirt.VIR_MIGRATE_PARAM_DEST_XML] = xml.live
        if xml.definition is not None:
            parameters[libvirt.VIR_MIGRATE_PARAM_PERSIST_XML] = xml.definition
    if options.auto_converge:
        flags |= libvirt.VIR_MIGRATE_AUTO_CONVERGE
    if options.on_timeout == "post-copy":
        flags |= libvirt.VIR_MIGRATE_POSTCOPY
    if options.bandwidth_limit:
        parameters[libvirt.VIR_MIGRATE_PARAM_BANDWIDTH] = options.bandwidth_limit
        if options.on_timeout == "post-copy":
            # Post-copy has its own limit. By default it is unlimited.
            parameters[libvirt.VIR_MIGRATE_PARAM_BANDWIDTH_POSTCOPY] = options.bandwidth_limit
    if options.compression is not None:
        flags |= libvirt.VIR_MIGRATE_COMPRESSED
        parameters[libvirt.VIR_MIGRATE_PARAM_COMPRESSION] = options.compression
    if options.parallel_connections or options.compression in PARALLEL_ONLY:
        flags |= libvirt.VIR_MIGRATE_PARALLEL
        if options.parallel_connections:
            count = options.parallel_connections
            parameters[libvirt.VIR_MIGRATE_PARAM_PARALLEL_CONNECTIONS] = count
    if server_name is not None:
        flags |= libvirt.VIR_MIGRATE_TLS
        parameters[libvirt.VIR_MIGRATE_PARAM_TLS_DESTINATION] = server_name
    if plan.copies:
        flags |= (
            libvirt.VIR_MIGRATE_NON_SHARED_INC
            if plan.is_incremental
            else libvirt.VIR_MIGRATE_NON_SHARED_DISK
        )
        parameters[libvirt.VIR_MIGRATE_PARAM_MIGRATE_DISKS] = plan.targets
    if plan.shows_shared:
        # libvirt knows the types of some shared file systems. The check has compared the hosts.
        flags |= libvirt.VIR_MIGRATE_UNSAFE
    if migration_uri is not None:
        parameters[libvirt.VIR_MIGRATE_PARAM_URI] = migration_uri
    return MigrateArguments(
        name=spec.name, flags=flags, parameters=parameters, destination_uri=peer
    )


def arrives_paused(spec: MigrationSpec, plan: CopyPlan, *, by_xml: bool) -> bool:
    """Return whether the daemon, and not libvirt, starts the domain at the destination.

    `by_xml`: the destination's XML has the CPUs of its vCPUs. If not, they are pinned before.

    libvirt's call to start it may be executed late, after the source has resumed the domain. Both
    would then write their own disks, or the same ones, unless QEMU locks them. In post-copy libvirt
    must start it, because the source has the memory.
    """
    if spec.kind == "offline":
        return False
    could_write = bool(plan.copies) or plan.has_unlocked
    is_late = could_write and spec.parameter.on_timeout != "post-copy"
    return is_late or (spec.vcpu_map is not None and not by_xml)


def resuming(arguments: MigrateArguments) -> MigrateArguments | None:
    """Return the arguments that resume the post-copy which a call with these began.

    The copies of disks are complete when post-copy begins, and the destination has its XML. Returns
    None if libvirt is too old.
    """
    libvirt = api()
    if not hasattr(libvirt, "VIR_MIGRATE_POSTCOPY_RESUME"):
        return None
    disks = libvirt.VIR_MIGRATE_NON_SHARED_INC | libvirt.VIR_MIGRATE_NON_SHARED_DISK
    done = {
        libvirt.VIR_MIGRATE_PARAM_MIGRATE_DISKS,
        libvirt.VIR_MIGRATE_PARAM_DEST_XML,
        libvirt.VIR_MIGRATE_PARAM_PERSIST_XML,
    }
    parameters = {key: value for key, value in arguments.parameters.items() if key not in done}
    return msgspec.structs.replace(
        arguments,
        flags=arguments.flags & ~disks | libvirt.VIR_MIGRATE_POSTCOPY_RESUME,
        parameters=parameters,
    )
