"""The huge pages of a host are the sums of those of its NUMA nodes."""

from fastlib import HugePagesReport, NumaNodeReport
from fastlib.migfra.virt.hardware import huge_pages_of_host


def node(number: int, *pages: tuple[int, int | None, int | None]) -> NumaNodeReport:
    each = [HugePagesReport(size=size, total=total, free=free) for size, total, free in pages]
    return NumaNodeReport(id=number, cpus=[], huge_pages=each)


def test_pages_of_each_size_are_added() -> None:
    nodes = [
        node(0, (1 << 20, 2, 1)),
        node(1, (2048, 5, 4), (1 << 20, 3, 0)),
        node(7, (2048, 1, 1)),
    ]
    assert huge_pages_of_host(nodes) == [
        HugePagesReport(size=2048, total=6, free=5),
        HugePagesReport(size=1 << 20, total=5, free=1),
    ]


def test_number_that_is_unknown_of_one_node_is_unknown_of_the_host() -> None:
    assert huge_pages_of_host([node(0, (2048, 5, None)), node(1, (2048, None, 4))]) == [
        HugePagesReport(size=2048)
    ]
    assert huge_pages_of_host([node(0, (2048, 5, 5)), NumaNodeReport(id=1, cpus=[])]) is None


def test_host_without_huge_pages_has_none() -> None:
    assert huge_pages_of_host([node(0), node(1)]) == []
