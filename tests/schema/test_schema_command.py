"""`fastlib schema` on the command line."""

import json
import os
import sys

import pytest

from fastlib.schema import SchemaFolderError, write
from tests.support.schema.commands import fastlib
from tests.support.schema.readers import SCHEMAS, names, schema


def printed(*arguments, cwd):
    return json.loads(fastlib("schema", *arguments, cwd=cwd).stdout)


def test_all_kinds_are_listed(tmp_path):
    lines = fastlib("schema", cwd=tmp_path).stdout.splitlines()
    assert [line.split()[0] for line in lines] == [*names(), "configuration"]
    assert "start-vm.task" in names()
    assert any("Migrate a domain to another host." in line for line in lines)


@pytest.mark.parametrize(
    ("name", "direction", "path"),
    [
        ("start vm", "emit", "emit/start-vm.task"),
        ("start-vm.task", "load", "load/start-vm.task"),
        ("vm started", "emit", "emit/vm-started.result"),
        ("quit", "emit", "emit/quit.task"),
        ("quit.result", "emit", "emit/quit.result"),
        ("mmbwmon.Reply", "load", "load/mmbwmon.Reply"),
        ("init", "load", "load/agent.Init"),
        ("task", "edit", "edit/task"),
        ("result", "load", "load/result"),
    ],
)
def test_one_schema_is_printed(name, direction, path, tmp_path):
    assert printed(name, "--direction", direction, cwd=tmp_path) == schema(path)


def test_schema_for_reading_is_the_default(tmp_path):
    assert printed("stop vm", cwd=tmp_path) == schema("load/stop-vm.task")


def test_schema_of_a_part_of_messages_is_printed(tmp_path):
    part = printed("SwapWith", "--direction", "emit", cwd=tmp_path)
    assert part["$id"] == "urn:fastlib:schema:emit:SwapWith"
    assert part["required"] == ["vm-name"]


def test_example_is_printed(tmp_path):
    text = fastlib("schema", "migrate vm", "--example", cwd=tmp_path).stdout
    assert text == (SCHEMAS / "examples" / "migrate-vm.task.yaml").read_text("utf-8")
    (tmp_path / "task.yaml").write_text(text)
    fastlib("validate", "--strict", "task.yaml", cwd=tmp_path)


def test_chosen_schemas_are_written(tmp_path):
    done = fastlib("schema", "quit", "--write", "there", cwd=tmp_path)
    assert done.stdout == "there/emit/quit.task.json\nthere/load/quit.task.json\n"
    assert json.loads((tmp_path / "there/emit/quit.task.json").read_text())
    done = fastlib("schema", "quit", "--direction", "edit", "--write", "there", cwd=tmp_path)
    assert done.stdout == "there/edit/quit.task.json\n"


def test_files_of_removed_messages_are_deleted(tmp_path):
    fastlib("schema", "--no-extensions", "--write", ".", cwd=tmp_path)
    index = json.loads((tmp_path / "index.json").read_text())
    index["messages"].append({**index["messages"][0], "name": "agent.Gone"})
    (tmp_path / "index.json").write_text(json.dumps(index))
    for name in ("emit/agent.Gone.json", "load/agent.Gone.json", "emit/somebodys.json"):
        (tmp_path / name).write_text("{}")
    done = fastlib("schema", "--no-extensions", "--write", ".", cwd=tmp_path)
    assert set(done.stdout.split()) == {
        "index.json", "emit/agent.Gone.json", "load/agent.Gone.json",
    }  # fmt: skip
    assert not (tmp_path / "emit/agent.Gone.json").exists()
    # What it has not written itself stays.
    assert (tmp_path / "emit/somebodys.json").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["strat vm"], "there is no kind of message 'strat vm' (did you mean 'start vm'?)"),
        (["SwapWith", "--example"], "there is no kind of message 'SwapWith'"),
        (["--example"], "--example needs a MESSAGE"),
        (["--direction", "emit"], "--direction needs a MESSAGE"),
        (["quit", "--direction", "both"], "expected one of emit, load, edit; got 'both'"),
        (["--write", "file/below"], "cannot write"),
    ],
)
def test_wrong_usage_has_status_2(arguments, words, tmp_path):
    (tmp_path / "file").write_text("")
    assert words in fastlib("schema", *arguments, cwd=tmp_path, status=2).stderr


@pytest.mark.parametrize(
    "name",
    ["../../victim/config", "/etc/config", "..", "emit/../../victim/config", "a/b", "", "a\0b", 5],
)
def test_index_cannot_name_files_outside_of_the_folder(name, tmp_path):
    folder, victim = tmp_path / "schemas", tmp_path / "victim" / "config.json"
    victim.parent.mkdir()
    victim.write_text("{}")
    folder.mkdir()
    (folder / "emit").mkdir()
    (folder / "load").mkdir()
    listed = {"name": name, "topics": [], "fingerprint": "0"}
    (folder / "index.json").write_text(
        json.dumps({"messages": [listed], "families": {}, "topics": []})
    )
    done = fastlib("schema", "--write", "schemas", cwd=tmp_path, status=2)
    assert "is not the name of a message" in done.stderr
    assert victim.read_text() == "{}"
    assert not list((folder / "emit").iterdir())


@pytest.mark.parametrize("link", ["index.json", "emit", "emit/quit.task.json", "load/gone.json"])
def test_schema_command_follows_no_symbolic_link_of_the_folder(link, tmp_path, monkeypatch):
    folder, outside = tmp_path / "schemas", tmp_path / "outside"
    outside.mkdir()
    (folder / link).parent.mkdir(parents=True)
    if link == "emit":
        (outside / "quit.task.json").write_text("mine")
        target = outside
    else:
        target = outside / "mine"
        target.write_text("mine")
    (folder / link).symlink_to(target)
    if link.startswith("emit"):
        done = fastlib("schema", "quit", "--write", "schemas", cwd=tmp_path, status=2)
        assert f"{link} is a symbolic link" in done.stderr
    else:
        if link == "load/gone.json":
            (folder / "index.json").write_text(json.dumps({"messages": [{"name": "gone"}]}))
        monkeypatch.setattr(sys.modules[write.__module__], "documents", dict)  # it takes seconds
        with pytest.raises(SchemaFolderError, match=f"{link} is a symbolic link"):
            write(folder)
    (kept,) = outside.iterdir()
    assert kept.read_text() == "mine"


def test_folder_itself_may_be_a_symbolic_link(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "schemas").symlink_to("real")
    fastlib("schema", "quit", "--write", "schemas", cwd=tmp_path)
    assert (tmp_path / "real/emit/quit.task.json").is_file()


@pytest.mark.parametrize("folder", ["schemas", "schemas/below/new", "."])
def test_folder_behind_a_link_of_another_user_is_not_written(folder, tmp_path, monkeypatch):
    (tmp_path / "victim/below").mkdir(parents=True)
    link = tmp_path / "schemas"
    link.symlink_to("victim")
    if os.geteuid() == 0:
        os.chown(link, 4242, 4242, follow_symlinks=False)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: 4242)
    monkeypatch.chdir(link if folder == "." else tmp_path)
    if folder == ".":  # the directory where somebody is, whatever way led there
        assert write(folder, {"emit/a.json": "{}"})
        return
    with pytest.raises(SchemaFolderError, match="schemas is a symbolic link of another user"):
        write(folder, {"emit/a.json": "{}"})
    assert [path.name for path in tmp_path.glob("victim/**/*")] == ["below"]


def test_file_that_is_not_text_is_replaced(tmp_path):
    (tmp_path / "emit").mkdir()
    (tmp_path / "emit/quit.task.json").write_bytes(b"\xff")
    fastlib("schema", "quit", "--direction", "emit", "--write", ".", cwd=tmp_path)
    assert json.loads((tmp_path / "emit/quit.task.json").read_bytes())
