"""The rules by which QEMU and GnuTLS accept a single certificate. Pure.

Each error is the whole reason, with the file and the remedy.
"""

import ipaddress
import re
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Final, Literal, TypeVar

from fastlib.extras import needs_extra

if TYPE_CHECKING:
    from cryptography.x509 import Certificate, ExtensionType

    _Extension = TypeVar("_Extension", bound=ExtensionType)

_PURPOSES: Final = {"server": "1.3.6.1.5.5.7.3.1", "client": "1.3.6.1.5.5.7.3.2"}
_ANY_PURPOSE: Final = "2.5.29.37.0"
_LIST: Final = re.compile(rb"-----BEGIN X509 CRL-----.+?-----END X509 CRL-----", re.DOTALL)


class InvalidError(Exception):
    """A certificate is not valid; the text says why, with the file and the remedy."""


def load_certificates(data: bytes | None, path: str) -> list["Certificate"]:
    """Return the certificates of a file. Raises InvalidError, and MissingExtraError."""
    with needs_extra("an encrypted migration", "cryptography"):
        from cryptography import x509
    assert data is not None
    try:
        return x509.load_pem_x509_certificates(data)
    except ValueError as error:
        raise InvalidError(
            f"{path} must have a certificate in PEM, but it has none that can be read ({error}); "
            "replace it"
        ) from None


def issuer_of(
    certificate: "Certificate", candidates: Sequence["Certificate"]
) -> "Certificate | None":
    """Return the candidate that has signed a certificate."""
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


def check_times(certificate: "Certificate", path: str, now: datetime) -> None:
    """Raise InvalidError outside the time in which a certificate is valid."""
    begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    name = certificate.subject.rfc4514_string()
    if now > end:
        raise InvalidError(
            f"{path} has expired: {name} was valid until {end:%Y-%m-%d %H:%M} UTC; renew it"
        )
    if now < begin:
        raise InvalidError(
            f"{path} is not valid yet: {name} is valid from {begin:%Y-%m-%d %H:%M} UTC on; check "
            "the clocks, or renew it"
        )


def check_authority(certificate: "Certificate", path: str, below: int | None = None) -> None:
    """Raise InvalidError if a certificate may not sign others.

    `below` is the number of authorities between it and the certificate of the host. None if it has
    not signed that.
    """
    from cryptography import x509

    name = certificate.subject.rfc4514_string()
    basic, _ = _extension(certificate, x509.BasicConstraints, path)
    if basic is None or not basic.ca:
        raise InvalidError(
            f"{path} must have certificates of authorities only (basicConstraints CA:TRUE), but "
            f"{name} is none; issue one with CA:TRUE, or remove it from the file"
        )
    usage, is_critical = _extension(certificate, x509.KeyUsage, path)
    if usage is not None and not usage.key_cert_sign and (is_critical or below is not None):
        raise InvalidError(
            f"{path} has the authority {name}, which must be for keyCertSign (keyUsage), but it is "
            "for other uses; issue another one"
        )
    if below is not None and basic.path_length is not None and below > basic.path_length:
        raise InvalidError(
            f"{path} has the authority {name}, which allows {basic.path_length} authorities below "
            f"it (pathlen), but there are {below}; issue another one"
        )


def check_is_no_authority(certificate: "Certificate", path: str) -> None:
    """Raise InvalidError if the certificate of a host is that of an authority. QEMU refuses it."""
    from cryptography import x509

    basic, _ = _extension(certificate, x509.BasicConstraints, path)
    if basic is not None and basic.ca:
        raise InvalidError(
            f"{path} must be for a host, but it is for an authority (basicConstraints CA:TRUE); "
            "issue one with CA:FALSE"
        )


def check_purpose(certificate: "Certificate", role: Literal["server", "client"], path: str) -> None:
    """Raise InvalidError if a certificate has a list of purposes without that of the role."""
    from cryptography import x509

    usage, _ = _extension(certificate, x509.ExtendedKeyUsage, path)
    if usage is None:
        return
    allowed = {purpose.dotted_string for purpose in usage}
    if not allowed & {_PURPOSES[role], _ANY_PURPOSE}:
        raise InvalidError(
            f"{path} must be for the purpose {role} (extendedKeyUsage), but it is for "
            "other purposes; issue another one"
        )


def check_key_usage(certificate: "Certificate", path: str) -> None:
    """Raise InvalidError if the key of a certificate may not sign, which TLS needs.

    A list of uses that is not critical does not keep an RSA key from other ways of TLS.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

    usage, is_critical = _extension(certificate, x509.KeyUsage, path)
    if usage is None or usage.digital_signature:
        return
    if is_critical or not isinstance(certificate.public_key(), RSAPublicKey):
        raise InvalidError(
            f"{path} must be for digitalSignature (keyUsage), but it is for other uses; issue "
            "another one"
        )


def check_subject(certificate: "Certificate", path: str) -> None:
    """Raise InvalidError if a certificate has no subject. QEMU before 10.2 needs one."""
    if not certificate.subject.rdns:
        raise InvalidError(
            f"{path} must have a subject, such as CN=node01, because QEMU before 10.2 reads it, "
            "but it has none; issue another one"
        )


def is_revoked(certificate: "Certificate", data: bytes, path: str) -> bool:
    """Return whether a file of revocation lists has a certificate. Raises InvalidError."""
    from cryptography import x509

    try:
        lists = [x509.load_pem_x509_crl(text) for text in _LIST.findall(data)]
    except ValueError:
        lists = []
    if not lists:
        raise InvalidError(
            f"{path} must have revocation lists in PEM, but it has none that can be read; replace "
            "or remove it"
        )
    return any(
        each.issuer == certificate.issuer
        and each.get_revoked_certificate_by_serial_number(certificate.serial_number) is not None
        for each in lists
    )


def matching_name(certificate: "Certificate", names: Sequence[str], path: str) -> str:
    """Return the first of the names that a certificate has. Raises InvalidError."""
    texts, addresses = _names_of(certificate, path)
    for name in names:
        try:
            if ipaddress.ip_address(name) in addresses:
                return name
        except ValueError:
            if any(_matches(name.removesuffix("."), text) for text in texts):
                return name
    found = ", ".join([*texts, *map(str, addresses)]) or "no name"
    raise InvalidError(
        f"{path} must be for {' or '.join(names)}, but it is for {found}; issue one with the name "
        "as subjectAltName"
    )


def _names_of(
    certificate: "Certificate", path: str
) -> tuple[list[str], list[ipaddress.IPv4Address | ipaddress.IPv6Address]]:
    from cryptography import x509

    own, _ = _extension(certificate, x509.SubjectAlternativeName, path)
    texts = [] if own is None else own.get_values_for_type(x509.DNSName)
    addresses = [
        address
        for address in ([] if own is None else own.get_values_for_type(x509.IPAddress))
        if isinstance(address, ipaddress.IPv4Address | ipaddress.IPv6Address)
    ]
    if not texts and not addresses:  # like GnuTLS, which also refuses several common names
        common = certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
        texts = [str(attribute.value) for attribute in common] if len(common) == 1 else []
    return texts, addresses


def _matches(name: str, pattern: str) -> bool:
    """Return whether a certificate's name fits a host's name. `*` stands for the first label."""
    name, pattern = name.lower(), pattern.lower()
    if pattern.startswith("*."):
        first, _, rest = name.partition(".")
        return bool(first) and rest == pattern[2:] and "." in rest
    return name == pattern


def _extension(
    certificate: "Certificate", kind: "type[_Extension]", path: str
) -> "tuple[_Extension | None, bool]":
    """Return an extension, and whether it is critical. None if the certificate has none."""
    from cryptography import x509

    try:
        found = certificate.extensions.get_extension_for_class(kind)
    except x509.ExtensionNotFound:
        return None, False
    except (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType) as error:
        raise InvalidError(
            f"{path} has a certificate whose extensions cannot be read ({error}); issue another one"
        ) from None
    return found.value, found.critical
