"""Measure calls side by side on a machine with other load."""

import gc
import itertools
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple


class Effort(NamedTuple):
    """The time of a measurement."""

    rounds: int
    sample: float
    """Seconds of one sample; a slower call is one sample."""
    case: float
    """Seconds after which a case sits out the other rounds; it gets two in any case."""


THOROUGH = Effort(rounds=40, sample=0.010, case=1.5)
QUICK = Effort(rounds=10, sample=0.004, case=0.3)


@dataclass
class Case:
    """One call with its argument, and its samples."""

    name: str
    call: Callable[[Any], Any]
    argument: Any
    loops: int = 1
    samples: list[float] = field(default_factory=list)
    """Seconds a call, one entry a round."""

    @property
    def best(self) -> float:
        """The seconds of one call in the best round."""
        return min(self.samples)

    @property
    def median(self) -> float:
        return statistics.median(self.samples)

    def calibrate(self, seconds: float) -> None:
        """Find the repetitions for a sample of that length; this also warms up the call."""
        while (took := self._run()) < seconds / 4:
            self.loops *= 2
        self.loops = max(1, round(self.loops * seconds / took))

    def sample(self) -> None:
        self.samples.append(self._run() / self.loops)

    def _run(self) -> float:
        call, argument = self.call, self.argument
        gc.collect()
        begin = time.thread_time()  # the time of other programs does not count
        for _ in itertools.repeat(None, self.loops):
            call(argument)
        return time.thread_time() - begin


def measure(cases: Sequence[Case], effort: Effort) -> None:
    """Fill the samples of the cases, in rounds of one sample each.

    The rounds are interleaved and begin with another case each time, so that what else runs on
    the machine disturbs all alike; the least disturbed sample counts. As in `timeit`, the cyclic
    garbage collector is off while a case runs; it runs between samples.
    """
    gc.collect()
    gc.freeze()  # makes the collections between samples short
    gc.disable()
    try:
        for case in cases:
            case.calibrate(effort.sample)
        for first in range(effort.rounds):
            for n in range(len(cases)):
                case = cases[(first + n) % len(cases)]
                spent = sum(case.samples) * case.loops
                if len(case.samples) < 2 or spent < effort.case:
                    case.sample()
    finally:
        gc.enable()
        gc.unfreeze()
