"""The characters that a broker refuses in topics: it ends the connection of the program.

MQTT (3.1.1 and 5, section 1.5) forbids NUL and surrogates, and advises against control characters
and noncharacters. mosquitto ends the connection at each of them. The program would then connect and
fail again and again, and its other messages would wait.
"""

import re
from typing import Final

_LAST_TWO: Final = "".join(chr(plane + last) for plane in range(0, 0x110000, 0x10000)
                           for last in (0xFFFE, 0xFFFF))  # fmt: skip
_REFUSED: Final = re.compile(f"[\0-\x1f\x7f-\x9f\ufdd0-\ufdef{_LAST_TWO}]")


def refused_character(text: str) -> str | None:
    """Return words for the first character that brokers refuse in a topic, or None."""
    found = _REFUSED.search(text)
    if found is None:
        return None
    char = found[0]
    if char == "\0":
        return "NUL character"
    kind = "control character" if char < "\xa0" else "noncharacter"
    return f"{kind} U+{ord(char):04X}"
