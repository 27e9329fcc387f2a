"""Run one benchmark: `python -m benchmarks NAME …`. Each benchmark is a module."""

import contextlib
import importlib
import io
import json
import sys
from pathlib import Path

from .plots import MissingMatplotlibError, check_matplotlib, draw

BENCHMARKS = {
    "codec": "load and emit eight messages, beside the YAML libraries of Python",
    "memory": "peak memory of loading ten thousand results",
    "start": "'fastlib validate' as a whole process, beside a bare import of its libraries",
    "transport": "messages per second and round trips through mosquitto, beside bare paho-mqtt",
    "daemon": "tasks per second and latency of one migfra, beside a loop that only answers",
    "scale": "orders to 10, 100 and 1,000 daemons over one broker, and where one broker ends",
    "migration": "migrate, swap and evacuate between two libvirt hosts, beside virsh; as root",
}
"""The name of each benchmark, which is its module with a `main(arguments) -> exit status`."""

PLOT = "--plot"


def main(arguments: list[str]) -> int:
    """Run the benchmark that the first argument names, and return its exit status."""
    if arguments and arguments[0] in BENCHMARKS:
        name, *rest = arguments
        return _plotted(name, rest) if PLOT in rest else _run(name, rest)
    asked_for_help = arguments[:1] in ([], ["-h"], ["--help"])
    out = sys.stdout if asked_for_help else sys.stderr
    if not asked_for_help:
        print(f"there is no benchmark {arguments[0]!r}", file=out)
    print("usage: python -m benchmarks NAME [OPTION…]; NAME --help tells the options\n", file=out)
    for name, subject in BENCHMARKS.items():
        print(f"  {name:<10}{subject}", file=out)
    print(f"\n{PLOT} FILE draws the figures as png, svg or pdf, and prints them as JSON.", file=out)
    return 0 if asked_for_help else 2


def _run(name: str, arguments: list[str]) -> int:
    module = importlib.import_module(f"{__package__}.{name}")
    status: int = module.main(arguments)
    return status


def _plotted(name: str, arguments: list[str]) -> int:
    """Run a benchmark, print its outcome as JSON, and draw it."""
    at = arguments.index(PLOT)
    prefix = f"python -m benchmarks {name}: error:"
    if at + 1 == len(arguments):
        print(f"{prefix} {PLOT} needs the name of a file", file=sys.stderr)
        return 2
    file = Path(arguments[at + 1])
    try:
        check_matplotlib()  # before the measurement, which may take minutes
    except MissingMatplotlibError as error:
        print(f"{prefix} {error}", file=sys.stderr)
        return 2
    rest = [*arguments[:at], *arguments[at + 2 :]]
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        status = _run(name, rest if "--json" in rest else [*rest, "--json"])
    print(printed.getvalue(), end="")
    if not printed.getvalue():  # there was nothing to measure with
        return status
    try:
        draw(json.loads(printed.getvalue()), file)
    except (OSError, ValueError) as error:  # ValueError: a format that matplotlib does not know
        print(f"{prefix} {file}: {error}", file=sys.stderr)
        return 2
    return status


if __name__ == "__main__":
    if sys.argv[1:2] == ["codec"] and not {"--no-compile", "--help", "-h"} & {*sys.argv}:
        from .builds import start_compiled

        start_compiled(sys.argv[1:])
    sys.exit(main(sys.argv[1:]))
