"""Show hosts: a row for each host, or one host with its domains and tasks."""

import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Final

from fastlib.display.text import age, byte_size, columns, offline_since, plural, printable
from fastlib.message.node import NodeReport, Presence

from .hardware_table import cpu_line, huge_pages_line, numa_rows, pool_rows
from .terminal import painter, width_of

UNKNOWN: Final = "-"
"""The text in a table for an unknown value."""
_INDENT: Final = 2
"""Blanks before each row of a table below a title."""
_STYLES: Final = {"online": "mark", "offline": "error", "degraded": "warning", "silent": "error"}
_COLUMNS: Final = (
    "host", "daemon", "hypervisor", "version", "CPUs", "memory", "free", "domains", "tasks",
)  # fmt: skip


def host_row(host: str, presence: Presence | None, report: NodeReport | None) -> list[str]:
    """Return the cells of one host. `report` is None if its daemon has not answered."""
    hypervisor = version = None
    if presence is not None:
        hypervisor, version = presence.hypervisor, presence.version
    if report is None:
        answered: list[str] = [UNKNOWN] * 5
    else:
        hypervisor = report.hypervisor
        answered = [
            UNKNOWN if report.cpus is None else str(report.cpus),
            _memory(report.memory),
            _memory(report.free_memory),
            _states(report),
            str(len(report.tasks)) if report.tasks else "none",
        ]
    return [host, _status(presence, report), hypervisor or UNKNOWN, version or UNKNOWN, *answered]


def print_hosts(rows: Sequence[Sequence[str]]) -> None:
    """Print a table of hosts to standard output."""
    for line in _table(_COLUMNS, rows):
        print(line)


def print_report(report: NodeReport, now: datetime) -> None:
    """Print the resources of one host, its domains and its tasks to standard output."""
    paint = painter(sys.stdout)
    facts = [report.hypervisor]
    if report.cpus is not None:
        facts.append(plural(report.cpus, "CPU"))
    if report.memory is not None:
        facts.append(f"{_memory(report.memory)} of memory")
    if report.free_memory is not None:
        facts.append(f"{_memory(report.free_memory)} free")
    print(f"{paint(printable(report.host), 'bold')}: {printable(', '.join(facts))}")
    if report.versions:
        versions = ", ".join(f"{name} {version}" for name, version in report.versions.items())
        print(printable(f"versions: {versions}"))
    for line in (cpu_line(report), huge_pages_line(report)):
        if line is not None:
            print(line)
    if report.capabilities:
        print("capabilities: see --format yaml")
    width = width_of(sys.stdout) - _INDENT
    if report.numa_nodes is not None:
        _print_section("NUMA nodes", *numa_rows(report.numa_nodes, width))
    if report.storage_pools is not None:
        _print_section("storage pools", *pool_rows(report.storage_pools, width))
    _print_section(
        "domains",
        ("name", "state", "vCPUs", "memory", "saved image"),
        [
            (
                domain.name,
                domain.state,
                UNKNOWN if domain.vcpus is None else str(domain.vcpus),
                _memory(domain.memory),
                {True: "yes", False: "no", None: UNKNOWN}[domain.managed_save],
            )
            for domain in report.domains
        ],
    )
    _print_section(
        "running and queued tasks",
        ("id", "task", "VM", "state", "for"),
        [
            (
                task.id or UNKNOWN,
                task.task,
                task.vm_name or UNKNOWN,
                task.state,
                UNKNOWN if task.since is None else age(now.timestamp() - task.since),
            )
            for task in report.tasks
        ],
    )
    if report.unsettled:
        _print_section(
            "unsettled migrations",
            ("VM", "source", "destination", "for"),
            [
                (
                    each.vm_name,
                    each.source,
                    each.destination,
                    UNKNOWN if each.since is None else age(now.timestamp() - each.since),
                )
                for each in report.unsettled
            ],
        )


def _print_section(title: str, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    if not rows:
        print(f"{title}: none")
        return
    print(f"{title}:")
    for line in _table(heads, rows):
        print(f"{' ' * _INDENT}{line}")


def _memory(kibibytes: int | None) -> str:
    return UNKNOWN if kibibytes is None else byte_size(kibibytes * 1024)


def _states(report: NodeReport) -> str:
    """Return for example `2 running, 1 shut off`."""
    states = Counter(domain.state for domain in report.domains)
    return ", ".join(f"{number} {state}" for state, number in states.most_common()) or "none"


def _status(presence: Presence | None, report: NodeReport | None) -> str:
    if presence is not None and presence.status == "offline":
        return offline_since(presence.time)
    degraded = (presence and presence.degraded) or (report and report.degraded)
    if report is None:
        return "silent"
    return "degraded" if degraded else "online"


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """Yield the lines of a table whose columns are aligned."""
    paint = painter(sys.stdout)
    cells = [[printable(cell) for cell in row] for row in rows]
    widths = [max(map(columns, column)) for column in zip(heads, *cells, strict=True)]
    yield paint(_line(heads, widths), "bold")
    for row in cells:
        line = _line(row, widths)
        style = _STYLES.get(row[1].partition(" ")[0]) if heads is _COLUMNS else None
        if style is not None:
            before = columns(_line(row[:1], widths[:1], last=False))
            line = f"{line[:before]}{paint(row[1], style)}{line[before + len(row[1]) :]}"
        yield line


def _line(cells: Sequence[str], widths: Sequence[int], *, last: bool = True) -> str:
    padded = [
        f"{cell}{' ' * (width - columns(cell))}" for cell, width in zip(cells, widths, strict=True)
    ]
    return "  ".join(padded).rstrip() if last else f"{'  '.join(padded)}  "
