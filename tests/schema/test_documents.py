"""The schemas in `schemas/`: up to date, and made as they are said to be."""

import json

import pytest

from fastlib.schema.walk import children
from tests.support.schema.commands import fastlib
from tests.support.schema.readers import SCHEMAS, names, schema, validator

PATHS = sorted(
    str(path.relative_to(SCHEMAS).with_suffix(""))
    for folder in ("emit", "load", "edit")
    for path in (SCHEMAS / folder).glob("*.json")
)


def files(folder):
    """The derived files of a folder."""
    paths = [folder / "index.json", folder / "asyncapi.yaml"]
    for below in ("emit", "load", "edit"):
        paths += (folder / below).iterdir()
    return {str(path.relative_to(folder)): path.read_text("utf-8") for path in paths}


def test_committed_schemas_are_up_to_date(fresh):
    made, kept = files(fresh), files(SCHEMAS)
    stale = sorted(name for name in made | kept if made.get(name) != kept.get(name))
    assert not stale, (
        "schemas/ is stale: run 'fastlib schema --no-extensions --write schemas' and look at what "
        f"'git diff schemas' says. Stale are {', '.join(stale)}"
    )


def test_same_types_give_the_same_bytes(fresh, tmp_path):
    fastlib("schema", "--no-extensions", "--write", tmp_path, cwd=tmp_path)
    assert files(tmp_path) == files(fresh)


def walk(schema):
    yield schema
    for below in children(schema):
        yield from walk(below)


@pytest.mark.parametrize("path", PATHS)
def test_document_is_a_valid_schema(path):
    document = schema(path)
    folder, _, name = path.partition("/")
    assert document["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert document["$id"] == f"urn:fastlib:schema:{folder}:{name}"
    assert document["title"]
    assert document["description"]
    judge = validator(document)  # checks it against the metaschema
    assert name.startswith("any.") or name == "configuration" or document["examples"]
    for example in document.get("examples", ()):
        assert not list(judge.iter_errors(example))
    defs = document.get("$defs", {})
    used = {below["$ref"].removeprefix("#/$defs/") for below in walk(document) if "$ref" in below}
    assert used == set(defs)
    for below in walk(document):
        if below.get("type") == "object" and "properties" in below:
            closed = below.get("additionalProperties") is False
            # What else there may be, the title of a message or the type of a hypervisor decides.
            opens = (folder == "edit" and below is document and name != "configuration") or (
                below["properties"].keys() == {"type"}
            )
            assert closed is (folder != "load" and not opens)
        for key, value in below.get("properties", {}).items():
            if folder == "emit" and key not in ("task", "result") and value is not True:
                assert "const" in value or value.get("description"), (
                    f"{key} of {below.get('title')}"
                )


def test_every_kind_has_both_directions():
    for name in names():
        assert {f"emit/{name}", f"load/{name}"} <= set(PATHS)
    assert {"emit/task", "load/task", "edit/task", "emit/result", "load/result"} <= set(PATHS)


def test_only_keys_that_are_written_are_in_emit():
    emit, load = schema("emit/migrate-vm.task"), schema("load/migrate-vm.task")
    keys = emit["$defs"]["MigrateParameter"]["properties"].keys()
    assert "retry_counter" in keys
    assert "retry-counter" not in keys
    understood = load["$defs"]["MigrateParameter"]["properties"]
    assert "written" in understood["retry-counter"]["description"]
    # A key that nobody reads is there to tell so.
    assert understood["live-migration"]["deprecated"]
    validator(load).validate(
        {"task": "migrate vm", "vm-name": 1, "destination": "b", "parameter": {"live-migration": 1}}
    )


def test_schemas_have_units_defaults_and_ranges():
    start = schema("emit/start-vm.task")["$defs"]["Start"]["properties"]
    assert start["memory"] == {
        "description": "Memory of the domain. In KiB.",
        "type": "integer",
        "minimum": 0,
        "maximum": 2**64 - 1,
        "$comment": "unit: KiB",
    }
    result = schema("load/node-queried.result")["$defs"]["NodeResult"]["properties"]
    assert result["vm-name"]["default"] == "n/a"


@pytest.mark.parametrize(
    ("tree", "ok"),
    [
        ({"task": "stop vm", "list": [{"vm-name": "a"}]}, True),
        ({"task": "stop vm", "list": [{"regex": "a"}]}, True),
        ({"task": "stop vm", "list": [{"force": True}]}, False),  # OneOf
        ({"task": "stop vm", "list": [{"vm-name": None}]}, False),
        ({"task": "start vm", "vm-configurations": [{"vm-name": "a", "transient": True}]}, False),
        ({"task": "start vm", "vm-configurations": [{"vm-name": "a", "transient": "Yes"}]}, False),
        ({"task": "start vm", "vm-configurations": [{"vm-name": "a", "transient": "n"}]}, True),
        ({"task": "start vm", "vm-configurations": [{"xml": "a", "transient": True}]}, True),
        ({"task": "start vm", "list": [{"vm-name": "a"}]}, False),
        ({"task": "stop vms", "list": [{"vm-name": "a"}]}, False),
        ({"task": "quit", "list": [None]}, True),
        ({"task": "quit", "list": [None, None]}, False),
        ({"task": "migrate vm", "vm-name": "a", "destination": "b",
          "parameter": {"swap-with": "c"}}, True),
        ({"task": "migrate vm", "vm-name": "a", "destination": "b",
          "parameter": {"retry_counter": 1, "retry-counter": 1}}, False),
        ({"task": "start vm", "vm-configurations": [{"vm-name": "a", "vcpus": "0x10"}]}, True),
        ({"task": "start vm", "vm-configurations": [{"vm-name": "a", "vcpus": "4294967296"}]},
         False),
        ({"task": "start vm", "vm-configurations": [{"vm-name": "a", "vcpus": -1}]}, False),
    ],
)  # fmt: skip
def test_load_schemas_accept_alternatives(tree, ok):
    assert validator(schema("load/task")).is_valid(tree) is ok


def test_schema_for_editors_refuses_other_keys():
    tree = {"task": "stop vm", "list": [{"vm-name": "a", "forse": True}]}
    assert validator(schema("load/task")).is_valid(tree)
    errors = list(validator(schema("edit/task")).iter_errors(tree))
    assert len(errors) == 1
    assert "'forse'" in errors[0].message or "forse" in str(errors[0])
    # One error that names the titles, not one for each task.
    errors = list(validator(schema("edit/task")).iter_errors({"task": "stop vms"}))
    assert len(errors) == 1
    assert "stop vm" in str(errors[0])


def test_undeclared_title_has_plain_results():
    tree = {"result": "vm cloned", "list": [{"vm-name": "a", "status": "success"}]}
    for direction in ("emit", "load"):
        judge = validator(schema(f"{direction}/result"))
        assert judge.is_valid(tree)
        assert not judge.is_valid({**tree, "list": [{"status": "success"}]})
        # A declared title stands for what it declares.
        assert not judge.is_valid({**tree, "result": "vm migrated"})


def test_index_lists_all_files():
    index = json.loads((SCHEMAS / "index.json").read_text())
    templates = {topic["topic"] for topic in index["topics"]}
    for message in index["messages"]:
        assert message["topics"]
        assert set(message["topics"]) <= templates
    for topic in index["topics"]:
        assert topic["sender"]
        assert topic["receiver"]
