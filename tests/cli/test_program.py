"""`fastlib` itself: version, help, usage, examples, and the imports of each command."""

import glob
import io
import re
import shlex
import subprocess
import sys
from importlib import import_module
from importlib.metadata import entry_points

import pytest

import fastlib
from fastlib.cli import COMMANDS, main
from fastlib.codec import is_compiled
from tests.support.shell import ENVIRONMENT, run, run_bytes
from tests.support.yaml_files import SEVERAL


def test_installed_program_calls_main():
    (script,) = entry_points(group="console_scripts", name="fastlib")
    assert script.load() is main


def test_version_is_printed():
    done = run_bytes("--version")
    build = "compiled" if is_compiled() else "pure Python"
    assert (done.returncode, done.stdout) == (
        0,
        f"fastlib {fastlib.__version__} ({build})\n".encode(),
    )


def test_help_lists_every_command():
    done = run("--help")
    assert done.returncode == 0
    words = " ".join(done.stdout.split())  # argparse wraps differently in each version of Python
    for name, summary in COMMANDS.items():
        assert f" {name} {summary} " in words


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["validate"], "required: FILE"),
        (["validate", "--format", "xml", "x"], "expected one of text, json, github; got 'xml'"),
        (["validate", "-", "x", "-"], "only once"),
        (["validate", "--type", "Strt", "x"], "'Strt' (did you mean 'Start'?)"),
        (["validate", "--type", "start vm", "x"], "no message 'start vm' (did you mean 'Start'?)"),
        (["convert"], "required: FILE"),
        (["convert", "--to", "toml", "x"], "expected one of yaml, json, flow; got 'toml'"),
        (["describe", "a", "b", "c"], "unexpected argument 'c'; 'fastlib describe --help' shows"),
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


SERVING = {
    "broker",
    "compat",
    "conformance",
    "dashboard",
    "demo",
    "forget",
    "log",
    "query",
    "send",
    "watch",
}
"""Commands that run for a while, or that need a broker, other versions or another implementation;
they have tests of their own."""


def example_commands():
    """The commands in the help, each as far as it is ours."""
    for module in ("", *(f".commands.{name}" for name in COMMANDS if name not in SERVING)):
        epilog = import_module(f"fastlib.cli{module}")._EPILOG
        listed = re.findall(r"^  (.*)$", epilog.split("\n\n")[0], re.MULTILINE)
        assert listed
        yield from (re.search("fastlib [^|>]*", line)[0].strip() for line in listed)


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


@pytest.mark.parametrize(
    "arguments",
    [
        ["watch", "mqtt://user:s3cret/x@broker"],
        ["watch", "--brok", "mqtt://user:s3cret@broker"],
        ["mqtt://user:s3cret@broker", "watch"],
        ["watch", "--mqtt", "mqtts://user:s3cret@broker"],
        ["watch", "--connect-timeout", "user:s3cret@broker"],
        ["watch", "--broker", "mqtt://user:s3cret@broker"],
        ["watch", "--broker", "mqtt://user:s3cret/x@broker"],
    ],
)
def test_wrong_usage_does_not_repeat_the_password_of_a_url(arguments, capsys):
    try:
        status = main(arguments)
    except SystemExit as ended:
        status = ended.code
    shown = capsys.readouterr()
    assert status == 2
    assert "s3cret" not in shown.out + shown.err
    assert "error: " in shown.err
