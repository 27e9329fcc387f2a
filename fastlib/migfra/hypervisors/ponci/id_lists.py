"""Parse the kernel's lists of CPUs and memory nodes, such as `0-3,7`."""


def parse_id_list(text: str) -> frozenset[int]:
    """Return the numbers of a list. An empty text has none."""
    numbers: set[int] = set()
    for part in text.strip().split(","):
        if part:
            first, _, last = part.partition("-")
            numbers.update(range(int(first), int(last or first) + 1))
    return frozenset(numbers)
