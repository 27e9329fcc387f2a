"""The certificates of TLS: make an SSL context, and check each file."""

import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from .errors import OptionsError
from .options import TlsOptions

HOSTNAME_MISMATCH: Final = {62, 64}
"""OpenSSL's codes of a certificate for another host name or address."""

NAME_HINT: Final = "connect to a name that its certificate has"
NOT_VALID_NOW: Final = {9, 10}
"""OpenSSL's codes of a certificate that is not yet valid, or has expired."""
TIME_HINT: Final = (
    "renew the certificate of the broker, or the one of its authority, if the clock of this host "
    "is right"
)
CA_FILE_HINT: Final = "the option `ca_file` of `tls` names the authorities that sign it"


def refused_certificate(error: ssl.SSLCertVerificationError) -> str:
    """Return the text of a broker's certificate that is refused, with a remedy."""
    code = getattr(error, "verify_code", 0)
    why = getattr(error, "verify_message", "") or str(error)
    if code in NOT_VALID_NOW:
        hint = TIME_HINT
    else:
        hint = NAME_HINT if code in HOSTNAME_MISMATCH else CA_FILE_HINT
    return f"the certificate of the broker is refused: {why}; {hint}"


def tls_context(options: TlsOptions) -> ssl.SSLContext:
    """Return the context for the options. Raises OptionsError with the problems of all files."""
    problems = [text for _, text in tls_problems(options)]
    if problems:
        raise OptionsError("; ".join(problems))
    context = ssl.create_default_context(cafile=options.ca_file)
    if options.certificate is not None:
        context.load_cert_chain(options.certificate, options.key, options.key_password)
    return context


def tls_problems(options: TlsOptions) -> Iterator[tuple[str, str]]:
    """Yield the problems of the files: the name of the option, and a text with the file."""
    if options.ca_file is not None:
        problem = _unreadable("the file of the authorities", options.ca_file)
        if problem is None:
            try:
                ssl.create_default_context(cafile=options.ca_file)
            except (OSError, ValueError) as error:
                problem = (
                    f"the file of the authorities {str(options.ca_file)!r} has no certificate in "
                    f"PEM: {_reason(error)}"
                )
        if problem is not None:
            yield "ca_file", problem
    if options.certificate is not None:
        yield from _pair_problems(options, options.certificate)


def _pair_problems(options: TlsOptions, certificate: Path | str) -> Iterator[tuple[str, str]]:
    """Yield the problems of a certificate with its key."""
    unreadable = _unreadable("the certificate", certificate)
    if unreadable is not None:
        yield "certificate", unreadable
    if options.key is not None:
        no_key = _unreadable("the key", options.key)
        if no_key is not None:
            unreadable = no_key
            yield "key", no_key
    if unreadable is not None:
        return
    key = "key" if options.key is not None else "certificate"
    try:
        # Always pass a password, because OpenSSL would prompt for one at the terminal.
        password = options.key_password or ""
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(
            certificate, options.key, lambda: password
        )
    except (OSError, ValueError) as error:
        yield key, _pair_problem(options, certificate, error)


def _pair_problem(options: TlsOptions, certificate: Path | str, error: Exception) -> str:
    reason = getattr(error, "reason", None) or ""
    file = str(options.key or certificate)
    if reason == "KEY_VALUES_MISMATCH":
        return f"the key {file!r} does not belong to the certificate {str(certificate)!r}"
    has_password = options.key_password is not None
    if _is_encrypted(file):
        if not has_password:
            return f"the key {file!r} is encrypted; also give the password of the key"
        return f"the key {file!r} cannot be read with this password: {_reason(error)}"
    return (
        f"the certificate {str(certificate)!r} with the key {file!r} cannot be used; both must be "
        f"in PEM: {_reason(error)}"
    )


def _is_encrypted(file: str) -> bool:
    with open(file, "rb") as opened:
        return b"ENCRYPTED" in opened.read(1 << 20)


def _unreadable(what: str, path: Path | str) -> str | None:
    """Return the reason why a file cannot be read, or None."""
    try:
        with open(path, "rb") as file:
            file.read(1)
    except OSError as error:
        return f"cannot read {what} {str(path)!r}: {error.strerror or error}"
    except ValueError as error:  # a NUL in the path
        return f"cannot read {what} {str(path)!r}: {error}"
    return None


def _reason(error: Exception) -> str:
    """Return OpenSSL's reason without the location in its source."""
    reason = getattr(error, "reason", None)
    if reason:
        return str(reason).replace("_", " ").lower()
    return str(error).partition(" (_ssl.c")[0]
