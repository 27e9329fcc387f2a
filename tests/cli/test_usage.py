"""Help of all commands, and the nearest word in errors about commands, options and choices."""

import re
from itertools import takewhile

import pytest

from fastlib.cli import COMMAND_GROUPS, COMMANDS, complete_parser
from fastlib.cli.arguments.parser import ArgumentParser
from fastlib.cli.migfra import main as migfra
from fastlib.cli.migfra import make_parser
from fastlib.cli.output.manual_page import commands_of
from tests.support.shell import run


def test_program_without_command_prints_help_with_status_of_wrong_usage():
    done = run()
    assert (done.returncode, done.stderr) == (2, "")
    assert done.stdout == run("--help").stdout


def test_help_lists_each_command_once_in_its_group():
    shown = run("--help").stdout
    sections = dict(re.findall(r"^([a-z ]+):\n((?:  .*\n)+)", shown, re.MULTILINE))
    listed = {
        title: re.findall(r"^  (\S+) ", sections[title], re.MULTILINE) for title in COMMAND_GROUPS
    }
    assert [name for names in listed.values() for name in names if name in COMMANDS] == [*COMMANDS]
    assert {"migrate", "start", "send"} <= {*listed["tasks"]}
    assert "migrate" not in COMMANDS


@pytest.mark.parametrize("columns", [60, 80, 132])
def test_help_fits_into_the_terminal(columns, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(columns))
    parser = complete_parser()
    for command in (parser, make_parser(), *commands_of(parser).values()):
        longest = columns if columns >= 80 else 80  # lists keep their lines
        for line in command.format_help().splitlines():
            assert len(line) < longest or " " not in line.strip(), (command.prog, line)
        prose = (command.epilog or "").rpartition("\n\n")[2]
        assert " ".join(command.format_help().split()).endswith(" ".join(prose.split()))
        shown = command.format_help().split("\n\n")[-1].splitlines()
        assert all(len(line) < columns for line in shown), command.prog


def test_long_example_continues_with_a_backslash(monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    shown = commands_of(complete_parser())["migrate"].format_help()
    examples = shown.partition("\nexamples:\n")[2].splitlines()
    assert examples[1:4] == [
        "  fastlib migrate vm1 --from node01 --to node02 \\",
        "      --migration-type live --max-downtime 300",
        "  fastlib migrate vm1 --from node01 --to node02 \\",
    ]


def test_usage_breaks_between_options_only(monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    shown = commands_of(complete_parser())["watch"].format_usage()
    lines = [*takewhile(bool, shown.splitlines())]
    assert len(lines) == 2
    assert all(line.count("[") == line.count("]") for line in lines)


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        ("send n a b --timeout 5", {"host": "n", "files": ["a", "b"]}),
        ("send n a --timeout 5 b", {"host": "n", "files": ["a", "b"]}),
        ("send --timeout 5 n --qos 1 a b", {"host": "n", "files": ["a", "b"], "qos": 1}),
        ("send --no-wait n a --timeout=5 b --format json c", {"files": ["a", "b", "c"]}),
        ("send n a --timeout 5 -", {"files": ["a", "-"], "timeout": 5.0}),
        ("send n a --timeout 5 -- -b --no-wait", {"files": ["a", "-b", "--no-wait"]}),
        ("log --host n vm1 --limit 5", {"hosts": ["n"], "name": "vm1"}),
        ("forget n1 --force n2", {"hosts": ["n1", "n2"], "force": True}),
        ("validate --format json a --type Stop b", {"files": ["a", "b"]}),
        ("suspend vm1 --host n vm2", {"task.vm_name": ["vm1", "vm2"], "host": "n"}),
        ("compat a --format json b c", {"versions": ["a", "b"], "new": "c"}),
        ("conformance --examples 3 -- peer --examples 4", {"command": ["peer", "--examples", "4"]}),
    ],
)
def test_options_may_be_before_between_and_behind_other_arguments(arguments, found):
    parsed = vars(complete_parser().parse_args(arguments.split()))
    assert {name: parsed[name] for name in found} == found


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["valdate"], "fastlib: error: unknown command 'valdate' (did you mean 'validate'?); "
         "'fastlib --help' lists them"),
        (["mirgate"], "fastlib: error: unknown command 'mirgate' (did you mean 'migrate'?); "),
        (["Send"], "fastlib: error: unknown command 'Send' (did you mean 'send'?); "),
        (["desc"], "fastlib: error: unknown command 'desc' (did you mean 'describe'?); "),
        (["xyzzy"], "fastlib: error: unknown command 'xyzzy'; 'fastlib --help' lists them"),
        (["--vers"], "fastlib: error: unknown option --vers (did you mean '--version'?); "),
        (["validate", "--frmat", "json", "x"],
         "fastlib validate: error: unknown option --frmat (did you mean '--format'?); "
         "'fastlib validate --help' lists the options"),
        (["validate", "--frmat=json", "x"],
         "fastlib validate: error: unknown option --frmat (did you mean '--format'?); "),
        (["validate", "--format", "jsn", "x"],
         "fastlib validate: error: argument --format: expected one of text, json, github; got "
         "'jsn' (did you mean 'json'?)"),
        # The option that is wrong comes before those that are missing.
        (["migrate", "vm1", "--form", "a"],
         "fastlib migrate: error: unknown option --form (did you mean '--format' or '--from'?); "),
        (["migrate", "vm1", "--retry_counter", "1"],
         "fastlib migrate: error: unknown option --retry_counter (did you mean "
         "'--retry-counter'?); "),
        (["validate", "-x", "a"], "fastlib validate: error: unknown option -x; "),
        (["start", "vm1", "--wait"],
         "fastlib start: error: unknown option --wait: it is the default, and --no-wait turns it "
         "off"),
        (["start", "vm1", "--zzzzzz"],
         "fastlib start: error: unknown option --zzzzzz; 'fastlib start --help' lists "),
    ],
)  # fmt: skip
def test_error_names_the_nearest_word(arguments, error):
    done = run(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    usage, *_, last = done.stderr.splitlines()
    assert usage.startswith("usage: fastlib ")
    assert last.startswith(error)


@pytest.mark.parametrize("name", [*COMMANDS, "start", "migrate", "cancel"])
def test_help_of_each_command_has_examples(name):
    shown = run(name, "--help").stdout
    assert re.search(rf"^examples:\n  .*fastlib {name}\b", shown, re.MULTILINE)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["demo", "--hosts", "x"], "argument --hosts: expected a whole number; got 'x'"),
        (["demo", "--speed", "x"], "argument --speed: expected a number; got 'x'"),
        (["broker", "--port", "1.5"], "argument --port: expected a whole number; got '1.5'"),
        (["watch", "--qos", "3"], "argument --qos: expected one of 0, 1, 2; got '3'"),
    ],
)  # fmt: skip
def test_error_names_the_expected_number(arguments, error):
    done = run(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert error in done.stderr.splitlines()[-1]


def test_examples_of_the_daemon_are_valid_command_lines():
    (examples, *_) = make_parser().epilog.split("\n\n")
    lines = [line.split()[1:] for line in examples.splitlines()[1:]]
    assert ["-c", "/etc/migfra.yaml"] in lines
    for line in lines:
        assert make_parser().parse_args(line).config == "/etc/migfra.yaml"


def test_words_after_two_hyphens_are_positional():
    done = run("validate", "--", "--frmat")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "fastlib validate: error: --frmat: No such file or directory\n"


def test_daemon_names_the_nearest_option(capsys):
    with pytest.raises(SystemExit) as ended:
        migfra(["--chek", "-c", "x"])
    assert ended.value.code == 2
    assert capsys.readouterr().err.endswith(
        "migfra: error: unknown option --chek (did you mean '--check'?); 'migfra --help' lists the "
        "options\n"
    )


def test_help_of_an_option_is_the_same_in_each_python():
    parser = ArgumentParser(prog="fastlib")
    parser.add_argument("-c", "--config", metavar="FILE", help="the configuration")
    parser.add_argument("-d", "--daemon", action="store_true")
    text = parser.format_help()
    assert "  -c FILE, --config FILE\n" in text
    assert "  -d, --daemon\n" in text
