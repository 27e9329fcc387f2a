"""The command line, mostly as a process of its own, as a shell runs it."""

import codecs
import contextlib
import errno
import fcntl
import glob
import io
import json
import os
import pty
import re
import shlex
import signal
import struct
import subprocess
import sys
import tempfile
import termios
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
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

_OURS = {"COLUMNS", "NO_COLOR", "TERM", "PYTHONIOENCODING", "PYTHONUNBUFFERED", "PYTHONUTF8"}
ENVIRONMENT = {key: value for key, value in os.environ.items() if key not in _OURS}


def command(*arguments):
    return [sys.executable, "-m", "fastlib", *arguments]


def run(*arguments, stdin=b"", env=None):
    """The finished process of a command line; whatever it was given, it has no traceback."""
    done = subprocess.run(
        command(*arguments),
        input=stdin,
        capture_output=True,
        env=ENVIRONMENT | (env or {}),
        timeout=60,
    )
    assert b"Traceback" not in done.stderr, done.stderr.decode()
    return done


def on_terminal(*arguments, columns=100, env=None, stream="stdout"):
    """What a command shows on a terminal, and its exit status."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    process = subprocess.Popen(
        command(*arguments),
        stdin=subprocess.DEVNULL,
        **{"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, stream: theirs},
        env=ENVIRONMENT | {"TERM": "xterm"} | (env or {}),
    )
    os.close(theirs)
    shown = b""
    with contextlib.suppress(OSError):  # EIO is a terminal's end
        while part := os.read(ours, 65536):
            shown += part
    os.close(ours)
    return shown.decode().replace("\r\n", "\n"), process.wait(60)


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


def test_the_installed_command_is_main():
    (script,) = entry_points(group="console_scripts", name="fastlib")
    assert script.load() is main


def test_version():
    done = run("--version")
    assert (done.returncode, done.stdout) == (0, f"fastlib {fastlib.__version__}\n".encode())


def test_help_names_every_command():
    done = run("--help")
    assert done.returncode == 0
    for name, summary in COMMANDS.items():
        # argparse puts what a long name is for on a line of its own.
        assert re.search(rf"^    {name}(  |$)".encode(), done.stdout, re.MULTILINE)
        assert summary.encode() in done.stdout


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
def test_wrong_usage_is_the_usage_and_one_clear_line(arguments, words, capsys):
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


def examples():
    """The commands in the help, each as far as it is ours."""
    for module in ("", *(f".commands.{name}" for name in COMMANDS if name not in SERVING)):
        epilog = import_module(f"fastlib.cli{module}")._EPILOG
        listed = re.findall(r"^  (.*)$", epilog.split("\n\n")[0], re.MULTILINE)
        assert listed
        yield from (re.search("fastlib [^|]*", line)[0].strip() for line in listed)


@pytest.mark.parametrize("line", list(examples()))
def test_the_examples_of_the_help_work(line, tmp_path, monkeypatch, capsysbinary):
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


def test_only_what_is_needed_is_imported(file):
    code = (
        "import sys; from fastlib.cli import main; main(sys.argv[1:]); print(*sorted(sys.modules))"
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
        "fastlib.message.describe", "hypothesis", "json", "jsonschema", "libvirt", "logging",
        "paho", "subprocess",
        "unicodedata",
    }  # fmt: skip
    assert not imported & needless


# --- validate: what it says -----------------------------------------------------------------------


def test_a_fine_file_needs_no_words(file):
    done = run("validate", file(SEVERAL))
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_a_problem_is_one_line(file):
    path = file(MISSPELT)
    done = run("validate", path)
    assert (done.returncode, done.stdout.decode()) == (1, f"{path}:{MISSPELT_LINE}")


def test_standard_input():
    done = run("validate", "-", stdin=MISSPELT)
    assert (done.returncode, done.stdout.decode()) == (1, f"<stdin>:{MISSPELT_LINE}")
    assert run("validate", "-", stdin=SEVERAL).returncode == 0


def test_lines_are_those_of_the_file_not_of_the_document(file):
    path = file(SEVERAL.removesuffix(b"---\n") + b"---\n" + MISSPELT)
    lines = SEVERAL.count(b"\n")
    done = run("validate", path)
    assert done.returncode == 1
    assert done.stdout.decode().startswith(f"{path}:{lines + 5}:19: error: parameter.")
    assert done.stdout.count(b"\n") == 1


def test_warnings_fail_only_if_strict(file):
    path = file(UNKNOWN_KEY)
    line = (
        f"{path}:4:3: warning: list[0].frce: unknown key, ignored by every peer "
        "(did you mean 'force'?)\n"
    )
    for options, status in (([], 0), (["--strict"], 1)):
        done = run("validate", *options, path)
        assert (done.returncode, done.stdout.decode()) == (status, line)
    assert run("validate", "--strict", file(SEVERAL)).returncode == 0


def test_a_misspelt_title_of_results_is_a_warning(file):
    path = file(b"result: vm startd\nlist: []\n---\nresult: unknown\nlist: []\n")
    done = run("validate", path)
    assert (done.returncode, done.stdout.decode()) == (
        0,
        f"{path}:1:9: warning: result: unknown title 'vm startd'; what stands below it is read as "
        "plain results (did you mean 'vm started'?)\n",
    )
    assert run("validate", "--strict", path).returncode == 1
    assert run("validate", "--type", "ResultContainer", path).stdout == done.stdout


def test_messages_without_a_title_are_read_by_their_type(file):
    path = file(b"title: migrate vm\nphase: memory\npercent: 50\n")
    assert run("validate", path).returncode == 1
    for name in ("node.Progress", "Progress"):
        done = run("validate", "--strict", "--type", name, path)
        assert (done.returncode, done.stdout) == (0, b"")


def test_every_file_is_read_though_one_cannot_be(file, tmp_path):
    bad, fine, missing = file(MISSPELT), file(SEVERAL, "fine.yaml"), str(tmp_path / "missing")
    done = run("validate", missing, bad, fine, str(tmp_path))
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
def test_a_type_that_no_title_tells(name, content, status, file, capsys):
    assert main(["validate", "--type", name, file(content)]) == status
    assert bool(capsys.readouterr().out) == bool(status)


def test_control_characters_never_reach_the_output(tmp_path, capsys):
    path = tmp_path / "a\n\033[31mb.yaml"
    path.write_bytes(b'task: quit\n"\\e[31mred\\nkey\\a": 1\n')
    assert main(["validate", str(path)]) == 0
    shown = capsys.readouterr().out
    assert shown.count("\n") == 1
    assert shown.startswith(f"{tmp_path}/a\\n\\x1b[31mb.yaml:2:1: warning: \\x1b[31mred\\nkey\\x07")
    assert printable(shown[:-1]) == shown[:-1]


# --- validate: other formats ----------------------------------------------------------------------


def test_json(file):
    path = file(SEVERAL + UNKNOWN_KEY + b"---\n" + MISSPELT)
    done = run("validate", "--format", "json", path)
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


def test_json_without_problems_is_an_empty_list(file):
    done = run("validate", "--format", "json", file(SEVERAL))
    assert (done.returncode, json.loads(done.stdout)) == (0, [])


def test_github(file):
    path = file(MISSPELT)
    done = run("validate", "--format", "github", path)
    assert done.returncode == 1
    assert done.stdout.decode() == (
        f"::error file={path},line=5,col=19,title=fastlib value::parameter.migration-type: "
        "expected one of live, warm, offline; got 'lve' (did you mean 'live'?)\n"
    )


def test_github_escapes_what_would_end_a_property_or_a_line():
    problem = Problem(
        message="100%: a, b\r\nc", code="odd", severity="warning", path="x,y:z", line=3, column=4
    )
    assert github_annotation(Source("a,b:c%\n.yaml", b""), problem) == (
        "::warning file=a%2Cb%3Ac%25%0A.yaml,line=3,col=4,title=fastlib odd"
        "::x,y:z: 100%25: a, b%0D%0Ac"
    )


# --- on a terminal --------------------------------------------------------------------------------


def test_on_a_terminal_a_caret_stands_under_the_column(file):
    path = file(MISSPELT)
    shown, status = on_terminal("validate", path)
    assert status == 1
    assert "\033[1;31merror:\033[m" in shown
    assert without_colours(shown) == (
        f"{path}:{MISSPELT_LINE}"
        "    migration-type: lve\n"
        "                    ^\n"
        "1 message: 1 error\n"
    )


def test_a_summary_on_a_terminal(file):
    shown, status = on_terminal("validate", file(SEVERAL))
    assert (shown, status) == ("3 messages: no problems\n", 0)
    paths = [file(UNKNOWN_KEY), file(MISSPELT, "2.yaml"), file(MISSPELT, "3.yaml")]
    shown, status = on_terminal("validate", *paths)
    assert status == 1
    assert shown.endswith("\n3 messages: 2 errors, 1 warning\n")


@pytest.mark.parametrize("env", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_colours_can_be_refused(file, env):
    path = file(MISSPELT)
    shown, _ = on_terminal("validate", path, env=env)
    assert shown == without_colours(on_terminal("validate", path)[0])
    assert "^" in shown
    assert "\033" in on_terminal("validate", path, env={"NO_COLOR": ""})[0]


def test_json_and_github_are_the_same_on_a_terminal(file):
    path = file(MISSPELT)
    for name in ("json", "github"):
        arguments = ("validate", "--format", name, path)
        assert on_terminal(*arguments)[0] == run(*arguments).stdout.decode()


def test_a_long_line_is_cut_to_the_terminal(file):
    path = file(b"{task: quit, id: " + b"a" * 5000 + b", nonsense: " + b"b" * 5000 + b"}")
    shown, _ = on_terminal("validate", path, columns=60)
    line, caret = without_colours(shown).splitlines()[1:3]
    assert len(line) <= 60
    assert line.startswith("  ...aaa")
    assert line.endswith("bbb...")
    assert line[caret.index("^") :].startswith("nonsense: ")


def test_convert_shows_lines_where_its_errors_go(file):
    shown, status = on_terminal("convert", file(MISSPELT), stream="stderr")
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
def test_excerpt(line, column, shown, before):
    assert excerpt(line, column, 76) == (shown, before)


@given(
    st.text(st.characters(exclude_categories=["Mn", "Me", "Mc"]), max_size=120),
    st.integers(1, 130),
    st.integers(20, 90),
)
def test_an_excerpt_fits_and_the_caret_meets_its_character(line, column, width):
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
def test_any_content_is_answered(content, file):
    path = file(content)
    done = run("validate", path)
    assert (done.returncode, done.stderr) == (1, b"")
    for line in done.stdout.decode().splitlines():
        assert re.match(rf"{re.escape(path)}:\d+:\d+: (error|warning): .", line)
    shown, status = on_terminal("validate", path)
    assert status == 1
    assert "Traceback" not in shown
    done = run("convert", path)
    assert (done.returncode, done.stdout) == (1, b"")


@settings(max_examples=200)
@given(st.one_of(st.binary(), st.text().map(str.encode), st.sampled_from([SEVERAL, MISSPELT])))
def test_a_line_a_problem_whatever_the_bytes(content):
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
def test_what_cannot_be_read(name, file, tmp_path):
    for path, reason in (
        (tmp_path / "missing.yaml", "No such file or directory"),
        (tmp_path, "Is a directory"),
        (Path(file(SEVERAL)) / "below", "Not a directory"),
        (tmp_path / ("long" * 100), "File name too long"),
    ):
        done = run(name, str(path))
        assert (done.returncode, done.stdout) == (2, b"")
        assert done.stderr.decode() == f"fastlib {name}: error: {path}: {reason}\n"


def test_a_file_without_permission(file, monkeypatch, capsys):
    def refuse(name, mode):  # as root may read everything
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), name)

    monkeypatch.setattr("fastlib.cli.arguments.message_files.open", refuse, raising=False)
    path = file(SEVERAL)
    assert main(["validate", path]) == 2
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == ("", f"fastlib validate: error: {path}: Permission denied\n")


def test_a_file_without_end_is_read_as_far_as_the_limit():
    done = run("validate", "/dev/zero")
    assert done.returncode == 1
    assert done.stdout.startswith(b"/dev/zero:1:1: error: the text has ")


def test_a_file_name_that_is_no_text(tmp_path):
    path = os.fsencode(tmp_path) + b"/\xff.yaml"
    with open(path, "wb") as written:
        written.write(MISSPELT)
    for name in ("text", "json", "github"):
        done = run("validate", "--format", name, path)
        assert done.returncode == 1
        assert rb"\udcff.yaml" in done.stdout.replace(b"\\\\", b"\\")


def test_a_locale_without_the_characters():
    ascii_only = {"PYTHONIOENCODING": "ascii"}
    content = "task: quit\nid: ü\nschlüssel: 1\n".encode()
    done = run("validate", "-", stdin=content, env=ascii_only)
    assert done.stdout.startswith(rb"<stdin>:3:1: warning: schl\xfcssel: ")
    done = run("validate", "--format", "json", "-", stdin=content, env=ascii_only)
    assert json.loads(done.stdout)[0]["path"] == "schlüssel"
    done = run("convert", "-", stdin=content, env=ascii_only)
    assert done.stdout.decode() == "---\ntask: quit\nid: ü\n---\n"


def test_a_closed_pipe_ends_it_silently(file):
    for arguments in (["validate", "-"], ["validate", "-", "--format", "json"], ["convert", "-"]):
        content = MISSPELT if "validate" in arguments else SEVERAL
        process = subprocess.Popen(
            command(*arguments),
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


def test_an_interrupt_ends_it_silently(tmp_path):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    process = subprocess.Popen(
        command("validate", str(fifo)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=ENVIRONMENT,
    )
    with open(fifo, "wb"):  # opens once the command does, which then waits
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=60) == (b"", b"")
    assert process.returncode == -signal.SIGINT


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
@pytest.mark.parametrize(
    "arguments", [["validate"], ["validate", "--format", "json"], ["describe"]]
)
def test_a_full_disk_is_told(arguments, file):
    if arguments != ["describe"]:
        arguments = [*arguments, file(MISSPELT)]
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            command(*arguments), stdout=full, stderr=subprocess.PIPE, env=ENVIRONMENT, timeout=60
        )
    assert done.returncode == 2
    assert done.stderr == b"fastlib: error: cannot write: No space left on device\n"


@pytest.mark.parametrize(
    ("redirection", "status"), [("<&-", 2), (">&-", 1), ("2>&-", 1), (">&- 2>&-", 1)]
)
def test_a_closed_stream(redirection, status, file):
    path = "-" if "<" in redirection else file(MISSPELT)
    line = f"{shlex.join(command('validate', path))} {redirection}"
    done = subprocess.run(["/bin/sh", "-c", line], capture_output=True, env=ENVIRONMENT, timeout=60)
    assert done.returncode == status
    if status == 2:
        assert done.stderr == b"fastlib validate: error: <stdin>: it is closed\n"
    else:
        assert done.stderr == b""


# --- convert --------------------------------------------------------------------------------------


def test_convert_writes_the_canonical_spelling(file):
    path = file(b'{task: "stop vm", list: [{vm-name: "no", force: Yes}]} # now\n')
    done = run("convert", path)
    assert (done.returncode, done.stderr) == (0, b"")
    message = fastlib.TaskContainer(tasks=[fastlib.Stop(vm_name="no", force=True)])
    assert done.stdout.decode() == message.to_yaml() + "\n"
    assert run("convert", path, "--to", "yaml").stdout == done.stdout
    done = run("convert", "-", "--to", "flow", stdin=SEVERAL.split(b"---")[0])
    assert done.stdout == b'{task: quit, id: "1"}\n'


@pytest.mark.parametrize("form", ["yaml", "flow"])
def test_convert_keeps_every_document(form):
    done = run("convert", "-", "--to", form, stdin=SEVERAL)
    assert done.returncode == 0
    old = [report.message for report in fastlib.validate_all(SEVERAL)]
    new = fastlib.validate_all(done.stdout)
    assert len(old) == 3
    assert [report.message for report in new] == old
    assert [report.problems for report in new] == [()] * 3
    again = run("convert", "-", "--to", form, stdin=done.stdout)
    assert again.stdout == done.stdout


def test_convert_to_yaml_joins_documents():
    done = run("convert", "-", stdin=b"task: quit\n---\ntask: init\nsource: a\n")
    assert done.stdout == b"---\ntask: quit\n---\ntask: init\nhostname: a\n---\n"
    done = run("convert", "-", "--type", "PscomRequest", stdin=b"suspend\n---\ntask: resume\n")
    assert done.stdout == b"suspend\n---\nresume\n"


def test_convert_to_yaml_writes_lines_of_text_as_lines():
    content = b'task: start vm\nvm-configurations: [{xml: "<domain>\\n  <name>a</name>\\n"}]\n'
    done = run("convert", "-", stdin=content)
    assert b"  - xml: |\n      <domain>\n        <name>a</name>\n---\n" in done.stdout
    assert fastlib.load(done.stdout) == fastlib.load(content)


def test_convert_to_flow_and_json_writes_a_line_a_message():
    flow = run("convert", "-", "--to", "flow", stdin=SEVERAL).stdout.decode().splitlines()
    lines = run("convert", "-", "--to", "json", stdin=SEVERAL).stdout.decode().splitlines()
    messages = [report.message for report in fastlib.validate_all(SEVERAL)]
    assert [fastlib.load(line) for line in flow] == messages
    assert [json.loads(line) for line in lines] == [message.emit() for message in messages]
    assert [fastlib.load(line) for line in lines] == messages


def test_convert_to_json_on_a_terminal_is_for_people(file):
    shown, status = on_terminal("convert", "--to", "json", file(b"task: quit\nid: a\n"))
    assert (shown, status) == ('{\n  "task": "quit",\n  "id": "a"\n}\n', 0)


def test_convert_to_json_keeps_numbers_that_json_does_not_have():
    reply = ["convert", "--type", "mmbwmon.Reply", "-"]
    for number in (b".nan", b".inf", b"-.inf", b"0.5"):
        yaml = run(*reply, stdin=b"{cores: [1], result: %s}" % number).stdout
        lines = run(*reply, "--to", "json", stdin=yaml).stdout
        assert isinstance(json.loads(lines)["result"], float if number == b"0.5" else str)
        assert run(*reply, stdin=lines).stdout == yaml
        assert b"result: %s\n" % number in yaml


def test_convert_says_what_is_wrong_and_writes_nothing(file):
    path = file(SEVERAL + MISSPELT)
    done = run("convert", path)
    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr == run("validate", path).stdout != b""


def test_convert_says_what_it_drops(file):
    path = file(UNKNOWN_KEY)
    done = run("convert", path, "--to", "flow")
    assert (done.returncode, done.stdout) == (0, b"{task: stop vm, list: [{vm-name: a}]}\n")
    assert done.stderr == run("validate", path).stdout != b""


def test_in_process_what_cannot_be_shown_is_left_out():
    shown = io.StringIO()
    print_problems(Source("x", b""), [Problem(message="odd", code="odd")], shown)
    assert shown.getvalue() == "x: error: odd\n"


# --- describe -------------------------------------------------------------------------------------


# What a process of its own knows; other tests declare more in this one.
OWN = [d for d in declarations() if d.type.__module__.startswith("fastlib.")]


def described(*arguments):
    done = run("describe", "--format", "json", *arguments)
    assert done.returncode == 0
    return json.loads(done.stdout)


def test_describe_lists_every_message_that_can_be_imported():
    done = run("describe")
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


def test_describe_as_data_lists_the_same():
    groups = described()
    assert [group["name"] for group in groups[:2]] == ["tasks", "containers"]
    assert groups[-1]["name"] == "parts"
    titles = [title for task in groups[0]["messages"] for title in task["titles"]]
    assert titles == [declared.task for declared in OWN]
    containers = [container["name"] for container in groups[1]["messages"]]
    assert containers == ["TaskContainer", "ResultContainer"]
    text = run("describe").stdout.decode()
    for group in groups:
        assert f"{group['name']}: {group['doc']}\n" in text


def test_describe_a_task():
    done = run("describe", "start vm")
    assert done.returncode == 0
    assert run("describe", "Start").stdout == run("describe", "vm started").stdout == done.stdout
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
    text = run("describe", "Repin").stdout.decode()
    assert "  in a container: one, inline\n" in text
    assert (
        "  result: 'result: vm repinned', a list under 'list'; one, inline, is understood" in text
    )
    assert "  vm-name: text; required\n" in text
    assert "\nrules" not in text


def test_describe_a_container():
    text = run("describe", "TaskContainer").stdout.decode()
    assert "members\n  start vm: Start, a list under 'vm-configurations'\n" in text
    assert "  quit: Quit, one, inline; a list under 'list', is understood, too\n" in text
    assert "  task: text; required\n" in text
    assert [place["title"] for place in described("ResultContainer")["members"]] == [
        *(declared.result for declared in OWN),
        "unknown",
    ]
    text = run("describe", "query node").stdout.decode()
    assert "result: 'result: node queried', NodeResult, a list under 'list'\n" in text


def test_describe_other_messages():
    assert described("agent.Init") == described("init")
    (field,) = described("init")["fields"]
    assert (field["key"], field["aliases"], field["required"]) == ("hostname", ["source"], True)
    assert [field["key"] for field in described("PciAddress")["fields"]] == ["pci-addr"]
    assert described("mmbwmon.Stop")["name"] == "mmbwmon.Stop"
    assert described("Stop")["name"] == "Stop"
    text = run("describe", "PscomRequest").stdout.decode()
    assert "  title: 'task: suspend' or 'task: resume'\n  on the wire: suspend or resume\n" in text
    assert described("Timing")["rules"] == ["needs started and stopped together, or none of them"]


def test_describe_a_field():
    for path in ("parameter.swap-with", "parameter.swap_with"):
        done = run("describe", "Migrate", path)
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
    vendor = run("describe", "Start", "pci-ids[0].vendor").stdout.decode()
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
def test_describe_an_unknown_name(arguments, error, capsys):
    assert main(["describe", *arguments]) == 2
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == ("", f"fastlib describe: error: {error}\n")


OURS = [cls for cls in message_types() if cls.__module__.startswith("fastlib.")]


@pytest.mark.parametrize("cls", OURS, ids=name_of)
def test_a_description_says_what_the_type_says(cls):
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


def test_on_a_terminal_descriptions_are_wrapped():
    shown, status = on_terminal("describe", "Start", columns=60)
    assert status == 0
    lines = without_colours(shown).splitlines()
    details = [line for line in lines if line.startswith("      ")]
    assert max(map(len, details)) <= 60
    assert len(details) > run("describe", "Start").stdout.decode().count("\n      ")
    assert "\033[1mvcpus\033[m: an integer" in shown


DECLARED_ELSEWHERE = """
import sys
from typing import Annotated
from fastlib import Task
from fastlib.cli import main
from fastlib.codec import Rule, Wire


class OnlyOnSundays(Rule):
    \"""Only on Sundays.\"""

    def broken(self, get):
        return None


class Snapshot(Task, task="snapshot vm", result="vm snapshotted", key="snapshots"):
    rules = (OnlyOnSundays(),)
    vm_name: Annotated[str, Wire("Name of the domain.", aliases=("domain",))]


class Keep(Task, task="keep vm", result="vm kept", layout="inline"):
    \"""Keep a domain.\"""


sys.exit(main(sys.argv[1:]))
"""


def test_a_task_declared_elsewhere_is_described(file):
    script = file(DECLARED_ELSEWHERE.encode(), "script.py")

    def main_of_script(*arguments):
        return subprocess.run(
            [sys.executable, script, *arguments],
            capture_output=True,
            check=True,
            env=ENVIRONMENT,
            timeout=60,
        ).stdout.decode()

    listed = main_of_script("describe")
    assert re.search(r"^  snapshot vm +__main__\.Snapshot$", listed, re.MULTILINE)
    assert re.search(r"^  keep vm +__main__\.Keep +Keep a domain\.$", listed, re.MULTILINE)
    text = main_of_script("describe", "snapshot vm")
    assert text == main_of_script("describe", "Snapshot")
    assert "  in a container: a list under 'snapshots'\n" in text
    assert "  vm-name: text; required\n      Name of the domain.\n" in text
    assert "      Also read as 'domain'.\n" in text
    assert text.endswith("rules\n  Only on Sundays.\n")
    message = file(b"task: snapshot vm\nsnapshots: [{vm-name: a}]\n")
    assert main_of_script("validate", "--strict", message) == ""
