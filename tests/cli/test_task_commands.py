"""The commands of the tasks: derived from the declarations, sent, waited for, shown."""

import argparse
import json
import re
import shlex
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Literal

import pytest
import yaml
from msgspec import Meta

from fastlib import (
    Cancel,
    DeviceIvshmem,
    Evacuate,
    EvacuateParameter,
    Migrate,
    MigrateParameter,
    PciAddress,
    PciId,
    Quit,
    Repin,
    Result,
    ResultContainer,
    Resume,
    Start,
    Stop,
    Suspend,
    SwapWith,
    Task,
)
from fastlib.cli import COMMANDS
from fastlib.cli.arguments.parser import ArgumentParser
from fastlib.cli.arguments.task_names import task_commands
from fastlib.cli.commands.task import add_arguments
from fastlib.codec import Wire
from fastlib.message.task import declarations
from fastlib.message.topics import TASK
from tests.support.shell import CONTROL, Daemon, failure, run, silence

ROUTE = ["--from", "a", "--to", "b"]


def parsed(*arguments: str) -> tuple[str, Task]:
    """The host and the only task of a command line."""
    host, (task,) = parsed_tasks(*arguments)
    return host, task


def parsed_tasks(*arguments: str) -> tuple[str, list[Task]]:
    """The host and the tasks of a command line."""
    name, *rest = arguments
    declared = task_commands(COMMANDS)[name]
    parser = ArgumentParser(prog=f"fastlib {name}", allow_abbrev=False)
    add_arguments(parser, declared)
    options = parser.parse_args(rest)
    return options.host, options.task.tasks(options, parser)


# --- from a command line to a task ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "task"),
    [
        (["start", "vm1", "--host", "a"], Start(vm_name="vm1")),
        (["start", "no", "--host", "a", "--memory", "0x400"], Start(vm_name="no", memory=1024)),
        (
            ["start", "--host", "a", "vm1", "--memnode-map", "[[0], [1]]", "--no-probe-with-ssh",
             "--ivshmem", "{id: x, size: 64M}", "--pci-ids", "[{vendor: 0x15b3, device: 0x1004}]",
             "--devs", '[pci-addr: "0000:01:02.3"]', "--probe-hostname", "vm1.local"],
            Start(vm_name="vm1", memnode_map=[[0], [1]], probe_with_ssh=False,
                  ivshmem=DeviceIvshmem(id="x", size="64M"), probe_hostname="vm1.local",
                  pci_ids=[PciId(vendor=0x15B3, device=0x1004)],
                  devs=[PciAddress(bus=1, device=2, function=3)]),
        ),
        (["stop", "--regex", "vm.*", "--force", "--host", "a"], Stop(regex="vm.*", force=True)),
        (["stop", "vm1", "--no-force", "--host", "a"], Stop(vm_name="vm1", force=False)),
        (["suspend", "vm1", "--host", "a", "--driver", "qemu"],
         Suspend(vm_name="vm1", driver="qemu")),
        (["resume", "vm1", "--host", "a", "--no-concurrent-execution"],
         Resume(vm_name="vm1", concurrent_execution=False)),
        (["repin", "vm1", "--host", "a", "--vcpu-map", "[[0,1],[2]]"],
         Repin(vm_name="vm1", vcpu_map=[[0, 1], [2]])),
        (["migrate", "vm1", *ROUTE], Migrate(vm_name="vm1", destination="b")),
        (["migrate", "--host", "a", "--to", "b", "vm1"], Migrate(vm_name="vm1", destination="b")),
        (
            ["migrate", "vm1", *ROUTE, "--migration-type", "live", "--swap-with", "vm2",
             "--retry-counter", "3", "--migration-timeout", "60", "--rdma-migration",
             "--time-measurement"],
            Migrate(vm_name="vm1", destination="b", time_measurement=True,
                    parameter=MigrateParameter(migration_type="live", retry_counter=3, timeout=60,
                                               rdma_migration=True,
                                               swap_with=SwapWith(vm_name="vm2"))),
        ),
        (
            ["migrate", "vm1", *ROUTE, "--swap-with", "{vm-name: vm2, vcpu-map: [[0]]}"],
            Migrate(vm_name="vm1", destination="b", parameter=MigrateParameter(
                swap_with=SwapWith(vm_name="vm2", vcpu_map=[[0]]))),
        ),
        (
            ["evacuate", "--from", "a", "--to", "b", "c", "--to", "d", "--mode", "scatter"],
            Evacuate(destinations=["b", "c", "d"], parameter=EvacuateParameter(mode="scatter")),
        ),
        (["quit", "--host", "a"], Quit()),
        (["cancel", "x-1", "--host", "a"], Cancel(id="x-1")),
    ],
)  # fmt: skip
def test_command_line_builds_task(arguments, task):
    assert parsed(*arguments) == ("a", task)


@pytest.mark.parametrize(
    ("arguments", "tasks"),
    [
        (["start", "vm1", "vm2", "--host", "a", "--memory", "1024"],
         [Start(vm_name="vm1", memory=1024), Start(vm_name="vm2", memory=1024)]),
        (["stop", "--host", "a", "vm1", "vm2", "--force"],
         [Stop(vm_name="vm1", force=True), Stop(vm_name="vm2", force=True)]),
        (["suspend", "vm1", "vm2", "vm3", "--host", "a"],
         [Suspend(vm_name=name) for name in ("vm1", "vm2", "vm3")]),
        (["resume", "vm1", "vm2", "--host", "a"], [Resume(vm_name="vm1"), Resume(vm_name="vm2")]),
    ],
)  # fmt: skip
def test_each_of_several_domains_is_a_task_of_one_message(arguments, tasks):
    assert parsed_tasks(*arguments) == ("a", tasks)


def test_evacuation_has_the_timeout_of_its_migrations_under_the_same_name():
    arguments = ["evacuate", "--from", "a", "--to", "b", "--migration-timeout", "60"]
    assert parsed(*arguments)[1].parameter == EvacuateParameter(timeout=60)


def test_xml_option_reads_file(tmp_path):
    path = tmp_path / "vm.xml"
    path.write_text("<domain>\n  <name>ü</name>\n</domain>\n")
    _, task = parsed("start", "--host", "a", "--xml", str(path), "--transient")
    assert task == Start(xml=path.read_text(), transient=True)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["start", "--host", "a"], "needs VM or --xml"),
        (["start", "vm1", "--host", "a", "--transient"], "argument --transient: needs --xml"),
        (["start", "vm1"], "the following arguments are required: --host"),
        (["start", "vm1", "--host", "a", "--memory", "1GiB"],
         "argument --memory: expected an integer from 0 to 18446744073709551615, in KiB; "
         "got '1GiB'"),
        (["migrate", "vm1", *ROUTE, "--bandwidth-limit", "10MB/s"],
         "argument --bandwidth-limit: expected an integer from 0 to 4294967295, in MiB/s; "
         "got '10MB/s'"),
        (["start", "--host", "a", "--xml", "/missing"],
         "argument --xml: /missing: No such file or directory"),
        (["stop", "vm1", "--host", "a/b"],
         "argument --host: expected a name without '/', '+', '#' and NUL, "),
        (["migrate", "vm1", "--from", "a"], "the following arguments are required: --to"),
        (["migrate", "vm1", *ROUTE, "--migration-type", "lve"],
         "argument --migration-type: expected one of live, warm, offline; got 'lve' "
         "(did you mean 'live'?)"),
        (["migrate", "vm1", *ROUTE, "--retry-counter", "-1"],
         "argument --retry-counter: expected an integer from 0 to 4294967295; got '-1'"),
        (["migrate", "vm1", *ROUTE, "--swap-with", "{vm-name: a, x: 1}"],
         "argument --swap-with: line 1, column 14: x: unknown key"),
        (["migrate", "vm1", *ROUTE, "--timeout", "0"],
         "argument --timeout: expected a number of seconds above 0; got '0'"),
        (["repin", "vm1", "--host", "a"], "the following arguments are required: --vcpu-map"),
        (["repin", "vm1", "--host", "a", "--vcpu-map", "[[0, x]]"],
         "argument --vcpu-map: line 1, column 6: [0][1]: expected an integer from 0 to "),
        (["repin", "vm1", "--host", "a", "--vcpu-map", "[["], "argument --vcpu-map: "),
        (["repin", "vm\udcff", "--host", "a", "--vcpu-map", "[[0]]"], "argument VM: "),
        (["cancel", "--host", "a"], "the following arguments are required: ID"),
        (["cancel", "x", "--id", "y", "--host", "a"], "unknown option --id "),
        (["stop", "vm1", "--host", "a", "--host", "b"],
         "argument --host: given twice with different values; give it once"),
        (["migrate", "vm1", "--from", "a", "--host=b", "--to", "c"],
         "argument --from/--host: given twice with different values; give it once"),
        (["migrate", "vm1", *ROUTE, "--to", "elsewhere"],
         "argument --to: given twice with different values; give it once"),
        (["suspend", "vm1", "--host", "a", "--id", "x", "--id", "y"],
         "argument --id: given twice with different values; give it once"),
        (["stop", "vm1", "vm2", "vm1", "--host", "a"], "argument VM: 'vm1' is given twice"),
        (["start", "vm1", "vm2", "--xml", "/dev/null", "--host", "a"],
         "argument --xml: goes with at most one VM; got 2"),
        (["stop", "vm1", "vm2", "--regex", "x", "--host", "a"],
         "argument --regex: goes with at most one VM; got 2"),
        (["repin", "vm1", "vm2", "--host", "a", "--vcpu-map", "[[0]]"],
         "unexpected argument 'vm2'; "),
        (["migrate", "vm1", *ROUTE, "--parameter-timeout", "60"],
         "unknown option --parameter-timeout (did you mean '--migration-timeout'"),
    ],
)  # fmt: skip
def test_invalid_task_is_wrong_usage(arguments, error, capsys):
    with pytest.raises(SystemExit) as ended:
        parsed(*arguments)
    assert ended.value.code == 2
    *usage, last = capsys.readouterr().err.splitlines()
    assert usage[0].startswith("usage: fastlib ")
    assert len(usage) == 1
    assert last.startswith(f"fastlib {arguments[0]}: error: {error}")


# --- which commands and options there are ---------------------------------------------------------


def test_every_declared_task_has_command_and_every_field_has_option():
    commands = task_commands(COMMANDS)
    ours = [d for d in declarations() if d.type.__module__.startswith("fastlib.")]
    without = [declared for declared in ours if not declared.has_command]
    # `fastlib query` and `fastlib log` send these.
    assert [declared.task for declared in without] == ["query node", "query history"]
    assert not [name for name, declared in commands.items() if declared in without]
    for declared in ours:
        assert declared in without or commands[declared.task.split()[0]] is declared
    for name, declared in commands.items():
        parser = argparse.ArgumentParser(name)
        add_arguments(parser, declared)
        dests = set(vars(parser.parse_known_args(_needed(parser))[0]))
        fields = set(declared.type.__struct_fields__)
        nested = {"parameter": {Migrate: MigrateParameter, Evacuate: EvacuateParameter}}
        for field in fields - nested.keys() - {"extensions"}:  # they have options of their own
            assert f"task.{field}" in dests
        if "parameter" in fields:
            for field in nested["parameter"][declared.type].__struct_fields__:
                assert f"parameter.{field}" in dests


def _needed(parser: argparse.ArgumentParser) -> list[str]:
    usage = parser.format_usage().split(maxsplit=2)[2].replace("[OPTION ...]", "")
    return ["[[0]]" if word == "YAML" else word.strip("[]") for word in usage.split()]


@pytest.mark.usefixtures("isolated_registry")
def test_field_named_like_command_option_gets_prefix(capsys):
    class Odd(Task, task="odd job", result="odd job done"):
        """100% odd."""

        vm_name: Annotated[str, Wire("Name of the domain.")]
        format: Annotated[Literal["qcow2", "raw"] | None, Wire("Format, 50% of it.")] = None
        wait: Annotated[bool | None, Wire("A switch.")] = None
        help: Annotated[str | None, Wire("Some text.")] = None
        host: Annotated[str | None, Wire("Some host.")] = None
        keep: Annotated[int, Meta(ge=1, le=365), Wire("How long.", unit="days")] = 7
        odd_words: Annotated[Sequence[Literal["a b", "[c"]], Wire("Odd words.")] = ()
        numbers: Annotated[Sequence[Annotated[int, Meta(ge=0, le=9)]], Wire("Numbers.")] = ()

    arguments = ["odd", "vm1", "--host", "a", "--task-format", "raw", "--task-wait", "--task-help"]
    arguments += ["x", "--task-host", "b", "--odd-words", "a b", "[c", "--numbers", "1"]
    arguments += ["--numbers", "2"]
    assert parsed(*arguments) == (
        "a",
        Odd(vm_name="vm1", format="raw", wait=True, help="x", host="b", odd_words=["a b", "[c"],
            numbers=[1, 2]),
    )  # fmt: skip
    with pytest.raises(SystemExit) as ended:
        parsed(arguments[0], "--help")
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    assert "100% odd." in shown
    assert "Format, 50% of it." in shown
    assert "How long. In days." in shown


@pytest.mark.usefixtures("isolated_registry")
def test_field_with_a_time_takes_a_time_with_a_zone(capsys):
    class Snapshot(Task, task="snapshot vm", result="snapshot taken"):
        """Keep the state."""

        vm_name: Annotated[str, Wire("Name of the domain.")]
        keep_until: Annotated[datetime | None, Wire("When it may be deleted.")] = None
        expires: Annotated[datetime | None, Wire("A field named like a common option.")] = None

    times = ["--keep-until", "2026-12-24 20:00:00+01:00", "--task-expires", "2026-12-24T20:00:00Z"]
    _, task = parsed("snapshot", "vm1", "--host", "a", *times)
    assert task.keep_until == datetime(2026, 12, 24, 19, tzinfo=UTC)
    assert task.expires == datetime(2026, 12, 24, 20, tzinfo=UTC)
    with pytest.raises(SystemExit):
        parsed("snapshot", "vm1", "--host", "a", "--keep-until", "2026-12-24T20:00:00")
    error = capsys.readouterr().err
    assert "such as 2026-11-29T06:30:00Z" in error
    assert "did you mean '2026-12-24T20:00:00Z'?" in error
    with pytest.raises(SystemExit):
        parsed("snapshot", "--help")
    assert "--keep-until TIME" in capsys.readouterr().out


@pytest.mark.usefixtures("isolated_registry")
def test_command_name_is_first_free_word_of_title():
    class One(Task, task="send file", result="file sent"):
        """Send a file."""

    class Two(Task, task="migrate storage", result="storage migrated"):
        """Move files."""

    class Three(Task, task="clone vm", result="vm cloned"):
        """Copy a domain."""

    class Four(Task, task="clone disk", result="disk cloned"):
        """Copy a disk."""

    class Five(Task, task="watch", result="watched"):
        """Nothing of ours."""

    names = {declared.type: name for name, declared in task_commands(COMMANDS).items()}
    assert names[Migrate] == "migrate"
    assert [names[cls] for cls in (One, Two, Three, Four, Five)] == [
        "send-file",
        "migrate-storage",
        "clone-vm",
        "clone-disk",
        "watch-task",
    ]


EXTENSION = '''
from typing import Annotated, Literal
from fastlib import Task
from fastlib.codec import Wire

class Snapshot(Task, task="snapshot vm", result="vm snapshotted", key="snapshots"):
    """Keep a domain's state."""

    vm_name: Annotated[str, Wire("Name of the domain.")]
    format: Annotated[Literal["qcow2", "raw"] | None, Wire("Format of the file.")] = None
'''


SNAPSHOT = {"task": "snapshot vm", "snapshots": [{"vm-name": "vm1", "format": "raw"}]}


def test_task_of_installed_package_has_command(install, env, daemon):
    install("acme_snapshots", EXTENSION)
    assert re.search("\n  snapshot +keep a domain's state\n", run("--help").stdout)
    arguments = ("snapshot", "vm1", "--host", "hostA", "--task-format", "raw", "--no-wait")
    done = run(*arguments, env=env)
    assert (done.returncode, done.stderr) == (0, "")
    assert daemon.wait().emit() == SNAPSHOT | {"id": done.stdout.strip()}


def test_watch_shows_task_of_installed_package(install, env, mosquitto):
    install("acme_snapshots", EXTENSION)
    with Daemon(mosquitto, "hostB") as daemon:
        daemon.answer = silence
        daemon.presence()

        def send(stdout):
            stdout.until("online")  # the retained presence comes once the command has subscribed
            daemon.communicator.send(json.dumps(SNAPSHOT).encode(), TASK("hostB"))

        done = run(
            *("watch", "--host", "hostB", "--tasks", "--presence", "--count", "2"),
            *("--format", "json"),
            env=env,
            during=send,
        )
    assert done.returncode == 0
    assert json.loads(done.stdout.splitlines()[1])["message"] == SNAPSHOT


def test_broken_package_is_reported_and_other_commands_work(install, env, daemon):
    install("acme_missing")
    done = run("snapshot", "vm1", env=env)
    assert done.returncode == 2
    assert done.stderr.startswith("fastlib: warning: acme 1.0: the extension ")
    assert "unknown command 'snapshot'" in done.stderr
    assert run("quit", "--host", "hostA", env=env).returncode == 0


# --- sent and waited for --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["start", "vm1"], "vm started: vm1: success"),
        (["stop", "vm1"], "vm stopped: vm1: success"),
        (["suspend", "vm1"], "vm suspended: vm1: success"),
        (["resume", "vm1"], "vm resumed: vm1: success"),
        (["repin", "vm1", "--vcpu-map", "[[0]]"], "vm repinned: vm1: success"),
        (["migrate", "vm1", "--to", "hostB"], "vm migrated: vm1: success"),
        (["evacuate", "--to", "hostB", "hostC"], "node evacuated: success"),
        (["quit"], "quit: success"),
        (["cancel", "x"], "task cancelled: success"),
    ],
)
def test_each_task_command_prints_result(arguments, line, env, daemon):
    done = run(*arguments, "--host", "hostA", env=env)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"hostA {daemon.received[0].id} {line}\n"


def test_several_domains_have_a_result_each(env, daemon):
    def answer(container):
        results = [
            Result(vm_name=task.vm_name, status=status, details=details)
            for task, status, details in zip(
                container.tasks, ("success", "error"), (None, "no such domain"), strict=True
            )
        ]
        return ResultContainer.answer(container, results)

    daemon.answer = answer
    done = run("start", "vm1", "vm2", "--host", "hostA", "--id", "s1", env=env)
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout == (
        "hostA s1 vm started: vm1: success\nhostA s1 vm started: vm2: error: no such domain\n"
    )
    assert len(daemon.received) == 1


@pytest.mark.parametrize("number", [0, 1])
def test_missing_result_is_a_failure(number, env, daemon):
    daemon.answer = lambda container: ResultContainer.answer(
        container, [Result(vm_name="vm1", status="success")][:number]
    )
    done = run("suspend", "vm1", "vm2", "--host", "hostA", "--id", "s1", env=env)
    assert done.returncode == 1
    missing = ["vm1, vm2", "vm2"][number]
    assert f"hostA answered without a result for {missing}; check the domains" in done.stderr


def commands_of_examples():
    """The examples in the help of each task of fastlib."""
    for name, declared in task_commands(COMMANDS).items():
        parser = ArgumentParser(prog=f"fastlib {name}")
        add_arguments(parser, declared)
        listed = re.findall(r"^  (fastlib .*)$", parser.epilog, re.MULTILINE)
        assert listed
        yield from listed


@pytest.mark.parametrize("line", list(commands_of_examples()))
def test_example_in_help_succeeds(line, env, mosquitto, tmp_path, monkeypatch):
    (tmp_path / "vm1.xml").write_text("<domain><name>vm1</name></domain>")
    monkeypatch.chdir(tmp_path)
    with Daemon(mosquitto, "node01"):
        done = run(*shlex.split(line)[1:], env=env)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.usefixtures("isolated_registry")
def test_help_of_another_packages_task_shows_its_usage_as_example(capsys):
    class Clone(Task, task="clone vm", result="vm cloned"):
        """Copy a domain."""

        vm_name: Annotated[str, Wire("Name of the domain.")]
        target: Annotated[str, Wire("Name of the copy.")]

    with pytest.raises(SystemExit):
        parsed("clone", "--help")
    shown = capsys.readouterr().out
    assert "\n  fastlib clone --host node01 VM [VM ...] --target TEXT\n" in shown


def test_no_wait_prints_id(env, daemon):
    daemon.answer = silence
    arguments = ("migrate", "vm1", "--from", "hostA", "--to", "hostB", "--no-wait")
    done = run(*arguments, "--id", "my id", env=env)
    assert (done.returncode, done.stdout, done.stderr) == (0, "my id\n", "")
    assert daemon.wait().id == "my id"


def test_failed_task_fails_command(env, daemon):
    daemon.answer = failure
    done = run("start", "vm1", "--host", "hostA", env=env)
    assert done.returncode == 1
    assert CONTROL.search(done.stdout) is None
    assert "vm started: vm1: error: no such domain" in done.stdout


@pytest.mark.usefixtures("isolated_registry")
def test_extra_fields_of_result_are_printed_as_yaml(env, daemon):
    class Weight(Result):
        parts: Annotated[Mapping[str, str] | None, Wire("Weight of each part.")] = None

    class Weigh(Task, task="weigh vm", result="vm weighed", result_type=Weight):
        """Weigh a domain."""

        vm_name: Annotated[str, Wire("Name of the domain.")]

    result = Weight(vm_name="vm1", status="success", parts={"disk\033[31m": "9"})
    daemon.answer = lambda container: ResultContainer.answer(container, [result])
    done = run("weigh", "vm1", "--host", "hostA", env=env)
    assert done.returncode == 0
    head, _, rest = done.stdout.partition("\n")
    assert head == f"hostA {daemon.received[0].id} vm weighed: vm1: success"
    assert CONTROL.search(rest) is None
    assert yaml.load(rest, yaml.BaseLoader) == {"parts": {"disk\033[31m": "9"}}
    done = run("weigh", "vm1", "--host", "hostA", "--format", "json", env=env)
    assert json.loads(done.stdout)["message"]["list"][0]["parts"] == {"disk\033[31m": "9"}
