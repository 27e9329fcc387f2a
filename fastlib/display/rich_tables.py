"""Build the tables of live views with rich. Names, ids and errors are always shown in full."""

from collections.abc import Iterable, Sequence
from typing import Final, TypeAlias

import msgspec
from rich.console import Console, Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from fastlib.message.node import Presence

BAR_COLUMNS: Final = 20
"""Width of a bar in columns, where the terminal has room."""
MIN_BAR_COLUMNS: Final = 6
"""Width in columns below which no bar shrinks."""
MIN_BROKEN_COLUMNS: Final = 12
"""Width in columns below which no text is broken into lines."""
GAPS: Final = (2, 1)
"""Columns between two cells: in a wide terminal, in a narrow one."""

_CONSOLE: Final = Console(width=1000, color_system=None)
"""It only breaks texts into lines."""


class Bar(msgspec.Struct, frozen=True):
    """A bar in a cell. It is as wide as its column."""

    percent: float


class Stacked(msgspec.Struct, frozen=True):
    """Two texts in a cell. The column may cut the upper one, but never the lower one."""

    upper: Text
    lower: Text


Cell: TypeAlias = Text | Bar | Stacked
Row: TypeAlias = Sequence[Cell]


class Column(msgspec.Struct, frozen=True):
    """A column, and how it changes where the terminal is narrow."""

    title: str
    shrink_to: int | None = None
    """Columns to which it may shrink; 0: it may disappear, but is not cut; None: never."""
    wraps: bool = False
    """True if texts continue on further lines. False cuts them at the end of the column."""

    @property
    def is_whole(self) -> bool:
        """Whether its texts are shown in full, if necessary on several lines."""
        return self.wraps or self.shrink_to is None


class FittedTable:
    """A table without borders that fits a number of columns and lines."""

    def __init__(
        self, columns: Sequence[Column], rows: Sequence[Row], width: int, lines: int
    ) -> None:
        """Choose the widths of the columns, and how many of the first rows are shown.

        `lines` counts the titles of the columns, and the line with the number of rows that are left
        out. Bars shrink first. Then columns that may disappear do so, the last one first. Then the
        columns with `shrink_to` shrink, the widest first. If that is not enough, the texts of the
        widest of the other columns continue on further lines. If even the first row has too many
        lines, it is cut at its end.
        """
        self._columns = columns
        candidates = rows[: max(1, lines)]
        self._widths, self._gap, self.fits = _widths(columns, candidates, width)
        """`fits` is False if a column disappeared, or a whole text had to be broken."""
        room = max(1, lines - 1)
        heights = [self._height(row) for row in candidates]
        shown = _count_that_fits(heights, room)
        if shown < len(rows):
            shown = _count_that_fits(heights, room - 1)
        self._rows = list(candidates[:shown])
        if not shown and candidates:  # even the first row is too high
            shown, heights[0] = 1, max(1, room - (len(rows) > 1))
            self._rows = [self._cut(candidates[0], heights[0])]
        self.left_out: Final = len(rows) - shown
        self.lines: Final = 1 + sum(heights[:shown]) + (self.left_out > 0)
        """Lines that the table takes."""

    def _height(self, row: Row) -> int:
        return max([1, *(len(lines) for lines in self._lines(row) if lines is not None)])

    def _lines(self, row: Row) -> list[Sequence[Text] | None]:
        """Return the lines of each cell, and None for bars and for columns that disappeared."""
        return [
            None if isinstance(cell, Bar) or not width else _lines(cell, width, column.is_whole)
            for column, cell, width in zip(self._columns, row, self._widths, strict=True)
        ]

    def _cut(self, row: Row, height: int) -> Row:
        """Return a row with at most `height` lines. An ellipsis ends the cells that were cut."""
        cells: list[Cell] = []
        for cell, lines, width in zip(row, self._lines(row), self._widths, strict=True):
            if lines is None or len(lines) <= height:
                cells.append(cell)
                continue
            last = lines[height - 1].copy()
            last.truncate(max(0, width - 1))
            last.rstrip()
            cells.append(Text("\n").join([*lines[: height - 1], last.append("…")]))
        return cells

    def render(self, *, header: bool = True) -> RenderableType:
        """Return the table for rich, with the titles of its columns if `header` is true."""
        table = Table(
            box=None,
            pad_edge=False,
            header_style="dim",
            padding=(0, self._gap, 0, 0),
            show_header=header,
        )
        shown = [index for index, width in enumerate(self._widths) if width]
        for index in shown:
            whole = self._columns[index].is_whole
            table.add_column(
                self._columns[index].title,
                width=self._widths[index],
                no_wrap=not whole,
                overflow="fold" if whole else "ellipsis",
            )
        for row in self._rows:
            table.add_row(*(self._render_cell(row[index], index) for index in shown))
        if not self.left_out:
            return table
        return Group(table, Text(f"... {self.left_out} more", "dim"))

    def _render_cell(self, cell: Cell, index: int) -> RenderableType:
        width = self._widths[index]
        if isinstance(cell, Bar):
            return ProgressBar(100.0, cell.percent, width)
        if isinstance(cell, Stacked):
            return Text("\n").join(_lines(cell, width, self._columns[index].is_whole))
        return cell


def _lines(cell: Text | Stacked, width: int, is_whole: bool) -> Sequence[Text]:
    """Return the lines of a cell. If it is not whole, its column cuts them."""
    if isinstance(cell, Stacked):
        lower = cell.lower.wrap(_CONSOLE, width, overflow="fold")
        return [*_lines(cell.upper, width, is_whole), *lower]
    return [*(cell.wrap(_CONSOLE, width, overflow="fold") if is_whole else cell.split())]


def _count_that_fits(heights: Sequence[int], room: int) -> int:
    used = 0
    for count, height in enumerate(heights):
        used += height
        if used > room:
            return count
    return len(heights)


def _widths(
    columns: Sequence[Column], rows: Sequence[Row], width: int
) -> tuple[list[int], int, bool]:
    """Return the width of each column, the gap between two, and whether all texts fit."""
    cells = [[row[index] for row in rows] for index in range(len(columns))]
    natural = [_natural(column, own) for column, own in zip(columns, cells, strict=True)]
    least = [
        wide if column.shrink_to is None else min(column.shrink_to, wide)
        for column, wide in zip(columns, natural, strict=True)
    ]
    bars = [index for index, own in enumerate(cells) if any(isinstance(cell, Bar) for cell in own)]
    others = [index for index in range(len(columns)) if index not in bars]
    optional = [index for index in others if columns[index].shrink_to == 0]
    fitted = _Widths(natural, width)
    fitted.shrink(bars, least)
    complete = True
    while fitted.excess > 0 and optional:
        complete = False
        natural[optional.pop()] = 0
        fitted = _Widths(natural, width)
        fitted.shrink(bars, least)
    fitted.shrink(others, least)
    complete &= fitted.excess <= 0
    fitted.shrink(others, [min(MIN_BROKEN_COLUMNS, wide) for wide in least])
    return fitted.widths, fitted.gap, complete


class _Widths:
    """The widths of columns, which shrink until they fit."""

    def __init__(self, natural: Sequence[int], limit: int) -> None:
        self.widths = [*natural]
        self._limit = limit
        self.gap = GAPS[0]
        if self.excess > 0:
            self.gap = GAPS[1]

    @property
    def excess(self) -> int:
        """Number of missing columns of the terminal; at most 0 if it fits."""
        shown = sum(width > 0 for width in self.widths)
        return sum(self.widths) + self.gap * max(0, shown - 1) - self._limit

    def shrink(self, chosen: Sequence[int], least: Sequence[int]) -> None:
        """Shrink the widest of the chosen columns until all columns fit."""
        while self.excess > 0:
            possible = [index for index in chosen if self.widths[index] > least[index]]
            if not possible:
                return
            self.widths[max(possible, key=lambda index: self.widths[index])] -= 1


def _natural(column: Column, cells: Iterable[Cell]) -> int:
    return max([len(column.title), *map(_columns, cells)])


def _columns(cell: Cell) -> int:
    """Return the columns of a bar, or of the longest line of a text."""
    if isinstance(cell, Bar):
        return BAR_COLUMNS
    if isinstance(cell, Stacked):
        return max(_columns(cell.upper), _columns(cell.lower))
    return max((line.cell_len for line in cell.split()), default=0)


def status_text(presence: Presence) -> Text:
    """Return the status of a daemon, green if it is online and accepts tasks."""
    if presence.status == "online" and presence.degraded:
        return Text("degraded", "yellow")
    return Text(presence.status, "green" if presence.status == "online" else "red")
