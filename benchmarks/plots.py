"""Draw what a benchmark has measured: `python -m benchmarks NAME --plot FILE`.

The figures come from the JSON of a benchmark, so a stored outcome can be drawn as well.
"""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from fastlib.extras import install_command

Outcome = Mapping[str, Any]


class MissingMatplotlibError(Exception):
    """matplotlib is not installed; the text has the remedy."""


class Panel(NamedTuple):
    """One part of a plot: bars of one unit."""

    title: str
    unit: str
    bars: Mapping[str, Mapping[str, float]]
    """For each group, such as a message, the value of each contender."""
    logarithmic: bool = False


def check_matplotlib() -> None:
    """Raise MissingMatplotlibError if plots cannot be drawn."""
    try:
        import matplotlib  # noqa: F401 - whether it is there
    except ModuleNotFoundError:
        raise MissingMatplotlibError(f"plots need matplotlib: {install_command('bench')}") from None


def panels(outcome: Outcome) -> list[Panel]:
    """Return the parts of the plot of an outcome. Raises ValueError for an unknown benchmark."""
    make = _PANELS.get(outcome.get("benchmark", ""))
    if make is None:
        raise ValueError(f"no plot of {outcome.get('benchmark')!r}; of {', '.join(_PANELS)}")
    return list(make(outcome))


def draw(outcome: Outcome, file: Path) -> None:
    """Draw an outcome. The ending of the file's name is the format, such as png, svg or pdf.

    Raises ValueError for another ending, and OSError for a file that cannot be written.
    """
    from matplotlib.figure import Figure

    parts = panels(outcome)
    sizes = [max(3, sum(len(row) + 1 for row in part.bars.values())) for part in parts]
    figure = Figure(figsize=(9, 1.2 + 0.24 * sum(sizes)), layout="constrained")
    axes = figure.subplots(len(parts), 1, squeeze=False, gridspec_kw={"height_ratios": sizes})
    for part, (ax,) in zip(parts, axes, strict=True):
        _draw_panel(part, ax)
    about = [outcome["benchmark"], f"Python {outcome['python']}"] if "python" in outcome else []
    figure.suptitle(", ".join(about or [outcome["benchmark"]]))
    figure.savefig(file, format=file.suffix.removeprefix(".") or None)


def _draw_panel(part: Panel, ax: Any) -> None:
    names = list(dict.fromkeys(name for row in part.bars.values() for name in row))
    place, ticks, labels = 0, [], []
    for group, row in part.bars.items():
        begin = place
        for name, value in row.items():
            color = f"C{names.index(name)}"
            ax.barh(place, value, color=color, label=name, height=0.9)
            ax.annotate(f" {value:,.4g}", (value, place), va="center", fontsize=7)
            place += 1
        ticks.append((begin + place - 1) / 2)
        labels.append(group)
        place += 1
    ax.set_yticks(ticks, labels)
    ax.invert_yaxis()
    ax.margins(x=0.12)
    if part.logarithmic:
        ax.set_xscale("log")
    ax.set_xlabel(part.unit)
    ax.set_title(part.title, fontsize=10)
    handles, shown = ax.get_legend_handles_labels()
    known = dict(zip(shown, handles, strict=True))
    ax.legend(known.values(), known.keys(), fontsize=7)


# --- what each benchmark measures -----------------------------------------------------------------


def _codec(outcome: Outcome) -> Iterable[Panel]:
    for direction in ("load", "emit"):
        rows = outcome[direction]["messages"]
        bars = {message: _each(row, "best-us") for message, row in rows.items()}
        yield Panel(f"{direction}, best round", "µs", bars, logarithmic=True)


def _memory(outcome: Outcome) -> Iterable[Panel]:
    yield Panel("peak of loading", "bytes", {outcome["message"]: outcome["peak-bytes"]})


def _transport(outcome: Outcome) -> Iterable[Panel]:
    rates = {case: _each(row, "best") for case, row in outcome["messages-per-second"].items()}
    yield Panel("throughput, best round", "messages per second", rates)
    trips = {case: _each(row, "median") for case, row in outcome["round-trip-ms"].items()}
    yield Panel("round trip, median", "ms", trips, logarithmic=True)


def _daemon(outcome: Outcome) -> Iterable[Panel]:
    yield Panel(
        "throughput, median", "tasks per second",
        {"tasks": _each(outcome["tasks-per-second"], "median")},
    )  # fmt: skip
    latencies = outcome["latency-ms"]
    bars = {kind: _each(latencies, kind) for kind in ("median", "p99")}
    yield Panel("one by one", "ms", bars)


def _migration(outcome: Outcome) -> Iterable[Panel]:
    bars = {part: _each(row, "median") for part, row in outcome["seconds"].items()}
    yield Panel("from the request to its result, median", "s", bars)


def _start(outcome: Outcome) -> Iterable[Panel]:
    bars = {kind: _each(row, "best") for kind, row in outcome["milliseconds"].items()}
    yield Panel("whole processes, best round", "ms", bars)


def _scale(outcome: Outcome) -> Iterable[Panel]:
    clusters = {f"{one['hosts']} hosts": one for one in outcome["clusters"]}
    parts = ("broker", "scheduler", "daemons")
    yield Panel(
        "CPU of an order", "ms",
        {name: {part: one[part]["cpu_order"] * 1e3 for part in parts}
         for name, one in clusters.items()},
    )  # fmt: skip
    yield Panel(
        "one by one", "ms",
        {name: {kind: one[kind] * 1e3 for kind in ("median", "p99")}
         for name, one in clusters.items()},
    )  # fmt: skip
    yield Panel(
        "memory", "MiB",
        {name: {part: one[part]["memory"] / 2**20 for part in parts}
         for name, one in clusters.items()},
        logarithmic=True,
    )  # fmt: skip


def _each(row: Mapping[str, Mapping[str, float]], figure: str) -> dict[str, float]:
    return {name: figures[figure] for name, figures in row.items()}


_PANELS: dict[str, Callable[[Outcome], Iterable[Panel]]] = {
    "codec": _codec,
    "memory": _memory,
    "transport": _transport,
    "daemon": _daemon,
    "migration": _migration,
    "start": _start,
    "scale": _scale,
}
