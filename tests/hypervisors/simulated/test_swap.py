"""Swaps of two domains on a simulated cluster, in virtual time."""

import asyncio

import pytest

from fastlib import (
    Migrate,
    SwapWith,
)
from fastlib.migfra.errors import HypervisorError, TaskCancelledError
from fastlib.migfra.hypervisors.simulated import Fault, LinkDescription
from fastlib.migfra.plugin_api.cancellation import Cancellation
from fastlib.migfra.plugin_api.context import Context
from tests.support.migfra.simulation import (
    GIB,
    Progress,
    cluster_of,
    live,
    now,
    simulated,
)


def swapped(description, source="a", **more):
    """Swap big on a with small on b."""

    async def scenario(simulation):
        parameter = live(swap_with=SwapWith(vm_name="small", vcpu_map=[[1]]), vcpu_map=[[2]])
        task = Migrate(vm_name="big", destination="b", parameter=parameter)
        progress = Progress()
        try:
            await simulation["a"].migrate(task, progress.context(**more))
            error = None
            assert simulation.cluster.domain("big").vcpu_map == [[2]]
            assert simulation.cluster.domain("small").vcpu_map == [[1]]
        except HypervisorError as caught:
            error = str(caught)
        return simulation.where("big"), simulation.where("small"), error, now()

    return simulated(description, scenario, call_seconds=0)


def pair(memory, **more):
    return cluster_of(
        ("big", "a", {"memory": 4 * GIB}),
        ("small", "b", {"memory": 2 * GIB}),
        memory=memory * GIB,
        bandwidth=1024,
        **more,
    )


DONE = (("b", "running"), ("a", "running"), None)


def test_swap_runs_in_both_directions_in_parallel():
    *end, seconds = swapped(pair(16))
    assert tuple(end) == DONE
    assert seconds == pytest.approx(4)


def test_swap_shares_half_duplex_link():
    links = [LinkDescription(hosts=["a", "b"], bandwidth=1024, duplex=False)]
    *end, seconds = swapped(pair(16, links=links))
    assert tuple(end) == DONE
    assert seconds == pytest.approx(6, abs=0.5)


@pytest.mark.parametrize(("memory", "seconds"), [(5, 8), (4, 8)])
def test_swap_without_room_saves_smaller_domain(memory, seconds):
    *end, took = swapped(pair(memory))
    assert tuple(end) == DONE
    assert took == pytest.approx(seconds, abs=0.5)


def test_swap_fails_without_any_room():
    description = cluster_of(
        ("big", "a", {"memory": 4 * GIB}),
        ("small", "b", {"memory": 2 * GIB}),
        ("rest", "b", {"memory": 3 * GIB}),
        memory=6 * GIB,
    )
    big, small, error, _ = swapped(description)
    assert (big, small) == (("a", "running"), ("b", "running"))
    assert error == "b has too little memory for big even without small"


def test_swap_moves_domain_with_room_first():
    description = cluster_of(
        ("big", "a", {"memory": 4 * GIB}),
        ("small", "b", {"memory": 2 * GIB}),
        ("rest", "a", {"memory": 5 * GIB}),
        memory=10 * GIB,
    )
    *end, _ = swapped(description)
    assert tuple(end) == DONE


@pytest.mark.parametrize("memory", [16, 5])
@pytest.mark.parametrize("name", ["big", "small"])
def test_failed_swap_leaves_both_domains_on_their_hosts(memory, name):
    fault = Fault(kind="error", task="migrate", vm_name=name, percent=40)
    big, small, error, _ = swapped(pair(memory, faults=[fault]))
    if memory == 5 and name == "small":  # it was on storage and did not migrate
        assert (big, small, error) == DONE
        return
    assert (big, small) == (("a", "running"), ("b", "running"))
    assert error == (f"the swap failed: {name}: broken off at 40 %; big runs on a; small runs on b")


def test_failed_swap_says_which_domain_arrived():
    fault = Fault(kind="error", task="migrate", vm_name="big", percent=75)
    big, small, error, _ = swapped(pair(16, faults=[fault]))
    assert (big, small) == (("a", "running"), ("a", "running"))
    assert error == "the swap failed: big: broken off at 75 %; big runs on a; small runs on a"


@pytest.mark.parametrize("memory", [16, 5])
def test_cancelled_swap_leaves_both_domains_on_their_hosts(memory):
    async def scenario(simulation):
        cancellation = Cancellation()
        asyncio.get_running_loop().call_later(3, cancellation.cancel)
        parameter = live(swap_with=SwapWith(vm_name="small"), bandwidth_limit=100)
        with pytest.raises(TaskCancelledError, match="big runs on a; small runs on b"):
            await simulation["a"].migrate(
                Migrate(vm_name="big", destination="b", parameter=parameter),
                Context("a", cancellation=cancellation),
            )
        assert simulation.where("big") == ("a", "running")
        assert simulation.where("small") == ("b", "running")

    simulated(pair(memory), scenario)
