"""`fastlib validate`: its problems as lines, JSON and annotations, and on a terminal."""

import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastlib.cli import main
from fastlib.cli.arguments.message_files import Source
from fastlib.cli.output.problems import excerpt, github_annotation, print_problems
from fastlib.cli.output.terminal import cell
from fastlib.codec import Problem
from fastlib.display.text import columns, printable
from tests.support.shell import run_bytes, run_on_terminal, without_colours
from tests.support.yaml_files import MISSPELT, MISSPELT_LINE, SEVERAL, UNKNOWN_KEY

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
        f"{path}:1:9: warning: result: unknown title 'vm startd'; its contents are read as plain "
        "results (did you mean 'vm started'?)\n",
    )
    assert run_bytes("validate", "--strict", path).returncode == 1
    assert run_bytes("validate", "--type", "ResultContainer", path).stdout == done.stdout


def test_validate_names_the_program_that_checks_a_configuration(file):
    path = file(b"hostname: node01\nhypervisor: {type: dummy}\n")
    done = run_bytes("validate", path)
    assert (done.returncode, done.stdout.decode()) == (
        1,
        f"{path}:1:1: error: the message type is unknown: there is neither 'task' nor 'result'; "
        "'hypervisor' is a key of the daemon's configuration, which 'migfra --check -c FILE' "
        "checks\n",
    )


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


def test_excerpt_hides_secrets(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("fastlib.cli.output.problems.is_terminal", lambda _: True)
    stream = io.StringIO()
    problem = Problem(code="old-key", message="not here", line=1, column=3)
    print_problems(Source("migfra.yaml", b"  password: s3cret"), [problem], stream)
    assert "  password: ******\n    ^" in stream.getvalue()
    assert "s3cret" not in stream.getvalue()
