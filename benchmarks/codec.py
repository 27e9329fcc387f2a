"""Load and emit eight messages by fastlib and by its peers, side by side on the same bytes.

Each contender makes typed objects of the text, and text of its own typed objects. Before anything
is timed, what each one loads and emits is compared with the message.
"""

import argparse
import json
import math
import platform
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Literal, NamedTuple

from fastlib import TaskContainer
from fastlib.codec import is_compiled

from .contenders import Contender, Kind, Missing, find_contenders
from .messages import MESSAGES, Measured
from .timing import QUICK, THOROUGH, Case, Effort, measure

Direction = Literal["load", "emit"]
DIRECTIONS: tuple[Direction, ...] = ("load", "emit")

OWN = "fastlib"
PEER = "PyYAML+msgspec"
CEILING = "rapidyaml"


class Wrong(NamedTuple):
    """A contender whose result is not the message; it is not timed."""

    name: str
    message: str
    direction: Direction
    reason: str


class Target(NamedTuple):
    """A figure that fastlib must reach."""

    text: str
    value: float | None
    """The figure that was measured; None if a contender is missing."""
    met: bool | None


@dataclass
class Outcome:
    """The measurements of one run."""

    sizes: dict[str, int] = field(default_factory=dict)
    """Bytes of each message's text."""
    cases: dict[Direction, dict[str, dict[str, Case]]] = field(
        default_factory=lambda: {direction: {} for direction in DIRECTIONS}
    )
    """What was timed: by direction, message and contender."""
    contenders: list[Contender] = field(default_factory=list)
    missing: list[Missing] = field(default_factory=list)
    wrong: list[Wrong] = field(default_factory=list)

    def ratios(self, direction: Direction, name: str, to: str = OWN) -> list[float]:
        """Return the times of a contender divided by those of `to`, for each message of both."""
        rows = self.cases[direction].values()
        return [row[name].best / row[to].best for row in rows if name in row and to in row]

    def seconds(self, direction: Direction, name: str) -> list[float]:
        return [row[name].best for row in self.cases[direction].values() if name in row]

    def targets(self) -> list[Target]:
        """Return the targets with the measured figures."""
        load, emit = self.ratios("load", PEER), self.ratios("emit", PEER)
        native = self.ratios("load", CEILING)
        farthest, behind = min(
            (
                (row[CEILING].best / row[OWN].best, message)
                for message, row in self.cases["load"].items()
                if CEILING in row and OWN in row
            ),
            default=(None, ""),
        )
        slowest, where = min(
            (
                (row[PEER].best / row[OWN].best, f"{direction} {message}")
                for direction in DIRECTIONS
                for message, row in self.cases[direction].items()
                if PEER in row and OWN in row
            ),
            default=(None, ""),
        )
        return [
            _target(f"load: at least 9 times faster than {PEER}", mean(load), least=9),
            _target(f"load: at least as fast as {CEILING} with msgspec", mean(native), least=1),
            _target(
                f"load: no message below 0.7 of {CEILING}'s speed"
                + (f"; the worst is {behind}" if behind else ""),
                farthest,
                least=0.7,
            ),
            _target(f"emit: at least 20 times faster than {PEER}", mean(emit), least=20),
            _target(
                f"no message slower than {PEER}" + (f"; the worst is {where}" if where else ""),
                slowest,
                least=1,
            ),
        ]


def _target(text: str, value: float | None, *, least: float) -> Target:
    return Target(text, value, None if value is None else value >= least)


def build() -> str:
    """Return which fast reader fastlib has."""
    return "compiled" if is_compiled() else "pure Python"


def mean(values: Iterable[float]) -> float | None:
    """Return the geometric mean; None without values."""
    logarithms = [math.log(value) for value in values]
    return math.exp(math.fsum(logarithms) / len(logarithms)) if logarithms else None


def run(
    messages: Mapping[str, Callable[[], Measured]],
    effort: Effort,
    progress: Callable[[str], None] = lambda text: None,
) -> Outcome:
    """Compare every installed contender on these messages."""
    found, missing = find_contenders()
    outcome = Outcome(contenders=found, missing=missing)
    for name, build in messages.items():
        progress(name)
        message = build()
        text = message.to_yaml().encode()
        kind: Kind = "task" if isinstance(message, TaskContainer) else "result"
        loads: list[Case] = []
        emits: list[Case] = []
        for contender in found:
            try:
                load = contender.load[kind]
                loaded = check_load(contender, load, text, message)
            except Exception as error:
                outcome.wrong.append(Wrong(contender.name, name, "load", _short(error)))
                continue
            loads.append(Case(contender.name, load, text))
            if contender.emit is None:
                continue
            try:
                check_emit(contender.emit(loaded), message)
            except Exception as error:
                outcome.wrong.append(Wrong(contender.name, name, "emit", _short(error)))
                continue
            emits.append(Case(contender.name, contender.emit, loaded))
        outcome.sizes[name] = len(text)
        cases: dict[Direction, list[Case]] = {"load": loads, "emit": emits}
        for direction in DIRECTIONS:
            measure(cases[direction], effort)
            outcome.cases[direction][name] = {case.name: case for case in cases[direction]}
    return outcome


def check_load(
    contender: Contender, load: Callable[[bytes], Any], text: bytes, message: Measured
) -> Any:
    """Return what a contender loads. Raises ValueError unless it is typed and has the message."""
    loaded = load(text)
    if isinstance(loaded, dict):
        raise ValueError("the result is a plain dict")
    if contender.plain(loaded) != message.emit():
        raise ValueError("the result's content is not the message's")
    return loaded


def check_emit(text: str, message: Measured) -> None:
    """Raise ValueError or a fastlib error unless a contender's text has the message."""
    if type(message).from_yaml(text) != message:
        raise ValueError("the text says another message")


def _short(error: Exception) -> str:
    line = " ".join(str(error).split())
    return f"{type(error).__name__}: {line[:200]}"


# --- what is printed ----------------------------------------------------------------------------


def render(outcome: Outcome) -> str:
    """Return the outcome as tables for people."""
    lines: list[str] = []
    for direction in DIRECTIONS:
        lines += _tables(outcome, direction)
    lines += _legend(outcome)
    lines += [f"missing: {m.name} ({m.reason}); {m.install}" for m in outcome.missing]
    lines += [f"WRONG: {w.name}, {w.direction} {w.message}: {w.reason}" for w in outcome.wrong]
    lines.append(f"targets, in the geometric mean over {len(outcome.sizes)} of 8 messages:")
    for target in outcome.targets():
        verdict = {True: "met", False: "NOT met", None: "not measured"}[target.met]
        figure = "" if target.value is None else f" {target.value:.2f}x"
        lines.append(f"  {target.text}:{figure} - {verdict}")
    return "\n".join(lines)


def _tables(outcome: Outcome, direction: Direction) -> list[str]:
    rows = outcome.cases[direction]
    names = [c.name for c in outcome.contenders if direction == "load" or c.emit is not None]
    times = [
        [message, f"{outcome.sizes[message]:,}", *(_time(row.get(name)) for name in names)]
        for message, row in rows.items()
    ]
    times.append(
        ["geometric mean", "", *(_micros(mean(outcome.seconds(direction, n))) for n in names)]
    )
    ratios = [
        [message, "", *(_ratio(row.get(name), row.get(OWN)) for name in names)]
        for message, row in rows.items()
    ]
    ratios.append(
        ["geometric mean", "", *(_times(mean(outcome.ratios(direction, n))) for n in names)]
    )
    return [
        *_table([f"{direction}, µs", "bytes", *names], times),
        "",
        *_table([f"{direction}, times {OWN}", "", *names], ratios),
        "",
    ]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return aligned columns, the first to the left and the others to the right."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    widths[0] = max(widths[0], 19)
    widths[1] = max(widths[1], 7)

    def line(cells: Sequence[str]) -> str:
        first, *others = cells
        aligned = [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
        return "  ".join([first.ljust(widths[0]), *aligned]).rstrip()

    rule = "-" * len(line(head))
    return [line(head), rule, *(line(row) for row in rows[:-1]), rule, line(rows[-1])]


def _micros(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    micros = seconds * 1e6
    return f"{micros:,.0f}" if micros >= 1000 else f"{micros:.1f}"


def _time(case: Case | None) -> str:
    return _micros(case.best if case else None)


def _times(ratio: float | None) -> str:
    return "-" if ratio is None else f"{ratio:.2f}"


def _ratio(case: Case | None, own: Case | None) -> str:
    return _times(case.best / own.best if case and own else None)


def _legend(outcome: Outcome) -> list[str]:
    width = max(len(contender.name) for contender in outcome.contenders)
    lines = [f"{contender.name:<{width}}  {contender.how}" for contender in outcome.contenders]
    packages = ", ".join(f"{name} {number}" for name, number in _versions(outcome).items())
    lines.append(f"Python {platform.python_version()}; {packages}")
    lines.append(f"the fast reader of fastlib: {build()}")
    lines.append("the best of interleaved rounds, for each contender the same bytes")
    lines.append("")
    return lines


def _versions(outcome: Outcome) -> dict[str, str]:
    names = {package for contender in outcome.contenders for package in contender.packages}
    return {name: _version(name) for name in sorted(names, key=str.lower)}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:  # fastlib run from its folder
        return "not installed"


def to_json(outcome: Outcome) -> str:
    """Return the outcome for programs."""
    tree: dict[str, Any] = {
        "benchmark": "codec",
        "build": build(),
        "python": platform.python_version(),
        "machine": platform.machine(),
        "versions": _versions(outcome),
        "contenders": {contender.name: contender.how for contender in outcome.contenders},
        "missing": [m._asdict() for m in outcome.missing],
        "wrong": [w._asdict() for w in outcome.wrong],
        "bytes": outcome.sizes,
        "targets": [t._asdict() for t in outcome.targets()],
    }
    for direction in DIRECTIONS:
        names = [c.name for c in outcome.contenders if outcome.seconds(direction, c.name)]
        tree[direction] = {
            "messages": {
                message: {name: _case_tree(case) for name, case in row.items()}
                for message, row in outcome.cases[direction].items()
            },
            "geometric-mean-us": {
                name: (mean(outcome.seconds(direction, name)) or 0.0) * 1e6 for name in names
            },
            "geometric-mean-ratio": {name: mean(outcome.ratios(direction, name)) for name in names},
        }
    return json.dumps(tree, indent=2)


def _case_tree(case: Case) -> dict[str, float]:
    return {
        "best-us": case.best * 1e6,
        "median-us": case.median * 1e6,
        "rounds": len(case.samples),
        "loops": case.loops,
    }


def main(arguments: list[str]) -> int:
    """`python -m benchmarks codec`: exit status 1 if a contender's result is wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks codec", description=(__doc__ or "").split("\n", 1)[0]
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    parser.add_argument(
        "--no-compile",
        action="store_true",
        help="measure fastlib as it is imported; else its fast reader is compiled before, where "
        "mypy and a C compiler are installed",
    )
    parser.add_argument("--quick", action="store_true", help="about 20 seconds, less exact")
    parser.add_argument(
        "--only",
        metavar="NAME,…",
        type=_names,
        default=list(MESSAGES),
        help=f"only these messages, of {', '.join(MESSAGES)}",
    )
    options = parser.parse_args(arguments)
    outcome = run(
        {name: MESSAGES[name] for name in options.only},
        QUICK if options.quick else THOROUGH,
        _show_progress if sys.stderr.isatty() else lambda text: None,
    )
    print(to_json(outcome) if options.json else render(outcome))
    return 1 if outcome.wrong else 0


def _names(text: str) -> list[str]:
    names = text.split(",")
    unknown = [name for name in names if name not in MESSAGES]
    if unknown:
        raise argparse.ArgumentTypeError(f"no message {unknown[0]!r}; {', '.join(MESSAGES)}")
    return names


def _show_progress(name: str) -> None:
    print(f"measuring {name}", file=sys.stderr)
