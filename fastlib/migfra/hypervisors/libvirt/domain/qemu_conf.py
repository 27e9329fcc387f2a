"""Read from the text of libvirt's qemu.conf where QEMU's certificates for migrations are."""

import re
from typing import Final

import msgspec

PATH: Final = "/etc/libvirt/qemu.conf"
OWN_FOLDER: Final = "/etc/pki/libvirt-migrate"
"""libvirt takes this folder if it exists and the file names none for migrations."""
_USUAL_FOLDER: Final = "/etc/pki/qemu"
_ENTRY: Final = re.compile(
    r"""^[ \t]*(\w+)[ \t]*=[ \t]*(?:"([^"\n]*)"|'([^'\n]*)'|([0-9]+))""", re.MULTILINE
)


class TlsSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The settings of qemu.conf for encrypted migrations."""

    folder: str
    """The folder of the certificates."""
    verifies_source: bool = True
    """Whether a destination with these settings requires a certificate of the source."""


def tls_settings(text: str, *, has_own_folder: bool) -> TlsSettings:
    """Return the settings, or libvirt's defaults. `has_own_folder`: `OWN_FOLDER` exists."""
    found = {
        name: double or single or number for name, double, single, number in _ENTRY.findall(text)
    }
    folder = found.get("migrate_tls_x509_cert_dir")
    if not folder and has_own_folder:
        folder = OWN_FOLDER
    verify = found.get("migrate_tls_x509_verify", found.get("default_tls_x509_verify", "1"))
    return TlsSettings(
        folder=(folder or found.get("default_tls_x509_cert_dir") or _USUAL_FOLDER).rstrip("/"),
        verifies_source=verify != "0",
    )
