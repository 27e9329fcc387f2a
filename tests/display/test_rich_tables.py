"""Tables of live views in little room."""

import pytest
from rich.console import Console
from rich.text import Text

from fastlib.display.rich_tables import Column, FittedTable, Stacked

COLUMNS = [Column("host"), Column("result")]
ROWS = [(Text("node01"), Text("word " * 40)), (Text("node02"), Text("success"))]


def shown(table: FittedTable, width: int) -> list[str]:
    console = Console(width=width, color_system=None)
    with console.capture() as captured:
        console.print(table.render())
    return [line.rstrip() for line in captured.get().splitlines()]


@pytest.mark.parametrize("lines", [3, 4, 7])
def test_first_row_is_cut_if_it_is_higher_than_the_table(lines: int) -> None:
    """An error in a small terminal was hidden in favour of empty lines."""
    table = FittedTable(COLUMNS, ROWS, 30, lines)
    title, first, *more, left_out = shown(table, 30)
    assert title.split() == ["host", "result"]
    assert first.startswith("node01")
    assert [first, *more][-1].endswith("word…")
    assert left_out == "... 1 more"
    assert len(shown(table, 30)) == table.lines == lines


def test_row_that_fits_is_whole() -> None:
    table = FittedTable(COLUMNS, ROWS[:1], 30, 40)
    text = " ".join(shown(table, 30))
    assert text.count("word") == 40
    assert "…" not in text
    assert table.left_out == 0


def test_least_table_has_one_line_of_its_first_row() -> None:
    table = FittedTable(COLUMNS, ROWS, 30, 1)
    assert shown(table, 30)[1].endswith("…")
    assert table.left_out == 1


def test_id_below_a_text_is_whole_where_the_text_is_cut() -> None:
    columns = [Column("host"), Column("task and id", shrink_to=10)]
    id = "3f2504e0-4f89-11d3-9a0c-0305e82c3301"
    row = (Text("node01.cluster.example.org"), Stacked(Text("migrate vm of a customer"), Text(id)))
    table = FittedTable(columns, [row], 26, 20)
    lines = shown(table, 26)
    cells = [line.split()[-1] for line in lines[1:]]
    assert lines[1].endswith("…")
    assert "".join(cells[1:]) == id
    assert len(lines) == table.lines
