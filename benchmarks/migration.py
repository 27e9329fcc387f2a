"""Measure migrations, swaps and evacuations beside virsh, in the laboratory.

Two hosts with a libvirtd and a migfra each, and a scheduler's client outside. All move the same
domains with the same flags, there and back, in turns in one run.
"""

import argparse
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .codec import OWN, Target
from .laboratory import Mover, NoLaboratoryError, fleet

if TYPE_CHECKING:
    from fastlib.client import Handle, MigfraClient
    from tests.support.lab.fleet import Fleet
    from tests.support.lab.guest import GuestOptions

PATIENCE = 300.0
"""Seconds until a migration fails."""
HOSTS = ("hostA", "hostB")

VIRSH = "virsh"
CALL = "libvirt's call"
LARGER = "the larger alone"
IN_A_ROW = "four in a row"
"""Who is measured beside fastlib and virsh. The bare call on an open connection is what neither can
be faster than; the others are migrations by fastlib, which a swap and an evacuation save time over.
"""

OVERHEAD = 1.10
"""What a migration by fastlib must stay below, as a multiple of virsh's."""
SWAP = 1.3
"""The most that a swap may take, as a multiple of one migration of the larger."""
EVACUATION = 2.0
"""How many times as fast as one after the other four have to be evacuated."""

SMALL: "GuestOptions" = {"memory": 96, "dirty": 4, "rate": 1}
LARGE: "GuestOptions" = {"memory": 384, "dirty": 128, "rate": 1}
"""Guests: MiB of memory, MiB of that they rewrite, and MiB a second that they do."""


Effort = Mapping[str, int]
"""How many rounds each part has; in a round each contender goes there and back."""
THOROUGH: Effort = {"one domain": 30, "swap": 10, "evacuation": 6}
QUICK: Effort = {"one domain": 1, "swap": 1, "evacuation": 1}

Way = Callable[[str, str], float]
"""Moves what is to be moved from a host to the other; gives the seconds that it took."""


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
        samples = self.seconds[part]
        return statistics.median(
            one / other for one, other in zip(samples[name], samples[base], strict=True)
        )

    def targets(self) -> list[Target]:
        """Return the targets; `met` is None if virsh shows that the machine cannot reach it."""
        overhead = self.ratio("one domain", OWN, VIRSH)
        swap = self.ratio("swap", OWN, LARGER)
        evacuation = self.ratio("evacuation", IN_A_ROW, OWN)
        possible = self.ratio("evacuation", IN_A_ROW, VIRSH)
        enough: bool | None = evacuation >= EVACUATION
        if not enough and possible < EVACUATION:
            enough = None
        return [
            Target(f"a migration takes less than {OVERHEAD:.2f}x virsh", overhead,
                   overhead < OVERHEAD),
            Target(f"a swap takes at most {SWAP}x one migration of the larger", swap,
                   swap <= SWAP),
            Target(f"four evacuated at least {EVACUATION:.0f}x as fast as four in a row",
                   evacuation, enough),
        ]  # fmt: skip


def run(effort: Effort, progress: Callable[[str], None] = lambda text: None) -> Outcome:
    """Measure everything, the contenders in turns, each first in some round.

    Raises NoLaboratoryError, and MissingExtraError if paho-mqtt is not installed.
    """
    outcome = Outcome()
    begin = os.getloadavg()[0]
    with ExitStack() as stack:
        progress("bringing up the laboratory")
        made = stack.enter_context(fleet())
        movers = {host.name: Mover(host, stack) for host in made.lab.hosts}
        for part, prepare in _PREPARE.items():
            progress(f"{part}: starting the domains")
            made.reset()
            ways = prepare(made, movers)
            if not outcome.seconds:
                _there_and_back(ways, list(ways))  # warms all up
            samples: dict[str, list[float]] = {name: [] for name in ways}
            for number in range(effort[part]):
                progress(f"{part}: round {number + 1} of {effort[part]}")
                for name, seconds in _there_and_back(ways, _order(list(ways), number)).items():
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


def _there_and_back(ways: Mapping[str, Way], order: list[str]) -> dict[str, list[float]]:
    return {name: [ways[name](*HOSTS), ways[name](*HOSTS[::-1])] for name in order}


def _medians(samples: Mapping[str, list[float]]) -> str:
    return ", ".join(f"{name} {statistics.median(each):.2f} s" for name, each in samples.items())


# --- what is measured ---------------------------------------------------------------------------


def _one_domain(made: "Fleet", movers: Mapping[str, Mover]) -> dict[str, Way]:
    made.run_guest(HOSTS[0], "vm1", **SMALL)
    return {
        OWN: _migrated(made.client, "vm1"),
        VIRSH: _moved(movers, "virsh", ["vm1"]),
        CALL: _moved(movers, "call", ["vm1"]),
    }


def _swap(made: "Fleet", movers: Mapping[str, Mover]) -> dict[str, Way]:
    """The smaller one is at the destination; it stays there while the larger is alone."""
    made.run_guest(HOSTS[0], "vm1", **LARGE)
    made.run_guest(HOSTS[1], "vm2", **SMALL)

    def by_virsh(source: str, destination: str) -> float:
        begin = time.perf_counter()
        movers[source].begin("virsh", destination, ["vm1"])
        movers[destination].begin("virsh", source, ["vm2"])
        movers[source].end()
        movers[destination].end()
        return time.perf_counter() - begin

    return {
        OWN: _migrated(made.client, "vm1", swap_with="vm2"),
        VIRSH: by_virsh,
        LARGER: _migrated(made.client, "vm1"),
    }


def _evacuation(made: "Fleet", movers: Mapping[str, Mover]) -> dict[str, Way]:
    names = ["vm1", "vm2", "vm3", "vm4"]
    made.run_guests(HOSTS[0], names, **SMALL)
    one_by_one = [_migrated(made.client, name) for name in names]

    def evacuated(source: str, destination: str) -> float:
        return _timed(
            lambda: made.client.evacuate(source, [destination], migration_type="live"), names
        )

    return {
        OWN: evacuated,
        VIRSH: _moved(movers, "virsh", names),
        IN_A_ROW: lambda source, destination: sum(way(source, destination) for way in one_by_one),
    }


_PREPARE = {"one domain": _one_domain, "swap": _swap, "evacuation": _evacuation}


def _migrated(client: "MigfraClient", name: str, **options: Any) -> Way:
    """Migrate by fastlib; return the seconds from the message to its result."""
    return lambda source, destination: _timed(
        lambda: client.migrate(name, source, destination, migration_type="live", **options), [name]
    )


def _timed(submit: Callable[[], "Handle[Any]"], names: list[str]) -> float:
    from fastlib import Result

    begin = time.perf_counter()
    answer = submit().result(PATIENCE)
    seconds = time.perf_counter() - begin
    results = [answer] if isinstance(answer, Result) else list(answer)
    if [(each.vm_name, each.status) for each in results] != [(name, "success") for name in names]:
        raise RuntimeError(f"not migrated: {results}")
    return seconds


def _moved(movers: Mapping[str, Mover], how: str, names: list[str]) -> Way:
    """Migrate without fastlib, all domains at once; return the seconds."""

    def move(source: str, destination: str) -> float:
        movers[source].begin(how, destination, names)
        return movers[source].end()

    return move


# --- what is printed ----------------------------------------------------------------------------

BASES = {"one domain": VIRSH, "swap": LARGER, "evacuation": IN_A_ROW}
"""What each part is compared with."""


def render(outcome: Outcome) -> str:
    """Return the outcome as a table for people."""
    lines = []
    for part, samples in outcome.seconds.items():
        head = f"{part + ', seconds':<22}{'median':>8}{'quartiles':>16}{'least':>8}{'ratio':>8}"
        lines += [head, "-" * len(head)]
        for name, seconds in samples.items():
            low, middle, high = statistics.quantiles(seconds, n=4, method="inclusive")
            lines.append(
                f"{name:<22}{middle:>8.2f}{f'{low:.2f} to {high:.2f}':>16}{min(seconds):>8.2f}"
                f"{outcome.ratio(part, name, BASES[part]):>8.2f}"
            )
        lines.append("")
    used = ", ".join(f"{name} {number}" for name, number in _versions().items())
    counts = ", ".join(f"{len(row[OWN])} of {part}" for part, row in outcome.seconds.items())
    lines += [
        f"samples of each contender: {counts}; half in each direction",
        f"{OWN} is a client's message to the daemon until its result, {VIRSH} the program from its",
        f"start to its end, {CALL} the bare migrateToURI3 on an open connection; of a swap and",
        f"an evacuation, {VIRSH} is one for each domain, all at once, and the last row {OWN}",
        "ratio: the median of the rounds' own ratios",
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
    options = parser.parse_args(arguments)
    try:
        outcome = run(QUICK if options.quick else THOROUGH, _show_progress)
    except (NoLaboratoryError, MissingExtraError) as error:
        print(f"{parser.prog}: error: {error}", file=sys.stderr)
        return 2
    print(to_json(outcome) if options.json else render(outcome))
    return 0


def _show_progress(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
