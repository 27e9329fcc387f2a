"""User names and passwords. No error contains a part of them, not even in its cause or context."""

import codecs
from pathlib import Path
from typing import Final

from .errors import OptionsError

MAX_BYTES: Final = 65535
"""Bytes. MQTT allows no longer user name or password."""

_BYTE_ORDER_MARKS: Final = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16, because it begins with the mark of UTF-16
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


def check_credential(name: str, value: str | None) -> None:
    """Check that MQTT can send a user name, a password or another text. Raises OptionsError."""
    if value is None:
        return
    try:
        size = len(value.encode())
    except UnicodeEncodeError:
        size = -1
    # Outside of the block above: the decoder's exception has the whole text.
    if size < 0:
        raise OptionsError(f"`{name}` has characters that are not Unicode, so MQTT cannot send it")
    if size > MAX_BYTES:
        raise OptionsError(f"`{name}` must have at most {MAX_BYTES} bytes, not {size}")
    if name == "username" and "\0" in value:
        raise OptionsError("`username` must not have a NUL character")


def read_password_file(path: Path | str, what: str = "the password file") -> str:
    """Return the first line of a file: UTF-8, or UTF-16 and UTF-32 with a byte order mark.

    The locale does not matter. Raises OptionsError with the path and the reason.
    """
    failure: str | None = None
    data = b""
    try:
        with Path(path).open("rb") as file:
            data = file.read(8 * MAX_BYTES)  # bounded: it may be a device
    except OSError as error:
        failure = error.strerror or str(error)
    except ValueError as error:  # a NUL in the path
        failure = str(error)
    if failure is not None:
        raise OptionsError(f"cannot read {what} {str(path)!r}: {failure}")
    text = _decode(data)
    if text is None:
        raise OptionsError(f"{what} {str(path)!r} is not UTF-8; save it again as UTF-8")
    password = text.partition("\n")[0].rstrip("\r")
    if not password:
        raise OptionsError(f"{what} {str(path)!r} has no password in its first line")
    return password


def _decode(data: bytes) -> str | None:
    marked = (pair for pair in _BYTE_ORDER_MARKS if data.startswith(pair[0]))
    mark, encoding = next(marked, (b"", "utf-8"))
    data = data[len(mark) :]
    try:
        return data.decode(encoding)
    except UnicodeDecodeError:
        return None
