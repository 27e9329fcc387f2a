"""Unwanted input and output: hostile files, closed streams, full disks, signals."""

import codecs
import contextlib
import errno
import io
import json
import os
import re
import shlex
import signal
import subprocess
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastlib
from fastlib.cli import main
from tests.support.shell import ENVIRONMENT, PROGRAM, run_bytes, run_on_terminal
from tests.support.strategies import examples
from tests.support.yaml_files import MISSPELT, SEVERAL

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


def test_closed_output_ends_no_order_with_an_error(daemon, env):
    done = run_bytes("stop", "vm1", "--host", daemon.host, env=env, closed=["stdout"])
    assert (done.returncode, done.stdout, len(daemon.received)) == (0, b"", 1)


@pytest.mark.parametrize("closed", ["stdin", "stdout"])
def test_serving_without_a_standard_stream_is_an_error(closed):
    done = run_bytes("conformance", "--serve", closed=[closed])
    assert done.returncode == 2
    assert done.stderr == (
        b"fastlib conformance: error: --serve needs an open standard input and output\n"
    )


def test_process_without_output_streams_ends_in_order(file):
    line = f"{shlex.join([*PROGRAM, 'validate', file(MISSPELT)])} >&- 2>&-"
    done = subprocess.run(["/bin/sh", "-c", line], capture_output=True, env=ENVIRONMENT, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (1, b"", b"")
