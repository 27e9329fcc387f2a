"""From the journal's records to the report of `query history`: selection, bounds, odd content."""

from datetime import UTC, datetime
from typing import Any

import pytest

from fastlib import Evacuate, QueryHistory, Result, ResultContainer, Start, Stop, TaskContainer
from fastlib.message import HistoryReport, HistoryResult, OrderReport
from fastlib.migfra.journal.records import Event, Record
from fastlib.migfra.tasks.history import (
    FIRST_EVENTS,
    MAX_CHARACTERS,
    MAX_DETAILS,
    MAX_EVENTS,
    MAX_NAMES,
    MAX_RESULTS,
    MAX_REWRITTEN,
    MAX_TEXT,
    instant,
    report_of,
)

T = 1_700_000_000.0


def record(number: int = 1, **changed: Any) -> Record:
    container = TaskContainer(tasks=[Stop(vm_name="vm1")], id="s")
    known: dict[str, Any] = {
        "number": number,
        "id": "s",
        "key": None,
        "host": "node01",
        "task": "stop vm",
        "vm_names": ("vm1",),
        "accepted": T,
        "began": T + 1,
        "answered": T + 2,
        "confirmed": T + 3,
        "state": "confirmed",
        "cancelled": False,
        "payload": container.to_yaml().encode(),
        "answer": answer(container, "success"),
        "events": (Event(None, T, "accepted"), Event(0, T + 1, "begun")),
    }
    return Record(**(known | changed))


def answer(container: TaskContainer, *statuses: Any, details: str | None = None) -> bytes:
    results = [
        Result(vm_name=f"vm{number}", status=status, details=details)
        for number, status in enumerate(statuses, 1)
    ]
    return ResultContainer.answer(container, results).to_yaml().encode()


def report(*records: Record, limit: int = 20, **asked: Any) -> HistoryReport:
    task = QueryHistory(**asked)
    return report_of(task, records, host="node01", since=T - 9, now=T + 9, limit=limit)


def order(one: Record, **asked: Any) -> OrderReport:
    (found,) = report(one, **asked).orders
    return found


def test_report_has_times_results_and_events_of_order():
    found = order(record(expires=T + 600.5))
    assert (found.number, found.id, found.task, found.vm_names) == (1, "s", "stop vm", ("vm1",))
    assert (found.accepted, found.began) == (instant(T), instant(T + 1))
    assert (found.answered, found.confirmed) == (instant(T + 2), instant(T + 3))
    assert found.expires == datetime(2023, 11, 14, 22, 23, 20, 500_000, UTC)
    assert (found.state, found.status) == ("ended", "success")
    assert list(found.results) == [Result(vm_name="vm1", status="success")]
    assert [(event.event, event.member) for event in found.events] == [
        ("accepted", None),
        ("begun", 0),
    ]
    assert found.text is not None
    assert "vm-name: vm1" in found.text


@pytest.mark.parametrize(
    ("changed", "state"),
    [
        ({"state": "unanswered", "began": None}, "queued"),
        ({"state": "unanswered"}, "running"),
        ({"state": "unanswered", "cancelled": True}, "cancelling"),
        ({"state": "answered", "cancelled": True}, "ended"),
        ({"state": "confirmed"}, "ended"),
    ],
)
def test_state_follows_from_record(changed: dict[str, Any], state: str):
    assert order(record(**changed)).state == state


def test_status_is_error_if_one_result_is():
    container = TaskContainer(tasks=[Stop(vm_name="vm1"), Stop(vm_name="vm2")])
    assert order(record(answer=answer(container, "success", "error"))).status == "error"


@pytest.mark.parametrize("unreadable", [None, b"no yaml: [", b"\xff\xfe"])
def test_answer_that_cannot_be_read_leaves_status_open(unreadable: bytes | None):
    found = order(record(answer=unreadable))
    assert (found.status, found.results) == (None, ())


def test_orders_come_newest_first_and_are_cut_to_limit():
    found = report(record(1), record(3), record(2), limit=2)
    assert [one.number for one in found.orders] == [3, 2]
    assert found.more
    assert report(record(1), record(2), limit=2).more is None


def test_running_orders_are_reported_beyond_the_limit():
    waiting = {"state": "unanswered", "answer": None, "answered": None, "confirmed": None}
    found = report(*(record(number, **waiting) for number in range(1, 8)), record(8), limit=3)
    assert [one.number for one in found.orders] == [8, 7, 6, 3, 2, 1]
    assert found.more
    hanging = report(record(1, **waiting), record(2), record(3), limit=1)
    assert [one.number for one in hanging.orders] == [3, 1]


def test_report_says_since_when_journal_knows_orders():
    found = report()
    assert (found.host, found.since, found.time) == ("node01", instant(T - 9), instant(T + 9))
    assert found.orders == ()


# --- the story of one domain ----------------------------------------------------------------------


MANY = TaskContainer(tasks=[Evacuate(destinations=["b"])], id="e")
EVACUATION = record(
    id="e",
    task="evacuate node",
    vm_names=("vm1", "vm2"),
    payload=MANY.to_yaml().encode(),
    answer=answer(MANY, "success", "error"),
    events=(
        Event(None, T, "accepted"),
        Event(0, T + 1, "begun"),
        Event(0, T + 2, "phase", "memory", "vm1"),
        Event(0, T + 3, "phase", "memory", "vm2"),
    ),
)


def test_order_found_by_domain_has_only_its_events_and_results():
    found = order(EVACUATION, order_id="vm2", vm_name="vm2")
    assert [(event.event, event.vm_name) for event in found.events] == [
        ("accepted", None),
        ("begun", None),
        ("phase", "vm2"),
    ]
    assert found.events_left_out == 1
    assert [result.vm_name for result in found.results] == ["vm2"]
    assert found.results_left_out == 1
    assert found.vm_names == ("vm2", "vm1")


@pytest.mark.parametrize("asked", [{"order_id": "e"}, {"key": "k"}])
def test_order_found_by_id_or_key_is_reported_completely(asked: dict[str, str]):
    one = Record(**({name: getattr(EVACUATION, name) for name in Record.__struct_fields__}
                    | {"key": "k"}))  # fmt: skip
    found = order(one, vm_name="vm2", **asked)
    assert (len(found.events), found.events_left_out) == (4, None)
    assert len(found.results) == 2


def test_events_of_members_have_their_domains():
    container = TaskContainer(tasks=[Stop(vm_name="vm1"), Stop(vm_name="vm2"), Stop(regex="a")])
    events = tuple(Event(position, T, "begun") for position in (0, 1, 2))
    one = record(vm_names=("vm1", "vm2"), payload=container.to_yaml().encode(), events=events)
    assert [event.vm_name for event in order(one).events] == ["vm1", "vm2", None]
    assert [event.member for event in order(one, vm_name="vm2").events] == [1, 2]


@pytest.mark.parametrize("payload", [None, b"task: of another version", b"{"])
def test_order_with_unreadable_text_is_reported_without_domains_of_members(payload: bytes | None):
    one = record(vm_names=("vm1", "vm2"), payload=payload, events=(Event(0, T, "begun"),))
    found = order(one)
    assert [event.vm_name for event in found.events] == [None]
    assert found.text == (None if payload is None else payload.decode())


# --- bounds and odd content -----------------------------------------------------------------------


def test_first_and_last_events_are_kept():
    events = tuple(Event(None, T + number, f"e{number}") for number in range(MAX_EVENTS + 7))
    found = order(record(events=events))
    kept = [event.event for event in found.events]
    assert len(kept) == MAX_EVENTS
    assert kept[FIRST_EVENTS - 1 : FIRST_EVENTS + 1] == [
        f"e{FIRST_EVENTS - 1}",
        f"e{FIRST_EVENTS + 7}",
    ]
    assert kept[-1] == f"e{MAX_EVENTS + 6}"
    assert found.events_left_out == 7


def test_names_results_details_and_text_are_cut():
    tasks = [Stop(vm_name=f"vm{number}") for number in range(MAX_NAMES + 5)]
    container = TaskContainer(tasks=tasks)
    one = record(
        vm_names=tuple(task.vm_name or "" for task in tasks),
        payload=container.to_yaml().encode() * 2,
        answer=answer(container, *["error"] * (MAX_RESULTS + 3), details="x" * 5000),
        events=(Event(None, T, "phase", "y" * 5000),),
    )
    found = order(one)
    assert (len(found.vm_names), found.vm_names_left_out) == (MAX_NAMES, 5)
    assert (len(found.results), found.results_left_out) == (MAX_RESULTS, 3)
    assert len(found.results[0].details or "") == MAX_DETAILS
    assert len(found.events[0].details or "") == MAX_DETAILS
    assert found.text is not None
    assert len(found.text) == MAX_TEXT + 1
    assert found.text.endswith("…")


def test_large_report_is_shortened_with_a_note():
    events = tuple(Event(None, T, "phase", "y" * 900) for _ in range(MAX_EVENTS))
    found = report(*(record(number, events=events) for number in range(1, 21)))
    assert found.more
    assert 1 <= len(found.orders) < 4
    assert found.orders[0].number == 20
    assert len(found.to_yaml()) < 2 * MAX_CHARACTERS


HOSTILE = "\x00\x1b[31m\u2028\x85\\N \udc80\U0001f600 ]: [fe80::]\r\n---"


def test_hostile_texts_can_be_sent():
    sound = HOSTILE.replace("\udc80", "")
    one = record(
        id=sound,
        key=HOSTILE,
        host=HOSTILE,
        task=HOSTILE,
        vm_names=(HOSTILE,),
        payload=HOSTILE.encode("utf-8", "surrogatepass") + b"\xff\xfe\x00",
        events=(Event(0, T, HOSTILE, HOSTILE, HOSTILE),),
    )
    container = TaskContainer(tasks=[QueryHistory()], id="q")
    result = HistoryResult(status="success", history=report(one))
    sent = ResultContainer.answer(container, [result])
    assert ResultContainer.from_yaml(sent.to_yaml().encode()) == sent


@pytest.mark.parametrize("seconds", [-1e18, -1.0, 1e18, float("inf"), float("-inf")])
def test_odd_clock_gives_time_that_can_be_sent(seconds: float):
    found = order(record(accepted=seconds))
    assert OrderReport.from_yaml(found.to_yaml()) == found


@pytest.mark.parametrize("left", ["payload", "answer"])
def test_order_of_an_older_fastlib_has_the_task_and_domains_of_its_text_or_answer(left: str):
    old: dict[str, Any] = {"task": None, "vm_names": (), "payload": None, "answer": None}
    old[left] = getattr(record(), left)
    found = order(record(**old))
    assert (found.task, found.vm_names) == ("stop vm", ("vm1",))


def test_unreadable_order_of_an_older_fastlib_has_no_task():
    for payload in (None, b"{"):
        found = order(record(task=None, vm_names=(), payload=payload, answer=None))
        assert (found.task, found.vm_names) == (None, ())


XML = "<domain><devices><graphics type='vnc' passwd='sesame'/></devices></domain>"
ORDER = TaskContainer(tasks=[Start(xml=XML), Start(vm_name="vm2")], id="s")
FLOW = ORDER.to_yaml(style="flow")


@pytest.mark.parametrize("text", [ORDER.to_yaml(), ORDER.to_yaml(style="literal"), FLOW])
def test_text_of_an_order_has_no_xml(text: str):
    found = order(record(payload=text.encode())).text
    assert found is not None
    assert "sesame" not in found
    assert f"{len(XML)} characters, not shown" in found
    assert "vm-name: vm2" in found


@pytest.mark.parametrize("text", [f"{FLOW}: [", f"{FLOW}{' ' * MAX_REWRITTEN}", f"a: {XML}"])
def test_text_of_a_broken_or_large_order_ends_before_its_xml(text: str):
    found = order(record(payload=text.encode())).text
    assert found is not None
    assert "sesame" not in found
    assert found.endswith("…")
    assert text.startswith(found[:-1])
