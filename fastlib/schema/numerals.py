"""Regular expressions for the integers of a range, as texts that are read or written."""

from functools import cache

_DIGITS = "0123456789abcdef"
_BLANK = "[ \\t\\n]*"
"""Pattern of the text that may follow a number."""


@cache
def read(low: int, high: int) -> str:
    """Return the pattern of all texts of the integers in a range: decimal, `0x…` and `0…`."""
    first = max(low, 1)
    decimal, octal, hexadecimal = ("|".join(_numerals(first, high, b)) for b in (10, 8, 16))
    forms = []
    if high > 0:
        nothing = "?" if low == 0 else ""
        forms += [decimal, f"0+({octal}){nothing}", f"0[xX]0*({hexadecimal})"]
    else:
        forms.append("0+")
    if low == 0:
        forms.append("0[xX]0+")
    return f"^({'|'.join(forms)}){_BLANK}$"


def written(low: int, high: int, digits: int) -> str:
    """Return the pattern of an integer that is written as `0x` and a minimum number of digits."""
    last = min(high, 16**digits - 1)
    forms = []
    if low <= last:
        forms += _between(f"{low:0{digits}x}", f"{last:0{digits}x}", 16, lower=True)
    if high > last:
        forms += _numerals(max(low, last + 1), high, 16, lower=True)
    return f"^0x({'|'.join(forms)})$" if len(forms) > 1 else f"^0x{forms[0]}$"


def _numerals(low: int, high: int, base: int, *, lower: bool = False) -> list[str]:
    """Return patterns of the positive integers of a range, without leading zeros."""
    forms: list[str] = []
    first, last = _write(low, base), _write(high, base)
    full: list[int] = []
    """Lengths whose numbers are all in the range."""
    for size in range(len(first), len(last) + 1):
        lowest, highest = "1" + "0" * (size - 1), _DIGITS[base - 1] * size
        begin = first if size == len(first) else lowest
        end = last if size == len(last) else highest
        if (begin, end) == (lowest, highest):
            full.append(size)
        else:
            forms += _between(begin, end, base, lower=lower)
    if full:
        digit, more = _one_of("1", _DIGITS[base - 1], lower), _one_of("0", _DIGITS[base - 1], lower)
        forms.insert(0, f"{digit}{_times(more, full[0] - 1, full[-1] - 1)}")
    return forms


def _times(form: str, least: int, most: int) -> str:
    if least == most:
        return {0: "", 1: form}.get(least, f"{form}{{{least}}}")
    return f"{form}{{{least},{most}}}"


def _write(number: int, base: int) -> str:
    digits = ""
    while number:
        number, digit = divmod(number, base)
        digits = _DIGITS[digit] + digits
    return digits


def _between(low: str, high: str, base: int, *, lower: bool) -> list[str]:
    """Return patterns of the numerals between two numerals of the same length."""
    if not low:
        return [""]
    rest = len(low) - 1
    if low[0] == high[0]:
        below = _between(low[1:], high[1:], base, lower=lower)
        return [_one_of(low[0], low[0], lower) + form for form in below]
    zeros, nines = "0" * rest, _DIGITS[base - 1] * rest
    begin, end = _DIGITS.index(low[0]), _DIGITS.index(high[0])
    forms, above = [], []
    if low[1:] != zeros:
        forms = _between(low, low[0] + nines, base, lower=lower)
        begin += 1
    if high[1:] != nines:
        above = _between(high[0] + zeros, high, base, lower=lower)
        end -= 1
    if begin <= end:
        times = _times(_one_of("0", _DIGITS[base - 1], lower), rest, rest)
        forms.append(_one_of(_DIGITS[begin], _DIGITS[end], lower) + times)
    return forms + above


def _one_of(first: str, last: str, lower: bool) -> str:
    """Return a class of the digits in a range, with letters in both cases or only in lower case."""
    digits = _DIGITS[_DIGITS.index(first) : _DIGITS.index(last) + 1]
    decimal = [digit for digit in digits if digit.isdigit()]
    letters = [digit for digit in digits if not digit.isdigit()]
    cases = [letters] if lower else [letters, [letter.upper() for letter in letters]]
    parts = [_range(decimal), *map(_range, cases)]
    text = "".join(parts)
    return text if len(text) == 1 else f"[{text}]"


def _range(chars: list[str]) -> str:
    if len(chars) < 3:
        return "".join(chars)
    return f"{chars[0]}-{chars[-1]}"
