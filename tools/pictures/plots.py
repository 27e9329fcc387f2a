"""Plots of the figures in the tables of docs/explanation/: there is one place for each figure."""

import io
import re
from typing import Any, Final, NamedTuple

from tools.processes import ROOT, require

_PAGES: Final = ROOT / "docs" / "explanation"


class Plot(NamedTuple):
    """Bars for the rows of a table."""

    page: str
    head: str
    """The first cells of the table's head."""
    title: str
    label: str
    """What the axis shows, with its unit."""
    columns: dict[int, str]
    """Columns that are shown, and what each is called."""
    rows: str = ""
    """The name of the rows' column for people."""

    def table(self) -> list[list[str]]:
        """Return the rows of the table, without its head."""
        text = (_PAGES / self.page).read_text("utf-8")
        _, found, rest = text.partition(f"\n| {self.head}")
        if not found:
            raise ValueError(f"{self.page} has no table that begins with: {self.head}")
        lines = rest.split("\n")[2:]
        rows = []
        for line in lines:
            if not line.startswith("|"):
                break
            rows.append([cell.strip() for cell in line.strip("|").split("|")])
        return rows

    def values(self) -> dict[str, list[float]]:
        """Return the values of each row by its name, without rows that lack a number."""
        found = {}
        for row in self.table():
            cells = [re.match(r"[\d,.]+", row[column]) for column in self.columns]
            if all(cells):
                found[row[0]] = [float(cell[0].replace(",", "")) for cell in cells if cell]
        return found

    def source(self) -> str:
        """Return the text on which the plot depends."""
        return repr((self.title, self.label, self.columns, self.rows, self.values()))


PLOTS: Final = {
    "speed-of-loading": Plot(
        "performance.md",
        "message | bytes | load, µs |",
        "Loading a message, compared with the compiled fast reader",
        "times as long as fastlib, compiled",
        {3: "fastlib, pure Python", 4: "PyYAML (C) + msgspec", 5: "rapidyaml + msgspec"},
    ),
    "orders-by-hosts": Plot(
        "scale.md",
        "hosts | orders/s |",
        "CPU of one order, by the size of the cluster",
        "ms of CPU for each order",
        {5: "broker", 6: "scheduler", 7: "daemon"},
        "hosts",
    ),
}


def draw(plot: Plot) -> str:
    """Return a plot as SVG, the same bytes for the same figures."""
    require("matplotlib")
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    values = plot.values()
    names = list(plot.columns.values())
    settings: Any = {
        "svg.hashsalt": "fastlib",
        "svg.fonttype": "none",
        "font.family": "sans-serif",
        "font.size": 9,
    }
    with rc_context(settings):
        figure = Figure(
            figsize=(8, 1.2 + 0.2 * len(values) * (len(names) + 1)), layout="constrained"
        )
        axes = figure.subplots()
        for group, (row, bars) in enumerate(values.items()):
            for number, bar in enumerate(bars):
                place = group * (len(names) + 1) + number
                axes.barh(place, bar, height=0.9, color=f"C{number}")
                axes.text(bar, place, f" {bar:g}", va="center", fontsize=8)
            middle = group * (len(names) + 1) + (len(names) - 1) / 2
            axes.text(0, middle, f"{row} {plot.rows}".strip() + "  ", ha="right", va="center")
        for number, name in enumerate(names):
            axes.barh(0, 0, color=f"C{number}", label=name)
        axes.set_yticks([])
        axes.invert_yaxis()
        axes.margins(x=0.12)
        axes.set_xlabel(plot.label)
        axes.set_title(plot.title)
        figure.legend(loc="outside lower center", ncols=len(names), frameon=False)
        axes.spines[["top", "right", "left"]].set_visible(False)
        file = io.StringIO()
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    return re.sub(r"<!DOCTYPE.*?>\n", "", file.getvalue(), flags=re.DOTALL)
