"""Access to the page: names of the server, tokens, cookies. No I/O except in `read_token`."""

import hashlib
import hmac
import ipaddress
import os
import secrets
import socket
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from fastlib.codec.errors import FastlibError

COOKIE: Final = "fastlib-dashboard"
SESSION_SECONDS: Final = 12 * 3600
"""Seconds for which a browser stays logged in."""
MIN_TOKEN: Final = 16
"""Minimum characters of a token."""
MAX_TOKEN: Final = 1024
"""Maximum characters of a token."""
MAX_FAILURES: Final = 10
"""Maximum wrong tokens from an address within `FAILURE_SECONDS`; after these it must wait."""
FAILURE_SECONDS: Final = 60.0
MAX_ADDRESSES: Final = 1000
"""Maximum addresses whose wrong tokens are counted; one more drops the oldest."""


class AccessError(FastlibError):
    """The token, or its file, cannot be used."""


def new_token() -> str:
    """Return a random token of 256 bits."""
    return secrets.token_urlsafe(32)


def read_token(file: Path) -> str:
    """Return the token in a file. If there is no such file, it is made with a new token.

    The first line is the token. Raises AccessError.
    """
    try:
        try:
            descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            return _existing_token(file)
        token = new_token()
        with open(descriptor, "w", encoding="ascii") as opened:
            opened.write(f"{token}\n")
        return token
    except OSError as error:
        raise AccessError(
            f"the token file {file} cannot be used: {error.strerror}; name a file in a folder that "
            "exists and that this user may write"
        ) from error


def _existing_token(file: Path) -> str:
    if file.stat().st_mode & 0o077:
        raise AccessError(f"other users can read the token file {file}; run: chmod 600 {file}")
    with file.open(encoding="utf-8", errors="replace") as opened:
        line = opened.readline(MAX_TOKEN + 2).rstrip("\r\n")
    if not MIN_TOKEN <= len(line) <= MAX_TOKEN or not line.isascii() or not line.isprintable():
        raise AccessError(
            f"the first line of {file} must be a token of {MIN_TOKEN} to {MAX_TOKEN} printable "
            f"ASCII characters; to get a new one, delete the file and start again"
        )
    return line


def is_loopback(address: str) -> bool:
    """Return whether only programs on this machine reach an address to listen on."""
    if address == "localhost":
        return True
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


class Access:
    """The access rules of the page."""

    def __init__(
        self, token: str | None = None, *, names: Iterable[str] = (), secure: bool = False
    ) -> None:
        """Without a `token`, every user who reaches the server may read the page.

        `names` are further host names of the server in addresses of the page. `secure` means that
        browsers reach it only by HTTPS.
        """
        if token is not None and len(token) < MIN_TOKEN:
            raise AccessError(f"a token must have at least {MIN_TOKEN} characters")
        self._token: Final = None if token is None else token.encode()
        self._names: Final = {
            "localhost", _plain(socket.gethostname()), *(_plain(name) for name in names)
        }  # fmt: skip
        self.secure: Final = secure
        self._failures: dict[str, list[float]] = {}
        """The last wrong tokens of each address: monotonic times."""

    @property
    def needs_token(self) -> bool:
        """Whether a token is required."""
        return self._token is not None

    def is_our_name(self, host: str | None) -> bool:
        """Return whether a Host header names this server.

        A foreign page can resolve its own name to the address of this server (DNS rebinding). It
        cannot do that with an IP address.
        """
        name = _plain(_without_port(host or ""))
        if name in self._names:
            return True
        try:
            ipaddress.ip_address(name.strip("[]"))
        except ValueError:
            return False
        return True

    def is_token(self, given: str) -> bool:
        """Return whether a text is the token, in a time that does not depend on the text."""
        if self._token is None:
            return False
        # Digests have the same length, so the time does not depend on the length of the token.
        return hmac.compare_digest(_digest(given.encode("utf-8", "replace")), _digest(self._token))

    def is_throttled(self, address: str, now: float) -> bool:
        """Return whether an address gave too many wrong tokens; `now` is monotonic, in seconds."""
        recent = [time for time in self._failures.get(address, ()) if time > now - FAILURE_SECONDS]
        return len(recent) >= MAX_FAILURES

    def note_failure(self, address: str, now: float) -> None:
        """Note that an address gave a wrong token at a monotonic time."""
        times = self._failures.pop(address, [])
        self._failures[address] = [*times[1 - MAX_FAILURES :], now]
        if len(self._failures) > MAX_ADDRESSES:
            del self._failures[next(iter(self._failures))]

    def new_cookie(self, now: float) -> str:
        """Return the value of a cookie for `SESSION_SECONDS`; `now` is a Unix time."""
        until = str(int(now) + SESSION_SECONDS)
        return f"{until}.{self._sign(until)}"

    def is_cookie(self, value: str, now: float) -> bool:
        """Return whether a value is of `new_cookie`, and not older than `SESSION_SECONDS`."""
        until, _, signature = value.partition(".")
        if self._token is None or not (until.isascii() and until.isdigit() and len(until) < 16):
            return False
        signed = hmac.compare_digest(
            signature.encode("utf-8", "replace"), self._sign(until).encode()
        )
        return signed and now < int(until) <= now + SESSION_SECONDS

    def _sign(self, text: str) -> str:
        assert self._token is not None
        return hmac.new(self._token, b"session:" + text.encode(), hashlib.sha256).hexdigest()


def _digest(text: bytes) -> bytes:
    return hashlib.sha256(text).digest()


def _plain(name: str) -> str:
    return name.lower().rstrip(".")


def _without_port(host: str) -> str:
    """Return the name or address of a Host header."""
    if host.startswith("["):
        return host.partition("]")[0] + "]"
    return host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() and ":" in host else host
