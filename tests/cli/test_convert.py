"""`fastlib convert`: canonical YAML, flow style and JSON."""

import io
import json

import pytest

import fastlib
from fastlib.cli.arguments.message_files import Source
from fastlib.cli.output.problems import print_problems
from fastlib.codec import Problem
from tests.support.shell import run_bytes, run_on_terminal
from tests.support.yaml_files import MISSPELT, SEVERAL, UNKNOWN_KEY


def test_convert_writes_the_canonical_spelling(file):
    path = file(b'{task: "stop vm", list: [{vm-name: "no", force: Yes}]} # now\n')
    done = run_bytes("convert", path)
    assert (done.returncode, done.stderr) == (0, b"")
    message = fastlib.TaskContainer(tasks=[fastlib.Stop(vm_name="no", force=True)])
    assert done.stdout.decode() == message.to_yaml() + "\n"
    assert run_bytes("convert", path, "--to", "yaml").stdout == done.stdout
    done = run_bytes("convert", "-", "--to", "flow", stdin=SEVERAL.split(b"---")[0])
    assert done.stdout == b'{task: quit, id: "1"}\n'


@pytest.mark.parametrize("form", ["yaml", "flow"])
def test_convert_keeps_every_document(form):
    done = run_bytes("convert", "-", "--to", form, stdin=SEVERAL)
    assert done.returncode == 0
    old = [report.message for report in fastlib.validate_all(SEVERAL)]
    new = fastlib.validate_all(done.stdout)
    assert len(old) == 3
    assert [report.message for report in new] == old
    assert [report.problems for report in new] == [()] * 3
    again = run_bytes("convert", "-", "--to", form, stdin=done.stdout)
    assert again.stdout == done.stdout


def test_convert_to_yaml_joins_documents():
    done = run_bytes("convert", "-", stdin=b"task: quit\n---\ntask: init\nsource: a\n")
    assert done.stdout == b"---\ntask: quit\n---\ntask: init\nhostname: a\n---\n"
    done = run_bytes(
        "convert", "-", "--type", "PscomRequest", stdin=b"suspend\n---\ntask: resume\n"
    )
    assert done.stdout == b"suspend\n---\nresume\n"


def test_convert_to_yaml_writes_lines_of_text_as_lines():
    content = b'task: start vm\nvm-configurations: [{xml: "<domain>\\n  <name>a</name>\\n"}]\n'
    done = run_bytes("convert", "-", stdin=content)
    assert b"  - xml: |\n      <domain>\n        <name>a</name>\n---\n" in done.stdout
    assert fastlib.load(done.stdout) == fastlib.load(content)


def test_convert_to_flow_and_json_writes_one_line_per_message():
    flow = run_bytes("convert", "-", "--to", "flow", stdin=SEVERAL).stdout.decode().splitlines()
    lines = run_bytes("convert", "-", "--to", "json", stdin=SEVERAL).stdout.decode().splitlines()
    messages = [report.message for report in fastlib.validate_all(SEVERAL)]
    assert [fastlib.load(line) for line in flow] == messages
    assert [json.loads(line) for line in lines] == [message.emit() for message in messages]
    assert [fastlib.load(line) for line in lines] == messages


def test_convert_to_json_is_indented_on_terminal(file):
    shown, status = run_on_terminal("convert", "--to", "json", file(b"task: quit\nid: a\n"))
    assert (shown, status) == ('{\n  "task": "quit",\n  "id": "a"\n}\n', 0)


def test_convert_to_json_keeps_nan_and_infinity():
    reply = ["convert", "--type", "mmbwmon.Reply", "-"]
    for number in (b".nan", b".inf", b"-.inf", b"0.5"):
        yaml = run_bytes(*reply, stdin=b"{cores: [1], result: %s}" % number).stdout
        lines = run_bytes(*reply, "--to", "json", stdin=yaml).stdout
        assert isinstance(json.loads(lines)["result"], float if number == b"0.5" else str)
        assert run_bytes(*reply, stdin=lines).stdout == yaml
        assert b"result: %s\n" % number in yaml


def test_convert_reports_errors_and_writes_nothing(file):
    path = file(SEVERAL + MISSPELT)
    done = run_bytes("convert", path)
    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr == run_bytes("validate", path).stdout != b""


def test_convert_warns_about_dropped_keys(file):
    path = file(UNKNOWN_KEY)
    done = run_bytes("convert", path, "--to", "flow")
    assert (done.returncode, done.stdout) == (0, b"{task: stop vm, list: [{vm-name: a}]}\n")
    assert done.stderr == run_bytes("validate", path).stdout != b""


def test_problem_without_place_is_printed_without_place():
    shown = io.StringIO()
    print_problems(Source("x", b""), [Problem(message="odd", code="odd")], shown)
    assert shown.getvalue() == "x: error: odd\n"


def test_convert_writes_several_files_one_after_the_other(file):
    one, two = file(b"task: quit\nid: a\n", "1.yaml"), file(SEVERAL, "2.yaml")
    last = b"task: quit\nid: z\n"
    done = run_bytes("convert", one, two, "-", "--to", "flow", stdin=last)
    assert (done.returncode, done.stderr) == (0, b"")
    found = [report.message for report in fastlib.validate_all(done.stdout)]
    sources = (b"task: quit\nid: a\n", SEVERAL, last)
    assert found == [r.message for text in sources for r in fastlib.validate_all(text)]


def test_error_in_one_of_several_files_writes_nothing(file):
    good, bad = file(b"task: quit\n", "1.yaml"), file(MISSPELT, "2.yaml")
    done = run_bytes("convert", good, bad, good)
    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr.decode().startswith(f"{bad}:")
    done = run_bytes("convert", good, "/missing.yaml", "/missing-too.yaml")
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr.decode().splitlines() == [
        "fastlib convert: error: /missing.yaml: No such file or directory",
        "fastlib convert: error: /missing-too.yaml: No such file or directory",
    ]
