"""The rule that judges random orders (`tests/support/orders`), without a laboratory."""

import msgspec
import pytest

from fastlib.message import Evacuate, Migrate, Repin, Result, Start, Stop, TaskContainer
from fastlib.message.tasks import MigrateParameter
from tests.support.orders.fleet_view import DomainView, FleetView
from tests.support.orders.generation import scenarios
from tests.support.orders.outcome import Outcome
from tests.support.orders.rule import violations
from tests.support.orders.run import Failure
from tests.support.orders.scenario import HOSTS, Fault, Order, PriorDomain, Scenario
from tests.support.orders.shrinking import shrink

VM1 = DomainView(
    name="vm1",
    uuid="7c3b4d5e-0000-4000-8000-000000000001",
    state="running",
    run=3,
    persistent=True,
    autostart=False,
    saved=False,
    definition="<domain/>",
    memory=98304,
    vcpus=(0,),
    maximum_vcpus=1,
    pins=(),
    defined_pins=(),
)
OFF = msgspec.structs.replace(VM1, state="shut off", run=-1)
SUCCESS = Result(vm_name="vm1", status="success")
REFUSED = Result(vm_name="vm1", status="error", details="no")
MOVE = Migrate(vm_name="vm1", destination="HOSTB")


def fleet(images=None, disk_images=None, **domains):
    """A fleet with these domains, each by the last letter of its host."""
    hosts = {host: {} for host in HOSTS}
    for letter, found in domains.items():
        for view in found if isinstance(found, tuple) else (found,):
            hosts[f"host{letter}"][view.name] = view
    return FleetView(
        hosts=hosts,
        images={host: (images or {}).get(host, ()) for host in HOSTS},
        disk_images={host: (disk_images or {}).get(host, ()) for host in HOSTS},
    )


def broken(tasks, results, before, after, fault=None, local_disks=None):
    """The parts of the rule that an order to hostA breaks."""
    tasks = tasks if isinstance(tasks, list) else [tasks]
    order = Order(host="hostA", container=TaskContainer(tasks=tasks))
    results = tuple(results) if isinstance(results, list) else (results,)
    outcome = Outcome(
        order=order,
        results=results,
        before=before,
        after=after,
        fault=fault,
        local_disks=local_disks or {},
    )
    return [each.part for each in violations(outcome)]


def changed(view, **fields):
    return msgspec.structs.replace(view, **fields)


def test_migration_that_arrives_keeps_the_rule():
    assert broken(MOVE, SUCCESS, fleet(A=VM1), fleet(B=changed(VM1, run=9))) == []


IMAGE = "/images/vm1.qcow2"
COPY = Migrate(
    vm_name="vm1",
    destination="hostB",
    parameter=MigrateParameter(copy_storage="all", source_disks="remove"),
)
KEEP = Migrate(vm_name="vm1", destination="hostB", parameter=MigrateParameter(copy_storage="all"))
NAMED = Result(vm_name="vm1", status="error", details=f"{IMAGE} may have stayed on hostB")


@pytest.mark.parametrize(
    ("task", "result", "place", "images", "parts"),
    [
        (COPY, SUCCESS, "B", "B", []),
        (KEEP, SUCCESS, "B", "AB", []),
        (COPY, SUCCESS, "B", "A", ["an active domain has its image"]),
        (COPY, REFUSED, "A", "", ["an active domain has its image", "an image is never lost"]),
        (COPY, REFUSED, "A", "AB", ["an image that a migration leaves is named in the answer"]),
        (COPY, NAMED, "A", "AB", []),
        (KEEP, SUCCESS, "B", "B", ["an image goes only if its order says so"]),
    ],
)
def test_images_of_disks_are_where_the_order_says(task, result, place, images, parts):
    """The domain and its image were on hostA; `place` and `images` are the hosts afterwards."""
    before = fleet(A=VM1, disk_images={"hostA": (IMAGE,)})
    domain = VM1 if place == "A" else changed(VM1, run=9)
    left = {f"host{letter}": (IMAGE,) for letter in images}
    after = fleet(disk_images=left, **{place: domain})
    assert broken(task, result, before, after, local_disks={"vm1": IMAGE}) == parts


def test_domain_on_two_hosts_breaks_the_rule():
    assert "a domain is active on at most one host" in broken(
        MOVE, SUCCESS, fleet(A=VM1), fleet(A=VM1, B=VM1)
    )


def test_lost_domain_breaks_the_rule():
    found = broken(MOVE, REFUSED, fleet(A=VM1), fleet())
    assert "an active domain stays active" in found
    assert "a persistent domain stays defined" in found


def test_domain_whose_qemu_was_killed_may_end():
    fault = Fault(kind="kill QEMU", host="hostA", domain="vm1", moment=0, outage=0)
    assert broken(MOVE, REFUSED, fleet(A=VM1), fleet(A=OFF), fault) == []


def test_killed_domain_of_an_evacuation_that_was_refused_as_a_whole_keeps_the_rule():
    fault = Fault(kind="kill QEMU", host="hostA", domain="vm1", moment=0, outage=0)
    refused = Result(vm_name="n/a", status="error", details="no")
    task, other = Evacuate(destinations=["hostB"]), changed(VM1, name="other")
    before = fleet(A=(VM1, other))
    assert broken(task, [refused], before, fleet(A=(OFF, other)), fault) == []
    found = broken(task, [refused], before, fleet(A=(OFF, changed(other, state="paused"))), fault)
    assert found == ["a domain that no result names is unchanged"]


def test_domain_survives_when_the_qemu_at_its_destination_was_killed():
    fault = Fault(kind="kill QEMU", host="hostB", domain="vm1", moment=0, outage=0)
    found = broken(MOVE, REFUSED, fleet(A=VM1), fleet(A=OFF), fault)
    assert found == ["an active domain stays active"]


@pytest.mark.parametrize(
    "change",
    [{"run": 4}, {"state": "paused"}, {"pins": ((0, "1"),)}, {"definition": "<x/>"}],
)
def test_refusal_that_changes_something_breaks_the_rule(change):
    found = broken(MOVE, REFUSED, fleet(A=VM1), fleet(A=changed(VM1, **change)))
    assert found == ["a domain whose order was refused is unchanged"]


def test_change_of_another_domain_breaks_the_rule():
    other = changed(VM1, name="other")
    found = broken(
        MOVE, REFUSED, fleet(A=(VM1, other)), fleet(A=(VM1, changed(other, state="paused")))
    )
    assert found == ["a domain that the order does not name is unchanged"]


def test_stray_definition_breaks_the_rule():
    stray = changed(OFF, name=" vm1 ")
    found = broken(Start(vm_name="vm1"), SUCCESS, fleet(A=OFF), fleet(A=(VM1, stray)))
    assert found == ["a domain that the order does not name is unchanged"]


def test_image_that_is_older_than_a_run_breaks_the_rule():
    saved = fleet({"hostA": ("vm1",)}, A=changed(OFF, saved=True))
    after = fleet({"hostA": ("vm1",)}, B=VM1)
    assert "no managed save image is older than a run of its domain" in broken(
        Start(vm_name="vm1"), SUCCESS, saved, after
    )


def test_offline_migration_that_leaves_an_image_breaks_the_rule():
    saved = fleet({"hostA": ("vm1",)}, A=changed(OFF, saved=True))
    task = Migrate(
        vm_name="vm1", destination="hostB", parameter=MigrateParameter(migration_type="offline")
    )
    found = broken(task, SUCCESS, saved, fleet({"hostA": ("vm1",)}, B=OFF))
    assert "each managed save image has its domain's definition beside it" in found
    assert "a saved domain keeps its memory" in found


def test_restored_domain_with_other_memory_than_ordered_breaks_the_rule():
    task = Start(vm_name="vm1", memory=131072, probe_with_ssh=False)
    details = Result(vm_name="vm1", status="success", details="continued from its saved image")
    saved = fleet({"hostA": ("vm1",)}, A=changed(OFF, saved=True))
    assert broken(task, details, saved, fleet(A=VM1)) == [
        "a started domain is what its order described"
    ]


@pytest.mark.parametrize(
    ("pins", "parts"),
    [
        (((0, "0"), (2, "1")), set()),
        (((0, "0"), (1, "1")), {"the vCPUs that are there are pinned as described"}),
    ],
)
def test_repin_is_for_the_vcpus_that_are_there(pins, parts):
    hole = changed(VM1, vcpus=(0, 2), maximum_vcpus=3)
    after = changed(hole, pins=pins, defined_pins=pins)
    task = Repin(vm_name="vm1", vcpu_map=[[0], [1]])
    assert set(broken(task, SUCCESS, fleet(A=hole), fleet(A=after))) == parts


@pytest.mark.parametrize(
    ("order", "nodes", "parts"),
    [
        ([[1]], ("1", "1"), set()),
        ([[1]], ("1", "0"), {"the memory is on the nodes of the order"}),
        ([[1]], (None, None), {"the memory is on the nodes of the order"}),
        (None, ("0", "0"), set()),
        (None, ("1", "1"), {"a migration keeps the memory nodes"}),
    ],
)
def test_memory_is_on_the_nodes_of_the_order(order, nodes, parts):
    before = changed(VM1, nodes="0", defined_nodes="0")
    after = changed(VM1, run=5, nodes=nodes[0], defined_nodes=nodes[1])
    parameter = MigrateParameter(memnode_map=order)
    task = Migrate(vm_name="vm1", destination="hostB", parameter=parameter)
    assert set(broken(task, SUCCESS, fleet(A=before), fleet(B=after))) == parts


def test_false_statement_breaks_the_rule():
    claim = Result(vm_name="vm1", status="success", details="vm1 has been shut off in the meantime")
    found = broken(
        Evacuate(destinations=["hostB"]), [claim], fleet(A=VM1), fleet(B=changed(VM1, run=5))
    )
    assert found == ["each state that an answer names is true"]


@pytest.mark.parametrize(
    "details",
    [
        "vm1 has not shut down within 4 s",
        "cancelled; the shutdown of vm1 was requested and may still complete; now it runs on hostA",
    ],
)
def test_guest_that_shuts_down_late_is_not_lost(details):
    late = Result(vm_name="vm1", status="error", details=details)
    refused = Result(vm_name="vm1", status="error", details="cancelled")
    assert "an active domain stays active" in broken(
        Stop(vm_name="vm1"), refused, fleet(A=VM1), fleet(A=OFF)
    )
    assert broken(Stop(vm_name="vm1"), late, fleet(A=VM1), fleet(A=OFF)) == []


TWO_STARTS = [Start(xml="<domain><name>vm1</name><memory>98304</memory></domain>")] * 2


@pytest.mark.parametrize("results", [[SUCCESS, REFUSED], [REFUSED, SUCCESS]])
def test_start_that_was_refused_may_stand_beside_one_of_the_same_domain_that_succeeded(results):
    assert broken(TWO_STARTS, results, fleet(), fleet(A=VM1)) == []


@pytest.mark.parametrize("results", [[SUCCESS, REFUSED], [REFUSED, SUCCESS]])
def test_successful_member_explains_only_its_own_changes(results):
    assert broken(TWO_STARTS, results, fleet(), fleet(A=VM1, B=OFF)) == [
        "a domain whose order was refused is unchanged"
    ]
    stops = [Stop(vm_name="vm1", undefine=result is REFUSED) for result in results]
    found = broken(stops, results, fleet(A=VM1), fleet())
    assert set(found) == {
        "a persistent domain stays defined",
        "a stopped domain keeps its definition",
    }


def test_one_of_two_stops_may_remove_the_definition():
    stops = [Stop(regex="vm.", undefine=True), Stop(vm_name="vm1")]
    assert broken(stops, [SUCCESS, SUCCESS], fleet(A=VM1), fleet()) == []
    found = broken(stops, [SUCCESS, SUCCESS], fleet(A=VM1), fleet(A=OFF))
    assert found == ["a successful stop vm has its end state"]


def test_change_that_all_members_refused_breaks_the_rule():
    found = broken(TWO_STARTS, [REFUSED, REFUSED], fleet(), fleet(A=VM1))
    assert found == ["a domain whose order was refused is unchanged"]


def test_seed_repeats_the_orders():
    again = scenarios(5, 4)
    assert again == scenarios(5, 4)
    assert sum(len(each.orders) for each in again) == 4


def test_failing_scenario_is_shortened_to_the_order_that_fails():
    """In this test, each order fails that migrates with two connections."""
    parameter = MigrateParameter(migration_type="live", parallel_connections=2, timeout=1)
    domains = tuple(
        PriorDomain(name=name, host="hostA", state="running", linux=False)
        for name in ("vm1", "unused")
    )

    def order(task):
        return Order(host="hostA", container=TaskContainer(tasks=[task]))

    scenario = Scenario(
        domains=domains,
        orders=(
            order(Stop(vm_name="vm1")),
            order(msgspec.structs.replace(MOVE, parameter=parameter)),
        ),
    )

    def run(candidate):
        task = candidate.orders[-1].container.tasks[0]
        options = task.parameter or MigrateParameter()
        if options.parallel_connections is None:
            return None
        outcome = Outcome(
            order=candidate.orders[-1], results=(), before=fleet(A=VM1), after=fleet(), fault=None
        )
        return Failure(
            scenario=candidate, outcome=outcome, violations=tuple(violations(outcome)), logs={}
        )

    shortest = shrink(run(scenario), run, 30).scenario
    assert [domain.name for domain in shortest.domains] == ["vm1"]
    assert [each.container.tasks[0].parameter for each in shortest.orders] == [
        MigrateParameter(parallel_connections=2)
    ]
