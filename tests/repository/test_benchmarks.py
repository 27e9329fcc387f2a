"""Each benchmark runs with a tiny effort, its contenders are right, and missing needs are reported.

No test asserts a time: a person runs the benchmarks for their times. `--long` also runs the
benchmark of migrations, in a laboratory of its own.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import __main__ as dispatcher
from benchmarks import (
    broker_capacity,
    codec,
    daemon,
    memory,
    migration,
    migration_ways,
    mosquitto,
    plots,
    scale,
    start,
    transport,
)
from benchmarks.timing import Case, Effort
from fastlib.extras import install_command
from tests.support.modules import missing_package

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def outcome_of(capsys):
    """Run a benchmark in this process, and return its outcome."""

    def run(*arguments):
        status = dispatcher.main([*arguments, "--json"])
        shown = capsys.readouterr()
        assert (status, shown.err) == (0, "")
        return json.loads(shown.out)

    return run


@pytest.mark.load
def test_codec_contenders_are_right_and_timed(outcome_of, monkeypatch):
    monkeypatch.setattr(codec, "QUICK", Effort(rounds=2, sample=0.0001, case=0.01))
    outcome = outcome_of("codec", "--quick", "--only", "quit,migrate-full,results-64")
    assert outcome["wrong"] == []
    missing = {absent["name"] for absent in outcome["missing"]}
    for direction in ("load", "emit"):
        for row in outcome[direction]["messages"].values():
            timed = {"fastlib", "PyYAML+msgspec"} | (
                {"rapidyaml"} if direction == "load" else set()
            )
            assert set(row) == timed - missing
            assert all(0 < case["best-us"] <= case["median-us"] for case in row.values())


@pytest.mark.load
def test_codec_prints_tables_without_missing_contender(monkeypatch, capsys):
    monkeypatch.setattr(codec, "QUICK", Effort(rounds=2, sample=0.0001, case=0.01))
    with missing_package("ryml", "benchmarks.contenders.rapidyaml"):
        assert dispatcher.main(["codec", "--quick", "--only", "quit"]) == 0
    shown = capsys.readouterr().out
    assert "missing: rapidyaml" in shown
    assert install_command("bench") in shown
    assert shown.count("not measured") == 2  # the targets that need rapidyaml
    assert "the fast reader of fastlib: pure Python" in shown


@pytest.mark.load
def test_codec_has_targets():
    def case(name, seconds):
        return Case(name, str, "", samples=[seconds])

    found = codec.Outcome(sizes={"quit": 1, "stop-2": 2})
    for direction in codec.DIRECTIONS:
        found.cases[direction] = {
            "quit": {n: case(n, s) for n, s in (("fastlib", 1.0), (codec.PEER, 27.0))},
            "stop-2": {n: case(n, s) for n, s in (("fastlib", 1.0), (codec.PEER, 3.0))},
        }
    assert [target.met for target in found.targets()] == [True, None, None, False, True]
    found.cases["load"]["quit"][codec.CEILING] = case(codec.CEILING, 2.0)
    found.cases["load"]["stop-2"][codec.CEILING] = case(codec.CEILING, 0.6)
    _, level, worst, *_ = found.targets()
    assert (level.value, level.met) == (pytest.approx(1.2**0.5), True)
    assert (worst.value, worst.met) == (0.6, False)
    assert worst.text.endswith("the worst is stop-2")


def test_memory_peak_is_measured(outcome_of, monkeypatch):
    monkeypatch.setattr(memory, "MESSAGE", "results-64")
    outcome = outcome_of("memory")
    assert outcome["bytes"] < min(outcome["peak-bytes"].values())


def test_transport_is_timed_beside_paho(monkeypatch):
    monkeypatch.setattr(transport, "AT_ONCE", 10)
    found = transport.run(transport.Effort(rounds=2, messages=20, trips=5))
    assert "x - " in transport.render(found).splitlines()[-1]  # the target
    outcome = json.loads(transport.to_json(found))
    assert len(outcome["messages-per-second"]) == 4
    assert len(outcome["round-trip-ms"]) == 2
    for row in (*outcome["messages-per-second"].values(), *outcome["round-trip-ms"].values()):
        assert list(row) == ["fastlib", "bare paho"]
        assert all(figures["median"] > 0 for figures in row.values())


@pytest.mark.load
def test_daemon_is_timed_beside_loop(monkeypatch):
    monkeypatch.setattr(daemon, "WINDOW", 5)
    found = daemon.run(daemon.Effort(rounds=1, tasks=5, single=3))
    assert all(name in daemon.render(found) for name in daemon.KINDS)
    outcome = json.loads(daemon.to_json(found))
    assert list(outcome["tasks-per-second"]) == ["loop", "journal in memory", "migfra"]
    assert list(outcome["latency-ms"]) == list(daemon.KINDS)
    for row in (outcome["tasks-per-second"], outcome["latency-ms"]):
        assert all(figures["median"] > 0 for figures in row.values())
    rate, delay = outcome["targets"]
    assert rate["value"] == outcome["ratio"]["migfra"]["median"]
    assert delay["value"] == outcome["latency-ratio"]["migfra"]["median"]


@pytest.mark.parametrize(
    ("rate", "seconds", "met"), [(80.0, 0.0017, [True, True]), (79.0, 0.0018, [False, False])]
)
def test_daemon_has_targets(rate, seconds, met):
    """The ratios are those within each round: in the second one everything is slow."""
    own = ([rate, rate / 10, 1.0], [[seconds], [seconds * 10], [1.0]])
    base = ([100.0, 10.0, 100.0], [[0.001], [0.01], [0.001]])
    found = daemon.Outcome(
        {"loop": base[0], "migfra": own[0], "journal in memory": own[0]},
        {name: base[1] if name == "loop" else own[1] for name in daemon.KINDS},
        {name: [0.001] * 3 for name in daemon.AT_ONCE},
    )
    assert [target.met for target in found.targets()] == met
    assert daemon.render(found).count("MISSED") == met.count(False)
    assert found.ratio("loop") == (1, 1, 1)


def test_spread_has_the_median_and_the_quartiles():
    assert daemon.spread([5.0, 1.0, 2.0, 4.0, 3.0]) == (3, 2, 4)
    assert daemon.spread([7.0]) == (7, 7, 7)


@pytest.mark.load
def test_start_is_timed_beside_the_import(outcome_of, monkeypatch):
    monkeypatch.setattr(start, "QUICK", 1)
    outcome = outcome_of("start", "--quick")
    for row in outcome["milliseconds"].values():
        assert list(row) == [start.NOTHING, start.BARE, start.RIGHT, start.WRONG]
        assert all(figures["best"] > 0 for figures in row.values())
    assert outcome["ratio"]["wall"][start.BARE] == 1
    one = start.Times(wall=1.0, cpu=0.5)
    found = start.Outcome({start.BARE: [one], start.RIGHT: [start.Times(wall=1.6, cpu=0.6)]})
    assert start.render(found).endswith("1.60x - NOT met")


PART = scale.Part(cpu_order=0.001, cpu_idle=0.01, memory=1 << 20)
SMALL = scale.Cluster(10, 500.0, 0.004, 0.02, PART, PART, PART, 18.0, 2.0, 2.0, 0.001)
LARGE = SMALL._replace(hosts=1000)
CAPACITY = broker_capacity.Capacity(1e5, 1e-5, 5e4, 2e-5, 9000.0, 1e-5, 1500.0)
SCALE = scale.Outcome([SMALL, LARGE], CAPACITY, (0.5, 1.0))


@pytest.mark.parametrize(
    ("large", "met"),
    [
        (LARGE, [True, True]),
        (LARGE._replace(scheduler=PART._replace(cpu_order=0.002)), [False, True]),
        (LARGE._replace(one_host_received=3.0), [True, False]),  # it hears other hosts
    ],
)
def test_targets_of_scale(large, met):
    found = SCALE._replace(clusters=[SMALL, large])
    assert [target.met for target in found.targets()] == met
    assert scale.render(found).count("NOT met") == met.count(False)


def test_capacity_of_a_broker_is_measured():
    effort = broker_capacity.Effort(messages=400, clients=3, pings=2, retained=10)
    found = broker_capacity.measure(effort)
    assert found.messages_per_second > 0
    assert found.bridged_per_second > 0
    assert min(found) >= 0  # so little takes less than a tick of the CPU's clock


def test_scale_is_measured(outcome_of, request, monkeypatch):
    if not request.config.getoption("--long"):
        pytest.skip("starts processes with daemons; with --long")
    monkeypatch.setattr(scale, "QUICK", scale.QUICK._replace(sizes=(1, 2)))
    outcome = outcome_of("scale", "--quick")
    assert [one["hosts"] for one in outcome["clusters"]] == [1, 2]
    for one in outcome["clusters"]:
        assert one["orders_per_second"] > 0
        assert one["packets"] >= 16  # QoS 2 takes four, from one program to the other eight
        assert one["one_host_received"] >= 1
        assert all(one[part]["memory"] > 0 for part in ("broker", "scheduler", "daemons"))


# --- plots ----------------------------------------------------------------------------------------

FIGURES = {"fastlib": {"best": 2.0, "median": 3.0, "p99": 4.0, "best-us": 1.0}}
OUTCOMES = {
    "codec": {way: {"messages": {"quit": FIGURES}} for way in ("load", "emit")},
    "memory": {"message": "quit", "peak-bytes": {"fastlib": 9}},
    "transport": {"messages-per-second": {"QoS 1": FIGURES}, "round-trip-ms": {"one": FIGURES}},
    "daemon": {"tasks-per-second": FIGURES, "latency-ms": FIGURES},
    "migration": {"seconds": {"swap": FIGURES}},
    "start": {"milliseconds": {"cpu": FIGURES}},
    "scale": json.loads(scale.to_json(SCALE)),
}


@pytest.mark.parametrize("name", dispatcher.BENCHMARKS)
def test_each_benchmark_has_a_plot(name):
    for part in plots.panels({"benchmark": name, **OUTCOMES[name]}):
        assert all(value > 0 for row in part.bars.values() for value in row.values())
        assert part.unit


@pytest.mark.load
def test_plot_is_drawn_from_a_run(tmp_path, monkeypatch, capsys):
    pytest.importorskip("matplotlib", reason="matplotlib is missing; it is in the extra bench")
    monkeypatch.setattr(memory, "MESSAGE", "results-64")
    file = tmp_path / "memory.svg"
    assert dispatcher.main(["memory", "--plot", str(file)]) == 0
    assert json.loads(capsys.readouterr().out)["benchmark"] == "memory"
    drawn = file.read_text("utf-8")
    assert drawn.startswith("<?xml")
    assert "peak of loading" in drawn


def test_missing_matplotlib_is_reported_before_the_measurement(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setattr(dispatcher, "_run", lambda *_: pytest.fail("it has measured"))
    assert dispatcher.main(["codec", "--plot", str(tmp_path / "a.png")]) == 2
    assert install_command("bench") in capsys.readouterr().err


def test_plot_without_a_file_is_wrong_usage(capsys):
    assert dispatcher.main(["codec", "--plot"]) == 2
    assert "--plot needs the name of a file" in capsys.readouterr().err


@pytest.mark.laboratory
def test_migration_is_timed_beside_virsh(request):
    if not request.config.getoption("--long"):
        pytest.skip("--long")
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "migration", "--quick", "--json"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=1200,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    outcome = json.loads(done.stdout)
    assert list(outcome["seconds"]) == list(migration_ways.PARTS)
    for part in migration_ways.PARTS:
        assert list(outcome["seconds"][part])[:2] == ["fastlib", "virsh"]
        assert all(figures["samples"] == 2 for figures in outcome["seconds"][part].values())


def test_migration_outcome_has_median_ratios_and_table():
    pytest.importorskip("libvirt")
    seconds = {
        "one domain": {"fastlib": [1.0, 2.2, 6.0], "virsh": [1.0, 2.0, 5.0]},
        "disk": {"fastlib": [1.2, 1.2, 2.2], "virsh": [1.0, 1.1, 2.0]},
        "encrypted": {"fastlib": [1.0, 2.0, 3.6], "virsh": [1.0, 1.0, 3.0]},
        "swap": {"fastlib": [1.5, 3.0], "virsh": [1.2, 2.5], "the larger alone": [1.0, 2.0]},
        "evacuation": {"fastlib": [2.0, 2.0], "virsh": [1.0, 1.0], "four in a row": [3.0, 3.0]},
    }
    outcome = migration.Outcome(seconds, load=(0.5, 3.0))
    values = [(pytest.approx(target.value), target.met) for target in outcome.targets()]
    assert values == [(1.1, False), (1.1, True), (1.2, False), (1.5, False), (1.5, False)]
    assert migration.render(outcome).count("NOT met") == 4
    found = json.loads(migration.to_json(outcome))
    assert found["ratio"]["one domain"]["virsh"] == 1
    assert found["ratio-quartiles"]["encrypted"]["fastlib"] == pytest.approx([1.1, 1.6])


def test_migration_measures_only_the_chosen_parts(capsys):
    pytest.importorskip("libvirt")
    outcome = migration.Outcome({"disk": {"fastlib": [1.0, 1.0], "virsh": [1.0, 1.0]}})
    assert [target.text for target in outcome.targets()] == [
        "with its disk at most 1.10x virsh --copy-storage-all"
    ]
    assert set(migration_ways.BASES) == set(migration_ways.PARTS) == set(migration.THOROUGH)
    with pytest.raises(SystemExit):
        migration.main(["--only", "disk,disc"])
    assert "no such part: disc" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "more"),
    [({}, ()), ({"copy_storage": "all"}, ("--copy-storage-all",)), ({}, ("--tls",))],
)
def test_virsh_gets_the_flags_of_fastlib(options, more):
    pytest.importorskip("libvirt")
    from benchmarks.movers import flags
    from fastlib import MigrateParameter
    from fastlib.migfra.hypervisors.libvirt.domain.volumes import Image
    from fastlib.migfra.hypervisors.libvirt.migration.arguments import migrate_arguments
    from fastlib.migfra.hypervisors.libvirt.migration.disks_check import CopyPlan, PlannedCopy
    from fastlib.migfra.virt.migration_spec import MigrationSpec

    spec = MigrationSpec(
        name="vm1",
        source="hostA",
        destination="hostB",
        parameter=MigrateParameter(migration_type="live", **options),
    )
    uri = "qemu+tcp://hostB/system"
    copy = PlannedCopy(target="hda", image=Image(path="/a", format="raw", capacity=1))
    arguments = migrate_arguments(
        spec,
        persistent=True,
        peer=uri,
        migration_uri=None,
        server_name="hostB" if "--tls" in more else None,
        plan=CopyPlan(copies=[copy] if options else []),
    )
    assert (arguments.flags, arguments.destination_uri) == (flags(more), uri)


@pytest.mark.parametrize("benchmark", [transport, daemon], ids=["transport", "daemon"])
def test_missing_mosquitto_is_reported(benchmark, monkeypatch, capsys):
    monkeypatch.setattr(mosquitto.shutil, "which", lambda *_, **__: None)
    assert benchmark.main(["--quick"]) == 2
    assert "apt-get install" in capsys.readouterr().err


def test_missing_laboratory_is_reported(monkeypatch, capsys):
    from tests.support.lab import requirements

    reason = "not installed: virsh; as root: tests/support/lab/install"
    monkeypatch.setattr(requirements, "missing", lambda: [reason])
    monkeypatch.setitem(sys.modules, "libvirt", None)
    assert migration.main(["--quick"]) == 2
    shown = capsys.readouterr().err
    assert f"error: no laboratory on this machine: {reason}; libvirt-python is not" in shown


def test_unknown_benchmark_is_wrong_usage(capsys):
    assert dispatcher.main(["nonsense"]) == 2
    assert "nonsense" in capsys.readouterr().err
    assert dispatcher.main([]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in dispatcher.BENCHMARKS)
