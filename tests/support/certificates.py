"""Certificates for tests: authorities, and what they sign."""

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

Extension = tuple[x509.ExtensionType, bool]
"""An extension, and whether it is critical."""
_PURPOSES = {
    "server": ExtendedKeyUsageOID.SERVER_AUTH,
    "client": ExtendedKeyUsageOID.CLIENT_AUTH,
}
BOTH_PURPOSES = ("server", "client")
DAY = timedelta(days=1)
AUTHORITY = (x509.BasicConstraints(ca=True, path_length=None), True)
_NO_USE = dict.fromkeys(
    ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment",
     "key_agreement", "key_cert_sign", "crl_sign", "encipher_only", "decipher_only"),
    False,
)  # fmt: skip


def key_usage(*uses: str, critical: bool = True) -> Extension:
    """Return the extension with the uses of a key."""
    return x509.KeyUsage(**(_NO_USE | dict.fromkeys(uses, True))), critical


@dataclass(frozen=True)
class Certificate:
    """A certificate with its key, both in PEM."""

    pem: bytes
    key: bytes


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)] if text else [])


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


class Authority:
    """An authority, with a key of its own."""

    def __init__(
        self,
        name: str = "authority",
        *,
        begin: timedelta = -DAY,
        end: timedelta = 30 * DAY,
        by: Self | None = None,
        extensions: Sequence[Extension] = (AUTHORITY,),
    ) -> None:
        """The times are relative to now. Without `by` it has signed itself."""
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._subject = _name(name)
        self._id = x509.SubjectKeyIdentifier.from_public_key(self._key.public_key())
        issuer = by or self
        builder = issuer._builder(self._subject, self._key, begin, end)
        for extension, is_critical in (*extensions, (self._id, False)):
            builder = builder.add_extension(extension, critical=is_critical)
        self._certificate = issuer._sign(builder)
        self.pem = self._certificate.public_bytes(serialization.Encoding.PEM)

    def issue(
        self,
        common_name: str = "host",
        names: Sequence[str] | None = None,
        *,
        purposes: Sequence[str] = BOTH_PURPOSES,
        begin: timedelta = -DAY,
        end: timedelta = 20 * DAY,
        extensions: Sequence[Extension] = (),
    ) -> Certificate:
        """Issue a certificate. `names` are its subjectAltNames; without them only the common name.

        Without purposes it has no list of purposes. Without a common name it has no subject.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        builder = self._builder(_name(common_name), key, begin, end)
        if names is not None:
            builder = builder.add_extension(
                x509.SubjectAlternativeName([_alternative(name) for name in names]),
                critical=False,
            )
        if purposes:
            usage = x509.ExtendedKeyUsage([_PURPOSES[purpose] for purpose in purposes])
            builder = builder.add_extension(usage, critical=False)
        for extension, is_critical in extensions:
            builder = builder.add_extension(extension, critical=is_critical)
        signed = self._sign(builder)
        return Certificate(signed.public_bytes(serialization.Encoding.PEM), _key_pem(key))

    def revoke(self, certificate: Certificate) -> bytes:
        """Return a list in PEM that revokes a certificate."""
        now = datetime.now(UTC)
        number = x509.load_pem_x509_certificate(certificate.pem).serial_number
        revoked = (
            x509.RevokedCertificateBuilder()
            .serial_number(number)
            .revocation_date(now - DAY)
            .build()
        )
        builder = x509.CertificateRevocationListBuilder().issuer_name(self._subject)
        builder = builder.last_update(now - DAY).next_update(now + DAY)
        signed = builder.add_revoked_certificate(revoked).sign(self._key, hashes.SHA256())
        return signed.public_bytes(serialization.Encoding.PEM)

    def qemu_files(self, *names: str) -> dict[str, bytes]:
        """Return the files of a host that QEMU needs as a source and as a destination."""
        own = self.issue(names[0], names)
        return {
            "ca-cert.pem": self.pem,
            "server-cert.pem": own.pem,
            "server-key.pem": own.key,
            "client-cert.pem": own.pem,
            "client-key.pem": own.key,
        }

    def _builder(
        self,
        subject: x509.Name,
        key: ec.EllipticCurvePrivateKey,
        begin: timedelta,
        end: timedelta,
    ) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + begin)
            .not_valid_after(now + end)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()),
                critical=False,
            )
        )

    def _sign(self, builder: x509.CertificateBuilder) -> x509.Certificate:
        return builder.sign(self._key, hashes.SHA256())


def _alternative(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
