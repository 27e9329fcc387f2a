"""Write integers in the shortest form, as ranges."""

from collections.abc import Iterable


def number_ranges(numbers: Iterable[int], separator: str = ",") -> str:
    """Return the numbers as ranges, such as `0-3,8`, in ascending order, each once."""
    runs: list[list[int]] = []
    for number in sorted(set(numbers)):
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return separator.join(
        str(first) if first == last else f"{first}-{last}" for first, last in runs
    )
