"""Translate libvirt's errors into one sentence with the remedy.

::

    HypervisorError
    ├── FinalError
    │   └── ArrivedError        a domain has migrated, and something is wrong with it there
    └── LibvirtError            libvirt refused or failed; has `.code`
        ├── LostError           the host's libvirt is out of reach, or no longer answers
        ├── NoDomainError       there is no such domain
        └── UnsupportedCallError  the driver has no such function
"""

import re
from typing import Any, Final

from fastlib.migfra.errors import FinalError, HypervisorError


class ArrivedError(FinalError):
    """A domain has migrated, and something is wrong with it there."""


class LibvirtError(HypervisorError):
    """libvirt refused or failed."""

    def __init__(self, text: str, code: int | None = None, said: str = "") -> None:
        self.code: Final = code
        """libvirt's code of the error (`VIR_ERR_…`). None if the error is not from libvirt."""
        self.said: Final = said
        """libvirt's text of the error."""
        super().__init__(text)


class LostError(LibvirtError):
    """A host's libvirt is out of reach, or it no longer answers."""


class NoDomainError(LibvirtError):
    """There is no such domain."""


class UnsupportedCallError(LibvirtError):
    """The driver has no such function."""


_NO_SUPPORT: Final = 3
_NO_CONNECT: Final = 5
_INVALID_CONN: Final = 6
_INVALID_ARGUMENT: Final = 8
_NO_DOMAIN: Final = 42
_AUTH: Final = frozenset({29, 45, 79, 88, 94})
"""Operation denied, failed, cancelled, access denied, unavailable."""
_INVALID: Final = 55
_SYSTEM_ERROR: Final = 38
_NO_SECRET_DAEMON: Final = re.compile("virtsecretd-sock.*No such file or directory")
_BUSY: Final = 68
_NO_SUCH_XML: Final = 92
"""The XML does not follow libvirt's schema."""
_ABORTED: Final = 78
_UNSAFE: Final = 81
_UNSUPPORTED_ARGUMENT: Final = 74
_LOST_TEXTS: Final = (
    "client socket is closed",
    "connection closed due to keepalive timeout",
    "End of file while reading data",
    "Cannot write data",
    "Cannot recv data",
    "Broken pipe",
    "Connection reset",
)
_JOB_FAILED: Final = "job 'migration out' failed"
"""QEMU of the source has ended a migration. A lost connection is then that to the other QEMU."""
_OPENING: Final = (
    ("Permission denied (", "refuses this user's SSH key; put it into authorized_keys there"),
    ("Host key verification failed", "has an unknown SSH key; add it to known_hosts"),
    ("Cannot find 'ssh'", "cannot be reached: the program ssh is not installed here; install it"),
    ("ertificate", "is not trusted, or does not trust this host; check the certificates of both"),
    ("Permission denied", "does not permit it; run the daemon as root or in the group libvirt"),
    ("authentication", "does not permit it; run the daemon as root or in the group libvirt"),
    ("Connection refused", "does not run, or does not listen; start libvirtd there"),
    ("No route to host", "is unreachable; check the host and its network"),
    ("Network is unreachable", "is unreachable; check the host and its network"),
    ("timed out", "is unreachable; check the host and its network"),
    ("unable to resolve", "has an unknown name; check its spelling and DNS"),
    ("Could not resolve", "has an unknown name; check its spelling and DNS"),
    ("Name or service not known", "has an unknown name; check its spelling and DNS"),
    ("No such file or directory", "does not run; start libvirtd there"),
    (
        "no connection driver",
        "has no such driver; install it, for example libvirt-daemon-driver-qemu",
    ),
)
"""Parts of error texts on opening a connection, with their meaning. The first match counts.

A missing file can be libvirt's socket, but also a certificate or a key.
"""

_OPEN_REMEDY: Final = (
    "let QEMU's user open the file and enter its folder on the host where the domain starts or "
    "arrives; user, group and dynamic_ownership in /etc/libvirt/qemu.conf decide who that is"
)
_CREDENTIALS_REMEDY: Final = (
    "let QEMU's user enter the folder of the certificates and read its files, on both hosts"
)
_REMEDIES: Final = (
    (
        "/server-key.pem': ",
        "that file is on the destination; replace the certificate or the key there, or let QEMU's "
        "user read both",
    ),
    (
        "/client-key.pem': ",
        "that file is on the source; replace the certificate or the key there, or let QEMU's user "
        "read both",
    ),
    ("Cannot load CA certificate '", _CREDENTIALS_REMEDY),
    ("Unable to access credentials ", _CREDENTIALS_REMEDY),
    (
        "usage does not permit key encipherment",
        "older versions of QEMU need keyEncipherment in a critical keyUsage; issue a certificate "
        "with it, or without keyUsage",
    ),
    (
        "Postcopy is not supported",
        "post-copy needs userfaultfd at the destination; set vm.unprivileged_userfaultfd to 1 "
        "there, or choose another on-timeout",
    ),
    (
        "'multifd-compression' does not accept value",
        "one of the two QEMUs is built without this compression; choose another one",
    ),
    (
        "Image size is not a multiple of request alignment",
        "QEMU copies a disk with cache='none' only if its size is a multiple of the blocks of the "
        "file system, such as 4096 bytes; enlarge it with virsh blockresize, or set "
        "cache='writeback' and start the domain again",
    ),
    (
        "Block node is read-only",
        "QEMU at the destination cannot write an image; let its user write it, and let the size of "
        "a raw disk with cache='none' be a multiple of the blocks of the file system, such as 4096 "
        "bytes",
    ),
    ("': Permission denied", _OPEN_REMEDY),
    ("Cannot access storage file", _OPEN_REMEDY),
    (
        "Unable to write to socket: ",
        "the connection between both QEMUs has ended; the log of the domain on the destination, "
        "below /var/log/libvirt/qemu, may have the reason",
    ),
    (
        "Unknown ramblock",
        "QEMU at the destination divides the memory of the domain in another way; order the "
        "migration without memnode-map",
    ),
)
"""Parts of errors for options and files that QEMU cannot use, with the remedy. The first counts."""


def translated(error: Any, host: str, name: str | None = None) -> LibvirtError:
    """Translate a `libvirt.libvirtError` of a call to a host."""
    code: int | None = error.get_error_code()
    text = " ".join(str(error).split())
    domain = name or "the domain"
    if code == _NO_DOMAIN:
        return NoDomainError(
            f"there is no domain {domain} on {host}; check its spelling", code, text
        )
    if code in (_NO_SUPPORT, _UNSUPPORTED_ARGUMENT):
        return UnsupportedCallError(f"libvirt on {host} cannot do that: {text}", code, text)
    if code in _AUTH:
        return LibvirtError(
            f"libvirt on {host} does not permit it ({text}); run the daemon as a user that may",
            code,
            text,
        )
    is_lost = any(known in text for known in _LOST_TEXTS) and _JOB_FAILED not in text
    if code in (_NO_CONNECT, _INVALID_CONN) or is_lost:
        return LostError(
            f"the connection to libvirt on {host} is lost ({text}); check that libvirtd runs there",
            code,
            text,
        )
    if code == _BUSY:
        return LibvirtError(
            f"{domain} is busy on {host}, such as with a migration or a snapshot; try again when "
            f"that has ended ({text})",
            code,
            text,
        )
    if code == _NO_SUCH_XML:
        return LibvirtError(
            f"libvirt on {host} refuses the XML of {domain}, because it does not follow libvirt's "
            f"schema; correct it until virt-xml-validate accepts it ({text})",
            code,
            text,
        )
    if code == _UNSAFE:
        return LibvirtError(
            f"libvirt on {host} does not know that the disks of {domain} are on storage that both "
            "hosts share, or that no cache hides their newest data; order copy-storage: all, which "
            "copies disks that are not shared, or set cache='none' for those that are",
            code,
            text,
        )
    if code == _ABORTED:
        return LibvirtError(f"it was aborted on {host}; try again ({text})", code, text)
    if code == _INVALID:
        problem = f"the state of {domain} on {host} does not allow that: {text}"
        return LibvirtError(problem, code, text)
    remedy = next((f"; {remedy}" for known, remedy in _REMEDIES if known in text), "")
    return LibvirtError(f"libvirt on {host}: {text}{remedy}", code, text)


def is_without_secrets(code: int | None, said: str) -> bool:
    """Return whether an error means that this user has no secrets there, now and later.

    `code` is libvirt's code (`VIR_ERR_…`), `said` its text. It means that if the user lacks the
    permission, if the driver has no such function, or if libvirt's daemon for secrets is not
    installed. After any other error the next call may succeed.
    """
    if code == _SYSTEM_ERROR:
        return _NO_SECRET_DAEMON.search(said) is not None
    return code == _NO_SUPPORT or code in _AUTH


def is_unknown_flag(error: Any, flag: int) -> bool:
    """Return whether a driver refused a call because it does not know a flag."""
    return bool(
        error.get_error_code() == _INVALID_ARGUMENT
        and f"unsupported flags (0x{flag:x})" in str(error)
    )


def not_opened(error: Any, host: str, uri: str) -> LibvirtError:
    """Explain why a connection could not be opened."""
    text = " ".join(str(error).split())
    code: int | None = error.get_error_code()
    for known, meaning in _OPENING:
        if known.lower() in text.lower():
            return LostError(f"libvirt on {host} {meaning} ({uri}: {text})", code)
    meaning = "cannot be reached; check that libvirtd runs there"
    if "Broken pipe" in text and "+ssh://" in uri:
        # ssh ended before libvirt's first call, so libvirt has not read the message of ssh.
        meaning = (
            "cannot be reached, because ssh has ended; call ssh by hand, which gives the reason"
        )
    return LostError(f"libvirt on {host} {meaning} ({uri}: {text})", code)


def silent(host: str, seconds: float) -> LostError:
    """Return the error for a host that has not answered."""
    return LostError(
        f"libvirt on {host} has not answered for {seconds:g} s; check the host, its network and "
        "its libvirtd"
    )


def closed(host: str) -> LostError:
    """Return the error for a connection that another task has found lost."""
    return LostError(
        f"the connection to libvirt on {host} was lost; check that libvirtd runs there"
    )
