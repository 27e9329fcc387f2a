"""`fastlib` and its commands that need no broker: validate, convert, describe."""

import codecs
import contextlib
import errno
import glob
import io
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import tempfile
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastlib
from fastlib.cli import COMMANDS, main
from fastlib.cli.arguments.message_files import Source
from fastlib.cli.output.problems import excerpt, github_annotation, print_problems
from fastlib.cli.output.terminal import cell, columns
from fastlib.codec import Problem, shape_of
from fastlib.codec.records import Record
from fastlib.display.text import printable
from fastlib.message import agent, application, mmbwmon, pscom
from fastlib.message.describe import describe, find, find_field, message_types, name_of
from fastlib.message.task import declarations
from tests.support.shell import ENVIRONMENT, PROGRAM, run, run_bytes, run_on_terminal
from tests.support.strategies import examples

MISSPELT = b"""\
task: migrate vm
vm-name: a
destination: b
parameter:
  migration-type: lve
"""
MISSPELT_LINE = (
    "5:19: error: parameter.migration-type: "
    "expected one of live, warm, offline; got 'lve' (did you mean 'live'?)\n"
)
UNKNOWN_KEY = b"task: stop vm\nlist:\n- vm-name: a\n  frce: yes\n"
SEVERAL = b"""\
# three messages
task: quit
id: '1'
---
{task: stop vm, list: [{vm-name: a}, {vm-name: "no"}]}
...
---
task: init
source: host
---
"""


def without_colours(text):
    return re.sub(r"\033\[[0-9;]*m", "", text)


@pytest.fixture
def file(tmp_path):
    def write(content, name="message.yaml"):
        path = tmp_path / name
        path.write_bytes(content)
        return str(path)

    return write


# --- the program ----------------------------------------------------------------------------------


def test_installed_program_calls_main():
    (script,) = entry_points(group="console_scripts", name="fastlib")
    assert script.load() is main


def test_version_is_printed():
    done = run_bytes("--version")
    assert (done.returncode, done.stdout) == (0, f"fastlib {fastlib.__version__}\n".encode())


def test_help_lists_every_command():
    done = run("--help")
    assert done.returncode == 0
    words = " ".join(done.stdout.split())  # argparse wraps differently in each version of Python
    for name, summary in COMMANDS.items():
        assert f" {name} {summary} " in words


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "required: COMMAND"),
        (["valdate"], "'valdate'"),
        (["validate"], "required: FILE"),
        (["validate", "--frmat", "json", "x"], "--frmat"),
        (["validate", "--format", "xml", "x"], "'xml'"),
        (["validate", "-", "x", "-"], "only once"),
        (["validate", "--type", "Strt", "x"], "'Strt' (did you mean 'Start'?)"),
        (["validate", "--type", "start vm", "x"], "no message 'start vm' (did you mean 'Start'?)"),
        (["convert"], "required: FILE"),
        (["convert", "--to", "toml", "x"], "'toml'"),
        (["describe", "a", "b", "c"], "c"),
    ],
)
def test_wrong_usage_prints_usage_and_one_error_line(arguments, words, capsys):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("usage: fastlib ")
    last = shown.err.splitlines()[-1]
    assert re.match(r"fastlib( \w+)?: error: ", last)
    assert words in last


SERVING = {"broker", "compat", "conformance", "demo", "send", "watch"}
"""Commands that run for a while, or that need a broker, other versions or another implementation;
they have tests of their own."""


def example_commands():
    """The commands in the help, each as far as it is ours."""
    for module in ("", *(f".commands.{name}" for name in COMMANDS if name not in SERVING)):
        epilog = import_module(f"fastlib.cli{module}")._EPILOG
        listed = re.findall(r"^  (.*)$", epilog.split("\n\n")[0], re.MULTILINE)
        assert listed
        yield from (re.search("fastlib [^|]*", line)[0].strip() for line in listed)


@pytest.mark.parametrize("line", list(example_commands()))
def test_example_in_help_succeeds(line, tmp_path, monkeypatch, capsysbinary):
    for name in ("task.yaml", "old-task.yaml", "results/1.yaml", "messages/1.yaml"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(SEVERAL)
    (tmp_path / "reply.yaml").write_text("cores: [0, 1]\nresult: 0.5\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(SEVERAL)))
    words = shlex.split(line)[1:]
    assert main([found for word in words for found in (sorted(glob.glob(word)) or [word])]) == 0
    assert capsysbinary.readouterr().err == b""


def test_command_imports_only_its_own_modules(file):
    code = (
        "import sys; before = set(sys.modules); from fastlib.cli import main; "
        "main(sys.argv[1:]); print(*sys.modules.keys() - before)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "validate", file(b"task: quit\n")],
        capture_output=True,
        check=True,
        env=ENVIRONMENT,
        timeout=60,
    )
    imported = set(done.stdout.decode().split())
    assert "fastlib.cli.commands.validate" in imported
    needless = {
        "asyncio", "fastlib.cli.commands.convert", "fastlib.cli.commands.describe",
        "fastlib.message.describe", "hypothesis", "jsonschema", "libvirt", "logging",
        "paho", "subprocess", "unicodedata",
    }  # fmt: skip
    assert not imported & needless


# --- validate: what it says -----------------------------------------------------------------------


def test_validate_prints_nothing_for_valid_file(file):
    done = run_bytes("validate", file(SEVERAL))
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_validate_prints_one_line_per_problem(file):
    path = file(MISSPELT)
    done = run_bytes("validate", path)
    assert (done.returncode, done.stdout.decode()) == (1, f"{path}:{MISSPELT_LINE}")


def test_validate_reads_standard_input():
    done = run_bytes("validate", "-", stdin=MISSPELT)
    assert (done.returncode, done.stdout.decode()) == (1, f"<stdin>:{MISSPELT_LINE}")
    assert run_bytes("validate", "-", stdin=SEVERAL).returncode == 0


def test_validate_counts_lines_of_the_file_across_documents(file):
    path = file(SEVERAL.removesuffix(b"---\n") + b"---\n" + MISSPELT)
    lines = SEVERAL.count(b"\n")
    done = run_bytes("validate", path)
    assert done.returncode == 1
    assert done.stdout.decode().startswith(f"{path}:{lines + 5}:19: error: parameter.")
    assert done.stdout.count(b"\n") == 1


def test_validate_fails_for_warnings_only_with_strict(file):
    path = file(UNKNOWN_KEY)
    line = (
        f"{path}:4:3: warning: list[0].frce: unknown key, ignored by every peer "
        "(did you mean 'force'?)\n"
    )
    for options, status in (([], 0), (["--strict"], 1)):
        done = run_bytes("validate", *options, path)
        assert (done.returncode, done.stdout.decode()) == (status, line)
    assert run_bytes("validate", "--strict", file(SEVERAL)).returncode == 0


def test_validate_warns_about_misspelt_result_title(file):
    path = file(b"result: vm startd\nlist: []\n---\nresult: unknown\nlist: []\n")
    done = run_bytes("validate", path)
    assert (done.returncode, done.stdout.decode()) == (
        0,
        f"{path}:1:9: warning: result: unknown title 'vm startd'; what stands below it is read as "
        "plain results (did you mean 'vm started'?)\n",
    )
    assert run_bytes("validate", "--strict", path).returncode == 1
    assert run_bytes("validate", "--type", "ResultContainer", path).stdout == done.stdout


def test_validate_reads_messages_without_title_by_type_option(file):
    path = file(b"title: migrate vm\nphase: memory\npercent: 50\n")
    assert run_bytes("validate", path).returncode == 1
    for name in ("node.Progress", "Progress"):
        done = run_bytes("validate", "--strict", "--type", name, path)
        assert (done.returncode, done.stdout) == (0, b"")


def test_validate_reads_other_files_after_unreadable_one(file, tmp_path):
    bad, fine, missing = file(MISSPELT), file(SEVERAL, "fine.yaml"), str(tmp_path / "missing")
    done = run_bytes("validate", missing, bad, fine, str(tmp_path))
    assert done.returncode == 2
    assert done.stdout.decode() == f"{bad}:{MISSPELT_LINE}"
    assert done.stderr.decode() == (
        f"fastlib validate: error: {missing}: No such file or directory\n"
        f"fastlib validate: error: {tmp_path}: Is a directory\n"
    )


@pytest.mark.parametrize(
    ("name", "content", "status"),
    [
        ("Stop", b"vm-name: a\nforce: on\n", 0),
        ("Stop", b"cgroup: a\n", 1),
        ("mmbwmon.Stop", b"cgroup: a\n", 0),
        ("mmbwmon.Stop", b"vm-name: a\n", 1),
        ("Kpis", b"{categories: {cpu: high}, repeat: 5}", 0),
        ("agent.Kpis", b"{categories: {cpu: high}, repeat: -5}", 1),
        ("PscomRequest", b"suspend", 0),
        ("TaskContainer", SEVERAL, 1),
    ],
)
def test_validate_checks_type_option(name, content, status, file, capsys):
    assert main(["validate", "--type", name, file(content)]) == status
    assert bool(capsys.readouterr().out) == bool(status)


def test_validate_escapes_control_characters(tmp_path, capsys):
    path = tmp_path / "a\n\033[31mb.yaml"
    path.write_bytes(b'task: quit\n"\\e[31mred\\nkey\\a": 1\n')
    assert main(["validate", str(path)]) == 0
    shown = capsys.readouterr().out
    assert shown.count("\n") == 1
    assert shown.startswith(f"{tmp_path}/a\\n\\x1b[31mb.yaml:2:1: warning: \\x1b[31mred\\nkey\\x07")
    assert printable(shown[:-1]) == shown[:-1]


# --- validate: other formats ----------------------------------------------------------------------


def test_validate_prints_problems_as_json(file):
    path = file(SEVERAL + UNKNOWN_KEY + b"---\n" + MISSPELT)
    done = run_bytes("validate", "--format", "json", path)
    assert done.returncode == 1
    warning, error = json.loads(done.stdout)
    assert (warning["severity"], warning["code"], warning["document"]) == (
        "warning",
        "unknown-key",
        4,
    )
    assert error == {
        "file": path,
        "document": 5,
        "line": SEVERAL.count(b"\n") + UNKNOWN_KEY.count(b"\n") + 6,
        "column": 19,
        "severity": "error",
        "code": "value",
        "path": "parameter.migration-type",
        "message": "expected one of live, warm, offline; got 'lve'",
        "expected": "one of live, warm, offline",
        "got": "'lve'",
        "suggestion": "live",
    }
    assert warning.keys() == error.keys()


def test_validate_prints_empty_json_list_without_problems(file):
    done = run_bytes("validate", "--format", "json", file(SEVERAL))
    assert (done.returncode, json.loads(done.stdout)) == (0, [])


def test_validate_prints_github_annotation(file):
    path = file(MISSPELT)
    done = run_bytes("validate", "--format", "github", path)
    assert done.returncode == 1
    assert done.stdout.decode() == (
        f"::error file={path},line=5,col=19,title=fastlib value::parameter.migration-type: "
        "expected one of live, warm, offline; got 'lve' (did you mean 'live'?)\n"
    )


def test_github_annotation_escapes_separators_and_line_ends():
    problem = Problem(
        message="100%: a, b\r\nc", code="odd", severity="warning", path="x,y:z", line=3, column=4
    )
    assert github_annotation(Source("a,b:c%\n.yaml", b""), problem) == (
        "::warning file=a%2Cb%3Ac%25%0A.yaml,line=3,col=4,title=fastlib odd"
        "::x,y:z: 100%25: a, b%0D%0Ac"
    )


# --- on a terminal --------------------------------------------------------------------------------


def test_terminal_shows_caret_under_column(file):
    path = file(MISSPELT)
    shown, status = run_on_terminal("validate", path)
    assert status == 1
    assert "\033[1;31merror:\033[m" in shown
    assert without_colours(shown) == (
        f"{path}:{MISSPELT_LINE}"
        "    migration-type: lve\n"
        "                    ^\n"
        "1 message: 1 error\n"
    )


def test_terminal_shows_summary(file):
    shown, status = run_on_terminal("validate", file(SEVERAL))
    assert (shown, status) == ("3 messages: no problems\n", 0)
    paths = [file(UNKNOWN_KEY), file(MISSPELT, "2.yaml"), file(MISSPELT, "3.yaml")]
    shown, status = run_on_terminal("validate", *paths)
    assert status == 1
    assert shown.endswith("\n3 messages: 2 errors, 1 warning\n")


@pytest.mark.parametrize("env", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_terminal_has_no_colours_if_environment_refuses_them(file, env):
    path = file(MISSPELT)
    shown, _ = run_on_terminal("validate", path, env=env)
    assert shown == without_colours(run_on_terminal("validate", path)[0])
    assert "^" in shown
    assert "\033" in run_on_terminal("validate", path, env={"NO_COLOR": ""})[0]


def test_json_and_github_formats_ignore_terminal(file):
    path = file(MISSPELT)
    for name in ("json", "github"):
        arguments = ("validate", "--format", name, path)
        assert run_on_terminal(*arguments)[0] == run_bytes(*arguments).stdout.decode()


def test_excerpt_of_long_line_fits_terminal(file):
    path = file(b"{task: quit, id: " + b"a" * 5000 + b", nonsense: " + b"b" * 5000 + b"}")
    shown, _ = run_on_terminal("validate", path, columns=60)
    line, caret = without_colours(shown).splitlines()[1:3]
    assert len(line) <= 60
    assert line.startswith("  ...aaa")
    assert line.endswith("bbb...")
    assert line[caret.index("^") :].startswith("nonsense: ")


def test_convert_shows_excerpt_on_standard_error(file):
    shown, status = run_on_terminal("convert", file(MISSPELT), terminal=("stderr",))
    assert status == 1
    assert without_colours(shown).endswith("lve\n                    ^\n")


@pytest.mark.parametrize(
    ("line", "column", "shown", "before"),
    [
        ("a: b", 4, "a: b", 3),
        ("a: b", 1, "a: b", 0),
        ("a: b", 5, "a: b", 4),
        ("a: b", 500, "a: b", 4),
        ("", 1, "", 0),
        ("\tkey: x", 2, "    key: x", 4),
        ("漢字: x", 5, "漢字: x", 6),
        ("e\u0301: x", 5, "e\u0301: x", 3),
        ("a\x07b\xa0c", 5, "a<U+0007>b<U+00A0>c", 18),
    ],
)
def test_excerpt_and_caret_offset(line, column, shown, before):
    assert excerpt(line, column, 76) == (shown, before)


@given(
    st.text(st.characters(exclude_categories=["Mn", "Me", "Mc"]), max_size=120),
    st.integers(1, 130),
    st.integers(20, 90),
)
def test_excerpt_fits_and_caret_points_at_column(line, column, width):
    shown, before = excerpt(line, column, width)
    assert columns(shown) <= width
    assert before <= width
    if column <= len(line) and not line[column - 1 :].isspace() and before < width - 12:
        position = next(i for i in range(len(shown) + 1) if columns(shown[:i]) == before)
        assert shown[position:].startswith((cell(line[column - 1]).rstrip(), "..."))


# --- nothing makes it stumble ---------------------------------------------------------------------

HOSTILE = {
    "empty": b"",
    "only a comment": b"# nothing\n",
    "garbage": bytes(range(256)) * 50,
    "nul": b"task: \0quit",
    "not utf-8": b"task: qu\xefit\n",
    "latin-1 below a fine line": b"task: quit\nid: \xe9\n",
    "half a utf-16": codecs.BOM_UTF16_LE + "task: quit".encode("utf-16-le")[:-1],
    "deep": b"[" * 200_000,
    "deep block": b"- " * 200_000,
    "aliases": b"a: &a [x]\n" + b"".join(b"%c: &%c [*%c,*%c]\n" % (i, i, i - 1, i - 1)
                                         for i in range(98, 123)),
    "tag at the end": b"!",
    "anchor at the end": b"task: &a",
    "killer": b"destinations: [fe80::]",
    "unclosed": b'task: "quit',
    "tabs": b"task:\n\tquit",
    "a list": b"- task: quit",
    "a text": b"quit",
    "odd line ends": "task: quit\u2028id: x\x85y: \r z".encode(),
}  # fmt: skip


@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE)
def test_hostile_content_is_reported_as_problems(content, file):
    path = file(content)
    done = run_bytes("validate", path)
    assert (done.returncode, done.stderr) == (1, b"")
    for line in done.stdout.decode().splitlines():
        assert re.match(rf"{re.escape(path)}:\d+:\d+: (error|warning): .", line)
    shown, status = run_on_terminal("validate", path)
    assert status == 1
    assert "Traceback" not in shown
    done = run_bytes("convert", path)
    assert (done.returncode, done.stdout) == (1, b"")


@examples(20, 500)
@given(st.one_of(st.binary(), st.text().map(str.encode), st.sampled_from([SEVERAL, MISSPELT])))
def test_validate_prints_one_line_per_problem_of_generated_bytes(content):
    reports = fastlib.validate_all(content)
    problems = [problem for report in reports for problem in report.problems]
    with tempfile.NamedTemporaryFile(suffix=".yaml") as written:
        written.write(content)
        written.flush()
        for arguments in (["validate"], ["validate", "--format", "github"]):
            with contextlib.redirect_stdout(io.StringIO()) as shown:
                status = main([*arguments, written.name])
            assert status == (not all(report.ok for report in reports))
            assert len(re.findall("\n", shown.getvalue())) == len(problems)


@pytest.mark.parametrize("name", ["validate", "convert"])
def test_unreadable_file_is_reported(name, file, tmp_path):
    for path, reason in (
        (tmp_path / "missing.yaml", "No such file or directory"),
        (tmp_path, "Is a directory"),
        (Path(file(SEVERAL)) / "below", "Not a directory"),
        (tmp_path / ("long" * 100), "File name too long"),
    ):
        done = run_bytes(name, str(path))
        assert (done.returncode, done.stdout) == (2, b"")
        assert done.stderr.decode() == f"fastlib {name}: error: {path}: {reason}\n"


def test_file_without_permission_is_reported(file, monkeypatch, capsys):
    def refuse(name, mode):  # as root may read everything
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), name)

    monkeypatch.setattr("fastlib.cli.arguments.message_files.open", refuse, raising=False)
    path = file(SEVERAL)
    assert main(["validate", path]) == 2
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == ("", f"fastlib validate: error: {path}: Permission denied\n")


def test_endless_file_is_read_up_to_the_limit():
    done = run_bytes("validate", "/dev/zero")
    assert done.returncode == 1
    assert done.stdout.startswith(b"/dev/zero:1:1: error: the text has ")


def test_file_name_with_invalid_utf8_is_printed(tmp_path):
    path = os.fsencode(tmp_path) + b"/\xff.yaml"
    with open(path, "wb") as written:
        written.write(MISSPELT)
    for name in ("text", "json", "github"):
        done = run_bytes("validate", "--format", name, path)
        assert done.returncode == 1
        assert rb"\udcff.yaml" in done.stdout.replace(b"\\\\", b"\\")


def test_ascii_locale_escapes_text_and_keeps_data():
    content = "task: quit\nid: ü\nschlüssel: 1\n".encode()
    done = run_bytes("validate", "-", stdin=content, encoding="ascii")
    assert done.stdout.startswith(rb"<stdin>:3:1: warning: schl\xfcssel: ")
    done = run_bytes("validate", "--format", "json", "-", stdin=content, encoding="ascii")
    assert json.loads(done.stdout)[0]["path"] == "schlüssel"
    done = run_bytes("convert", "-", stdin=content, encoding="ascii")
    assert done.stdout.decode() == "---\ntask: quit\nid: ü\n---\n"


def test_closed_pipe_ends_process_silently(file):
    for arguments in (["validate", "-"], ["convert", "-"]):  # as text, and as bytes
        content = MISSPELT if "validate" in arguments else SEVERAL
        process = subprocess.Popen(
            [*PROGRAM, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=ENVIRONMENT,
        )
        process.stdout.close()  # before it can have written anything
        with process.stdin:
            process.stdin.write(content)
        with process.stderr:
            assert process.stderr.read() == b""
        assert process.wait(60) == -signal.SIGPIPE


def test_interrupt_ends_process_silently(tmp_path):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    process = subprocess.Popen(
        [*PROGRAM, "validate", str(fifo)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=ENVIRONMENT,
    )
    with open(fifo, "wb"):  # opens once the command does, which then waits
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=60) == (b"", b"")
    assert process.returncode == -signal.SIGINT


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
@pytest.mark.parametrize("format", ["text", "json"])
def test_full_disk_is_reported(format, file):
    arguments = ["validate", "--format", format, file(MISSPELT)]
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [*PROGRAM, *arguments], stdout=full, stderr=subprocess.PIPE, env=ENVIRONMENT, timeout=60
        )
    assert done.returncode == 2
    assert done.stderr == b"fastlib: error: cannot write: No space left on device\n"


@pytest.mark.parametrize("closed", [["stdout"], ["stderr"], ["stdout", "stderr"]])
def test_closed_output_changes_no_exit_status(closed, file):
    done = run_bytes("validate", file(MISSPELT), closed=closed)
    assert (done.returncode, done.stderr) == (1, b"")


def test_closed_standard_input_is_an_error():
    done = run_bytes("validate", "-", closed=["stdin"])
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr == b"fastlib validate: error: <stdin>: it is closed\n"


def test_process_without_output_streams_ends_in_order(file):
    line = f"{shlex.join([*PROGRAM, 'validate', file(MISSPELT)])} >&- 2>&-"
    done = subprocess.run(["/bin/sh", "-c", line], capture_output=True, env=ENVIRONMENT, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (1, b"", b"")


# --- convert --------------------------------------------------------------------------------------


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


# --- describe -------------------------------------------------------------------------------------


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
        "Start\n  Start a domain: one that is defined, or one of an XML description.\n",
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
    assert (
        "  result: 'result: vm repinned', a list under 'list'; one, inline, is understood" in text
    )
    assert "  vm-name: text; required\n" in text
    assert "\nrules" not in text


def test_describe_a_container():
    text = run_bytes("describe", "TaskContainer").stdout.decode()
    assert "members\n  start vm: Start, a list under 'vm-configurations'\n" in text
    assert "  quit: Quit, one, inline; a list under 'list', is understood, too\n" in text
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
            "      The domain that moves here at the same time.\n"
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
        (["Stop", "name"], "'name' is the old spelling, which nobody reads; write 'vm-name'"),
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
