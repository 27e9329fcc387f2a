"""Messages per second and round trips through a mosquitto on loopback, beside bare paho-mqtt.

Both send the same bytes with the same window, in one run and in turns. Bare paho is a program of
two clients with `loop_start`, callbacks that count, and no reading of what they are sent.
"""

import argparse
import json
import platform
import statistics
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any, NamedTuple

from fastlib.extras import install_command

from .codec import OWN, Target
from .messages import MESSAGES
from .mosquitto import MissingBrokerError, mosquitto
from .mosquitto import version as mosquitto_version

PEER = "bare paho"
MESSAGE = "stop-2"
LEAST = 0.8
"""What fastlib has to reach of bare paho's messages per second."""

AT_ONCE = 1000


class Effort(NamedTuple):
    """The number of messages of a measurement."""

    rounds: int
    messages: int
    """Of each sample of messages per second."""
    trips: int
    """One by one, of each sample."""


THOROUGH = Effort(rounds=7, messages=10_000, trips=1000)
QUICK = Effort(rounds=2, messages=500, trips=50)

THROUGHPUT = {
    "confirmed, QoS 1": ("publish", 1),
    "confirmed, QoS 2": ("publish", 2),
    "received, QoS 1": ("stream", 1),
    "received, QoS 2": ("stream", 2),
}
"""Until the broker has confirmed each, or until another client has received them all."""


@dataclass
class Outcome:
    """The measurements of one run, by case and contender."""

    size: int = 0
    """Bytes of the message."""
    rates: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    """Messages per second, one entry a round."""
    trips: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    """Seconds of each round trip, of all rounds."""

    def rate(self, case: str, name: str) -> float:
        """Return the messages per second of the best round."""
        return max(self.rates[case][name])

    def ratio(self, case: str) -> float:
        """Return fastlib's messages per second divided by bare paho's."""
        return self.rate(case, OWN) / self.rate(case, PEER)

    def median(self, case: str, name: str) -> float:
        """Return the median of the round trips in seconds."""
        return statistics.median(self.trips[case][name])

    def slow(self, case: str, name: str) -> float:
        """Return the 99th percentile of the round trips in seconds."""
        return statistics.quantiles(self.trips[case][name], n=100, method="inclusive")[98]

    def targets(self) -> list[Target]:
        """Return the target with the lowest ratio of all cases."""
        worst = min(self.rates, key=self.ratio)
        text = f"at least {LEAST} of {PEER}'s messages per second; the worst is {worst}"
        return [Target(text, self.ratio(worst), self.ratio(worst) >= LEAST)]


def run(effort: Effort, progress: Callable[[str], None] = lambda text: None) -> Outcome:
    """Measure everything, the contenders in turns, each first in every other round.

    Raises MissingBrokerError, and ModuleNotFoundError if paho-mqtt is not installed.
    """
    from .callers import CALLERS
    from .pairs import PAIRS

    payload = MESSAGES[MESSAGE]().to_yaml().encode()
    outcome = Outcome(size=len(payload))
    with mosquitto() as port:
        pairs = {name: make(port) for name, make in PAIRS.items()}
        for case, (what, qos) in THROUGHPUT.items():
            progress(case)
            rates: dict[str, list[float]] = {name: [] for name in pairs}
            for name in _turns(pairs, effort.rounds):
                seconds = getattr(pairs[name], what)(payload, effort.messages, qos)
                rates[name].append(effort.messages / seconds)
            outcome.rates[case] = rates
        for pair in pairs.values():
            pair.close()
        callers = {name: make(port) for name, make in CALLERS.items()}
        for case, what, count in (
            ("one by one", "one_by_one", effort.trips),
            (f"{AT_ONCE:,} at once", "at_once", AT_ONCE),
        ):
            progress(case)
            trips: dict[str, list[float]] = {name: [] for name in callers}
            for name in _turns(callers, effort.rounds):
                trips[name] += getattr(callers[name], what)(count)
            outcome.trips[case] = trips
        for caller in callers.values():
            caller.close()
    return outcome


def _turns(contenders: Mapping[str, object], rounds: int) -> list[str]:
    """Return the names in the order of measuring."""
    names = list(contenders)
    order = []
    for number in range(rounds):
        order += names if number % 2 == 0 else names[::-1]
    return order


# --- what is printed ----------------------------------------------------------------------------


def render(outcome: Outcome) -> str:
    """Return the outcome as tables for people."""
    lines = [f"{'messages per second':<20}{OWN:>12}{PEER:>12}{'ratio':>8}", "-" * 52]
    for case in outcome.rates:
        rates = "".join(f"{outcome.rate(case, name):>12,.0f}" for name in (OWN, PEER))
        lines.append(f"{case:<20}{rates}{outcome.ratio(case):>8.2f}")
    lines += ["", f"{'task to result, ms':<20}{OWN:>20}{PEER:>20}", "-" * 60]
    for case in outcome.trips:
        cells = "".join(f"{_trip(outcome, case, name):>20}" for name in (OWN, PEER))
        lines.append(f"{case:<20}{cells}")
    used = ", ".join(f"{name} {number}" for name, number in _versions().items())
    lines += [
        "",
        f"messages of {outcome.size} bytes, the best of all rounds",
        "round trips: the median and the 99th percentile of all rounds, QoS 2",
        f"fastlib reads each task and answers it; {PEER} sends the same bytes unread",
        f"Python {platform.python_version()}; {used}",
        "",
    ]
    for target in outcome.targets():
        verdict = "met" if target.met else "NOT met"
        lines.append(f"target, {target.text}: {target.value:.2f}x - {verdict}")
    return "\n".join(lines)


def _trip(outcome: Outcome, case: str, name: str) -> str:
    return f"{outcome.median(case, name) * 1e3:.2f} / {outcome.slow(case, name) * 1e3:.2f}"


def _versions() -> dict[str, str]:
    return {"paho-mqtt": version("paho-mqtt"), "mosquitto": mosquitto_version()}


def to_json(outcome: Outcome) -> str:
    """Return the outcome for programs."""
    tree: dict[str, Any] = {
        "benchmark": "transport",
        "python": platform.python_version(),
        "machine": platform.machine(),
        "versions": _versions(),
        "bytes": outcome.size,
        "messages-per-second": {
            case: {
                name: {
                    "best": outcome.rate(case, name),
                    "median": statistics.median(rates),
                    "rounds": len(rates),
                }
                for name, rates in row.items()
            }
            for case, row in outcome.rates.items()
        },
        "ratio": {case: outcome.ratio(case) for case in outcome.rates},
        "round-trip-ms": {
            case: {
                name: {
                    "median": outcome.median(case, name) * 1e3,
                    "p99": outcome.slow(case, name) * 1e3,
                    "trips": len(trips),
                }
                for name, trips in row.items()
            }
            for case, row in outcome.trips.items()
        },
        "targets": [target._asdict() for target in outcome.targets()],
    }
    return json.dumps(tree, indent=2)


def main(arguments: list[str]) -> int:
    """`python -m benchmarks transport`: exit status 2 if there is nothing to measure with."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks transport", description=(__doc__ or "").split("\n", 1)[0]
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    parser.add_argument("--quick", action="store_true", help="some seconds, less exact")
    options = parser.parse_args(arguments)
    show = _show_progress if sys.stderr.isatty() else lambda text: None
    try:
        outcome = run(QUICK if options.quick else THOROUGH, show)
    except MissingBrokerError as error:
        print(f"{parser.prog}: error: {error}", file=sys.stderr)
        return 2
    except ModuleNotFoundError as error:
        if error.name is None or not error.name.startswith("paho"):
            raise
        print(
            f"{parser.prog}: error: paho-mqtt is not installed: {install_command('mqtt')}",
            file=sys.stderr,
        )
        return 2
    print(to_json(outcome) if options.json else render(outcome))
    return 0


def _show_progress(name: str) -> None:
    print(f"measuring {name}", file=sys.stderr)
