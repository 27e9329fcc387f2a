"""Errors name a space that is missing after a colon or a dash."""

import pytest

import fastlib
from fastlib import Evacuate, Message, Repin, Start, Stop, TaskContainer
from fastlib.codec import composer

COLON, DASH = "a space is missing after ':'", "a space is missing after '-'"


def hints(text: str, cls: type[Message] | None = None) -> list[str]:
    """Return the hint of each problem that has one."""
    found = [str(problem) for problem in fastlib.validate(text, cls).problems]
    assert found
    return [problem.rpartition("; ")[2] for problem in found if "a space is missing" in problem]


@pytest.fixture(params=[True, False], ids=["C parser", "Python parser"], autouse=True)
def _parser(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param and not composer.HAS_C_PARSER:
        pytest.skip("PyYAML has no C parser")
    monkeypatch.setattr(composer, "HAS_C_PARSER", request.param)


@pytest.mark.parametrize(
    ("text", "cls", "hint"),
    [
        ("task:quit", None, COLON),
        ("{task:quit}", None, COLON),
        ("task:quit\n---\n", None, COLON),
        ("task:quit\nid: 3", None, f"{COLON} in line 1"),
        ("task:stop vm\n\nlist:\n- vm-name: a", None, f"{COLON} in line 1"),
        ("task: stop vm\nlist:\n  - vm-name:b", None, COLON),
        ("task: stop vm\nlist:\n- vm-name: a\n- vm-name:b\nid: 3", None, COLON),
        ("task: stop vm\nlist: [vm-name:b]", None, COLON),
        ("task: stop vm\nlist:\n-  vm-name:b\n   force: yes", None, f"{COLON} in line 3"),
        ("task: stop vm\nlist:\n- vm-name: a\n  force:true", None, f"{COLON} in line 4"),
        ("task: migrate vm\nvm-name:a\ndestination: b", None, f"{COLON} in line 2"),
        ("task: quit\nid:x\n---", None, f"{COLON} in line 2"),
        ("result:vm started\nlist: []", None, f"{COLON} in line 1"),
        ("vm-name:b", Stop, COLON),
        ("destinations:[a]", Evacuate, COLON),
        ("destinations: [a]\nparameter:\n  mode:auto", Evacuate, COLON),
        ("vcpu-map:[[0]]\nvm-name: a", Repin, f"{COLON} in line 1"),
        ("destinations:\n-a", Evacuate, f"{DASH} in line 2"),
        ("destinations:\n  -a\n", Evacuate, DASH),
        ("task: stop vm\nlist:\n-vm-name:b", None, f"{DASH} in line 3"),
    ],
)
def test_missing_space_is_named(text: str, cls: type[Message] | None, hint: str) -> None:
    assert hints(text, cls) == [hint]


def test_missing_space_of_an_ignored_key_is_named() -> None:
    """Every peer ignores the key. So a domain of the list is not stopped."""
    assert hints("{vm-name: a, force:true}", Stop) == [f"{COLON} (did you mean 'force'?)"]
    text = "task: stop vm\nlist:\n- vm-name: a\n-vm-name: b\n"
    assert hints(text, TaskContainer) == [DASH]


def test_hint_replaces_the_advice_to_quote() -> None:
    [problem] = fastlib.validate("task:quit\nid: 3").problems
    assert problem.message == f"a ':' is not allowed here; {COLON} in line 1"


@pytest.mark.parametrize(
    ("text", "cls"),
    [
        ("task=quit", None), ("12:30", None), ("http://a", None), ("a: b: c", Stop),
        ("'task:quit'", None), ("vm-name: a: b", Stop), ("::1", Stop), ("a:", Stop),
        ("vm-name: a\nx:y: b", Stop), ("xml: |\n  a:b\nc d: e: f", Start),
        ("vm-name: a\nforce:\n  true: x", Stop), ("xml: a\n  00:1b: c", Start),
        ("destinations: -1", Evacuate), ("destinations: '-a'", Evacuate), ("c d: e: f", Stop),
        ("\n\nc d: e: f", Stop), ("vcpu-map:\n  a\nb", Repin),
    ],
)  # fmt: skip
def test_other_errors_have_no_such_hint(text: str, cls: type[Message] | None) -> None:
    assert hints(text, cls) == []
