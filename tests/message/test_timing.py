"""Time measurements: the measured spans, and their wire form."""

import copy
import math
import pickle
import re
from types import SimpleNamespace

import pytest

import fastlib
from fastlib import Result, ResultContainer, TimeMeasurement, Timing, ValidationError
from fastlib.message import timing
from fastlib.message.node import Presence, Progress, TaskReport


@pytest.fixture
def clock(monkeypatch):
    """A clock that a test sets. It has binary fractions, so sums are exact."""
    clock = SimpleNamespace(now=1000.0, calls=0)

    def perf_counter():
        clock.calls += 1
        return clock.now

    monkeypatch.setattr(timing, "time", SimpleNamespace(perf_counter=perf_counter))
    return clock


# --- measuring ----------------------------------------------------------------------------------


def test_timer_measures_from_tick_to_tock(clock):
    measurement = TimeMeasurement()
    measurement.tick("overall")
    clock.now += 0.5
    measurement.tick("repin")
    clock.now += 0.25
    assert measurement.running == ("overall", "repin")
    assert measurement.timings == {}
    measurement.tock("repin")
    clock.now += 1
    measurement.tock("overall")
    assert measurement.running == ()
    # In the order in which they ended.
    assert list(measurement.timings.items()) == [
        ("repin", Timing(wall=0.25)),
        ("overall", Timing(wall=1.75)),
    ]


def test_measured_time_is_rounded_to_microseconds(clock):
    """The wire has no more decimals, so written and read values are equal."""
    measurement = TimeMeasurement()
    measurement.tick("overall")
    clock.now += 2.9998301159999983
    measurement.tock("overall")
    assert measurement.timings["overall"].wall == 2.99983


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (
            lambda seconds: Progress(vm_name="a", phase="memory", expected=seconds),
            "expected",
        ),
        (lambda seconds: TaskReport(state="running", task="stop vm", since=seconds), "since"),
        (lambda seconds: Presence(status="online", started=seconds), "started"),
    ],
)
def test_seconds_are_rounded_to_microseconds(make, text):
    assert f"{text}: 2.99983\n" in f"{make(2.9998301159999983).to_yaml()}\n"


def test_part_and_rate_of_progress_are_rounded():
    progress = Progress(phase="memory", percent=100 / 3, dirty_rate=2e9 / 3)
    text = progress.to_yaml()
    assert "percent: 33.333\n" in text
    assert "dirty-rate: 666666666.667\n" in text
    assert Progress.from_yaml(text) == progress
    assert Progress.from_yaml("{phase: memory, percent: 66.66666666666667}").percent == 66.667


def test_detailed_timings_begin_with_the_measurement(clock):
    measurement = TimeMeasurement(detailed=True)
    clock.now += 0.5
    measurement.tick("migrate")
    clock.now += 2
    measurement.tock("migrate")
    assert measurement.timings == {"migrate": Timing(wall=2, started=0.5, stopped=2.5)}


def test_block_is_measured(clock):
    measurement = TimeMeasurement()
    with measurement.measure("overall") as same:
        clock.now += 0.5
        with measurement.measure("repin"):
            clock.now += 0.25
    assert same is measurement
    assert measurement.timings == {"overall": Timing(wall=0.75), "repin": Timing(wall=0.25)}


def test_block_is_measured_also_when_it_raises(clock):
    measurement = TimeMeasurement()

    def lose():
        with measurement.measure("migrate"):
            clock.now += 0.5
            raise OSError("lost")

    with pytest.raises(OSError, match="lost"):
        lose()
    assert measurement.timings == {"migrate": Timing(wall=0.5)}
    assert measurement.running == ()


def test_timer_can_be_used_again(clock):
    measurement = TimeMeasurement()
    for seconds in (1, 2):
        with measurement.measure("migrate"):
            clock.now += seconds
    assert measurement.timings == {"migrate": Timing(wall=2)}


def test_disabled_measurement_has_no_effect(clock):
    measurement = TimeMeasurement(enabled=False, detailed=True)
    measurement.tick("a")
    measurement.tick("a")
    measurement.tock("never ticked")
    with measurement.measure("b"):
        pass
    with pytest.raises(KeyError), measurement.measure("c"):
        raise KeyError
    assert measurement.timings == {}
    assert measurement.running == ()
    assert not measurement
    assert clock.calls == 0


def test_wrong_order_of_calls_is_an_error():
    measurement = TimeMeasurement()
    with pytest.raises(ValueError, match="'a' does not run"):
        measurement.tock("a")
    measurement.tick("a")
    with pytest.raises(ValueError, match="'a' runs already"):
        measurement.tick("a")
    measurement.tock("a")
    with pytest.raises(ValueError, match="'a' does not run"):
        measurement.tock("a")


def test_real_clock_goes_forward():
    measurement = TimeMeasurement(detailed=True)
    with measurement.measure("outer"), measurement.measure("inner"):
        pass
    inner, outer = measurement.timings["inner"], measurement.timings["outer"]
    assert 0 <= inner.wall <= outer.wall < 60
    assert 0 <= outer.started <= inner.started <= inner.stopped <= outer.stopped


def test_measurement_is_true_if_it_has_timings():
    measurement = TimeMeasurement()
    assert not measurement
    measurement.tick("a")
    assert not measurement
    measurement.tock("a")
    assert measurement


def test_measured_times_cannot_be_changed_from_outside(clock):
    given = {"a": Timing(wall=1)}
    measurement = TimeMeasurement(given)
    given["b"] = Timing(wall=2)
    assert measurement.timings == {"a": Timing(wall=1)}
    measurement.timings["c"] = Timing(wall=3)
    assert measurement.timings == {"a": Timing(wall=1)}


def test_snapshot_stays_the_same(clock):
    measurement = TimeMeasurement()
    measurement.tick("overall")
    with measurement.measure("repin"):
        clock.now += 1
    snapshot = measurement.snapshot()
    measurement.tock("overall")
    assert snapshot.timings == {"repin": Timing(wall=1)}
    assert snapshot.running == ()
    assert not snapshot.enabled
    assert set(measurement.timings) == {"repin", "overall"}


def test_measurements_of_equal_timings_are_equal():
    one = TimeMeasurement({"a": Timing(wall=1), "b": Timing(wall=2)})
    other = TimeMeasurement({"b": Timing(wall=2), "a": Timing(wall=1)}, enabled=False)
    assert one == other
    assert hash(one) == hash(other)
    assert one != TimeMeasurement({"a": Timing(wall=1)})
    assert one != {"a": Timing(wall=1), "b": Timing(wall=2)}
    for again in (copy.copy(one), copy.deepcopy(one), pickle.loads(pickle.dumps(one))):
        assert again == one
    assert repr(one) == "TimeMeasurement({'a': Timing(wall=1.0), 'b': Timing(wall=2.0)})"


# --- on the wire --------------------------------------------------------------------------------

PLAIN = TimeMeasurement({"overall": Timing(wall=0.004711), "migrate-vm1": Timing(wall=2)})
DETAILED = TimeMeasurement({"overall": Timing(wall=1.5, started=0.125, stopped=1.625)})
MIXED = TimeMeasurement(
    {"a": Timing(wall=0), "b": Timing(wall=1e-06, started=1e22, stopped=123456.5)}
)


@pytest.mark.parametrize(
    ("measurement", "tree", "text"),
    [
        (
            PLAIN,
            {"overall": 0.004711, "migrate-vm1": 2.0},
            "---\noverall: 0.004711\nmigrate-vm1: 2.0\n---",
        ),
        (
            DETAILED,
            {"overall": "wall: 1.5 started: 0.125 stopped: 1.625"},
            '---\noverall: "wall: 1.5 started: 0.125 stopped: 1.625"\n---',
        ),
        (
            MIXED,
            {"a": 0.0, "b": "wall: 0.000001 started: 1.0e+22 stopped: 123456.5"},
            '---\na: 0.0\nb: "wall: 0.000001 started: 1.0e+22 stopped: 123456.5"\n---',
        ),
        (TimeMeasurement(), {}, "---\n{}\n---"),
    ],
)
def test_short_and_detailed_timings_are_written_and_read(measurement, tree, text):
    assert measurement.emit() == tree
    assert measurement.to_yaml() == text
    assert TimeMeasurement.from_yaml(text) == measurement
    assert TimeMeasurement.load(tree) == measurement
    assert TimeMeasurement.from_yaml(measurement.to_yaml(style="flow")) == measurement
    result = Result(vm_name="a", status="success", time_measurement=measurement)
    assert Result.from_yaml(result.to_yaml()) == result
    assert result.emit().get("time-measurement", {}) == tree


@pytest.mark.parametrize(
    ("text", "timings"),
    [
        ("overall: 1.5", {"overall": Timing(wall=1.5)}),
        ("overall: 2", {"overall": Timing(wall=2)}),
        ("overall: 1e-3", {"overall": Timing(wall=0.001)}),
        ("overall: '1.5'", {"overall": Timing(wall=1.5)}),
        ("{overall: 1.5, repin: 2}", {"overall": Timing(wall=1.5), "repin": Timing(wall=2)}),
        ("- overall: 1.5\n- repin: 2", {"overall": Timing(wall=1.5), "repin": Timing(wall=2)}),
        ("- overall: 1.5\n  repin: 2", {"overall": Timing(wall=1.5), "repin": Timing(wall=2)}),
        ("- overall: 'wall: 1 started: 0 stopped: 1'",
         {"overall": Timing(wall=1, started=0, stopped=1)}),
        ("overall: 'wall: 1.5 started: 0.1 stopped: 1.6'",
         {"overall": Timing(wall=1.5, started=0.1, stopped=1.6)}),
        ('overall: "  wall:  1.5   started: 0.1  stopped: 1.6 "',
         {"overall": Timing(wall=1.5, started=0.1, stopped=1.6)}),
        ("overall: |\n  wall: 1.5\n  started: 0.1\n  stopped: 1.6\n",
         {"overall": Timing(wall=1.5, started=0.1, stopped=1.6)}),
        ("overall:\n  wall: 1.5\n  started: 0.1\n  stopped: 1.6\n",
         {"overall": Timing(wall=1.5, started=0.1, stopped=1.6)}),
        ("overall: {wall: 1.5}", {"overall": Timing(wall=1.5)}),
        ("'': 1\n'a: b': 2\nü: 3",
         {"": Timing(wall=1), "a: b": Timing(wall=2), "ü": Timing(wall=3)}),
        ("[]", {}),
        ("{}", {}),
    ],
)  # fmt: skip
def test_every_form_of_timings_is_read(text, timings):
    measurement = TimeMeasurement.from_yaml(text)
    assert measurement == TimeMeasurement(timings)
    assert not measurement.enabled
    assert fastlib.validate(text, TimeMeasurement).problems == ()
    indented = text.replace("\n", "\n  ")
    result = Result.from_yaml(f"vm-name: a\nstatus: success\ntime-measurement:\n  {indented}\n")
    assert (result.time_measurement or TimeMeasurement()) == measurement


def test_nan_and_infinity_are_written_and_read():
    measurement = TimeMeasurement({"a": Timing(wall=math.nan), "b": Timing(wall=-math.inf)})
    assert measurement.to_yaml() == "---\na: .nan\nb: -.inf\n---"
    # A nan is no other nan, except that a message equals the one read of its text.
    assert TimeMeasurement.from_yaml(measurement.to_yaml()) == measurement


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("overall: long", ("value", "overall")),
        ("overall: 1,5", ("value", "overall")),
        ("overall: 1.5 s", ("value", "overall")),
        ("overall: ''", ("value", "overall")),
        ("overall: ~", ("value", "overall")),
        ("overall: 'wall: 1.5'", ("value", "overall")),
        ("overall: 'wall: 1.5 started: 0.1'", ("value", "overall")),
        ("overall: 'wall: 1 started: x stopped: 1'", ("value", "overall")),
        ("overall: 'started: 0 stopped: 1 wall: 1'", ("value", "overall")),
        ("overall: [1.5]", ("type", "overall")),
        ("overall: {wall: x}", ("value", "overall.wall")),
        ("overall: {started: 1, stopped: 2}", ("missing", "overall.wall")),
        ("overall: {wall: 1, started: 1}", ("rule", "overall")),
        ("overall: 1\noverall: 2", ("duplicate-key", "overall")),
        ("- overall: 1\n- overall: 2", ("duplicate-key", "overall")),
        ("- overall", ("value", "[0]")),
        ("overall", ("value", "")),
    ],
)
def test_wrong_timings_are_refused(text, problem):
    report = fastlib.validate(text, TimeMeasurement)
    assert [(p.code, p.path) for p in report.errors] == [problem]
    indented = text.replace("\n", "\n  ")
    text = f"vm-name: a\nstatus: success\ntime-measurement:\n  {indented}\n"
    code, path = problem
    below = f".{path}" if path and path[0] != "[" else path
    report = fastlib.validate(text, Result)
    assert [(p.code, p.path) for p in report.errors] == [(code, f"time-measurement{below}")]


def test_unknown_key_of_a_timing_is_a_warning():
    [problem] = fastlib.validate("overall: {wall: 1, start: 0}", TimeMeasurement).problems
    assert (problem.path, problem.suggestion) == ("overall.start", "started")


# --- in a result --------------------------------------------------------------------------------


def test_result_keeps_a_snapshot_of_timings(clock):
    measurement = TimeMeasurement()
    measurement.tick("overall")
    with measurement.measure("repin"):
        clock.now += 1
    result = Result(vm_name="a", status="success", time_measurement=measurement)
    before = hash(result)
    clock.now += 1
    measurement.tock("overall")
    assert result.time_measurement == TimeMeasurement({"repin": Timing(wall=1)})
    assert result.to_yaml().endswith("time-measurement:\n  repin: 1.0\n---")
    assert hash(result) == before


def test_measurement_without_timers_is_absent(clock):
    running = TimeMeasurement()
    running.tick("overall")
    for measurement in (TimeMeasurement(), TimeMeasurement(enabled=False), running, None):
        result = Result(vm_name="a", status="success", time_measurement=measurement)
        assert result.time_measurement is None
        assert "time-measurement" not in result.emit()


@pytest.mark.parametrize(
    ("timings", "path", "message"),
    [
        ({"a": 1.0}, "a", "expected a Timing; got 1.0"),
        ({"a": Timing(wall=1), "b": None}, "b", "expected a Timing; got None"),
        ({1: Timing(wall=1)}, "1", "expected text; got 1"),
        ({"\ud800": Timing(wall=1)}, "\ud800", r"expected text without .*; got .*"),
        ([("a", Timing(wall=1))], "", "expected a mapping; got .*"),
        ([], "", r"expected a mapping; got \[\]"),
    ],
)
def test_timings_of_the_wrong_kind_are_refused(timings, path, message):
    with pytest.raises(ValidationError) as caught:
        TimeMeasurement(timings)
    [problem] = caught.value.problems
    assert problem.path == path
    assert re.fullmatch(message, problem.message)


@pytest.mark.parametrize("name", [1, "\ud800"])
def test_result_checks_its_measurement(name):
    measurement = TimeMeasurement()
    with measurement.measure(name):
        pass
    for timings in (measurement, measurement.snapshot()):
        with pytest.raises(ValidationError) as caught:
            Result(vm_name="a", status="success", time_measurement=timings)
        assert [problem.path for problem in caught.value.problems] == [f"time-measurement.{name}"]


def test_timings_travel_in_a_container():
    text = """\
---
result: vm migrated
vm-name: vm1
status: success
time-measurement:
  - overall: 3.5
  - downtime-vm1: "wall: 0.5 started: 1.0 stopped: 1.5"
id: m
---"""
    container = fastlib.load(text)
    assert container == ResultContainer(
        result="vm migrated",
        results=[
            Result(
                vm_name="vm1",
                status="success",
                time_measurement=TimeMeasurement(
                    {
                        "overall": Timing(wall=3.5),
                        "downtime-vm1": Timing(wall=0.5, started=1, stopped=1.5),
                    }
                ),
            )
        ],
        id="m",
    )
    assert fastlib.load(container.to_yaml()) == container
    assert fastlib.validate(text).problems == ()
