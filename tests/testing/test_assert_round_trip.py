"""`assert_round_trip`, and the pytest plug-in that gives it."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastlib.codec.shapes as shapes
from fastlib import Evacuate, Repin, Result, ResultContainer, Stop, TimeMeasurement, Timing
from fastlib.testing import assert_round_trip
from fastlib.testing.strategies import from_message
from tests.support.strategies import MESSAGES, examples, name_of

pytest_plugins = ["pytester"]


@pytest.mark.parametrize("cls", MESSAGES, ids=name_of)
@examples(3, 500)
@given(st.data())
def test_every_message_is_read_back_equal(cls: type[Any], data: st.DataObject) -> None:
    assert_round_trip(data.draw(from_message(cls)), seed=data.draw(st.integers(0, 2**32)))


@pytest.mark.parametrize("value", [None, "text", {"task": "quit"}, Stop])
def test_other_values_are_refused(value: object) -> None:
    with pytest.raises(TypeError, match="expected a type of message"):
        assert_round_trip(value)


def test_undeclared_result_title_is_accepted() -> None:
    assert_round_trip(ResultContainer(result="vm reborn", results=[]))


def told(message: Any, **options: Any) -> list[str]:
    with pytest.raises(AssertionError) as caught:
        assert_round_trip(message, **options)
    return str(caught.value).split("\n")


def test_difference_is_shown_with_the_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shapes.Choice, "dump", lambda _self, _value: "error")
    lines = told(Result(vm_name="a", status="success"))
    assert lines[:2] == [
        "Result: its plain tree reads back as another message",
        "  Result(vm_name='a', status='success'), not Result(vm_name='a', status='error'), "
        "although both are written in the same way",
    ]
    assert lines[2:] == ["written:", "  {'vm-name': 'a', 'status': 'error'}"]


def test_each_difference_has_its_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Repin, "to_yaml", lambda self, style: "vm-name: b\nvcpu-map: [[1]]\n")
    lines = told(Repin(vm_name="a", vcpu_map=[[0]]))
    assert lines[:3] == [
        "Repin: its text in the style 'block' reads back as another message",
        "  vm-name: 'a', not 'b'",
        "  vcpu-map[0][0]: 0, not 1",
    ]


def test_unreadable_text_is_shown_with_its_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Repin, "to_yaml", lambda self, style: "vm-name: b\n")
    lines = told(Repin(vm_name="a", vcpu_map=[[0]]))
    assert lines[0] == "Repin: its text in the style 'block' cannot be read back"
    assert "vcpu-map: missing" in lines[1]


def test_problems_of_validate_are_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    sound = Evacuate(destinations=["a"])
    text = sound.to_yaml()
    extended = text.replace("---\n", "---\nnobody: a\n", 1)
    monkeypatch.setattr(Evacuate, "to_yaml", lambda self, style="block": extended)
    lines = told(sound)
    assert lines[0] == "Evacuate: validate() reports problems of its own text"
    assert "nobody: unknown key" in lines[1]


def test_spellings_are_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader that takes no hexadecimal numbers is found out by them alone."""
    right = shapes.Int.from_text

    def wrong(self: shapes.Int, text: str) -> Any:
        return right(self, text.lower().replace("0x", "z"))

    monkeypatch.setattr(shapes.Int, "from_text", wrong)
    message = Repin(vm_name="a", vcpu_map=[[8, 9]] * 9)
    assert_round_trip(message, spellings=0)
    lines = told(message, spellings=100)
    assert lines[0] == "Repin: another spelling cannot be read back"
    assert "vcpu-map" in lines[1] or "vcpu-map" in lines[2]


def test_measurements_come_back() -> None:
    assert_round_trip(TimeMeasurement({"overall": Timing(wall=1.5)}))


# --- the plug-in ----------------------------------------------------------------------------------

USER = """
import sys


def test_import_is_lazy():
    assert "fastlib" not in sys.modules

def test_fixture_passes(assert_round_trip):
    import fastlib
    assert_round_trip(fastlib.Stop(vm_name="no"))

def test_fixture_fails(assert_round_trip, monkeypatch):
    import fastlib
    monkeypatch.setattr(fastlib.Stop, "to_yaml", lambda self, style: "vm-name: false")
    assert_round_trip(fastlib.Stop(vm_name="no"))
"""


def test_other_projects_have_the_fixture(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(USER)
    done = pytester.runpytest_subprocess(
        "-W", "error", "--strict-config", "-p", "no:hypothesispytest"
    )
    done.assert_outcomes(passed=2, failed=1)
    done.stdout.fnmatch_lines(
        ["*Stop: its text in the style 'block' reads back as another message"]
    )
    done.stdout.fnmatch_lines(["*vm-name: 'no', not 'false'"])
    done.stdout.no_fnmatch_line("*Traceback*")


def test_fixture_is_documented(pytester: pytest.Pytester) -> None:
    done = pytester.runpytest_subprocess("--fixtures", "-p", "no:hypothesispytest")
    done.stdout.fnmatch_lines(["assert_round_trip*", "*is equal in all its written forms*"])
