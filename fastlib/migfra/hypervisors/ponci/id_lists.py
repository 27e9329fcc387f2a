"""Parse and write the kernel's lists of CPUs and memory nodes, such as `0-3,7`."""

from collections.abc import Iterable


def parse_id_list(text: str) -> frozenset[int]:
    """Return the numbers of a list. An empty text has none."""
    numbers: set[int] = set()
    for part in text.strip().split(","):
        if part:
            first, _, last = part.partition("-")
            numbers.update(range(int(first), int(last or first) + 1))
    return frozenset(numbers)


def format_id_list(numbers: Iterable[int]) -> str:
    """Return the shortest text for the numbers."""
    runs: list[list[int]] = []
    for number in sorted(set(numbers)):
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in runs)
