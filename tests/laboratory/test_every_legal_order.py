"""Any legal order, in any state of libvirt, keeps the rule of `tests/support/orders/rule.py`.

Random domains in random prior states get random orders, some of them while a fault happens. By
default the orders are the same each time. With --long there are more, of another seed each time.
To repeat a run, or one scenario of it, set FASTLIB_ORDERS to what the failure prints:

    FASTLIB_ORDERS=SEED:SCENARIO python -m pytest --long tests/laboratory/test_every_legal_order.py
"""

import os
import random

import pytest

from tests.support.lab.qemu_certificates import certified
from tests.support.lab.shared_disks import SharedDisks
from tests.support.orders.generation import LINUX_GUESTS, scenarios
from tests.support.orders.report import report
from tests.support.orders.run import Counts, run
from tests.support.orders.shrinking import shrink

pytestmark = [pytest.mark.laboratory, pytest.mark.timeout(7200)]
SEED = 820
"""Some of its migrations copy a disk, or are encrypted, and some of them meet a fault."""
ORDERS = 14
LONG_ORDERS = 250
"""In each of the two modes of migration."""
SHRINK_SECONDS = 60
LONG_SHRINK_SECONDS = 240
MOST_FAILURES = 8


@pytest.fixture
def daemon_options():
    """Guests of a BIOS ignore the power button, and no guest answers on SSH."""
    return {"start-timeout": 2, "stop-timeout": 4, "pscom-timeout": 1}


@pytest.fixture(scope="module")
def disks(session_fleet):
    """The disk of each guest with Linux, by its name. All hosts have certificates, too."""
    names = [f"disk{number}" for number in range(len(LINUX_GUESTS))]
    with certified(session_fleet.lab), SharedDisks(session_fleet.lab, names) as made:
        yield {guest["name"]: disk for guest, disk in zip(LINUX_GUESTS, made, strict=True)}


@pytest.mark.both_modes(only_long=True)
def test_every_legal_order_keeps_the_rule(fleet, disks, request, add_figure):
    is_long = request.config.getoption("--long")
    seed, _, only = os.environ.get("FASTLIB_ORDERS", "").partition(":")
    seed = int(seed) if seed else random.randrange(2**32) if is_long else SEED
    orders = int(os.environ.get("FASTLIB_ORDERS_COUNT", LONG_ORDERS if is_long else ORDERS))
    print(f"seed {seed}, {orders} orders")
    counts, failures = Counts(), []

    def run_anew(scenario):
        fleet.reset()
        return run(fleet, scenario, disks, counts)

    for number, scenario in enumerate(scenarios(seed, orders)):
        if only and number != int(only):
            continue
        failure = run_anew(scenario)
        print(f"scenario {number}: {counts}", flush=True)
        if failure is None:
            continue
        how = f"FASTLIB_ORDERS={seed}:{number} FASTLIB_ORDERS_COUNT={orders}"
        print(report(failure, f"As found: {how}"), flush=True)
        if not any(failure.parts <= parts for parts, _ in failures):
            done = counts.orders
            seconds = LONG_SHRINK_SECONDS if is_long else SHRINK_SECONDS
            shortest = shrink(failure, run_anew, seconds)
            counts.orders = done
            failures.append((failure.parts, report(shortest, f"Repeat with: {how}")))
        if not is_long or len(failures) == MOST_FAILURES:
            break
    add_figure(
        f"seed {seed}: {counts.orders} orders, {counts.faults} of them with a fault: "
        f"{counts.successes} successes, {counts.copies} of them with copied disks and "
        f"{counts.encrypted} encrypted, {counts.errors} errors, {len(failures)} broke the rule"
    )
    assert counts.orders, f"there is no scenario {only}"
    assert not failures, "\n\n\n".join(text for _, text in failures)
