"""The benchmarks run, what they compare is right, and a library that is not installed is told.

Nothing here asserts a time: that is what the benchmarks themselves are run for.
"""

import itertools
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SMALL = ["quit", "stop-2", "migrate-full"]


@pytest.fixture(scope="module", autouse=True)
def _importable():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT)
        yield


def _run(*arguments, patience=120):
    return subprocess.run(
        [sys.executable, "-m", "benchmarks", *arguments],
        cwd=ROOT,
        capture_output=True,
        encoding="utf-8",
        env={"PYTHONIOENCODING": "utf-8"},
        timeout=patience,
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
    assert "transport" in asked.stdout
    assert "daemon" in asked.stdout
    assert "migration" in asked.stdout
    assert wrong.returncode == 2
    assert "nonsense" in wrong.stderr


def test_peak_memory_counts_what_a_load_holds():
    from benchmarks.memory import peak_of

    peak = peak_of(lambda text: [bytes(100_000) for _ in range(3)], b"")
    assert 300_000 <= peak < 310_000


# --- transport ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def transport():
    done = _run("transport", "--quick", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


def test_both_transports_are_timed(transport):
    rates = transport["messages-per-second"]
    assert list(rates) == [
        f"{until}, QoS {qos}" for until in ("confirmed", "received") for qos in (1, 2)
    ]
    for case, row in rates.items():
        assert list(row) == ["fastlib", "bare paho"]
        for figures in row.values():
            assert figures["best"] >= figures["median"] > 0
            assert figures["rounds"] == 2
        ratio = row["fastlib"]["best"] / row["bare paho"]["best"]
        assert transport["ratio"][case] == pytest.approx(ratio)
    assert list(transport["round-trip-ms"]) == ["one by one", "1,000 at once"]
    for row in transport["round-trip-ms"].values():
        assert list(row) == ["fastlib", "bare paho"]
        for figures in row.values():
            assert figures["p99"] >= figures["median"] > 0
    for figures in transport["round-trip-ms"]["1,000 at once"].values():
        assert figures["trips"] == 2000


def test_the_transport_target_is_the_worst_ratio(transport):
    (target,) = transport["targets"]
    assert target["value"] == min(transport["ratio"].values())
    assert target["met"] == (target["value"] >= 0.8)


def test_the_transport_tables_say_what_was_measured():
    from benchmarks.transport import Outcome, render

    outcome = Outcome(
        size=123,
        rates={
            "fast": {"fastlib": [1.0, 900.0], "bare paho": [1000.0]},
            "slow": {"fastlib": [70.0], "bare paho": [100.0, 90.0]},
        },
        trips={"one by one": {"fastlib": [0.001] * 99 + [0.5], "bare paho": [0.002] * 2}},
    )
    text = render(outcome)
    assert re.search(r"fast +900 +1,000 +0\.90", text)
    assert re.search(r"one by one +1\.00 / \d+\.\d\d +2\.00 / 2\.00", text)
    assert "the worst is slow: 0.70x - NOT met" in text


@pytest.mark.parametrize(
    ("missing", "remedy"),
    [("mosquitto", "apt-get install"), ("paho", "pip install '.[mqtt]'")],
)
def test_what_the_transport_benchmark_needs_is_told(missing, remedy, monkeypatch, capsys):
    from benchmarks import mosquitto, transport

    if missing == "mosquitto":
        monkeypatch.setattr(mosquitto.shutil, "which", lambda *_, **__: None)
    else:
        for module in ("pairs", "callers"):
            monkeypatch.delitem(sys.modules, f"benchmarks.{module}", raising=False)
        monkeypatch.setitem(sys.modules, "paho", None)
        for module in [name for name in sys.modules if name.startswith("paho.")]:
            monkeypatch.delitem(sys.modules, module)
    assert transport.main(["--quick"]) == 2
    assert remedy in capsys.readouterr().err


# --- daemon ---------------------------------------------------------------------------------------


def test_a_daemon_is_timed_beside_a_loop():
    done = _run("daemon", "--quick", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    outcome = json.loads(done.stdout)
    rates = outcome["tasks-per-second"]
    assert list(rates) == ["loop", "journal in memory", "migfra"]
    for name, figures in rates.items():
        assert figures["best"] >= figures["median"] > 0
        assert figures["rounds"] == 2
        ratio = figures["best"] / rates["loop"]["best"]
        assert outcome["ratio"][name] == pytest.approx(ratio)
    for figures in outcome["latency-ms"].values():
        assert figures["p99"] >= figures["median"] > 0
        assert figures["tasks"] == 60


def test_the_daemon_table_says_what_was_measured():
    from benchmarks.daemon import Outcome, render

    rates = {"loop": [1000.0, 2000.0], "journal in memory": [1500.0], "migfra": [500.0, 100.0]}
    latencies = {name: [0.001] * 99 + [0.5] for name in rates}
    text = render(Outcome(rates, latencies))
    assert re.search(r"loop +2,000 +1\.00 +1\.00 +\d+\.\d\d", text)
    assert re.search(r"migfra +500 +0\.25 ", text)


def test_without_mosquitto_the_daemon_benchmark_says_so(monkeypatch, capsys):
    from benchmarks import daemon, mosquitto

    monkeypatch.setattr(mosquitto.shutil, "which", lambda *_, **__: None)
    assert daemon.main(["--quick"]) == 2
    assert "apt-get install" in capsys.readouterr().err


# --- migration ------------------------------------------------------------------------------------


@pytest.mark.laboratory
def test_a_migration_is_timed_beside_virsh():
    from benchmarks import laboratory

    try:
        laboratory.check()
    except laboratory.NoLaboratoryError as error:
        pytest.skip(str(error))
    done = _run("migration", "--quick", "--json", patience=1200)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "evacuation: round 1 of 1" in done.stderr
    outcome = json.loads(done.stdout)
    bases = {"one domain": "virsh", "swap": "the larger alone", "evacuation": "four in a row"}
    for part, base in bases.items():
        seconds, ratio = outcome["seconds"][part], outcome["ratio"][part]
        assert list(seconds)[:2] == list(ratio)[:2] == ["fastlib", "virsh"]
        assert len(seconds) == len(ratio) == 3
        assert ratio[base] == 1
        for figures in seconds.values():
            assert 0 < figures["least"] <= figures["median"] <= figures["most"]
            assert figures["samples"] == 2  # there and back
        assert all(value > 0 for value in ratio.values())
    overhead, swap, evacuation = outcome["targets"]
    assert overhead["value"] == outcome["ratio"]["one domain"]["fastlib"]
    assert swap["value"] == outcome["ratio"]["swap"]["fastlib"]
    assert evacuation["value"] > 0
    assert overhead["met"] == (overhead["value"] < 1.1)
    assert swap["met"] == (swap["value"] <= 1.3)


@pytest.fixture
def migrated():
    from benchmarks.migration import Outcome

    return Outcome(
        {
            "one domain": {
                "fastlib": [1.0, 2.2, 6.0],
                "virsh": [1.0, 2.0, 5.0],
                "libvirt's call": [0.5, 1.0, 2.5],
            },
            "swap": {
                "fastlib": [1.5, 3.0],
                "virsh": [1.25, 2.5],
                "the larger alone": [1.0, 2.0],
            },
            "evacuation": {
                "fastlib": [2.0, 2.0],
                "virsh": [1.0, 1.0],
                "four in a row": [3.0, 3.0],
            },
        },
        load=(0.5, 3.0),
    )


def test_the_ratio_of_migrations_is_the_median_of_what_each_round_says(migrated):
    assert migrated.ratio("one domain", "fastlib", "virsh") == pytest.approx(1.1)
    values = [(pytest.approx(target.value), target.met) for target in migrated.targets()]
    assert values == [(1.1, False), (1.5, False), (1.5, False)]


def test_no_contender_is_always_first_or_behind_the_same_other():
    from benchmarks.migration import _order

    orders = [_order(["a", "b", "c"], number) for number in range(6)]
    assert sorted(orders) == sorted(map(list, itertools.permutations("abc")))


def test_an_evacuation_that_virsh_cannot_speed_up_either_is_the_machines_doing(migrated):
    migrated.seconds["evacuation"]["virsh"] = [1.6, 1.6]
    assert [target.met for target in migrated.targets()] == [False, False, None]


def test_the_migration_table_says_what_was_measured(migrated):
    pytest.importorskip("libvirt")
    from benchmarks.migration import render

    text = render(migrated)
    assert re.search(r"fastlib +2\.20 +1\.60 to 4\.10 +1\.00 +1\.10\n", text)
    assert "a swap takes at most 1.3x one migration of the larger: 1.50x - NOT met" in text
    migrated.seconds["evacuation"]["virsh"] = [1.6, 1.6]
    assert "not possible on this machine, four virsh at once reach 1.88x" in render(migrated)
    migrated.seconds["evacuation"]["fastlib"] = [1.5, 1.5]
    assert text.count("NOT met") == 3
    assert render(migrated).endswith("as fast as four in a row: 2.00x - met")


def test_virsh_is_asked_for_what_fastlib_asks_for():
    pytest.importorskip("libvirt")
    from benchmarks.movers import flags
    from fastlib import MigrateParameter
    from fastlib.migfra.hypervisors.libvirt.migration.arguments import migrate_arguments
    from fastlib.migfra.virt.migration_spec import MigrationSpec

    spec = MigrationSpec(
        name="vm1",
        source="hostA",
        destination="hostB",
        parameter=MigrateParameter(migration_type="live"),
    )
    uri = "qemu+tcp://hostB/system"
    arguments = migrate_arguments(spec, persistent=True, peer=uri, migration_uri=None)
    found = (arguments.flags, arguments.parameters, arguments.destination_uri)
    assert found == (flags(), {}, uri)


def test_without_a_laboratory_the_migration_benchmark_says_so(monkeypatch, capsys):
    from benchmarks import migration

    monkeypatch.syspath_prepend(ROOT / "tests")
    from tests.support.lab import requirements

    reason = "not installed: virsh; as root: tests/support/lab/install"
    monkeypatch.setattr(requirements, "missing", lambda: [reason])
    monkeypatch.setitem(sys.modules, "libvirt", None)
    assert migration.main(["--quick"]) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith(
        "python -m benchmarks migration: error: no laboratory on this machine: "
        f"{reason}; libvirt-python is not installed"
    )
    assert "tests/support/lab/install" in said.rpartition(";")[2]
