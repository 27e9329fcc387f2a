"""The history of an order, in words and lines of 80 columns."""

import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from fastlib import OrderEvent, OrderReport, Result
from fastlib.display.order_lines import brief, story
from fastlib.display.order_story import Place, focus_of, headline
from fastlib.display.text import age, columns, full_time, wrap
from tests.support.shell import CONTROL

ACCEPTED = datetime(2026, 11, 29, 3, 10, 0, 500_000, UTC)
NOW = ACCEPTED + timedelta(seconds=130)
PLACE = Place("node01", NOW)
SUBJECT = "'stop vm' of vm1 on node01"


@pytest.fixture(autouse=True)
def berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "Europe/Berlin")
        time.tzset()
        yield
    time.tzset()


def at(seconds: float) -> datetime:
    return ACCEPTED + timedelta(seconds=seconds)


def result(name: str, status: Any = "success", details: str | None = None) -> Result:
    return Result(vm_name=name, status=status, details=details)


def order(**changed: Any) -> OrderReport:
    known: dict[str, Any] = {
        "number": 7,
        "id": "s-1",
        "host": "node01",
        "task": "stop vm",
        "vm_names": ["vm1"],
        "state": "ended",
        "status": "success",
        "accepted": at(0),
        "began": at(0.25),
        "answered": at(10),
        "confirmed": at(10.5),
        "results": [result("vm1")],
        "events": [OrderEvent(time=at(0), event="accepted")],
    }
    return OrderReport(**(known | changed))


def waiting(**changed: Any) -> OrderReport:
    nothing = {"status": None, "began": None, "answered": None, "confirmed": None, "results": ()}
    return order(**({"state": "queued"} | nothing | changed))


def lines(one: OrderReport, place: Place = PLACE, *, full: bool = False) -> list[str]:
    return list(story(one, place, width=80, paint=lambda text, style: text, full=full))


FAILED = {"status": "error", "results": [result("vm1", "error", "no such domain")]}


@pytest.mark.parametrize(
    ("one", "said"),
    [
        (order(), f"{SUBJECT} succeeded at 04:10:10 (2 min ago)"),
        (order(**FAILED), f"{SUBJECT} failed at 04:10:10 (2 min ago)"),
        (
            order(**FAILED, began=None),
            f"{SUBJECT} was not begun; it was answered with an error at 04:10:10 (2 min ago)",
        ),
        (
            order(**FAILED, began=None, events=[OrderEvent(time=at(9), event="expired")]),
            f"{SUBJECT} was not begun, because it had expired; it was answered with an error "
            "at 04:10:10 (2 min ago)",
        ),
        (
            order(status="error", vm_names=["vm1", "vm2"],
                  results=[result("vm1"), result("vm2", "error")]),
            "'stop vm' of vm1, vm2 on node01 failed in part at 04:10:10 (2 min ago): "
            "1 of 2 results are errors",
        ),
        (
            order(status=None, results=()),
            f"{SUBJECT} ended at 04:10:10 (2 min ago); its results are not known",
        ),
        (waiting(), f"{SUBJECT} has not begun; accepted at 04:10:00 (2 min ago)"),
        (
            waiting(expires=at(200)),
            f"{SUBJECT} has not begun; accepted at 04:10:00 (2 min ago), expires at 04:13:20",
        ),
        (
            waiting(expires=at(60)),
            f"{SUBJECT} has not begun; accepted at 04:10:00 (2 min ago), and cannot begin, "
            "because it expired at 04:11:00 (70 s ago)",
        ),
        (
            waiting(state="running", began=at(1)),
            f"{SUBJECT} is running, begun at 04:10:01 (2 min ago)",
        ),
        (
            waiting(state="running", began=at(1), events=[
                OrderEvent(time=at(2), event="phase", details="memory 42 %"),
                OrderEvent(time=at(3), event="repeated"),
            ]),
            f"{SUBJECT} is running, begun at 04:10:01 (2 min ago); last report: memory 42 %",
        ),
        (
            waiting(state="cancelling"),
            f"{SUBJECT} is being cancelled; not begun, accepted at 04:10:00 (2 min ago)",
        ),
        (
            waiting(state="running", events=[
OrderEvent(time=at(9), event="recovered", details="its state is determined"),
            ]),
            f"{SUBJECT} is in progress; not begun, accepted at 04:10:00 (2 min ago); last report: "
            "its state is determined",
        ),
        (
            order(**FAILED, began=None, task=None),
            "'unknown task' of vm1 on node01 failed at 04:10:10 (2 min ago)",
        ),
        (
            waiting(state="dreaming"),
            f"{SUBJECT} is dreaming, accepted at 04:10:00 (2 min ago)",
        ),
        (order(host="old01"), "'stop vm' of vm1 on node01 (sent to old01) succeeded at 04:10:10 "
                              "(2 min ago)"),
        (order(task=None, vm_names=()), "'unknown task' on node01 succeeded at 04:10:10 "
                                        "(2 min ago)"),
        (
            order(task="migrate vm", text="{task: migrate vm, vm-name: vm1, destination: node02}"),
            "'migrate vm' of vm1 on node01 to node02 succeeded at 04:10:10 (2 min ago)",
        ),
        (
            order(task="migrate vm", text="{task: migrate vm, vm-name: vm1, desti…"),
            "'migrate vm' of vm1 on node01 succeeded at 04:10:10 (2 min ago)",
        ),
        (
            order(vm_names=[], text='{task: stop vm, list: [{regex: "web.*"}]}'),
            "'stop vm' by the regex 'web.*' on node01 succeeded at 04:10:10 (2 min ago)",
        ),
        (
            order(
                vm_names=["web1", "web2", "db1"],
                text='{task: stop vm, list: [{regex: "web.*"}, {vm-name: x}, {regex: db1}]}',
            ),
            "'stop vm' of web1, web2, db1 by the regex 'web.*', 'db1' on node01 succeeded at "
            "04:10:10 (2 min ago)",
        ),
        (
            order(vm_names=["a", "b", "c", "d"], vm_names_left_out=200),
            "'stop vm' of a, b, c and 201 more on node01 succeeded at 04:10:10 (2 min ago)",
        ),
    ],
)  # fmt: skip
def test_headline_describes_state_of_order(one: OrderReport, said: str):
    assert headline(one, PLACE) == said


def test_headline_names_the_queried_domain():
    one = order(task="evacuate node", status="error", vm_names=["vm2", "vm1"],
                results=[result("vm2")], results_left_out=1)  # fmt: skip
    assert headline(one, Place("node01", NOW, "vm2")) == (
        "'evacuate node' of vm2 (2 domains) on node01 succeeded at 04:10:10 (2 min ago)"
    )


def test_focus_is_domain_unless_name_is_orders_own():
    one = order(id="vm1", vm_names=["vm1", "vm2"], idempotency_key="k")
    assert focus_of(one, "vm1") is None
    assert focus_of(one, "vm2") == "vm2"
    assert focus_of(one, "k") is None
    assert focus_of(one, None) is None


def test_story_has_headline_then_reason_then_events():
    one = order(
        **FAILED,
        confirmed=None,
        expires=at(600),
        events=[
            OrderEvent(time=at(0), event="accepted"),
            OrderEvent(time=at(0.25), event="begun", member=0),
            OrderEvent(time=at(4), event="retry", details="retry 1 of 3 in 0.5 s: " + "why " * 20),
        ],
    )
    assert lines(one) == [
        "'stop vm' of vm1 on node01 failed at 04:10:10 (2 min ago)",
        "  error: no such domain",
        "  the broker has not confirmed the answer yet",
        "  id s-1, order 7",
        "  2026-11-29 (UTC+01:00)",
        "  04:10:00.500  accepted",
        "  04:10:00.750  begun",
        "  04:10:04.500  retry     retry 1 of 3 in 0.5 s: why why why why why why why why",
        "                          why why why why why why why why why why why why",
    ]


def test_order_that_has_not_begun_says_when_it_expires():
    assert lines(waiting(expires=at(600)))[2] == "  id s-1, order 7, expires 04:20:00"
    assert lines(waiting(expires=at(86_400)))[2].endswith("expires 2026-11-30 04:10:00")


def test_events_of_another_day_or_offset_get_a_heading():
    summer_ends = datetime(2026, 10, 25, 0, 59, 59, tzinfo=UTC)
    events = [
        OrderEvent(time=summer_ends + timedelta(seconds=seconds), event="phase")
        for seconds in (0, 1, 86_400)
    ]
    shown = lines(order(events=events))[2:]
    assert shown == [
        "  2026-10-25 (UTC+02:00)",
        "  02:59:59.000  phase",
        "  2026-10-25 (UTC+01:00)",
        "  02:00:00.000  phase",
        "  2026-10-26 (UTC+01:00)",
        "  01:59:59.000  phase",
    ]


def test_errors_of_many_domains_are_cut_unless_full():
    results = [result(f"vm{number}", "error", "no room") for number in range(9)]
    one = order(status="error", vm_names=[f"vm{n}" for n in range(9)], results=results)
    assert lines(one)[2:8] == [
        *(f"  vm{number}: error: no room" for number in range(5)),
        "  and 4 more errors: see --full",
    ]
    assert "  vm8: error: no room" in lines(one, full=True)


def test_full_story_has_key_and_text():
    one = order(text="task: stop vm\nid: s-1\n", idempotency_key="k-1", expires=at(600))
    assert "  id s-1, order 7, expires 04:20:00, key k-1" in lines(one, full=True)
    assert lines(one, full=True)[-3:] == [
        "  text of the order:",
        "    task: stop vm",
        "    id: s-1",
    ]
    assert "k-1" not in "\n".join(lines(one))


def test_left_out_events_are_counted():
    assert lines(order(events_left_out=1200))[-1] == "  1,200 events left out"


HOSTILE = "\x1b[31mred\x07\r\n\u202e日本語" + "x" * 200


def hostile() -> Sequence[OrderReport]:
    events = [OrderEvent(time=at(0), event=HOSTILE, vm_name=HOSTILE, details=HOSTILE)]
    texts = {"id": HOSTILE, "host": HOSTILE, "task": HOSTILE, "idempotency_key": HOSTILE}
    names = [HOSTILE, "vm2"]
    common: dict[str, Any] = {**texts, "vm_names": names, "events": events, "text": HOSTILE}
    return (
        order(**common, status="error", results=[result(HOSTILE, "error", HOSTILE)]),
        waiting(**common, state=HOSTILE),
        waiting(**common, state="running", began=at(1)),
    )


@pytest.mark.parametrize("one", hostile())
def test_hostile_texts_stay_on_lines_of_80_columns(one: OrderReport):
    shown = [*lines(one, full=True), *brief(one, PLACE, width=80)]
    for line in shown:
        assert not CONTROL.search(line)
        assert "\n" not in line
        assert line.isprintable()
        assert columns(line) <= 80


def test_wrapped_text_is_complete():
    text = "日本語 " * 30 + "x" * 100 + "  two blanks"
    shown = list(wrap(text, 20))
    assert all(columns(line) <= 20 for line in shown)
    assert "".join(shown).replace(" ", "") == text.replace(" ", "")
    assert list(wrap("", 20)) == [""]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-5, "0 s"), (0, "0 s"), (119, "119 s"), (120, "2 min"), (3599, "59 min"), (3600, "1 h"),
     (3660, "1 h 1 min"), (86_400, "1 day"), (1e9, "11,574 days")],
)  # fmt: skip
def test_age_is_short(seconds: float, text: str):
    assert age(seconds) == text


def test_time_has_its_zone():
    assert full_time(ACCEPTED) == "2026-11-29 04:10:00 UTC+01:00"


@pytest.mark.parametrize("kind", ["ended", "expired"])
@pytest.mark.parametrize("full", [False, True])
def test_reason_of_an_error_is_shown_once(kind: str, full: bool) -> None:
    reason = "never begun: the order expired"
    event = OrderEvent(time=at(9), event=kind, details=f"error after 0.100 s: {reason}")
    one = order(status="error", results=[result("vm1", "error", reason)], events=[event])
    told = "\n".join(lines(one, full=full))
    assert told.count(reason) == 1
    assert f"{kind}  error after 0.100 s" in told


def test_event_shows_reason_of_an_error_without_its_own_line() -> None:
    results = [result(f"vm{n}", "error", f"reason {n}") for n in range(8)]
    names = [one.vm_name for one in results]
    event = OrderEvent(time=at(9), event="ended", details="error: reason 7", vm_name="vm7")
    told = "\n".join(lines(order(status="error", vm_names=names, results=results, events=[event])))
    assert "vm7: error: reason 7" in told
