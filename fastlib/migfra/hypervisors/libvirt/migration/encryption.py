"""Decide whether the memory of a domain is sent encrypted, by the certificates of both hosts.

The source reads the certificates of both hosts by libvirt, each time. So it learns what the
destination can do without a daemon there, and at the moment when it matters. A file that is missing
means that the host is not set up for encryption. A certificate that is there but not valid is a
mistake or an attack. Then no mode sends the memory unencrypted.
"""

import asyncio
from typing import Any

import msgspec

from fastlib.extras import MissingExtraError
from fastlib.migfra.errors import FinalError, HypervisorError
from fastlib.migfra.hypervisors.libvirt.connection.connection import Connection
from fastlib.migfra.hypervisors.libvirt.connection.uris import destination_names
from fastlib.migfra.hypervisors.libvirt.domain.certificate_files import (
    HostCertificates,
    Role,
    UnreadableError,
    own_prober,
    read_certificates,
)
from fastlib.migfra.hypervisors.libvirt.domain.file_probe import Prober
from fastlib.migfra.hypervisors.libvirt.domain.xml import parse
from fastlib.migfra.hypervisors.libvirt.errors import LibvirtError, LostError
from fastlib.migfra.hypervisors.libvirt.runtime import LibvirtRuntime
from fastlib.migfra.plugin_api.context import Context
from fastlib.migfra.virt.encryption import effective_mode
from fastlib.migfra.virt.migration_spec import MigrationSpec

from .certificate_checks import missing_files, own_problems, problems_between
from .option_checks import check_options


class Encryption(msgspec.Struct, frozen=True, kw_only=True):
    """Whether the memory is encrypted."""

    server_name: str | None = None
    """The name that the destination's certificate must have. None if nothing is encrypted."""
    reason: str | None = None
    """The reason why nothing is encrypted, although it is preferred."""

    @property
    def encrypted(self) -> bool:
        """Whether the memory is sent encrypted."""
        return self.server_name is not None


def with_required_encryption(runtime: LibvirtRuntime, spec: MigrationSpec) -> MigrationSpec:
    """Return the spec as an order for encryption if the configuration requires that.

    Raises FinalError if the configuration forbids what the order says.
    """
    mode = effective_mode(runtime.options.encryption, spec.parameter.encrypted)
    if mode != "required" or spec.kind == "offline":
        return spec
    return _ordered(spec)


def _ordered(spec: MigrationSpec) -> MigrationSpec:
    parameter = msgspec.structs.replace(spec.parameter, encrypted=True)
    return msgspec.structs.replace(spec, parameter=parameter)


async def decide_encryption(
    runtime: LibvirtRuntime, spec: MigrationSpec, context: Context
) -> Encryption | None:
    """Return whether a domain is sent encrypted. None if there is nothing to encrypt.

    Raises FinalError if it must be encrypted and cannot, or if a certificate is not valid.
    """
    mode = effective_mode(runtime.options.encryption, spec.parameter.encrypted)
    source = await runtime.connections.get(spec.source, spec.driver, spec.transport)
    if spec.kind == "offline" or await source.call(_kind) != "QEMU":
        return None
    if mode == "off":
        return Encryption()
    try:
        found = await _preferred(runtime, spec, source, context)
    except (UnreadableError, MissingExtraError) as error:
        found = Encryption(reason=str(error))
    if mode == "required" and not found.encrypted:
        raise FinalError(f"{spec.name} cannot be sent encrypted: {found.reason}")
    if found.reason is not None:
        context.log.info("%s is not sent encrypted: %s", spec.name, found.reason)
    return found


def _kind(connection: Any) -> str:
    return str(connection.getType())


async def _preferred(
    runtime: LibvirtRuntime, spec: MigrationSpec, source: Connection, context: Context
) -> Encryption:
    """Return whether both hosts can encrypt. Raises FinalError if a certificate is not valid."""
    prober = await source.call(_prober, spec.name, runtime.host)
    here = await _read(source, prober, "client")
    if here.authority.data is None and not here.authority.problem:
        return Encryption(reason=missing_files(here)[0].text)
    destination = await runtime.connections.get(spec.destination, spec.driver, spec.transport)
    there = await _read(destination, prober, "server")
    names = destination_names(
        runtime.options,
        spec.destination,
        await destination.call(_host_name),
        bool(spec.parameter.rdma_migration),
    )
    problems, name = await asyncio.to_thread(problems_between, here, there, names)
    text = "; ".join(problem.text for problem in problems)
    if any(problem.kind == "missing" for problem in problems):
        return Encryption(reason=text)
    if problems:
        remedy = ""
        if not spec.parameter.encrypted and runtime.options.encryption == "preferred":
            remedy = "; or send the order with encrypted: false"
        raise FinalError(f"{spec.name} cannot be sent encrypted: {text}{remedy}")
    if not spec.parameter.encrypted:
        try:
            await check_options(runtime, _ordered(spec), context)
        except FinalError as error:
            return Encryption(reason=str(error))
    return Encryption(server_name=name)


def _prober(connection: Any, name: str, own_host: str) -> Prober:
    domain = connection.lookupByName(name)
    kind = parse(domain.XMLDesc(0)).find("os/type")
    architecture = None if kind is None else kind.get("arch")
    return Prober(
        host=own_host, domain_uuid=domain.UUIDString(), architecture=architecture or "x86_64"
    )


def _host_name(connection: Any) -> str:
    return str(connection.getHostname())


async def _read(connection: Connection, prober: Prober, role: Role) -> HostCertificates:
    try:
        return await connection.call(read_certificates, prober, connection.host, role)
    except LostError:
        raise
    except LibvirtError as error:
        raise UnreadableError(
            f"the certificates of {connection.host} cannot be read: {error}"
        ) from error


async def check_own_certificates(runtime: LibvirtRuntime, connection: Connection) -> None:
    """Check the certificates of this host, for `--check`.

    Raises HypervisorError if one is not valid, or if encryption is required and one is missing.
    """
    mode = runtime.options.encryption
    if mode == "off" or await connection.call(_kind) != "QEMU":
        return
    prober = await connection.call(own_prober, runtime.host)
    problems = []
    try:
        for role in ("client", "server"):
            found = await _read(connection, prober, role)
            problems += await asyncio.to_thread(own_problems, found)
    except (UnreadableError, MissingExtraError) as error:
        if mode == "required":
            raise HypervisorError(f"encryption is required, but {error}") from error
        runtime.node.log.warning("migrations are not encrypted: %s", error)
        return
    texts = list(dict.fromkeys(problem.text for problem in problems))
    missing = any(problem.kind == "missing" for problem in problems)
    if mode == "required" and problems:
        raise HypervisorError(f"encryption is required, but {'; '.join(texts)}")
    if missing:
        runtime.node.log.warning("migrations are not encrypted: %s", "; ".join(texts))
    elif problems:
        raise HypervisorError(
            f"{'; '.join(texts)}; or set encryption to off in the section hypervisor"
        )
