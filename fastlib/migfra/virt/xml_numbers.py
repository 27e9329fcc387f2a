"""Read whole numbers in the XML of libvirt like libvirt."""

import re
from typing import Final

from fastlib.migfra.errors import HypervisorError

_DECIMAL: Final = re.compile(r"[ \t\r\n]*([0-9]{1,20})")
_LARGEST: Final = (1 << 64) - 1


def read_number(text: str | None, where: str, largest: int = _LARGEST) -> int:
    """Read a decimal number. Raises HypervisorError with the place in the XML.

    libvirt skips blanks before the digits and refuses those behind. A sign is refused here:
    to libvirt `-1` is sometimes an error and sometimes 4294967295.
    """
    found = _DECIMAL.fullmatch(text or "")
    if found is None:
        raise HypervisorError(
            f"the domain's XML has {(text or '')[:40]!r} as {where}; it must be a whole number "
            "without blanks or a sign"
        )
    number = int(found[1])
    if number > largest:
        raise HypervisorError(f"the domain's XML has {number} as {where}; {largest} is the largest")
    return number


_WITH_BASE: Final = re.compile(
    r"[ \t\r\n]*(?:0[xX]([0-9a-fA-F]{1,16})|(0[0-7]{0,22})|([1-9][0-9]{0,19}))"
)


def read_number_with_base(text: str | None, where: str, largest: int = _LARGEST) -> int:
    """Read a number in the syntax of C: `0x1f`, octal `037` or `31`.

    Raises HypervisorError with the place in the XML.
    """
    found = _WITH_BASE.fullmatch(text or "")
    if found is None:
        raise HypervisorError(
            f"the XML has {(text or '')[:40]!r} as {where}; it must be a number such as 0x1f"
        )
    hexadecimal, octal, decimal = found.groups()
    number = int(hexadecimal or octal or decimal, 16 if hexadecimal else 8 if octal else 10)
    if number > largest:
        raise HypervisorError(f"the XML has {number:#x} as {where}; {largest:#x} is the largest")
    return number
