"""Decodes bytes to text before parsing: size limit, encoding and byte order mark."""

import codecs

from .errors import LimitError, ParseError, Problem
from .limits import Limits

# The longer marks first: UTF-32's little-endian mark begins with UTF-16's.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


def decode(text: str | bytes, limits: Limits, what: str) -> str:
    """Return the text without its byte order mark.

    The encoding is UTF-8, unless a byte order mark or the zero bytes of an ASCII character show
    that it is UTF-16 or UTF-32.

    Raises ParseError for bytes that are not text, and LimitError for too many bytes.
    """
    if isinstance(text, str):
        # A character takes at most four bytes, so most texts need not be measured.
        if len(text) * 4 > limits.max_bytes:
            _check_size(len(text.encode("utf-8", "surrogatepass")), limits, what)
        return text.removeprefix("\ufeff")
    if type(text) is not bytes:
        if not isinstance(text, bytes | bytearray | memoryview):
            raise TypeError(f"a message is read from str or bytes, not from {type(text).__name__}")
        text = bytes(text)
    if len(text) > limits.max_bytes:
        _check_size(len(text), limits, what)
    try:
        decoded = text.decode()
        if decoded[:1] != "\ufeff" and "\0" not in decoded:  # the usual case
            return decoded
    except UnicodeDecodeError:
        pass  # another encoding, or not a text; decided below
    encoding, skip = _encoding(text)
    try:
        return text[skip:].decode(encoding) if skip else text.decode(encoding)
    except UnicodeDecodeError as error:
        before = text[skip : skip + error.start].decode(encoding, "replace")
        message = f"the text is not {encoding.upper()}: {error.reason}; save it as UTF-8"
        problem = Problem(code="encoding", message=message).at(*position(before, len(before)))
        raise ParseError(what, [problem]) from None


def _check_size(size: int, limits: Limits, what: str) -> None:
    if size > limits.max_bytes:
        problem = Problem(
            code="limit-bytes",
            message=f"the text has more than {limits.max_bytes} bytes",
            line=1,
            column=1,
        )
        raise LimitError(what, [problem])


def _encoding(data: bytes) -> tuple[str, int]:
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            return encoding, len(mark)
    if data[:3] == b"\0\0\0" and data[3:4] > b"\0":
        return "utf-32-be", 0
    if data[1:4] == b"\0\0\0" and data[:1] > b"\0":
        return "utf-32-le", 0
    if data[:1] == b"\0" and data[1:2] > b"\0":
        return "utf-16-be", 0
    if data[1:2] == b"\0" and data[:1] > b"\0":
        return "utf-16-le", 0
    return "utf-8", 0


def position(text: str, index: int) -> tuple[int, int]:
    """Return line and column, from 1, of a character of the text."""
    return text.count("\n", 0, index) + 1, index - text.rfind("\n", 0, index)
