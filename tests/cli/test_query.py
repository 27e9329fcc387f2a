"""`fastlib query`: all hosts as a table, one host in detail, and the exact results."""

import json
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime

import pytest
import yaml

from fastlib import (
    HugePagesReport,
    NodeReport,
    NodeResult,
    NumaNodeReport,
    Query,
    ResultContainer,
    StoragePoolReport,
    TaskContainer,
    UnsettledReport,
)
from fastlib.cli import host_search
from fastlib.cli.commands import query
from fastlib.cli.commands.query import _EPILOG
from fastlib.message.node import DomainReport, TaskReport
from tests.support.mosquitto import PATIENCE, Mosquitto
from tests.support.shell import CONTROL, Daemon, address, run, run_bytes, run_on_terminal, silence
from tests.support.transport.subscription_rules import ChoosyMosquitto
from tests.support.waiting import try_with_more_time

GIB = 1 << 20
"""KiB in a GiB."""


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for no presence that this broker sends later, and long for answers."""
    monkeypatch.setattr(host_search, "QUIET_SECONDS", 0.0)
    monkeypatch.setattr(query, "ANSWER_SECONDS", float(PATIENCE))


@pytest.fixture
def cluster(mosquitto: Mosquitto) -> Iterator[Callable[..., Daemon]]:
    """Make daemons that show a presence and answer with a report."""
    with ExitStack() as stack:

        def make(host: str, *, presence: str | None = "{status: online, version: '1.0'}", **report):
            daemon = stack.enter_context(Daemon(mosquitto, host))
            daemon.answer = lambda container: answer(container, host, **report)
            if presence is not None:
                daemon.presence(presence)
            return daemon

        yield make


def answer(container: TaskContainer, host: str, **report) -> ResultContainer:
    known = {"host": host, "hypervisor": "qemu"} | report
    return ResultContainer.answer(
        container, [NodeResult(status="success", node=NodeReport(**known))]
    )


DOMAINS = (
    DomainReport(name="vm1", state="running", vcpus=4, memory=2 * GIB, managed_save=False),
    DomainReport(name="vm2", state="running"),
    DomainReport(name="vm3\033[31m", state="shut off", managed_save=True),
)


@pytest.mark.parametrize("hosts", [[], ["--host", "node01"]], ids=["all hosts", "one host"])
def test_closed_output_is_no_error(hosts, cluster, env):
    cluster("node01", domains=DOMAINS)
    done = run_bytes("query", *hosts, env=env, closed=["stdout"])
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_all_hosts_are_a_table_with_units_for_people(cluster, env):
    began = datetime.now(UTC).timestamp() - 90
    task = TaskReport(id="m1", task="migrate vm", state="running", since=began)
    known = {"cpus": 8, "memory": 32 * GIB, "free_memory": 12 * GIB + GIB // 4}
    cluster("node02", domains=DOMAINS, tasks=[task], **known)
    cluster("node01")
    cluster("node10", presence="{status: offline, version: '0.9', hypervisor: qemu}")
    done = run("query", env=env)
    assert (done.returncode, done.stderr) == (0, "")
    lines = [re.split(" {2,}", line) for line in done.stdout.splitlines()]
    assert lines == [
        ["host", "daemon", "hypervisor", "version", "CPUs", "memory", "free", "domains", "tasks"],
        ["node01", "online", "qemu", "1.0", "-", "-", "-", "none", "none"],
        ["node02", "online", "qemu", "1.0", "8", "32.0 GiB", "12.2 GiB", "2 running, 1 shut off",
         "1"],
        ["node10", "offline", "qemu", "0.9", "-", "-", "-", "-", "-"],
    ]  # fmt: skip
    assert len({line.index("qemu") for line in done.stdout.splitlines()[1:]}) == 1


def test_one_host_is_shown_with_its_domains_and_tasks(cluster, env):
    began = datetime.now(UTC).timestamp() - 90
    task = TaskReport(id="m1", task="migrate vm", vm_name="vm1", state="running", since=began)
    left = UnsettledReport(vm_name="vm1", source="node02", destination="node03", since=began)
    cluster("node02", domains=DOMAINS, tasks=[task], unsettled=[left],
            cpus=8, memory=32 * GIB, free_memory=GIB,
            versions={"libvirt": "9.0.0"}, capabilities={"a": "b"})  # fmt: skip
    done = run("query", "--host", "node02", env=env)
    assert (done.returncode, done.stderr) == (0, "")
    text = re.sub(r"9\d s", "90 s", done.stdout)
    assert text == (
        "node02: qemu, 8 CPUs, 32.0 GiB of memory, 1.0 GiB free\n"
        "versions: libvirt 9.0.0\n"
        "capabilities: see --format yaml\n"
        "domains:\n"
        "  name         state     vCPUs  memory   saved image\n"
        "  vm1          running   4      2.0 GiB  no\n"
        "  vm2          running   -      -        -\n"
        "  vm3\\x1b[31m  shut off  -      -        yes\n"
        "running and queued tasks:\n"
        "  id  task        VM   state    for\n"
        "  m1  migrate vm  vm1  running  90 s\n"
        "unsettled migrations:\n"
        "  VM   source  destination  for\n"
        "  vm1  node02  node03       90 s\n"
    )


def huge_pages(total: int, free: int | None) -> list[HugePagesReport]:
    return [
        HugePagesReport(size=2048, total=total, free=free),
        HugePagesReport(size=1 << 20, total=0, free=0),
    ]


def test_hardware_and_pools_of_one_host_are_shown(cluster, env):
    node = NumaNodeReport(
        id=0,
        cpus=range(0, 64, 2),
        memory=64 * GIB,
        free_memory=48 * GIB,
        huge_pages=huge_pages(1024, 512),
    )
    pools = [
        StoragePoolReport(name="default", type="dir", path="/var/lib/libvirt/images",
                          state="running", capacity=512000, free=204800),
        StoragePoolReport(name="remote", details="libvirt does not answer within 2 s"),
        StoragePoolReport(name="spare", type="netfs", path="/srv", state="inactive\033"),
    ]  # fmt: skip
    cluster("node02", cpu_model="Skylake", cpu_vendor="Intel", storage_pools=pools,
            numa_nodes=[node, NumaNodeReport(id=2, cpus=[])],
            huge_pages=huge_pages(2048, None))  # fmt: skip
    done = run("query", "--host", "node02", env=env)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == (
        "node02: qemu\n"
        "CPU model: Skylake (Intel)\n"
        "free huge pages: - of 2048 (2.0 MiB)\n"
        "NUMA nodes:\n"
        "  node  memory    free      free huge pages        CPUs\n"
        "  0     64.0 GiB  48.0 GiB  512 of 1024 (2.0 MiB)  0, 2, 4, 6, 8, 10, 12, 14,\n"
        "                                                   16, 18, 20, 22, 24, 26, 28,\n"
        "                                                   30, 32, 34, 36, 38, 40, 42,\n"
        "                                                   44, 46, 48, 50, 52, 54, 56,\n"
        "                                                   58, 60, 62\n"
        "  2     -         -         -                      none\n"
        "storage pools:\n"
        "  name     state         type   size       free       path\n"
        "  default  running       dir    500.0 GiB  200.0 GiB  /var/lib/libvirt/images\n"
        "  remote   -             -      -          -          (libvirt does not answer\n"
        "                                                      within 2 s)\n"
        "  spare    inactive\\x1b  netfs  -          -          /srv\n"
        "domains: none\n"
        "running and queued tasks: none\n"
    )
    assert all(len(line) <= 80 for line in done.stdout.splitlines())


def test_host_without_domains_is_shown(cluster, env):
    cluster("node01")
    done = run("query", "--host", "node01", env=env)
    assert done.stdout == "node01: qemu\ndomains: none\nrunning and queued tasks: none\n"


def test_json_and_yaml_are_the_exact_results(cluster, env):
    daemons = [cluster("node01", memory=32 * GIB + 1), cluster("node02", domains=DOMAINS)]
    done = run("query", "--format", "json", env=env)
    assert done.returncode == 0
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row["host"] for row in rows] == ["node01", "node02"]
    assert all(row.keys() == {"time", "host", "kind", "id", "message", "error"} for row in rows)
    expected = [
        answer(daemons[0].arrived[0], "node01", memory=32 * GIB + 1).emit(),
        answer(daemons[1].arrived[0], "node02", domains=DOMAINS).emit(),
    ]
    assert [row["message"] for row in rows] == expected
    assert daemons[0].received[0].tasks == (Query(),)
    done = run("query", "--format", "yaml", env=env)
    assert CONTROL.search(done.stdout) is None
    found = list(yaml.safe_load_all(done.stdout))
    nodes = [text["list"][0]["node"] for text in found if text]
    assert [node["host"] for node in nodes] == ["node01", "node02"]
    assert nodes[0]["memory"] == 32 * GIB + 1


def test_silent_daemon_is_an_error_and_the_others_are_shown(cluster, env):
    cluster("node01")
    cluster("node02").answer = silence

    def ask(timeout):
        done = run("query", "--timeout", timeout, env=env)
        assert done.returncode == 3
        assert re.search("^node02  silent ", done.stdout, re.MULTILINE)
        assert re.search("^node01  online ", done.stdout, re.MULTILINE)
        assert done.stderr == (
            f"fastlib query: error: node02: no answer within {timeout:g} s; it is online, so it "
            "may be busy, or the access list of the broker withholds messages: 'migfra --check "
            "--online' on its host tests that\n"
        )

    try_with_more_time(ask, (0.5, 5.0, 30.0))


def test_named_host_that_cannot_answer_is_an_error(cluster, env):
    cluster("node03", presence="{status: offline}")
    done = run("query", "--host", "node03", env=env)
    assert (done.returncode, done.stdout) == (3, "")
    assert "node03: it is offline; try again when its daemon runs" in done.stderr
    done = run("query", "--host", "nobody", "--timeout", "0.3", env=env)
    assert (done.returncode, done.stdout) == (3, "")
    assert "nobody: no answer within 0.3 s; it has reported no presence" in done.stderr
    assert "'fastlib query' lists the hosts" in done.stderr


def test_offline_host_is_an_error_only_if_it_is_named(cluster, env):
    cluster("node01")
    cluster("node03", presence="{status: offline}")
    done = run("query", env=env)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.search("^node03  offline ", done.stdout, re.MULTILINE)
    done = run("query", "--host", "node01", "--host", "node03", env=env)
    assert done.returncode == 3
    assert re.search("^node01  online ", done.stdout, re.MULTILINE)
    assert "node03: it is offline; try again when its daemon runs" in done.stderr


def test_errors_and_degraded_daemons_are_reported(cluster, env):
    def fail(container):
        return ResultContainer.answer(
            container, [NodeResult(status="error", details="no\033libvirt")]
        )

    cluster("node01").answer = fail
    cluster("node02", presence="{status: online, degraded: the disk is full}")
    done = run("query", env=env)
    assert done.returncode == 1
    assert re.search("^node02  degraded ", done.stdout, re.MULTILINE)
    assert done.stderr == (
        "fastlib query: error: node01: no\\x1blibvirt\n"
        "fastlib query: warning: node02 is degraded: the disk is full\n"
    )


def test_query_reports_that_no_daemon_exists(env, monkeypatch):
    monkeypatch.setattr(host_search, "SEARCH_SECONDS", 0.1)
    done = run("query", env=env)
    assert (done.returncode, done.stdout) == (3, "")
    assert "no daemon has reported its presence at this broker" in done.stderr


def test_table_on_a_terminal_has_colours_and_the_same_columns(cluster, env):
    cluster("node01", domains=DOMAINS)
    shown, status = run_on_terminal("query", env=env)
    assert status == 0
    assert "\033[1;32monline\033[m  qemu" in shown


@pytest.mark.parametrize("line", re.findall(r"^  (fastlib [^|\n]*)", _EPILOG, re.MULTILINE))
def test_example_in_help_succeeds(line, cluster, env):
    cluster("node01")
    cluster("node02")
    done = run(*line.split()[1:], env=env)
    assert (done.returncode, done.stderr) == (0, "")
    assert "node01" in done.stdout


def test_other_hosts_are_shown_if_broker_refuses_one(tmp_path):
    refused = "fast/migfra/hostB/result"
    with (
        ChoosyMosquitto(tmp_path / "broker", refused) as broker,
        Daemon(broker, "hostA") as one,
        Daemon(broker, "hostB") as other,
    ):
        for daemon in (one, other):
            daemon.presence()
            daemon.answer = lambda container, host=daemon.host: answer(container, host)
        done = run("query", env=address(broker))
    assert done.returncode == 3
    assert re.search(r"^hostA +online +qemu", done.stdout, re.MULTILINE)
    assert re.search(r"^hostB +silent", done.stdout, re.MULTILINE)
    reason = f"the broker refuses the subscription to '{refused}'"
    assert re.search(f"^fastlib query: error: hostB: .*{reason}", done.stderr, re.MULTILINE)


def test_hosts_are_in_natural_order_and_offline_ones_have_their_time(cluster, env):
    since = datetime(2026, 11, 1, 8, tzinfo=UTC).astimezone()
    cluster("node10")
    cluster("node9", presence=f"{{status: offline, time: '{since.isoformat()}'}}")
    cluster("node2")
    done = run("query", env=env)
    assert re.findall(r"^node\d+", done.stdout, re.MULTILINE) == ["node2", "node9", "node10"]
    assert f"node9   offline since {since:%Y-%m-%d %H:%M:%S}  " in done.stdout
