"""Parses and writes scalars: numbers, booleans, nulls and texts.

Only the type of the field decides how a scalar is read, never the type that YAML would guess. A
text is written in quotes if a reader of YAML 1.1 or 1.2 would read it as another type. See
docs/reference/protocol.md, "Scalars".
"""

import math
import re

import msgspec

from .lazy_pattern import lazy_pattern
from .printable import INVISIBLE, is_visible

NULLS = frozenset({"", "~", "null", "Null", "NULL"})
"""The plain scalars that mean null."""


def _spellings(*words: str) -> list[str]:
    return [form for word in words for form in (word, word.capitalize(), word.upper())]


BOOLEANS = {
    **dict.fromkeys(_spellings("true", "yes", "on", "y"), True),
    **dict.fromkeys(_spellings("false", "no", "off", "n"), False),
}

_INTEGER = lazy_pattern(r"(?:0[xX]([0-9a-fA-F]+)|(0[0-7]*)|([1-9][0-9]*))[ \t\n]*", re.ASCII)
_FLOAT = lazy_pattern(
    r"[-+]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?[ \t\n]*", re.ASCII
)
_SPECIAL_FLOATS = {
    **dict.fromkeys([s + f for s in ("", "+") for f in (".inf", ".Inf", ".INF")], math.inf),
    **dict.fromkeys(["-.inf", "-.Inf", "-.INF"], -math.inf),
    **dict.fromkeys([".nan", ".NaN", ".NAN"], math.nan),
    # Older C++ peers write these, but cannot read them.
    "inf": math.inf,
    "-inf": -math.inf,
    "nan": math.nan,
    "-nan": math.nan,
}
FLOAT_PATTERN = "|".join(
    [_FLOAT.pattern.replace("(?:", "(").removesuffix("[ \\t\\n]*")]
    + [text.replace("+", "[+]").replace(".", "[.]") for text in _SPECIAL_FLOATS]
)
"""For schemas: the pattern of the texts that `parse_float` reads, without trailing blanks."""


def parse_integer(text: str) -> int | None:
    """Parse an unsigned integer: decimal, `0x` hex or leading-`0` octal. Return None for others."""
    match = _INTEGER.fullmatch(text)
    if match is None:
        return None
    hexadecimal, octal, decimal = match.groups()
    digits = hexadecimal or octal or decimal
    if len(digits) > 80:  # any integer of the protocol is shorter, even with leading zeros
        return None
    return int(digits, 16 if hexadecimal else 8 if octal else 10)


def parse_float(text: str) -> float | None:
    """Parse a decimal number, `.inf` or `.nan`. Return None for others and for an overflow."""
    if _FLOAT.fullmatch(text) is None:
        return _SPECIAL_FLOATS.get(text)
    value = float(text)
    return None if math.isinf(value) else value


def write_float(value: float) -> str:
    """Return the shortest decimal that is read as the same number by all versions of YAML."""
    if math.isnan(value):
        return ".nan"
    if math.isinf(value):
        return ".inf" if value > 0 else "-.inf"
    text = repr(value)
    if "e" not in text:
        return text
    mantissa, _, exponent = text.partition("e")
    whole, _, decimals = mantissa.partition(".")
    if -_MICRO <= int(exponent) < 0:
        return f"{value:.{len(decimals) - int(exponent)}f}"  # 0.000001, for people
    return f"{whole}.{decimals or 0}e{exponent}"  # YAML 1.1 knows 1.0e+22 only


# --- text ---------------------------------------------------------------------------------------

_MICRO = 6
"""Decimals of the smallest number that is written without an exponent."""

RESERVED = NULLS | BOOLEANS.keys() | {"<<", "="}
"""Plain texts that some YAML reader reads as a null, a boolean, a merge key or a default."""

_PLAIN = lazy_pattern(
    # Begins like no number, indicator or document marker; holds no indicator of flow style, no
    # colon and no '#', and no space at its end: plain everywhere, a key or an item included. The
    # package `yaml` of npm reads `e1` as a number, by YAML 1.1.
    r"(?![eE][-+]?[0-9]+\Z)[A-Za-z_/<(\\$^;][A-Za-z0-9_./@+=()<>^$*!;|&~%'\"\\-]*"
    r"(?: [A-Za-z0-9_./@+=()<>^$*!;|&~%'\"\\-]+)*"
)
_ESCAPED = lazy_pattern(f'["\\\\{INVISIBLE}\ufffe\uffff\ud800-\udfff]')
_ESCAPES = {
    "\\": "\\\\",
    '"': '\\"',
    "\n": "\\n",
    "\t": "\\t",
    "\r": "\\r",
    "\b": "\\b",
    "\f": "\\f",
}
_NO_BLOCK = lazy_pattern(
    # What a literal block cannot say, or not to every reader: a first line that is blank or
    # indented, a line of spaces only, a character that must be escaped, more than one final break.
    f"(?=[^\t\n])[{INVISIBLE}\ufffe\uffff]|\\A[ \t\n]|\n[ \t]+(?:\n|\\Z)|\n\n\\Z"
)


def _escape(match: re.Match[str]) -> str:
    char = match[0]
    code = ord(char)
    if code > 0xFFFF:  # peers do not read surrogate pairs
        return f"\\U{code:08x}"
    return _ESCAPES.get(char) or (f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}")


_UNPRINTABLE = re.compile("[^ -~]")
_WITHOUT_BREAKS = {ord("\t"): None, ord("\n"): None}


def _escape_unprintable(match: re.Match[str]) -> str:
    return match[0] if match[0].isprintable() else _escape(match)


def is_plain(text: str) -> bool:
    """Return whether every reader reads the text, written without quotes, as this text."""
    # The set last, because it hashes the text, which may be long.
    if text.isidentifier() and text[0] not in "eE":
        return (text.isascii() or is_visible(text)) and text not in RESERVED
    return _PLAIN.fullmatch(text) is not None and text not in RESERVED


def quote(text: str) -> str:
    """Return the text in double quotes on one line, only with escapes that the C++ peers read."""
    if text.isascii() and "\x7f" not in text:
        json = _json(text).decode()  # the same escapes for usual messages
        if "\\u" not in json:
            return json
    escaped = _ESCAPED.sub(_escape, text)
    if not escaped.isprintable():  # characters that Unicode has not assigned yet
        escaped = _UNPRINTABLE.sub(_escape_unprintable, escaped)
    return f'"{escaped}"'


_json = msgspec.json.Encoder().encode


def write_text(text: str) -> str:
    """Return the text on one line, without quotes if possible."""
    return text if is_plain(text) else quote(text)


LONG_KEY = 1000
"""Bytes of UTF-8. A longer key is introduced by `?`. C++ peers read up to 1024 bytes without it,
quotes included; libyaml reads up to 1024 characters."""


def is_long_key(key: str) -> bool:
    """Return whether a key, with its quotes if it has any, must be introduced by `?`."""
    return len(key) * 4 > LONG_KEY and len(key.encode()) > LONG_KEY


def fits_block(text: str) -> bool:
    """Return whether every reader reads the text, which is not empty, exactly from a block."""
    if _NO_BLOCK.search(text) is not None:
        return False
    return text.isascii() or text.translate(_WITHOUT_BREAKS).isprintable()


def write_literal(text: str, indent: str) -> str | None:
    """Return a text of several lines as a literal block, for a key that is indented by `indent`.

    Return None for a text of one line, and if not every reader would read the block exactly.
    """
    if "\n" not in text or not fits_block(text):
        return None
    body = text
    header = "|-"
    if text[-1] == "\n":
        body = text[:-1]
        header = "|"
    below = f"\n{indent}  "
    # No trailing spaces on empty lines.
    return header + "".join(below + line if line else "\n" for line in body.split("\n"))
