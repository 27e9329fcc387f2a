"""Show text from the network so that no terminal obeys it and no field of a line imitates another.

Terminals obey control characters (C0, DEL and C1, such as U+009B) and the controls of writing
direction (such as U+202E). Characters without width hide text. Each output has its own escapes:

- `printable`: a line for people
- `word`: one field of such a line
- `escape_json`: JSON
- `CONTROLS`: what YAML is written with escapes for
"""

from typing import Final

CONTROLS: Final = (
    "\x00-\x1f\x7f-\x9f\xad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\U000e0001\U000e0020-\U000e007f"
)
"""The inside of a character class of a regular expression: control characters, the controls of
writing direction, line separators, and characters without width."""

_SEPARATORS: Final = frozenset(' []"\\')
"""What ends a field of a line, or begins a quoted one."""


def printable(text: str) -> str:
    """Return the text on one line, with every non-printable character as a Python escape."""
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in text
    )


def printable_lines(text: str) -> str:
    r"""Return the text with its line ends `\n`, and each line as `printable` shows it."""
    return "\n".join(map(printable, text.split("\n")))


def word(text: str) -> str:
    """Return the text as one field of a line, in double quotes if it could be taken for several.

    A quoted field has the escapes of JSON. A lone `-` is quoted, because it means that there is
    none.
    """
    if text.isprintable() and _SEPARATORS.isdisjoint(text) and text not in ("", "-"):
        return text
    quoted = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{"".join(char if char.isprintable() else _json_escape(char) for char in quoted)}"'


def escape_json(text: str) -> str:
    r"""Return JSON with every non-printable character as `\uXXXX`; line ends stay."""
    if text.isascii() and "\x7f" not in text:
        return text
    return "".join(
        char if char.isprintable() or char < " " else _json_escape(char) for char in text
    )


def _json_escape(char: str) -> str:
    units = char.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at : at + 2].hex()}" for at in range(0, len(units), 2))
