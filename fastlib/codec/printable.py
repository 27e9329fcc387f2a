"""Show text from the network: prevent terminal control, and fields that imitate others.

Control characters (C0, DEL and C1, such as U+009B) and the controls of writing direction (such as
U+202E) affect terminals. Characters without width hide text, and blank ones imitate a space or
nothing. Each output has its own escapes:

- `printable`: a line for people
- `word`: one field of such a line
- `escape_json`: JSON
- `INVISIBLE`: the characters that YAML is written with escapes for
"""

from typing import Final

from .lazy_pattern import lazy_pattern

INVISIBLE: Final = (
    # control characters, and controls of writing direction
    "\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069"
    # Default_Ignorable_Code_Point of Unicode, which has no width
    "\xad\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200d\u2060-\u2065\u206a-\u206f\u3164"
    "\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufff8\U0001bca0-\U0001bca3\U0001d173-\U0001d17a"
    "\U000e0000-\U000e0fff"
    # other format characters, and fillers
    "\ufff9-\ufffb\U00016fe4"
    # spaces other than U+0020, and other blank characters
    "\xa0\u1680\u2000-\u200a\u202f\u205f\u2800\u3000\U00013441\U00013442\U0001d159"
    # private use: only the sender knows their appearance
    "\ue000-\uf8ff\U000f0000-\U0010ffff"
)
"""The content of a regular expression's character class: control and invisible characters."""

_INVISIBLE: Final = lazy_pattern(f"[{INVISIBLE}]")

_SEPARATORS: Final = frozenset(' []"\\')
"""Characters that end a field of a line, or begin a quoted one."""


def is_visible(text: str) -> bool:
    """Return True if a text can be shown unchanged: it is printable, without hidden characters."""
    return text.isprintable() and (text.isascii() or _INVISIBLE.search(text) is None)


def printable(text: str) -> str:
    """Return the text on one line, with every character that is not visible as a Python escape."""
    if is_visible(text):
        return text
    return "".join(
        char if is_visible(char) else char.encode("unicode_escape").decode() for char in text
    )


def printable_lines(text: str) -> str:
    r"""Return the text with its line ends `\n`, and each line as `printable` shows it."""
    return "\n".join(map(printable, text.split("\n")))


def word(text: str) -> str:
    """Return the text as one field of a line, in double quotes if it would look like several.

    A quoted field has the escapes of JSON. A lone `-` is quoted, because it means "no value".
    """
    if is_visible(text) and _SEPARATORS.isdisjoint(text) and text not in ("", "-"):
        return text
    quoted = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{"".join(char if is_visible(char) else _json_escape(char) for char in quoted)}"'


def escape_json(text: str) -> str:
    r"""Return JSON with every character that is not visible as `\uXXXX`; line ends stay."""
    if text.isascii() and "\x7f" not in text:
        return text
    return "".join(char if is_visible(char) or char < " " else _json_escape(char) for char in text)


def _json_escape(char: str) -> str:
    units = char.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at : at + 2].hex()}" for at in range(0, len(units), 2))
