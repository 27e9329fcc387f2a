"""Measure migrations, also with disks and encrypted, swaps and evacuations beside virsh.

Two hosts with a libvirtd and a migfra each, and a scheduler's client outside. All move the same
domains with the same flags, there and back, in turns in one run.
"""

import argparse
import json
import os
import platform
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from .codec import OWN, Target
from .laboratory import Mover, NoLaboratoryError, fleet
from .migration_ways import (
    BASES,
    CALL,
    IN_A_ROW,
    LARGE,
    LARGER,
    PARTS,
    SMALL,
    VIRSH,
    Bench,
    there_and_back,
)

OVERHEAD = 1.10
"""What a migration by fastlib must stay below, as a multiple of virsh's; with a disk or encrypted,
it may reach it.
"""
SWAP = 1.3
"""The most that a swap may take, as a multiple of one migration of the larger."""
EVACUATION = 2.0
"""How many times as fast as one after the other four have to be evacuated."""

Effort = Mapping[str, int]
"""How many rounds each part has; in a round each contender goes there and back."""
THOROUGH: Effort = {"one domain": 30, "disk": 10, "encrypted": 10, "swap": 10, "evacuation": 6}
QUICK: Effort = dict.fromkeys(PARTS, 1)


@dataclass
class Outcome:
    """The seconds of one run, by part and contender.

    Samples at the same place are of the same round and direction.
    """

    seconds: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    load: tuple[float, float] = (0.0, 0.0)
    """Processes that wanted to run on the machine, at the begin and at the end."""

    def median(self, part: str, name: str) -> float:
        """Return the median of the samples."""
        return statistics.median(self.seconds[part][name])

    def ratio(self, part: str, name: str, base: str) -> float:
        """How many times as long as the base it takes: the median of what each round says.

        What else runs on the machine changes from round to round, but hardly within one.
        """
        return statistics.median(self._ratios(part, name, base))

    def middle_half(self, part: str, name: str, base: str) -> tuple[float, float]:
        """Return the quartiles of the ratios: half of the rounds are between them."""
        low, _, high = statistics.quantiles(self._ratios(part, name, base), method="inclusive")
        return low, high

    def _ratios(self, part: str, name: str, base: str) -> list[float]:
        samples = self.seconds[part]
        return [one / other for one, other in zip(samples[name], samples[base], strict=True)]

    def targets(self) -> list[Target]:
        """Return the targets of the measured parts.

        `met` is None if virsh shows that the machine cannot reach it.
        """
        return [find(self) for part, find in _TARGETS.items() if part in self.seconds]


def _one_domain(outcome: Outcome) -> Target:
    value = outcome.ratio("one domain", OWN, VIRSH)
    text = f"a migration takes less than {OVERHEAD:.2f}x virsh"
    return Target(text, value, value < OVERHEAD)


def _disk(outcome: Outcome) -> Target:
    value = outcome.ratio("disk", OWN, VIRSH)
    text = f"with its disk at most {OVERHEAD:.2f}x virsh --copy-storage-all"
    return Target(text, value, value <= OVERHEAD)


def _encrypted(outcome: Outcome) -> Target:
    value = outcome.ratio("encrypted", OWN, VIRSH)
    text = f"encrypted at most {OVERHEAD:.2f}x virsh --tls"
    return Target(text, value, value <= OVERHEAD)


def _swap(outcome: Outcome) -> Target:
    value = outcome.ratio("swap", OWN, LARGER)
    return Target(f"a swap takes at most {SWAP}x one migration of the larger", value, value <= SWAP)


def _evacuation(outcome: Outcome) -> Target:
    value = outcome.ratio("evacuation", IN_A_ROW, OWN)
    enough: bool | None = value >= EVACUATION
    if not enough and outcome.ratio("evacuation", IN_A_ROW, VIRSH) < EVACUATION:
        enough = None
    text = f"four evacuated at least {EVACUATION:.0f}x as fast as four in a row"
    return Target(text, value, enough)


_TARGETS: Mapping[str, Callable[[Outcome], Target]] = {
    "one domain": _one_domain,
    "disk": _disk,
    "encrypted": _encrypted,
    "swap": _swap,
    "evacuation": _evacuation,
}


def run(
    effort: Effort,
    progress: Callable[[str], None] = lambda text: None,
    parts: Sequence[str] = tuple(PARTS),
) -> Outcome:
    """Measure the parts, the contenders in turns, each first in some round.

    Raises NoLaboratoryError, and MissingExtraError if paho-mqtt is not installed.
    """
    outcome = Outcome()
    begin = os.getloadavg()[0]
    with ExitStack() as stack:
        progress("bringing up the laboratory")
        made = stack.enter_context(fleet())
        movers = {host.name: Mover(host, stack) for host in made.lab.hosts}
        for part in parts:
            progress(f"{part}: starting the domains")
            made.reset()
            with ExitStack() as of_part:
                ways = PARTS[part](Bench(made, movers, of_part))
                there_and_back(ways, ways)  # warms all up
                samples: dict[str, list[float]] = {name: [] for name in ways}
                for number in range(effort[part]):
                    progress(f"{part}: round {number + 1} of {effort[part]}")
                    for name, seconds in there_and_back(ways, _order(list(ways), number)).items():
                        samples[name] += seconds
            outcome.seconds[part] = samples
            progress(f"{part}: {_medians(samples)}")
    outcome.load = (begin, os.getloadavg()[0])
    return outcome


def _order(names: list[str], number: int) -> list[str]:
    """Return all permutations in turn: the order must not favour a contender."""
    first = number // 2 % len(names)
    turned = names[first:] + names[:first]
    return turned if number % 2 == 0 else turned[::-1]


def _medians(samples: Mapping[str, list[float]]) -> str:
    return ", ".join(f"{name} {statistics.median(each):.2f} s" for name, each in samples.items())


# --- what is printed ----------------------------------------------------------------------------


def render(outcome: Outcome) -> str:
    """Return the outcome as a table for people."""
    lines = []
    for part, samples in outcome.seconds.items():
        head = (
            f"{part + ', seconds':<24}{'median':>8}{'quartiles':>16}{'least':>8}{'ratio':>8}"
            f"{'middle half':>16}"
        )
        lines += [head, "-" * len(head)]
        for name, seconds in samples.items():
            low, middle, high = statistics.quantiles(seconds, n=4, method="inclusive")
            first, last = outcome.middle_half(part, name, BASES[part])
            lines.append(
                f"{name:<24}{middle:>8.2f}{f'{low:.2f} to {high:.2f}':>16}{min(seconds):>8.2f}"
                f"{outcome.ratio(part, name, BASES[part]):>8.2f}"
                f"{f'{first:.2f} to {last:.2f}':>16}"
            )
        lines.append("")
    used = ", ".join(f"{name} {number}" for name, number in _versions().items())
    counts = ", ".join(f"{len(row[OWN])} of {part}" for part, row in outcome.seconds.items())
    lines += [
        f"samples of each contender: {counts}; half in each direction",
        f"{OWN} is a client's message to the daemon until its result, {VIRSH} the program from its",
        f"start to its end, {CALL} the bare migrateToURI3 on an open connection; of a swap and",
        f"an evacuation, {VIRSH} is one for each domain, all at once, and the last row {OWN}",
        "ratio: the median of the rounds' own ratios, and the quartiles of these",
        f"live, peer to peer, tcp, QEMU by software; guests of {SMALL['memory']} MiB, the larger "
        f"{LARGE['memory']}",
        f"{os.cpu_count()} cores; load {outcome.load[0]:.1f} before, {outcome.load[1]:.1f} after",
        f"Python {platform.python_version()}; {used}",
        "",
    ]
    return "\n".join(lines + [f"target, {_verdict(outcome, each)}" for each in outcome.targets()])


def _verdict(outcome: Outcome, target: Target) -> str:
    text = f"{target.text}: {target.value:.2f}x - "
    if target.met is not None:
        return text + ("met" if target.met else "NOT met")
    possible = outcome.ratio("evacuation", IN_A_ROW, VIRSH)
    return text + f"not possible on this machine, four {VIRSH} at once reach {possible:.2f}x"


def _versions() -> dict[str, str]:
    """Return the versions; all hosts use the library of this machine."""
    import libvirt

    number = libvirt.getVersion()
    return {"libvirt": f"{number // 1_000_000}.{number // 1000 % 1000}.{number % 1000}"}


def to_json(outcome: Outcome) -> str:
    """Return the outcome for programs."""
    tree: dict[str, Any] = {
        "benchmark": "migration",
        "python": platform.python_version(),
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "load": list(outcome.load),
        "versions": _versions(),
        "seconds": {
            part: {
                name: {
                    "median": outcome.median(part, name),
                    "least": min(seconds),
                    "most": max(seconds),
                    "samples": len(seconds),
                }
                for name, seconds in samples.items()
            }
            for part, samples in outcome.seconds.items()
        },
        "ratio": {
            part: {name: outcome.ratio(part, name, BASES[part]) for name in samples}
            for part, samples in outcome.seconds.items()
        },
        "ratio-quartiles": {
            part: {name: outcome.middle_half(part, name, BASES[part]) for name in samples}
            for part, samples in outcome.seconds.items()
        },
        "targets": [target._asdict() for target in outcome.targets()],
    }
    return json.dumps(tree, indent=2)


def main(arguments: list[str]) -> int:
    """`python -m benchmarks migration`: exit status 2 if there is nothing to measure with."""
    from fastlib.extras import MissingExtraError

    parser = argparse.ArgumentParser(
        prog="python -m benchmarks migration", description=(__doc__ or "").split("\n", 1)[0]
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--quick", action="store_true", help="a minute or two, less exact")
    parser.add_argument(
        "--only",
        metavar="PART,…",
        type=_parts,
        default=list(PARTS),
        help=f"only these parts, of {', '.join(PARTS)}",
    )
    options = parser.parse_args(arguments)
    try:
        outcome = run(QUICK if options.quick else THOROUGH, _show_progress, options.only)
    except (NoLaboratoryError, MissingExtraError) as error:
        print(f"{parser.prog}: error: {error}", file=sys.stderr)
        return 2
    print(to_json(outcome) if options.json else render(outcome))
    return 0


def _parts(text: str) -> list[str]:
    parts = text.split(",")
    if unknown := [part for part in parts if part not in PARTS]:
        raise argparse.ArgumentTypeError(f"no such part: {', '.join(unknown)}")
    return parts


def _show_progress(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
