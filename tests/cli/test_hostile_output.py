"""No output has a character that a terminal obeys, and no field of a line imitates another one."""

import json
import logging
import re
import sys
import unicodedata
from datetime import UTC, datetime

import pytest
import yaml

from fastlib import ResultContainer, TaskContainer
from fastlib.cli.arguments.message_files import Source
from fastlib.cli.arguments.parser import ArgumentParser
from fastlib.cli.commands import watch
from fastlib.cli.output.problems import github_annotation
from fastlib.cli.output.task_progress import ProgressLines
from fastlib.client import ObservedMessage
from fastlib.codec.errors import FastlibError, Problem
from fastlib.codec.printable import INVISIBLE, printable, printable_lines, word
from fastlib.demo.text_view import line_of
from fastlib.display.json_lines import encode_json
from fastlib.display.message_text import summarize, summarize_briefly, summarize_result
from fastlib.message import Result, Start, Stop, load
from fastlib.message.node import Progress
from fastlib.migfra.service.standard_streams import print_safely
from fastlib.migfra.tasks.descriptions import describe_container
from fastlib.migfra.telemetry.logs import JsonFormatter, TextFormatter, task_log
from fastlib.testing.conformance import output
from tests.support.shell import run

OBEYED = [
    "\x00", "\x07", "\x1b", "\x7f", "\x80", "\x85", "\x9b", "\x9d", "\xad", "\u061c", "\u200b",
    "\u200d", "\u200e", "\u200f", "\u2028", "\u2029", "\u202a", "\u202e", "\u2060", "\u2066",
    "\u2069", "\ufeff", "\ufff9", "\U000e0001", "\U000e0041",
]  # fmt: skip
UNSEEN = [
    # Default_Ignorable_Code_Point
    "\u034f", "\u115f", "\u1160", "\u17b4", "\u17b5", "\u180b", "\u180e", "\u180f", "\u2064",
    "\u2065", "\u206f", "\u3164", "\ufe00", "\ufe0f", "\uffa0", "\ufff0", "\U0001bca0",
    "\U0001d173", "\U000e0000", "\U000e0100", "\U000e01ef", "\U000e0fff",
    # blank ones
    "\xa0", "\u1680", "\u2000", "\u200a", "\u202f", "\u205f", "\u2800", "\u3000", "\U00013441",
    "\U0001d159",
    # private use, and not assigned
    "\ue000", "\uf8ff", "\U000f0000", "\U0010fffd", "\u0378", "\U0002fffe",
]  # fmt: skip
HIDDEN = [*OBEYED, *UNSEEN]
HOSTILE = f"a{''.join(HIDDEN)}日本é😀"
SPOOF = "x vm9] accepted: quit"


def unsafe(text):
    """Return the characters of an output that must not be in it."""
    hidden = {char for char in text if not char.isprintable() or char in UNSEEN}
    return sorted(hidden - {"\n"})


def test_every_hidden_character_is_escaped():
    assert all(re.fullmatch(f"[{INVISIBLE}]", char) for char in OBEYED)
    assert all(printable(char).isascii() for char in HIDDEN)
    shown = "aé日本한글ไทย😀❤ ~"
    assert not re.search(f"[{INVISIBLE}]", shown)
    assert printable(shown) == shown
    # Beside those that Python finds unprintable, only ignorable, blank and combining ones.
    every = map(chr, range(sys.maxunicode + 1))
    more = [char for char in every if char.isprintable() and re.match(f"[{INVISIBLE}]", char)]
    assert {unicodedata.category(char) for char in more} <= {"Mn", "Lo", "So"}
    assert len(more) < 300


def container():
    return TaskContainer(tasks=[Stop(vm_name=HOSTILE)], id=HOSTILE)


@pytest.mark.parametrize("style", ["block", "literal", "flow"])
def test_yaml_has_escapes_and_round_trips(style):
    several = TaskContainer(tasks=[Start(xml=f"<domain>\n{HOSTILE}\n</domain>")], id=HOSTILE)
    for message in (container(), several):
        text = message.to_yaml(style=style)
        assert unsafe(text) == []
        assert load(text) == message
        if style != "flow":
            (document,) = [each for each in yaml.safe_load_all(text) if each is not None]
            assert document == message.emit()


@pytest.mark.parametrize("char", HIDDEN)
def test_each_character_round_trips_in_yaml_and_json(char):
    message = TaskContainer(tasks=[Stop(vm_name="a")], id=f"{char}a{char}")
    block = Start(xml=f"<domain>\n{char}\n</domain>")
    assert unsafe(message.to_yaml() + block.to_yaml(style="literal")) == []
    assert load(message.to_yaml()) == message
    assert Start.from_yaml(block.to_yaml(style="literal")) == block
    text = encode_json(message.emit()).decode()
    assert unsafe(text) == []
    assert json.loads(text) == message.emit()


@pytest.mark.parametrize("form", ["yaml", "flow", "json"])
def test_convert_prints_no_terminal_controls(form, tmp_path):
    file = tmp_path / "task.yaml"
    file.write_text(container().to_yaml() + "\ntask: quit\nid: a\u202eb\x9bc\u200bd\n", "utf-8")
    done = run("convert", file, "--to", form)
    assert done.returncode == 0, done.stderr
    assert unsafe(done.stdout) == []


@pytest.mark.parametrize("form", ["text", "json", "github"])
def test_validate_prints_no_control_characters(form, tmp_path):
    file = tmp_path / f"{HOSTILE[4:]}.yaml"
    file.write_text(f"task: stop vm\nlist:\n- vm-nam: a\n  {HOSTILE[4:]}: b\n", "utf-8")
    done = run("validate", file, "--format", form)
    assert done.returncode in (0, 1)
    assert done.stdout
    assert unsafe(done.stdout + done.stderr) == []


def test_help_of_a_command_has_no_terminal_controls():
    parser = ArgumentParser(prog="x", description=HOSTILE, epilog=HOSTILE)
    parser.add_argument("name", help=HOSTILE.replace("%", "%%"))
    assert unsafe(parser.format_help() + parser.format_usage()) == []
    assert r"\u3164" in parser.format_help()


def test_wrong_arguments_are_printed_without_control_characters(capsys):
    with pytest.raises(SystemExit):
        ArgumentParser(prog="x").parse_args([HOSTILE])
    assert unsafe(capsys.readouterr().err) == []


@pytest.mark.parametrize(
    "text",
    [
        f"{HOSTILE}: [",
        f"task: {HOSTILE}\n",
        f"task: stop vm\n{HOSTILE[4:]}: 1\nlist: [{{force: {HOSTILE[4:]}}}]",
    ],
)
def test_errors_of_messages_have_no_terminal_controls(text):
    with pytest.raises(FastlibError) as caught:
        load(text)
    assert unsafe(str(caught.value)) == []


def test_github_annotation_has_no_terminal_controls():
    problem = Problem(message=HOSTILE, code="odd", severity="error", path=HOSTILE)
    assert unsafe(github_annotation(Source(HOSTILE, b""), problem)) == []


def observed(message, host=HOSTILE):
    now = datetime.now(UTC)
    return ObservedMessage(time=now, topic="t", host=host, message=message, payload=b"")


def messages():
    results = [Result(vm_name=HOSTILE, status="error", details=HOSTILE)]
    yield container()
    yield ResultContainer(result="vm stopped", results=results, id=HOSTILE)
    yield Progress(task="stop vm", phase=HOSTILE, id=HOSTILE, vm_name=HOSTILE)


def test_summaries_have_no_control_characters(capsys):
    for message in messages():
        texts = [summarize(message), summarize_briefly(message), line_of(observed(message))]
        assert unsafe("".join(texts)) == []
    ProgressLines().report("node1", message)
    print_safely(HOSTILE)
    assert unsafe(capsys.readouterr().err) == []


@pytest.fixture
def hostile_package(install):
    """A package with a task whose texts have all kinds of hostile characters."""
    hidden = "".join(HIDDEN)
    install(
        "hostile_package",
        "from typing import Annotated\n"
        "from fastlib import Task\n"
        "from fastlib.codec import Wire\n"
        f"class Hostile(Task, task={f'hostile{hidden}'!a}, result={f'done{hidden}'!a}):\n"
        f"    __doc__ = {f'First{hidden}.{chr(10)}{chr(10)}Second{hidden}.'!a}\n"
        f"    name: Annotated[str, Wire({f'A name{hidden}.'!a})]\n",
    )


@pytest.mark.usefixtures("hostile_package")
@pytest.mark.parametrize(
    "arguments",
    [("describe",), ("describe", "Hostile"), ("describe", "Hostile", "name"), ("schema",)],
)
def test_declarations_of_a_package_are_printed_without_terminal_controls(arguments):
    done = run(*arguments)
    assert done.returncode == 0, done.stderr
    assert r"\u3164" in done.stdout
    assert unsafe(done.stdout + done.stderr) == []


def test_junit_report_has_no_terminal_controls():
    assert unsafe(output._xml(HOSTILE)) == []


# --- fields of a line -----------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["vm1", "日本", "a:b", "fast-1/2", "(x)", "--"])
def test_plain_word_is_shown_as_it_is(text):
    assert word(text) == text


@pytest.mark.parametrize(
    "text", ["", "-", "a b", "a]", "[a", 'a"', "a\\", "\u3000", "a\tb", HOSTILE]
)
def test_other_words_are_quoted_with_the_escapes_of_json(text):
    shown = word(text)
    assert json.loads(shown) == text
    assert unsafe(shown) == []


def line(formatter, id, vm_name, message, *arguments):
    logger = task_log(logging.getLogger("x"), id, vm_name)
    record = logging.LogRecord("x", logging.INFO, "", 0, message, arguments, None)
    record.about = logger.extra["about"]
    return formatter.format(record)


FIELD = r'(?:"(?:[^"\\]|\\.)*"|[^\s"\[\]\\]+)'
LINE = re.compile(rf"\S+ INFO \[({FIELD}) ({FIELD}) ({FIELD})\] (.*)")


@pytest.mark.parametrize(
    "text", [SPOOF, "a b", "-", "", '"] INFO [', "a\\", 'x\\" vm9] y', HOSTILE]
)
def test_fields_of_a_log_line_are_unambiguous(text):
    shown = line(TextFormatter("node1"), text, text, "accepted")
    assert unsafe(shown) == []
    host, id, vm_name, message = LINE.fullmatch(shown).groups()
    assert (host, message) == ("node1", "accepted")
    assert [json.loads(each) if each[0] == '"' else each for each in (id, vm_name)] == [text, text]


def test_plain_fields_of_a_log_line_are_not_quoted():
    shown = line(TextFormatter("node1"), None, "vm1", "accepted: %s", "x")
    assert shown.partition(" ")[2] == "INFO [node1 - vm1] accepted: x"


def test_json_log_line_has_no_terminal_controls():
    shown = line(JsonFormatter("node1"), HOSTILE, HOSTILE, HOSTILE)
    assert unsafe(shown) == []
    tree = json.loads(shown)
    assert tree["id"] == tree["vm-name"] == tree["message"] == HOSTILE


def test_option_of_a_task_cannot_imitate_another_one_in_the_log():
    one = TaskContainer(tasks=[Stop(vm_name="a, force true")])
    assert describe_container(one) == 'stop vm of "a, force true"'
    long = TaskContainer(tasks=[Stop(vm_name=f"{'a' * 200} b")])
    assert describe_container(long) == f"stop vm of {'a' * 100}…"


def test_name_of_a_domain_cannot_imitate_a_result():
    result = Result(vm_name="vm1: success", status="error", details="x")
    assert summarize_result(result) == '"vm1: success": error: x'


def test_id_cannot_imitate_fields_of_watch(capsys, monkeypatch):
    message = TaskContainer(tasks=[Stop(vm_name="a")], id="1 node2 result 7")

    class Messages:
        exit_status = 0

        def __init__(self, *_):
            """Accept the same arguments as the real one."""

        def messages(self):
            yield observed(message, "node 1")

    monkeypatch.setattr(watch, "_MessageFilter", Messages)
    options = ArgumentParser().parse_args([])
    options.format = "text"
    watch._print(options, None)
    shown = capsys.readouterr().out.partition(" ")[2]
    assert shown == '"node 1" message "1 node2 result 7" stop vm: a\n'


def test_line_ends_stay_in_texts_of_several_lines():
    assert printable_lines("a\x1b\nb") == "a\\x1b\nb"
