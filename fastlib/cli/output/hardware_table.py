"""Show the hardware and the storage pools of a host, in lines of at most the given width."""

from collections.abc import Iterator, Sequence
from typing import Final

from fastlib.display.text import byte_size, columns, printable, wrap
from fastlib.message.hardware import HugePagesReport, NumaNodeReport, StoragePoolReport
from fastlib.message.node import NodeReport
from fastlib.number_ranges import number_ranges

_UNKNOWN: Final = "-"
_GAP: Final = 2
"""Blanks between two columns."""
_LEAST_WIDTH: Final = 20
"""Columns of the last cell of a row, at least."""

Rows = list[tuple[str, ...]]


def cpu_line(report: NodeReport) -> str | None:
    """Return a line with the model of the CPUs. None if the host reports none."""
    if report.cpu_model is None:
        return None
    vendor = "" if report.cpu_vendor is None else f" ({report.cpu_vendor})"
    return printable(f"CPU model: {report.cpu_model}{vendor}")


def huge_pages_line(report: NodeReport) -> str | None:
    """Return a line with the huge pages of the whole host. None if the host reports none."""
    if report.huge_pages is None:
        return None
    return f"free huge pages: {_pages(report.huge_pages)}"


def numa_rows(nodes: Sequence[NumaNodeReport], width: int) -> tuple[tuple[str, ...], Rows]:
    """Return the heads and rows of a table of NUMA nodes."""
    return _wrapped(
        ("node", "memory", "free", "free huge pages", "CPUs"),
        [
            (
                str(node.id),
                _size(node.memory, 1 << 10),
                _size(node.free_memory, 1 << 10),
                _UNKNOWN if node.huge_pages is None else _pages(node.huge_pages),
                number_ranges(node.cpus, ", ") or "none",
            )
            for node in nodes
        ],
        width,
    )


def pool_rows(pools: Sequence[StoragePoolReport], width: int) -> tuple[tuple[str, ...], Rows]:
    """Return the heads and rows of a table of storage pools."""
    return _wrapped(
        ("name", "state", "type", "size", "free", "path"),
        [
            (
                printable(pool.name),
                printable(pool.state or _UNKNOWN),
                printable(pool.type or _UNKNOWN),
                _size(pool.capacity, 1 << 20),
                _size(pool.free, 1 << 20),
                printable(" ".join(filter(None, [pool.path, _remark(pool)])) or _UNKNOWN),
            )
            for pool in pools
        ],
        width,
    )


def _remark(pool: StoragePoolReport) -> str | None:
    return None if pool.details is None else f"({pool.details})"


def _size(number: int | None, unit: int) -> str:
    return _UNKNOWN if number is None else byte_size(number * unit)


def _pages(each: Sequence[HugePagesReport]) -> str:
    """Return for example `512 of 1024 (2.0 MiB)`. Sizes without pages are left out."""
    texts = [
        f"{_count(pages.free)} of {_count(pages.total)} ({byte_size(pages.size << 10)})"
        for pages in each
        if pages.total != 0
    ]
    return ", ".join(texts) or "none"


def _count(number: int | None) -> str:
    return _UNKNOWN if number is None else str(number)


def _wrapped(
    heads: tuple[str, ...], rows: Sequence[tuple[str, ...]], width: int
) -> tuple[tuple[str, ...], Rows]:
    """Break the last cells into further rows. Then the table fits into the width."""
    before = [max(map(columns, column)) + _GAP for column in zip(heads, *rows, strict=True)][:-1]
    room = max(_LEAST_WIDTH, width - sum(before))
    return heads, list(_broken(rows, room))


def _broken(rows: Sequence[tuple[str, ...]], room: int) -> Iterator[tuple[str, ...]]:
    for *cells, last in rows:
        lines = iter(wrap(last, room))
        yield (*cells, next(lines))
        for line in lines:
            yield (*("" for _ in cells), line)
