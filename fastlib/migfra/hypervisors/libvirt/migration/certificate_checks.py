"""Check QEMU's certificates of both hosts for an encrypted migration. Pure but for the clock.

QEMU of each host first checks its own files: its certificate must be signed by an authority of its
own `ca-cert.pem`. QEMU at the source then connects. It checks that the destination's certificate is
signed by an authority that the source trusts, and that it is for the destination's name. The
destination checks that the source's certificate is signed by an authority that the destination
trusts, and is not revoked. All check the times.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, Literal

import msgspec

from fastlib.migfra.hypervisors.libvirt.domain.certificate_files import (
    AUTHORITY,
    REVOCATIONS,
    HostCertificates,
)

from .certificate_rules import (
    InvalidError,
    check_authority,
    check_is_no_authority,
    check_key_usage,
    check_purpose,
    check_subject,
    check_times,
    is_revoked,
    issuer_of,
    load_certificates,
    matching_name,
)

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

_LONGEST_CHAIN: Final = 8
_CHAINS_SINCE: Final = (10, 2)
"""The first version of QEMU that accepts its own certificate by authorities in the file of that
certificate. It also ignores the authorities of `ca-cert.pem` that its certificate does not need."""


class CertificateProblem(msgspec.Struct, frozen=True, kw_only=True):
    """A reason why a migration cannot be encrypted."""

    kind: Literal["missing", "invalid"]
    """Missing: the host is not set up for encryption. Invalid: it is, but not correctly."""
    text: str
    """The file, what was expected and found, and the remedy."""


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
        elif content.is_empty:
            words = f"{path} on {host.host} is empty; replace it"
            problems.append(CertificateProblem(kind="invalid", text=words))
    return problems


def own_problems(host: HostCertificates, now: datetime | None = None) -> list[CertificateProblem]:
    """Return the problems of one host alone. Raises MissingExtraError."""
    if problems := missing_files(host):
        return problems
    return _problems_of(host, None, now or datetime.now(UTC))


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
    problems = _problems_of(destination, source, now)
    name = None
    if not problems:
        path = f"{destination.path('server-cert.pem')} on {destination.host}"
        try:
            own = load_certificates(destination.certificate.data, path)
            name = matching_name(own[0], names, path)
        except InvalidError as error:
            problems.append(CertificateProblem(kind="invalid", text=str(error)))
    if destination.verifies_source:
        problems += _problems_of(source, destination, now)
    elif source.certificate.data is not None:
        # QEMU of the source checks it all the same, but not whether it is for a client.
        problems += _problems_of(source, None, now, any_purpose=True)
    return problems, name if not problems else None


def _problems_of(
    host: HostCertificates,
    verifier: HostCertificates | None,
    now: datetime,
    *,
    any_purpose: bool = False,
) -> list[CertificateProblem]:
    """Return the problem of a host's certificate for another host, or for that host alone."""
    path = f"{host.path(f'{host.role}-cert.pem')} on {host.host}"
    try:
        certificates = load_certificates(host.certificate.data, path)
        if not any_purpose:
            check_purpose(certificates[0], host.role, path)
        _check_own(host, certificates[0], path, now)
        if verifier is not None:
            _check_chain(certificates, path, verifier, now)
            _check_revocation(certificates[0], path, verifier)
        _check_by_own_authorities(host, certificates, path, now)
    except InvalidError as error:
        return [CertificateProblem(kind="invalid", text=str(error))]
    return []


def _check_own(host: HostCertificates, own: "Certificate", path: str, now: datetime) -> None:
    """Raise InvalidError if a certificate does not serve a host, no matter who signed it."""
    check_times(own, path, now)
    check_is_no_authority(own, path)
    check_key_usage(own, path)
    if not _reads_chains(host):
        check_subject(own, path)


def _reads_chains(host: HostCertificates) -> bool:
    """Return whether the host's QEMU reads chains, as far as its version is known."""
    return host.qemu is None or host.qemu >= _CHAINS_SINCE


def _check_by_own_authorities(
    host: HostCertificates, certificates: list["Certificate"], path: str, now: datetime
) -> None:
    """Raise InvalidError if QEMU of a host does not accept that host's own certificate."""
    if _reads_chains(host):
        _check_chain(certificates, path, host, now)
        return
    authority = f"{host.path(AUTHORITY)} on {host.host}"
    for each in load_certificates(host.authority.data, authority):
        check_authority(each, authority)
        try:
            check_times(each, authority, now)
        except InvalidError as error:
            raise InvalidError(f"{error}, or remove it from the file") from None
    try:
        _check_chain(certificates[:1], path, host, now)
    except InvalidError:
        if len(certificates) == 1:
            raise
        _check_chain(certificates, path, host, now)
        raise InvalidError(
            f"{authority} must have the certificates of all authorities between {path} and the "
            "first one, because QEMU before 10.2 does not look for them in the file of the "
            "certificate; append them there"
        ) from None


def _check_chain(
    certificates: Sequence["Certificate"], path: str, verifier: HostCertificates, now: datetime
) -> None:
    """Raise InvalidError if a host does not trust a certificate. The others may lead to it."""
    authority = f"{verifier.path(AUTHORITY)} on {verifier.host}"
    authorities = load_certificates(verifier.authority.data, authority)
    current, rest = certificates[0], certificates[1:]
    for below in range(_LONGEST_CHAIN):
        issuer = issuer_of(current, authorities)
        if issuer is not None:
            check_authority(issuer, authority, below)
            check_times(issuer, authority, now)
            return
        issuer = issuer_of(current, rest)
        if issuer is None:
            break
        check_authority(issuer, path, below)
        check_times(issuer, path, now)
        current = issuer
    known = " or ".join(sorted({f"{each.subject.rfc4514_string()}" for each in authorities}))
    raise InvalidError(
        f"{path} must be signed by an authority of {authority} ({known}), but "
        f"{current.issuer.rfc4514_string()} signed it; let one authority sign the certificates of "
        "all hosts"
    )


def _check_revocation(own: "Certificate", path: str, verifier: HostCertificates) -> None:
    """Raise InvalidError if a destination has a list by which its authority revokes it."""
    data = verifier.revocations.data
    if verifier.role == "server" and data is not None:
        lists = f"{verifier.path(REVOCATIONS)} on {verifier.host}"
        if is_revoked(own, data, lists):
            raise InvalidError(f"{path} is revoked by {lists}; issue another one")
