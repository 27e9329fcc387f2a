"""Check QEMU's certificates of both hosts for an encrypted migration. Pure but for the clock.

QEMU at the source connects. It checks that the destination's certificate is signed by an authority
that the source trusts, and that it is for the destination's name. The destination checks that the
source's certificate is signed by an authority that the destination trusts. Both check the times.
"""

import ipaddress
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, Literal

import msgspec

from fastlib.extras import needs_extra
from fastlib.migfra.hypervisors.libvirt.domain.certificate_files import (
    AUTHORITY,
    HostCertificates,
)

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

_LONGEST_CHAIN: Final = 8
_PURPOSES: Final = {"server": "1.3.6.1.5.5.7.3.1", "client": "1.3.6.1.5.5.7.3.2"}
_ANY_PURPOSE: Final = "2.5.29.37.0"


class CertificateProblem(msgspec.Struct, frozen=True, kw_only=True):
    """A reason why a migration cannot be encrypted."""

    kind: Literal["missing", "invalid"]
    """Missing: the host is not set up for encryption. Invalid: it is, but not correctly."""
    text: str
    """The file, what was expected and found, and the remedy."""


class _InvalidError(Exception):
    """A certificate is not valid; the text says why, as the end of a sentence, with the remedy."""


def missing_files(host: HostCertificates) -> list[CertificateProblem]:
    """Return the files that a host lacks for its role, or that cannot be read."""
    role = host.role
    needed = {
        AUTHORITY: host.authority,
        f"{role}-cert.pem": host.certificate,
        f"{role}-key.pem": host.key,
    }
    problems = []
    for name, content in needed.items():
        path = host.path(name)
        if content.is_folder:
            words = f"{path} on {host.host} must be a file, but it is a folder; replace it"
            problems.append(CertificateProblem(kind="invalid", text=words))
        elif content.problem and content is not host.key:  # the key is never read
            words = f"{path} on {host.host} cannot be read: {content.problem}"
            problems.append(CertificateProblem(kind="invalid", text=words))
        elif not content.is_present and not content.problem:
            words = f"{host.host} has no {path}; put it there"
            problems.append(CertificateProblem(kind="missing", text=words))
    return problems


def own_problems(host: HostCertificates, now: datetime | None = None) -> list[CertificateProblem]:
    """Return the problems of one host alone. Raises MissingExtraError."""
    if problems := missing_files(host):
        return problems
    try:
        own = _load(host, host.certificate.data, f"{host.role}-cert.pem")
        _check_chain(host, own, host, now or datetime.now(UTC))
    except _InvalidError as error:
        return [CertificateProblem(kind="invalid", text=str(error))]
    return []


def problems_between(
    source: HostCertificates,
    destination: HostCertificates,
    names: Sequence[str],
    now: datetime | None = None,
) -> tuple[list[CertificateProblem], str | None]:
    """Return the problems, and the name by which the source knows the destination.

    `names` are the names that the destination's certificate may have. Raises MissingExtraError.
    """
    now = now or datetime.now(UTC)
    problems = missing_files(destination)
    missing = missing_files(source)
    if not destination.verifies_source and source.authority.data is not None:
        missing = []  # then the source needs no certificate of its own
    problems += missing
    if problems:
        return problems, None
    name = None
    try:
        there = _load(destination, destination.certificate.data, "server-cert.pem")
        _check_chain(destination, there, source, now)
        name = _matching_name(destination, there[0], names)
    except _InvalidError as error:
        problems.append(CertificateProblem(kind="invalid", text=str(error)))
    if destination.verifies_source:
        try:
            here = _load(source, source.certificate.data, "client-cert.pem")
            _check_chain(source, here, destination, now)
        except _InvalidError as error:
            problems.append(CertificateProblem(kind="invalid", text=str(error)))
    return problems, name


def _load(host: HostCertificates, data: bytes | None, name: str) -> list["Certificate"]:
    with needs_extra("an encrypted migration", "cryptography"):
        from cryptography import x509
    assert data is not None
    try:
        return x509.load_pem_x509_certificates(data)
    except ValueError as error:
        raise _InvalidError(
            f"{host.path(name)} on {host.host} must have a certificate in PEM, but it has none "
            f"that can be read ({error}); replace it"
        ) from None


def _check_chain(
    host: HostCertificates,
    certificates: list["Certificate"],
    verifier: HostCertificates,
    now: datetime,
) -> None:
    """Raise _InvalidError if a host does not trust another host's certificate."""
    path = f"{host.path(f'{host.role}-cert.pem')} on {host.host}"
    authorities = _load(verifier, verifier.authority.data, AUTHORITY)
    current, rest = certificates[0], certificates[1:]
    _check_purpose(host, current, path)
    _check_times(current, path, now)
    for _ in range(_LONGEST_CHAIN):
        issuer = _issuer_of(current, authorities)
        if issuer is not None:
            authority = f"{verifier.path(AUTHORITY)} on {verifier.host}"
            _check_times(issuer, authority, now)
            return
        issuer = _issuer_of(current, rest)
        if issuer is None:
            break
        _check_times(issuer, path, now)
        current = issuer
    known = " or ".join(sorted({f"{each.subject.rfc4514_string()}" for each in authorities}))
    raise _InvalidError(
        f"{path} must be signed by an authority of {verifier.path(AUTHORITY)} on {verifier.host} "
        f"({known}), but {current.issuer.rfc4514_string()} signed it; let one authority sign the "
        "certificates of all hosts"
    )


def _issuer_of(
    certificate: "Certificate", candidates: Sequence["Certificate"]
) -> "Certificate | None":
    from cryptography.exceptions import InvalidSignature

    for candidate in candidates:
        if candidate.subject != certificate.issuer:
            continue
        try:
            certificate.verify_directly_issued_by(candidate)
        except (InvalidSignature, ValueError, TypeError):
            continue  # another authority of the same name
        return candidate
    return None


def _check_times(certificate: "Certificate", path: str, now: datetime) -> None:
    begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    name = certificate.subject.rfc4514_string()
    if now > end:
        raise _InvalidError(
            f"{path} has expired: {name} was valid until {end:%Y-%m-%d %H:%M} UTC; renew it"
        )
    if now < begin:
        raise _InvalidError(
            f"{path} is not valid yet: {name} is valid from {begin:%Y-%m-%d %H:%M} UTC on; check "
            "the clocks, or renew it"
        )


def _check_purpose(host: HostCertificates, certificate: "Certificate", path: str) -> None:
    from cryptography import x509

    try:
        usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return
    allowed = {purpose.dotted_string for purpose in usage}
    if not allowed & {_PURPOSES[host.role], _ANY_PURPOSE}:
        raise _InvalidError(
            f"{path} must be for the purpose {host.role} (extendedKeyUsage), but it is for "
            "other purposes; issue another one"
        )


def _matching_name(
    destination: HostCertificates, certificate: "Certificate", names: Sequence[str]
) -> str:
    """Return the first of the names that a certificate has. Raises _InvalidError."""
    texts, addresses = _names_of(certificate)
    for name in names:
        try:
            if ipaddress.ip_address(name) in addresses:
                return name
        except ValueError:
            if any(_matches(name, text) for text in texts):
                return name
    found = ", ".join([*texts, *map(str, addresses)]) or "no name"
    path = f"{destination.path('server-cert.pem')} on {destination.host}"
    raise _InvalidError(
        f"{path} must be for {' or '.join(names)}, but it is for {found}; issue one with the name "
        "as subjectAltName"
    )


def _names_of(
    certificate: "Certificate",
) -> tuple[list[str], list[ipaddress.IPv4Address | ipaddress.IPv6Address]]:
    from cryptography import x509

    try:
        own = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        texts = own.get_values_for_type(x509.DNSName)
        addresses = [
            address
            for address in own.get_values_for_type(x509.IPAddress)
            if isinstance(address, ipaddress.IPv4Address | ipaddress.IPv6Address)
        ]
    except x509.ExtensionNotFound:
        texts, addresses = [], []
    if not texts:  # as GnuTLS does it
        common = certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
        texts = [str(attribute.value) for attribute in common]
    return texts, addresses


def _matches(name: str, pattern: str) -> bool:
    """Return whether a name is that of a certificate. `*` stands for the first label."""
    name, pattern = name.rstrip(".").lower(), pattern.rstrip(".").lower()
    if pattern.startswith("*."):
        first, _, rest = name.partition(".")
        return bool(first) and rest == pattern[2:] and "." in rest
    return name == pattern
