"""Messages of other packages, found by their entry points."""

import os
import re
import subprocess
import sys
import textwrap
import zipfile
from importlib.metadata import Distribution, DistributionFinder
from pathlib import Path

import pytest

import fastlib
from fastlib.message.entry_points import GROUP, load_entry_points
from fastlib.message.registry import titles
from tests.support.on_path import on_path
from tests.support.shell import run_bytes

ROOT = Path(fastlib.__file__).parents[1]

SNAPSHOTS = """
    from typing import Annotated

    from fastlib import Result, Task
    from fastlib.codec import Wire


    class Snapshotted(Result):
        '''How large a snapshot became.'''

        size: Annotated[str | None, Wire("What it takes.")] = None


    class Snapshot(Task, task="snapshot vm", result="vm snapshotted", result_type=Snapshotted):
        '''Keep a domain's state.'''

        vm_name: Annotated[str, Wire("Name of the domain.")]
    """

TASK = b"task: snapshot vm\nlist:\n  - vm-name: vm1\n"
RESULT = b"result: vm snapshotted\nlist:\n  - vm-name: vm1\n    status: success\n    size: large\n"


def files(name, points, modules, version="1.0"):
    """The files of an installed distribution: modules, and its metadata."""
    info = f"{name.replace('-', '_')}-{version}.dist-info"
    listed = "".join(f"{point}\n" for point in points)
    return {
        **{f"{module}.py": textwrap.dedent(source) for module, source in modules.items()},
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/entry_points.txt": f"[{GROUP}]\n{listed}",
    }


def put(folder, *arguments, **keywords):
    """Puts a distribution into a folder."""
    for path, content in files(*arguments, **keywords).items():
        place = folder / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(content)


def run(*arguments, path, stdin=b""):
    """Run `fastlib …` with some folders first on the path."""
    with on_path(*path):
        return run_bytes(*arguments, stdin=stdin)


def loaded(*path):
    """The text of each broken entry point on a path, and the titles that become known."""
    with on_path(*path):
        known = set(titles("task"))
        broken = load_entry_points()
        return [list(map(str, broken)), sorted(set(titles("task")) - known)]


# --- what is installed ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A folder into which a wheel with messages was installed."""
    folder = tmp_path_factory.mktemp("installed")
    content = files("acme-fast", ["snapshots = acme_snapshots"], {"acme_snapshots": SNAPSHOTS})
    wheel = tmp_path_factory.mktemp("wheels") / "acme_fast-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for path, text in content.items():
            archive.writestr(path, text)
    with zipfile.ZipFile(wheel) as archive:  # what an installer does with a wheel
        archive.extractall(folder)
    return folder


def test_commands_know_messages_of_installed_packages(installed):
    path = [installed]
    for text in (TASK, RESULT):
        done = run("validate", "--strict", "-", path=path, stdin=text)
        assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
        done = run("convert", "-", path=path, stdin=text)
        assert (done.returncode, done.stdout, done.stderr) == (0, b"---\n" + text + b"---\n", b"")
    wrong = TASK.replace(b"vm-name", b"vm-nmae")
    assert b"did you mean 'vm-name'?" in run("validate", "-", path=path, stdin=wrong).stdout
    done = run("validate", "--type", "Snapshot", "-", path=path, stdin=b"vm-name: vm1")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    done = run("describe", "snapshot vm", path=path)
    assert done.stderr == b""
    assert b"Keep a domain's state.\n" in done.stdout
    assert b"acme_snapshots.Snapshotted, a list under 'list'" in done.stdout
    assert b"snapshot vm" in run("describe", path=path).stdout


def test_commands_refuse_messages_of_packages_that_are_not_installed():
    done = run("validate", "-", path=[], stdin=TASK)
    assert done.returncode == 1
    assert b"task: expected one of " in done.stdout
    done = run("validate", "-", path=[], stdin=RESULT)
    assert done.returncode == 0
    assert b"1:9: warning: result: unknown title 'vm snapshotted'" in done.stdout


def test_program_loads_entry_points_by_a_call(installed):
    with on_path(installed):
        assert not fastlib.validate("task: snapshot vm").ok
        assert load_entry_points() == []
        assert fastlib.validate(TASK).ok


def test_new_process_knows_messages_of_installed_packages(installed):
    """This test starts a process, like a user."""
    path = os.pathsep.join(map(str, (installed, ROOT)))
    done = subprocess.run(
        [sys.executable, "-m", "fastlib", "validate", "--strict", "-"],
        input=TASK,
        capture_output=True,
        env=os.environ | {"PYTHONPATH": path},
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_module_is_imported_once(tmp_path, capsys):
    source = "print('imported')\nimport acme_missing\n"
    put(tmp_path, "acme", ["a = acme"], {"acme": source})
    with on_path(tmp_path):
        assert load_entry_points() == load_entry_points() != []
    assert capsys.readouterr().out == "imported\n"


# --- where it is installed ------------------------------------------------------------------------


def task(title):
    name = title.title().replace(" ", "")
    declared = f"class {name}(Task, task='{title}', result='{title} done'): ..."
    return f"from fastlib import Task\n{declared}\n"


def test_first_distribution_of_a_name_on_the_path_counts(tmp_path):
    put(tmp_path / "old", "Acme.Fast", ["a = acme_old"], {"acme_old": task("old")}, version="1.0")
    put(tmp_path / "new", "acme-fast", ["a = acme_new"], {"acme_new": task("new")}, version="2.0")
    assert loaded(tmp_path / "new", tmp_path / "old") == [[], ["new"]]
    assert loaded(tmp_path / "old", tmp_path / "new") == [[], ["old"]]
    # Also if it has no messages any more.
    (tmp_path / "new/acme_fast-2.0.dist-info/entry_points.txt").unlink()
    assert loaded(tmp_path / "new", tmp_path / "old") == [[], []]


def test_all_entry_points_of_all_distributions_are_loaded(tmp_path):
    put(tmp_path, "one", ["a = one", "b = two"], {"one": task("one"), "two": task("two")})
    put(tmp_path / "b", "two", ["a = three [extra]"], {"three": task("three")})
    assert loaded(tmp_path, tmp_path / "b") == [[], ["one", "three", "two"]]


def test_egg_info_folders_are_searched(tmp_path):
    put(tmp_path, "acme", ["a = acme"], {"acme": task("one")})
    info = tmp_path / "acme-1.0.dist-info"
    (info / "METADATA").rename(info / "PKG-INFO")
    info.rename(tmp_path / "acme.egg-info")
    assert loaded(tmp_path) == [[], ["one"]]


@pytest.mark.parametrize("broken", [[], ["b = acme_missing"]])
def test_archives_are_searched(tmp_path, broken):
    archive = tmp_path / "acme.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for path, text in files("acme", ["a = acme", *broken], {"acme": task("one")}).items():
            file.writestr(path, text)
    problems, titles = loaded(archive)
    assert titles == ["one"]
    assert len(problems) == len(broken)


def test_custom_finders_are_searched(tmp_path):
    put(tmp_path / "hidden", "acme", ["a = acme"], {"acme": task("one")})
    (tmp_path / "modules").mkdir()
    (tmp_path / "hidden/acme.py").rename(tmp_path / "modules/acme.py")
    place = tmp_path / "hidden/acme-1.0.dist-info"

    class Finder(DistributionFinder):
        def find_spec(self, name, path, target=None):
            return None

        def find_distributions(self, context=None):
            return [Distribution.at(place)]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "meta_path", [*sys.meta_path, Finder()])
        assert loaded(tmp_path / "modules") == [[], ["one"]]


# --- what is broken -------------------------------------------------------------------------------

BROKEN = {
    "no module": ("a = acme_missing", "", "ModuleNotFoundError: No module named 'acme_missing'"),
    "no import": ("a = acme", "import acme_needs", "ModuleNotFoundError: .*'acme_needs'"),
    "an exception": ("a = acme", "1 / 0", "ZeroDivisionError: division by zero"),
    "an exception without words": ("a = acme", "raise ValueError", "ValueError"),
    "several lines": ("a = acme", "raise ValueError('a\\n  b')", "ValueError: a b"),
    "an exit": ("a = acme", "import sys; sys.exit(3)", "SystemExit: 3"),
    "no Python": ("a = acme", "class", r"SyntaxError: .*\(acme.py, line 1\)"),
    "a title that is taken": (
        "a = acme",
        task("quit"),
        r"DeclarationError: acme\.Quit: the title 'task: quit' is taken by fastlib\.message\..*",
    ),
    "no attribute": ("a = acme:Missing", "", "AttributeError: .*'Missing'"),
    "no name": ("a = not a module", "", "expected the name of a module"),
    "an empty name": ("a =", "", "expected the name of a module"),
}


@pytest.mark.parametrize("reason", BROKEN)
def test_broken_entry_point_is_reported_and_skipped(tmp_path, reason):
    point, source, words = BROKEN[reason]
    put(tmp_path, "acme-broken", [point], {"acme": source}, version="1.2")
    put(tmp_path, "sound", ["a = sound"], {"sound": task("one")})
    problems, titles = loaded(tmp_path)
    assert titles == ["one"]
    [problem] = problems
    point = point if " = " in point else "a = "
    start = f"acme-broken 1.2: the extension '{point}' is broken: "
    assert problem.startswith(start)
    said, found, place = problem.removeprefix(start).partition(f" ({tmp_path}/acme.py:")
    assert re.fullmatch(words, said)
    # The error of a line of the module has its place.
    assert bool(found) == bool(source)
    if found:
        assert re.fullmatch(r"\d+\)", place)


@pytest.mark.parametrize("place", ["folder", "archive"])
@pytest.mark.parametrize(
    "content",
    [f"[{GROUP}]\na = b\xff\n".encode("latin-1"), f"[{GROUP}]\nno equals sign\n".encode()],
    ids=["no text", "no entry"],
)
def test_broken_entry_points_file_is_reported(tmp_path, content, place):
    put(tmp_path, "acme", ["a = acme"], {"acme": task("one")})
    points = tmp_path / "acme-1.0.dist-info/entry_points.txt"
    points.write_bytes(content)
    path = tmp_path
    if place == "archive":
        path = tmp_path / "acme.zip"
        with zipfile.ZipFile(path, "w") as file:
            for name in ("METADATA", "entry_points.txt"):
                file.write(points.with_name(name), f"acme-1.0.dist-info/{name}")
    [problem], titles = loaded(path)
    assert problem.startswith("acme 1.0: the extension 'entry_points.txt' is broken: ")
    assert titles == []


def test_problem_of_a_distribution_without_a_name_is_reported(tmp_path):
    put(tmp_path, "acme", ["a = acme_missing"], {})
    (tmp_path / "acme-1.0.dist-info/METADATA").unlink()
    [[problem], _] = loaded(tmp_path)
    assert problem.startswith(
        "a distribution without a name: the extension 'a = acme_missing' is broken: "
    )


def test_failed_declaration_is_not_described(tmp_path):
    declared = "class Bad(Task, task='bad', result='worse'):\n    size: int\n"
    put(tmp_path, "acme", ["a = acme"], {"acme": f"from fastlib import Task\n{declared}"})
    done = run("describe", path=[tmp_path])
    assert (done.returncode, done.stdout) == (0, run("describe", path=[]).stdout)
    assert b"DeclarationError: Bad.size: an integer needs a range" in done.stderr
    done = run("describe", "Bad", path=[tmp_path])
    assert done.returncode == 2
    assert b"there is no message 'Bad'" in done.stderr


@pytest.mark.parametrize("command", [["validate", "-"], ["convert", "-"], ["describe", "quit"]])
def test_commands_warn_of_broken_entry_points_and_continue(tmp_path, command):
    put(tmp_path, "acme-broken", ["a = acme"], {"acme": "raise RuntimeError('no \\x1b[1m')"})
    sound = run(*command, path=[], stdin=b"task: quit\n")
    done = run(*command, path=[tmp_path], stdin=b"task: quit\n")
    assert (done.returncode, done.stdout) == (0, sound.stdout)
    [line] = done.stderr.decode().splitlines()
    assert line.startswith(
        f"fastlib {command[0]}: warning: acme-broken 1.0: the extension 'a = acme' is broken: "
        "RuntimeError: no "
    )
    assert "\x1b" not in line
