"""Count huge pages of a whole host from those of its NUMA nodes. The functions are pure."""

from collections.abc import Iterable, Sequence

from fastlib.message.hardware import HugePagesReport, NumaNodeReport


def huge_pages_of_host(nodes: Sequence[NumaNodeReport]) -> list[HugePagesReport] | None:
    """Return the sums of the nodes' huge pages, the smallest size first.

    A number that is not known of one node is not known of the host. Returns None if the huge pages
    of a node are not known.
    """
    found: dict[int, list[HugePagesReport]] = {}
    for node in nodes:
        if node.huge_pages is None:
            return None
        for pages in node.huge_pages:
            found.setdefault(pages.size, []).append(pages)
    return [
        HugePagesReport(
            size=size,
            total=_sum(pages.total for pages in each),
            free=_sum(pages.free for pages in each),
        )
        for size, each in sorted(found.items())
    ]


def _sum(numbers: Iterable[int | None]) -> int | None:
    total = 0
    for number in numbers:
        if number is None:
            return None
        total += number
    return total
