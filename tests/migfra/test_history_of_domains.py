"""The history of orders of many domains: found by a regex, an evacuation or a swap."""

from collections.abc import Iterator

import pytest

from fastlib import Evacuate, EvacuateParameter, Migrate, QueryHistory, Stop, SwapWith, Task
from fastlib.display.order_lines import story
from fastlib.display.order_story import Place, focus_of
from fastlib.message import HistoryReport, HistoryResult
from fastlib.migfra.hypervisors.simulated import Cluster, SimulatedHypervisor, SimulatedOptions
from fastlib.migfra.plugin_api.hypervisor import NodeContext
from tests.support.migfra.bench import HOST, Bench, Play
from tests.support.migfra.simulation import cluster_of, live

pytest.importorskip("re2", reason="regular expressions need google-re2")


@pytest.fixture
def hypervisor() -> Iterator[SimulatedHypervisor]:
    """Three domains on node01, where node02 has room for all; a thousand times as fast."""
    domains = [(f"vm{number}", HOST) for number in (1, 2, 3)]
    description = cluster_of(*domains, ("there", "node02"), hosts=(HOST, "node02"))
    options = SimulatedOptions(cluster="history", create=description, speed=1000)
    yield SimulatedHypervisor(options, NodeContext(HOST))
    Cluster.forget("history")


async def answered(bench: Bench, task: Task, id: str) -> None:
    answer = await bench.ask(task, id)
    while answer.id != id:
        answer = await bench.result()


async def history(bench: Bench, name: str) -> HistoryReport:
    (result,) = (
        await bench.ask(QueryHistory(order_id=name, key=name, vm_name=name), "asking")
    ).results
    assert isinstance(result, HistoryResult)
    assert result.history is not None, result.details
    return result.history


def told(report: HistoryReport, name: str) -> list[str]:
    """Return the lines of the one order."""
    (order,) = report.orders
    place = Place(report.host, report.time, focus_of(order, name))
    return list(story(order, place, width=80, paint=lambda text, style: text, full=False))


def test_domain_of_regex_is_found_and_reported_alone(play: Play, hypervisor: SimulatedHypervisor):
    async def scene(bench: Bench) -> None:
        await bench.daemon(hypervisor)
        await answered(bench, Stop(regex="vm[12]", force=True), "s")
        of_domain = await history(bench, "vm2")
        assert of_domain.orders[0].vm_names[0] == "vm2"
        assert told(of_domain, "vm2")[0].startswith(
            "'stop vm' of vm2 (2 domains) by the regex 'vm[12]' on node01 succeeded"
        )
        assert {event.vm_name for event in of_domain.orders[0].events} <= {None, "vm2"}
        whole = await history(bench, "s")
        assert set(whole.orders[0].vm_names) == {"vm1", "vm2"}
        assert {result.vm_name for result in whole.orders[0].results} == {"vm1", "vm2"}
        assert (await history(bench, "vm3")).orders == ()

    play(scene)


def test_domain_of_evacuation_is_found_with_its_phases(play: Play, hypervisor: SimulatedHypervisor):
    async def scene(bench: Bench) -> None:
        await bench.daemon(hypervisor)
        task = Evacuate(destinations=["node02"], parameter=EvacuateParameter(migration_type="live"))
        await answered(bench, task, "e")
        report = await history(bench, "vm3")
        (order,) = report.orders
        assert told(report, "vm3")[0].startswith(
            "'evacuate node' of vm3 (3 domains) on node01 to node02 succeeded at "
        )
        phases = [event for event in order.events if event.event == "phase"]
        assert phases
        assert {event.vm_name for event in phases} == {None, "vm3"}
        assert order.events_left_out

    play(scene)


@pytest.mark.parametrize("name", ["vm1", "there"])
def test_both_domains_of_swap_are_found(play: Play, hypervisor: SimulatedHypervisor, name: str):
    async def scene(bench: Bench) -> None:
        await bench.daemon(hypervisor)
        parameter = live(swap_with=SwapWith(vm_name="there"))
        await answered(
            bench, Migrate(vm_name="vm1", destination="node02", parameter=parameter), "m"
        )
        (order,) = (await history(bench, name)).orders
        assert order.status == "success", order.results

    play(scene)
