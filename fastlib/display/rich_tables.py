"""Build the tables of live views with rich."""

from collections.abc import Iterable, Sequence
from typing import TypeAlias

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from fastlib.message.node import Presence

Row: TypeAlias = Sequence[RenderableType]


def make_table(columns: Iterable[str], rows: Iterable[Row]) -> Table:
    """Return a table without borders whose cells are cut to the terminal's width."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in columns:
        table.add_column(column, no_wrap=True, overflow="ellipsis")
    for row in rows:
        table.add_row(*row)
    return table


def cut_rows(rows: Sequence[Row], limit: int) -> list[Row]:
    """Return at most `limit` rows; the last one says how many were cut."""
    if len(rows) <= limit:
        return list(rows)
    shown = max(0, limit - 1)
    return [*rows[:shown], (Text(f"... {len(rows) - shown} more", "dim"),)]


def status_text(presence: Presence) -> Text:
    """Return the status of a daemon, green if it is online and accepts tasks."""
    if presence.status == "online" and presence.degraded:
        return Text("degraded", "yellow")
    return Text(presence.status, "green" if presence.status == "online" else "red")
