"""`fastlib describe`: messages, fields, and messages of other packages."""

import json
import re

import msgspec
import pytest

import fastlib
from fastlib.cli import main
from fastlib.codec import shape_of
from fastlib.codec.records import Record
from fastlib.message import agent, application, mmbwmon, pscom
from fastlib.message.describe import describe, find, find_field, message_types, name_of
from fastlib.message.task import declarations
from tests.support.shell import run, run_bytes, run_on_terminal, without_colours


def described(*arguments):
    done = run_bytes("describe", "--format", "json", *arguments)
    assert done.returncode == 0
    return json.loads(done.stdout)


def test_describe_lists_every_importable_message():
    done = run_bytes("describe")
    assert done.returncode == 0
    rows = [line.strip() for line in done.stdout.decode().splitlines() if line.startswith("  ")]
    listed = [name for row in rows for name in re.findall(r"(?:^|  )([\w.]+)  ", row)]
    modules = {"": fastlib, "agent.": agent, "application.": application, "mmbwmon.": mmbwmon}
    expected = {
        prefix + name
        for prefix, module in (modules | {"pscom.": pscom}).items()
        for name, value in vars(module).items()
        if isinstance(value, type) and issubclass(value, fastlib.Message)
        if not prefix or value.__module__ == module.__name__
    } - {"Message"}
    assert len(expected) > 30
    assert expected <= set(listed)
    assert len(listed) == len(set(listed))
    (row,) = (row for row in rows if row.startswith("start vm  "))
    assert re.split("  +", row) == ["start vm", "Start", fastlib.Start.__doc__.split("\n")[0]]


def test_describe_json_lists_the_same_messages():
    groups = described()
    assert [group["name"] for group in groups[:2]] == ["tasks", "containers"]
    assert groups[-1]["name"] == "parts"
    titles = [title for task in groups[0]["messages"] for title in task["titles"]]
    assert titles == [declared.task for declared in declarations()]
    containers = [container["name"] for container in groups[1]["messages"]]
    assert containers == ["TaskContainer", "ResultContainer"]
    text = run_bytes("describe").stdout.decode()
    for group in groups:
        assert f"{group['name']}: {group['doc']}\n" in text


def test_describe_a_task():
    done = run_bytes("describe", "start vm")
    assert done.returncode == 0
    assert (
        run_bytes("describe", "Start").stdout
        == run_bytes("describe", "vm started").stdout
        == done.stdout
    )
    text = done.stdout.decode()
    for part in (
        "Start\n  Start a defined domain, or a domain from its XML.\n",
        "  title: 'task: start vm'\n",
        "  in a container: a list under 'vm-configurations'\n",
        "  result: 'result: vm started', a list under 'list'\n",
        "  memory: an integer from 0 to 18446744073709551615, in KiB; optional\n"
        "      Memory of the domain.\n",
        "  vcpu-map: a list of lists of integers from 0 to 4294967295; optional\n",
        "  pci-ids: a list of mappings, PciId; optional\n",
        "rules\n  needs vm-name or xml\n  transient needs xml\n",
    ):
        assert part in text
    text = run_bytes("describe", "Repin").stdout.decode()
    assert "  in a container: one, inline\n" in text
    assert "  result: 'result: vm repinned', a list under 'list'; one, inline, is also read" in text
    assert "  vm-name: text; required\n" in text
    assert "\nrules" not in text


def test_describe_a_container():
    text = run_bytes("describe", "TaskContainer").stdout.decode()
    assert "members\n  start vm: Start, a list under 'vm-configurations'\n" in text
    assert "  quit: Quit, one, inline; a list under 'list', is also read\n" in text
    assert "  task: text; required\n" in text
    assert [place["title"] for place in described("ResultContainer")["members"]] == [
        *(declared.result for declared in declarations()),
        "unknown",
    ]
    text = run_bytes("describe", "query node").stdout.decode()
    assert "result: 'result: node queried', NodeResult, a list under 'list'\n" in text


def test_describe_other_messages():
    assert described("agent.Init") == described("init")
    (field,) = described("init")["fields"]
    assert (field["key"], field["aliases"], field["required"]) == ("hostname", ["source"], True)
    assert [field["key"] for field in described("PciAddress")["fields"]] == ["pci-addr"]
    assert described("mmbwmon.Stop")["name"] == "mmbwmon.Stop"
    assert described("Stop")["name"] == "Stop"
    text = run_bytes("describe", "PscomRequest").stdout.decode()
    assert "  title: 'task: suspend' or 'task: resume'\n  on the wire: suspend or resume\n" in text
    assert described("Timing")["rules"] == ["needs started and stopped together, or none of them"]


def test_describe_a_field():
    for path in ("parameter.swap-with", "parameter.swap_with"):
        done = run_bytes("describe", "Migrate", path)
        assert (done.returncode, done.stderr) == (0, b"")
        assert done.stdout.decode().startswith(
            "  swap-with: a mapping, SwapWith; optional\n"
            "      The domain that moves to the source host at the same time.\n"
            "      A bare text is understood as its 'vm-name', with a warning.\n"
            "\n"
            "SwapWith\n"
        )
    field = described("migrate vm", "parameter.retry-counter")
    assert (field["key"], field["attribute"]) == ("retry_counter", "retry_counter")
    assert described("Migrate", "parameter.migration-type")["values"] == ["live", "warm", "offline"]
    vendor = run_bytes("describe", "Start", "pci-ids[0].vendor").stdout.decode()
    assert "Written as 0x and 4 hexadecimal digits." in vendor
    assert described("InitAgent", "KPI.repeat")["unit"] == "s"


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["Strat"], "there is no message 'Strat' (did you mean 'Start'?)"),
        (["start vn"], "there is no message 'start vn' (did you mean 'start vm'?)"),
        (["JobDescripton"], "there is no message 'JobDescripton' "
                            "(did you mean 'agent.JobDescription'?)"),
        (["xyzzy"], "there is no message 'xyzzy'"),
        (["a\nb"], "there is no message 'a\\nb'"),
        (["Migrate", "destinatin"], "Migrate has no field 'destinatin' "
                                    "(did you mean 'destination'?)"),
        (["Migrate", "parameter.swap-wth"], "MigrateParameter has no field 'swap-wth' "
                                            "(did you mean 'swap-with'?)"),
        (["Migrate", "timout"], "Migrate has no field 'timout' "
                                "(did you mean 'parameter.timeout'?)"),
        (["Migrate", "swap-with"], "Migrate has no field 'swap-with' "
                                   "(did you mean 'parameter.swap-with'?)"),
        (["presense"], "there is no message 'presense' (did you mean 'node.Presence'?)"),
        (["vm startd"], "there is no message 'vm startd' (did you mean 'vm started'?)"),
        (["Migrate", "destination.x"], "'destination' has no fields of its own"),
        (["Migrate", ""], "Migrate has no field ''"),
        (["Stop", "name"], "'name' is the old spelling, which no peer reads; write 'vm-name'"),
    ],
)  # fmt: skip
def test_describe_suggests_known_name_for_unknown_one(arguments, error, capsys):
    assert main(["describe", *arguments]) == 2
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == ("", f"fastlib describe: error: {error}\n")


OURS = [cls for cls in message_types() if cls.__module__.startswith("fastlib.")]


@pytest.mark.parametrize("cls", OURS, ids=name_of)
def test_description_agrees_with_type(cls):
    description = describe(cls)
    assert find(description.name) is cls
    assert description.summary
    for field in description.fields:
        assert field.doc.endswith("."), f"{description.name}.{field.key} is not explained"
        assert find_field(cls, field.key) == field
        assert field.message is None or issubclass(find(field.message), fastlib.Message)
    shape = shape_of(cls)
    if isinstance(shape, Record):
        holds_others = getattr(cls, "__extensions__", None)  # which have keys, it has none
        assert {field.attribute: field.key for field in description.fields} == {
            field.name: field.encode_name
            for field in msgspec.structs.fields(cls)
            if field.name != holds_others
        }
        assert {field.key for field in description.fields if field.required} == {
            field.encode_name for field in msgspec.structs.fields(cls) if field.required
        }
    assert len(description.rules) == len(cls.rules)


def test_describe_wraps_lines_on_terminal():
    shown, status = run_on_terminal("describe", "Start", columns=60)
    assert status == 0
    lines = without_colours(shown).splitlines()
    details = [line for line in lines if line.startswith("      ")]
    assert max(map(len, details)) <= 60
    assert len(details) > run_bytes("describe", "Start").stdout.decode().count("\n      ")
    assert "\033[1mvcpus\033[m: an integer" in shown


EXTENSION = '''
from typing import Annotated
from fastlib import Task
from fastlib.codec import Rule, Wire


class OnlyOnSundays(Rule):
    """Only on Sundays."""

    def broken(self, get):
        return None


class Snapshot(Task, task="snapshot vm", result="vm snapshotted", key="snapshots"):
    rules = (OnlyOnSundays(),)
    vm_name: Annotated[str, Wire("Name of the domain.", aliases=("domain",))]


class Keep(Task, task="keep vm", result="vm kept", layout="inline"):
    """Keep a domain."""
'''


def test_task_of_installed_package_is_described(file, install):
    install("acme_snapshots", EXTENSION)
    listed = run_bytes("describe").stdout.decode()
    assert re.search(r"^  snapshot vm +acme_snapshots\.Snapshot$", listed, re.MULTILINE)
    assert re.search(r"^  keep vm +acme_snapshots\.Keep +Keep a domain\.$", listed, re.MULTILINE)
    text = run_bytes("describe", "snapshot vm").stdout.decode()
    assert text == run_bytes("describe", "Snapshot").stdout.decode()
    assert "  in a container: a list under 'snapshots'\n" in text
    assert "  vm-name: text; required\n      Name of the domain.\n" in text
    assert "      Also read as 'domain'.\n" in text
    assert text.endswith("rules\n  Only on Sundays.\n")
    message = file(b"task: snapshot vm\nsnapshots: [{vm-name: a}]\n")
    done = run_bytes("validate", "--strict", message)
    assert (done.returncode, done.stdout) == (0, b"")


@pytest.mark.parametrize(
    ("message", "path", "key"),
    [
        ("start vm", "vm-configurations[0].saved-state", "saved-state"),
        ("start vm", "vm-configurations.saved_state", "saved-state"),
        ("start vm", "vm_configurations[3].saved_state", "saved-state"),
        ("stop vm", "list[0].vm-name", "vm-name"),
        ("start vm", "saved_state", "saved-state"),
    ],
)
def test_path_of_a_problem_of_a_container_is_understood(message, path, key):
    done = run("describe", message, path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"  {key}: ")


@pytest.mark.parametrize(
    ("path", "nearest"),
    [
        ("vm-configurations.savd_state", "saved-state"),
        ("saved_stat", "saved-state"),
        ("vm_configuration.memory", "vm-configurations"),
        ("xyzzy", None),
    ],
)
def test_unknown_field_of_a_task_names_the_nearest_one(path, nearest):
    done = run("describe", "start vm", path)
    assert (done.returncode, done.stdout) == (2, "")
    assert (f"did you mean '{nearest}'?" in done.stderr) is (nearest is not None)


def test_timeout_of_a_migration_has_one_name_for_people():
    shown = run("describe", "MigrateParameter", "timeout").stdout
    assert "The client's keyword is 'migration_timeout', " in shown
    assert "the commands' option --migration-timeout." in shown
