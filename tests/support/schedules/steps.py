"""The steps of a schedule, their values, and the reading of a schedule from bytes.

Hypothesis draws bytes, not steps. That costs a tenth of the time of its state machines, and the
bytes can be made fewer and smaller as well. Each step has one byte for its kind, and one or two for
each of its values. In each list of values the simplest is the first.
"""

import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, NamedTuple

from .cluster import Cluster, UnsettledError
from .hosts import Host
from .invariants import violations
from .orders import Kind

SECONDS: Final = (0.0, 0.001, 0.003, 0.01, 0.05, 0.3, 1.0, 4.0, 10.0, 40.0, 200.0)
"""How long a schedule lets time pass between two steps."""

HOSTS: Final = (0, 1)
SCHEDULERS: Final = (0, 1)
CLIENTS: Final = ("n0", "s0", "sender", "n1", "s1")
PROTOCOLS: Final = ("3.1.1", "5")

Submitted = tuple[int, int, Kind, float | None, int]
"""Scheduler, host, kind, timeout, and how many attempts fail."""

KINDS: Final[tuple[Kind, ...]] = ("start", "stop", "migrate")

ORDERS: Final[tuple[Submitted, ...]] = tuple(
    (scheduler, host, kind, timeout, failures)
    for failures, timeout, kind, scheduler, host in itertools.product(
        (0, 1, 2), (60.0, 2.0, 8.0, 0.5, None), KINDS, SCHEDULERS, HOSTS
    )
    if kind == "migrate" or failures < 2
)

MOMENTS: Final = (
    *[(f"{when} write", count) for count in (1, 2, 3, 4) for when in ("before", "after")] * 6,
    *[(f"{when} send", count) for count in (1, 2) for when in ("before", "after")] * 6,
    *[("before work", 1), ("after work", 1)] * 6,
    *[("turn", count) for count in range(1, 151)],
)
"""When a daemon crashes."""

JUMPS: Final = (3.0, -3.0, 60.0, -60.0, 3600.0, -3600.0, 1e6, -1e6)
"""By how many seconds a clock is set."""


class Step(NamedTuple):
    """A step with its values."""

    name: str
    values: dict[str, Any]

    def __str__(self) -> str:
        values = ", ".join(f"{name}={value!r}" for name, value in self.values.items())
        return f"{self.name}(cluster, {values})"

    def run(self, cluster: Cluster) -> None:
        """Let it happen."""
        STEPS[self.name].function(cluster, **self.values)


class StepKind(NamedTuple):
    """A kind of step."""

    function: Callable[..., None]
    choices: dict[str, Sequence[Any]]
    """The values of its arguments."""


STEPS: Final[dict[str, StepKind]] = {}
"""All kinds of steps by name."""

_DRAWN: Final[list[str]] = []
"""The names of the steps, as often as they are likely."""

BEGIN: Final[dict[str, Sequence[Any]]] = {
    "seed": range(2**16),
    "hosts": (1, 1, 1, 2),
    "schedulers": (1, 1, 2),
    "sender_qos": (1, 2),
    "protocol": PROTOCOLS,
    "clock_errors": tuple(itertools.product((0.0, 0.5, -0.5, 0.1), repeat=3)),
    "publishes_at_release": (True, False),
    "reuses_packet_ids": (False, False, True),
}
"""What a schedule begins with."""


def step(weight: int = 1, **choices: Sequence[Any]) -> Callable[[Callable[..., None]], Any]:
    """Declare a kind of step with the values of its arguments and how likely it is."""

    def add(function: Callable[..., None]) -> Callable[..., None]:
        STEPS[function.__name__] = StepKind(function, choices)
        _DRAWN.extend([function.__name__] * weight)
        return function

    return add


def _submit(cluster: Cluster, orders: Iterable[Submitted]) -> None:
    for scheduler, host, kind, timeout, failures in orders:
        cluster.submit(scheduler, _host(cluster, host), kind, timeout, failures=failures)


def _host(cluster: Cluster, number: int) -> Host:
    return cluster.hosts[number % len(cluster.hosts)]


def _client_id(cluster: Cluster, name: str) -> str:
    return _host(cluster, int(name[1])).client_id if name in ("n0", "n1") else name


@step(weight=2, orders=ORDERS, more=(None, *ORDERS), pause=SECONDS)
def submit(cluster: Cluster, orders: Submitted, more: Submitted | None, pause: float) -> None:
    _submit(cluster, (orders,) if more is None else (orders, more))
    cluster.advance(pause)


@step(weight=4, order=ORDERS, host=HOSTS, moment=MOMENTS, down=SECONDS, pause=SECONDS)
def submit_and_crash(
    cluster: Cluster, order: Submitted, host: int, moment: tuple[str, int], down: float,
    pause: float,
) -> None:  # fmt: skip
    _host(cluster, host).crash_at(*moment, down=down)
    _submit(cluster, (order,))
    cluster.advance(pause)


@step(weight=3, order=ORDERS, after=SECONDS, client=CLIENTS, silent=(False, True), pause=SECONDS)
def submit_and_cut(
    cluster: Cluster, order: Submitted, after: float, client: str, silent: bool, pause: float
) -> None:
    _submit(cluster, (order,))
    cluster.advance(after)
    cluster.network.cut(_client_id(cluster, client), silent=silent)
    cluster.advance(pause)


@step(
    weight=3,
    count=(1, 2),
    moment=(*[None] * 200, *MOMENTS),
    down=SECONDS,
    cut=(False, True),
    pause=SECONDS,
)
def send_without_key(
    cluster: Cluster, count: int, moment: tuple[str, int] | None, down: float, cut: bool,
    pause: float,
) -> None:  # fmt: skip
    if moment is not None:
        _host(cluster, 0).crash_at(*moment, down=down)
    for _ in range(count):
        cluster.send_without_key(_host(cluster, 0))
    if cut:
        cluster.advance(0.003)
        cluster.network.cut("sender")
    cluster.advance(pause)


@step(weight=2, host=HOSTS, how=("crash", "stop", "quit"), pause=SECONDS)
def end(cluster: Cluster, host: int, how: str, pause: float) -> None:
    daemon = _host(cluster, host)
    if how == "crash":
        daemon.crash()
    elif how == "stop":
        daemon.stop()
    else:
        cluster.quit(0, daemon)
    cluster.advance(pause)


@step(weight=2, pause=SECONDS)
def restart(cluster: Cluster, pause: float) -> None:
    cluster.repair()
    cluster.advance(pause)


@step(
    weight=2,
    client=CLIENTS,
    block=(False, True),
    delay=(0.002, 0.1, 2.0),
    write=(0.0, 0.01, 0.2),
    work=(0.0, 0.02, 3.0),
)
def disturb(
    cluster: Cluster, client: str, block: bool, delay: float, write: float, work: float
) -> None:
    client = _client_id(cluster, client)
    cluster.network.blocked.clear()
    if block:
        cluster.network.blocked.add(client)
        cluster.network.cut(client)
    cluster.network.largest_delay = delay
    cluster.domains.work_seconds = work
    for host in cluster.hosts:
        host.process.write_seconds = write


@step(weight=2, name=("n0", "s0", "n1", "s1"), seconds=JUMPS, pause=SECONDS)
def set_clock(cluster: Cluster, name: str, seconds: float, pause: float) -> None:
    cluster.set_clock(name, seconds)
    cluster.advance(pause)


@step(
    weight=2,
    order=ORDERS,
    host=HOSTS,
    moment=MOMENTS,
    after=(10.0, 40.0),
    seconds=(-3600.0, -60.0, -1e6, 3600.0),
    pause=SECONDS,
)
def submit_and_crash_and_set_clock(
    cluster: Cluster, order: Submitted, host: int, moment: tuple[str, int], after: float,
    seconds: float, pause: float,
) -> None:  # fmt: skip
    """Start a daemon again on a host whose clock was set after the crash, as a boot may do."""
    down = _host(cluster, host)
    down.crash_at(*moment)
    _submit(cluster, (order,))
    cluster.advance(after)
    cluster.set_clock(down.name, seconds)
    down.restart()
    cluster.advance(pause)


@step(
    weight=2,
    host=HOSTS,
    order=(*[None] * (len(ORDERS) // 3), *ORDERS),
    pause=SECONDS,
    then=("room", "crash", "nothing"),
)
def fill_the_disk(
    cluster: Cluster, host: int, order: Submitted | None, pause: float, then: str
) -> None:
    _host(cluster, host).process.disk_is_full = True
    if order is not None:
        _submit(cluster, (order,))
    else:
        cluster.send_without_key(_host(cluster, host))
    cluster.advance(pause)
    if then == "room":
        _host(cluster, host).process.disk_is_full = False
    elif then == "crash":
        _host(cluster, host).crash(down=1.0)


@step(weight=2, order=ORDERS, after=SECONDS, which=(0, 1, 2), pause=SECONDS)
def submit_and_cancel(
    cluster: Cluster, order: Submitted, after: float, which: int, pause: float
) -> None:
    _submit(cluster, (order,))
    cluster.advance(after)
    cluster.cancel(which)
    cluster.advance(pause)


@step(weight=2, order=ORDERS, after=SECONDS, down=SECONDS, pause=SECONDS)
def submit_and_crash_the_scheduler(
    cluster: Cluster, order: Submitted, after: float, down: float, pause: float
) -> None:
    _submit(cluster, (order,))
    cluster.advance(after)
    cluster.crash_scheduler(order[0], down)
    cluster.advance(pause)


@step(weight=2, order=ORDERS, after=SECONDS, keeps=(True, False), down=SECONDS, pause=SECONDS)
def submit_and_restart_the_broker(
    cluster: Cluster, order: Submitted, after: float, keeps: bool, down: float, pause: float
) -> None:
    _submit(cluster, (order,))
    cluster.advance(after)
    cluster.restart_broker(down, keeps_sessions=keeps)
    cluster.advance(pause)


@step(weight=2, host=HOSTS, seconds=(0.0, 0.3, 4.0, 40.0), pause=SECONDS)
def start_a_second_daemon(cluster: Cluster, host: int, seconds: float, pause: float) -> None:
    cluster.start_second(_host(cluster, host), seconds)
    cluster.advance(pause)


# Bytes.


def _width(choices: Sequence[Any]) -> int:
    return 1 if len(choices) <= 64 else 2


def _needed(choices: dict[str, Sequence[Any]]) -> int:
    return sum(_width(values) for values in choices.values())


STEP_BYTES: Final = 1 + max(_needed(kind.choices) for kind in STEPS.values())
"""The bytes of a step."""

BEGIN_BYTES: Final = _needed(BEGIN)
"""The bytes of the beginning of a schedule."""


def _read(drawn: bytes, choices: dict[str, Sequence[Any]]) -> dict[str, Any]:
    found, place = {}, 0
    for name, values in choices.items():
        width = _width(values)
        number = int.from_bytes(drawn[place : place + width], "little")
        found[name] = values[number % len(values)]
        place += width
    return found


class Series(NamedTuple):
    """Schedules of one cluster, one after the other."""

    begin: dict[str, Any]
    """The arguments of the cluster."""
    schedules: tuple[tuple[Step, ...], ...]

    @classmethod
    def from_bytes(cls, begin: bytes, schedules: Iterable[Iterable[bytes]]) -> "Series":
        """Read schedules. Any bytes of the right number are some."""
        return cls(_read(begin, BEGIN), tuple(tuple(map(_step, drawn)) for drawn in schedules))

    def __str__(self) -> str:
        begin = ", ".join(f"{name}={value!r}" for name, value in self.begin.items())
        schedules = ("\n".join(map(str, steps)) for steps in self.schedules)
        return f"cluster = Cluster({begin})\n" + "\nfinish(cluster)\n".join(schedules)

    def run(self, count: Callable[[], object]) -> list[str]:
        """Run the schedules until one violates an invariant. Return its violations."""
        cluster = Cluster(**self.begin)
        try:
            for steps in self.schedules:
                count()
                for one in steps:
                    one.run(cluster)
                if found := finish(cluster):
                    return found
        finally:
            cluster.close()
        return []


def finish(cluster: Cluster) -> list[str]:
    """End a schedule, and prepare the cluster for the next. Return its violations."""
    try:
        cluster.settle()
    except UnsettledError as error:
        return [str(error)]
    found = violations(cluster)
    cluster.begin_again()
    return found


def _step(drawn: bytes) -> Step:
    name = _DRAWN[drawn[0] % len(_DRAWN)]
    return Step(name, _read(drawn[1:], STEPS[name].choices))
