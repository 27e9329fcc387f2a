"""The step of the files with secrets: warn of those that other users of the host can read."""

import os
import shlex
import stat
from collections.abc import Iterator
from typing import Final

from fastlib.transport import OptionsError

from .findings import Finding, Keys, StartUp

_BROKER: Final = ("communicator",)
_TLS: Final = ("communicator", "tls")


def check_secret_files(start: StartUp) -> Iterator[Finding]:
    """Warn of each file with a password or a key that more than the daemon's user can read."""
    for keys, what, path in _secret_files(start):
        text = _exposure(what, path)
        if text is not None:
            yield Finding(keys, OptionsError(text), "warning")


def _secret_files(start: StartUp) -> Iterator[tuple[Keys, str, str]]:
    """Yield the files of the configuration that have a secret: their key, name and path."""
    config = start.configuration.communicator
    if config.password_file is not None:
        yield (*_BROKER, "password-file"), "the password file", config.password_file
    if config.tls is None:
        return
    if config.tls.key_password_file is not None:
        keys = (*_TLS, "key-password-file")
        yield keys, "the file with the key's password", config.tls.key_password_file
    if config.tls.key is not None:
        yield (*_TLS, "key"), "the key", config.tls.key
    elif config.tls.certificate is not None:  # the file has the key, too
        yield (*_TLS, "certificate"), "the file with the key", config.tls.certificate


def _exposure(what: str, path: str) -> str | None:
    """Return who else can read a file, with a remedy, or None. Only its mode is checked."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return None  # another step reports a file that cannot be read
    if not stat.S_ISREG(found.st_mode):
        return None
    # If the file belongs to another user, such as root, the daemon may read it by its group.
    by_group = found.st_mode & stat.S_IRGRP and found.st_uid == os.geteuid()
    if found.st_mode & stat.S_IROTH:
        readers, remedy = "all users of this host", "go=" if by_group else "o="
    elif by_group:
        readers, remedy = "its group", "go="
    else:
        return None
    return (
        f"{what} {path!r} can be read by {readers}; let only the daemon's user read it: "
        f"chmod {remedy} {shlex.quote(path)}"
    )
