"""The benchmarks run, what they compare is right, and a library that is not installed is told.

Nothing here asserts a time: that is what the benchmarks themselves are run for.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SMALL = ["quit", "stop-2", "migrate-full"]


@pytest.fixture(scope="module", autouse=True)
def _importable():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT)
        yield


def _run(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "benchmarks", *arguments],
        cwd=ROOT,
        capture_output=True,
        encoding="utf-8",
        env={"PYTHONIOENCODING": "utf-8"},
        timeout=120,
    )


@pytest.fixture(scope="module")
def outcome():
    done = _run("codec", "--quick", "--json", "--only", ",".join(SMALL))
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


def _contenders():
    return [
        "fastlib", "PyYAML+msgspec", "mashumaro", "pydantic", "ruamel.yaml", "rapidyaml",
        "rapidyaml*",
    ]  # fmt: skip


def test_every_contender_is_there_or_told(outcome):
    from benchmarks.contenders import INSTALL, MODULES

    assert list(MODULES) == _contenders()
    missing = {absent["name"]: absent for absent in outcome["missing"]}
    assert set(outcome["contenders"]) | set(missing) == set(MODULES)
    assert "fastlib" in outcome["contenders"]
    assert all(absent["install"] == INSTALL for absent in missing.values())


@pytest.mark.parametrize("name", _contenders())
def test_contender_gives_the_message_and_is_timed(outcome, name):
    for absent in outcome["missing"]:
        if absent["name"] == name:
            pytest.skip(f"{name} is not compared ({absent['reason']}): {absent['install']}")
    assert not [wrong for wrong in outcome["wrong"] if wrong["name"] == name]
    directions = ["load"] if name.startswith("rapidyaml") else ["load", "emit"]
    for direction in directions:
        for message in SMALL:
            figures = outcome[direction]["messages"][message][name]
            assert 0 < figures["best-us"] <= figures["median-us"]
            assert figures["rounds"] >= 2
            assert figures["loops"] >= 1
        assert outcome[direction]["geometric-mean-us"][name] > 0
        assert outcome[direction]["geometric-mean-ratio"][name] > 0


def test_targets(outcome):
    assert list(outcome["bytes"]) == SMALL
    assert len(outcome["targets"]) == 4
    for target in outcome["targets"]:
        assert (target["met"] is None) == (target["value"] is None)


def test_the_eight_messages():
    from benchmarks.messages import MESSAGES

    assert len(MESSAGES) == 8
    sizes = {name: len(build().to_yaml()) for name, build in MESSAGES.items()}
    assert sizes["quit"] < sizes["stop-2"] < sizes["migrate-full"] < sizes["start-2-devices"]
    assert len(MESSAGES["start-4kb-xml"]().tasks[0].xml) == pytest.approx(4096, abs=100)
    assert sizes["results-10000"] == pytest.approx(476_000, rel=0.02)


def test_tables_without_the_contenders_that_are_not_installed(monkeypatch):
    from benchmarks import codec, contenders
    from benchmarks.messages import MESSAGES
    from benchmarks.timing import Effort

    for module in ("ryml", "yaml"):
        monkeypatch.setitem(sys.modules, module, None)
    for module in contenders.MODULES.values():
        monkeypatch.delitem(sys.modules, f"{contenders.__name__}.{module}", raising=False)
        monkeypatch.delattr(contenders, module, raising=False)
    tiny = Effort(rounds=2, sample=0.0001, case=0.01)
    outcome = codec.run({"results-64": MESSAGES["results-64"]}, tiny)
    text = codec.render(outcome)

    assert {"PyYAML+msgspec", "rapidyaml", "rapidyaml*"} <= {m.name for m in outcome.missing}
    assert text.count("pip install 'fastlib[bench]'") == len(outcome.missing)
    assert text.count("not measured") == 4
    assert "results-64" in text
    assert not outcome.wrong


def _broken(fault):
    from benchmarks.contenders import Contender
    from fastlib import TaskContainer

    def load(text):
        if fault == "raises":
            raise RuntimeError("no")
        if fault == "content":
            return TaskContainer.from_yaml("task: stop vm\nlist: [{vm-name: other}]")
        if fault == "untyped":
            return {"task": "quit"}
        return TaskContainer.from_yaml(text)

    return Contender(
        name="broken",
        how="wrongly",
        packages=(),
        load={"task": load},
        plain=lambda loaded: loaded if isinstance(loaded, dict) else loaded.emit(),
        emit=lambda loaded: "task: quit\nid: '1'",
    )


@pytest.mark.parametrize(
    ("fault", "direction", "reason"),
    [
        ("raises", "load", "RuntimeError: no"),
        ("content", "load", "content is not the message's"),
        ("untyped", "load", "plain dict"),
        ("text", "emit", "another message"),
    ],
)
def test_a_wrong_contender_is_told_and_not_timed(monkeypatch, fault, direction, reason):
    from benchmarks import codec
    from benchmarks.messages import MESSAGES
    from benchmarks.timing import Effort

    broken = _broken(fault)
    monkeypatch.setattr(codec, "find_contenders", lambda: ([broken], []))
    tiny = Effort(rounds=2, sample=0.0001, case=0.01)
    outcome = codec.run({"quit": MESSAGES["quit"]}, tiny)

    (wrong,) = outcome.wrong
    assert (wrong.name, wrong.message, wrong.direction) == ("broken", "quit", direction)
    assert reason in wrong.reason
    assert "broken" not in outcome.cases[direction]["quit"]
    assert "WRONG: broken" in codec.render(outcome)


def test_rounds_are_interleaved():
    from benchmarks.timing import Case, Effort, measure

    calls = []
    cases = [Case(name, calls.append, name) for name in "ab"]
    for case in cases:
        case.calibrate = lambda seconds: None
    measure(cases, Effort(rounds=2, sample=0.0, case=1.0))
    assert calls == ["a", "b", "b", "a"]
    assert [len(case.samples) for case in cases] == [2, 2]


def test_the_dispatcher_names_the_benchmarks():
    asked, wrong = _run(), _run("nonsense")
    assert asked.returncode == 0
    assert "codec" in asked.stdout
    assert "memory" in asked.stdout
    assert wrong.returncode == 2
    assert "nonsense" in wrong.stderr


def test_peak_memory_counts_what_a_load_holds():
    from benchmarks.memory import peak_of

    peak = peak_of(lambda text: [bytes(100_000) for _ in range(3)], b"")
    assert 300_000 <= peak < 310_000
