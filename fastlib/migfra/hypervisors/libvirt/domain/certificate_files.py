"""Read QEMU's certificates for migrations from a host. The functions block: use `Connection.call`.

libvirt reads the files, so they are those that QEMU on that host will find. Nothing is read of a
private key; only its presence is looked up.
"""

from typing import Any, Final, Literal

import msgspec

from fastlib.migfra.virt.program_versions import Version, version_of

from . import qemu_conf
from .file_probe import FileContent, Prober, read_files

Role = Literal["server", "client"]
"""QEMU at the destination is the server, at the source the client."""
AUTHORITY: Final = "ca-cert.pem"
REVOCATIONS: Final = "ca-crl.pem"
"""The file with the certificates that authorities have revoked. QEMU as a server reads it if it is
there."""


class HostCertificates(msgspec.Struct, frozen=True, kw_only=True):
    """The certificates of one host for one role."""

    host: str
    role: Role
    folder: str
    authority: FileContent
    certificate: FileContent
    key: FileContent
    """The private key. Its content is not read."""
    revocations: FileContent = FileContent()
    """The certificates that authorities have revoked, for the role `server`."""
    verifies_source: bool = True
    """Whether a destination requires a certificate of the source."""
    qemu: Version | None = None
    """The version of the host's QEMU, which decides some rules."""

    def path(self, name: str) -> str:
        """Return the path of a file in the folder."""
        return f"{self.folder}/{name}"


class UnreadableError(Exception):
    """The settings of a host's QEMU cannot be read."""


def read_certificates(connection: Any, prober: Prober, host: str, role: Role) -> HostCertificates:
    """Read the certificates of a host. Raises UnreadableError, and libvirtError."""
    first = read_files(connection, prober, [qemu_conf.PATH], unread=[qemu_conf.OWN_FOLDER])
    conf, own_folder = first[qemu_conf.PATH], first[qemu_conf.OWN_FOLDER]
    if conf.problem:
        raise UnreadableError(f"{qemu_conf.PATH} on {host} cannot be read: {conf.problem}")
    settings = qemu_conf.tls_settings(
        (conf.data or b"").decode(errors="replace"), has_own_folder=own_folder.is_present
    )
    folder = settings.folder
    authority, certificate = f"{folder}/{AUTHORITY}", f"{folder}/{role}-cert.pem"
    key = f"{folder}/{role}-key.pem"
    revocations = f"{folder}/{REVOCATIONS}"
    read = [authority, certificate, *([revocations] if role == "server" else [])]
    contents = read_files(connection, prober, read, unread=[key])
    return HostCertificates(
        host=host,
        role=role,
        folder=folder,
        authority=contents[authority],
        certificate=contents[certificate],
        key=contents[key],
        revocations=contents.get(revocations, FileContent()),
        qemu=version_of(connection.getVersion()),
        verifies_source=settings.verifies_source,
    )


def own_prober(connection: Any, host: str) -> Prober:
    """Return a prober for the files of the host itself, which belong to no domain."""
    return Prober(host=host, domain_uuid="certificates", architecture=str(connection.getInfo()[0]))
