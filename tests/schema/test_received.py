"""Folders of schemas of other authors, possibly made to attack `fastlib compat`."""

import contextlib
import json
import os
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from fastlib.schema import SchemaFolder, SchemaFolderError, compare, contains
from fastlib.schema.received import MAX_DEPTH, problem_of
from tests.support.schema.commands import fastlib
from tests.support.schema.readers import SCHEMAS
from tests.support.shell import run


def make_folder(folder, schema, *, name="x", family=None):
    """Make a folder with one message that has this schema in both directions."""
    listed = {"name": name, "topics": [], "fingerprint": "0"}
    families = {} if family is None else {"task": family}
    folder.mkdir()
    (folder / "index.json").write_text(
        json.dumps({"messages": [listed], "families": families, "topics": []})
    )
    for direction in ("emit", "load"):
        (folder / direction).mkdir()
        (folder / direction / "x.json").write_text(json.dumps(schema))
    return folder


def test_schemas_of_this_repository_are_sound():
    paths = [*SCHEMAS.glob("emit/*.json"), *SCHEMAS.glob("load/*.json"), *SCHEMAS.glob("edit/*")]
    assert len(paths) > 50
    assert [path for path in paths if problem_of(json.loads(path.read_text()))] == []


@pytest.mark.parametrize("name", ["../outside", "/etc/hostname", "..", "a/b"])
@pytest.mark.parametrize("where", ["name", "family"])
def test_index_cannot_name_files_outside_of_the_folder(name, where, tmp_path):
    make_folder(tmp_path / "there", {}, **{where: name})
    with pytest.raises(SchemaFolderError, match="is not the name of a message"):
        SchemaFolder(tmp_path / "there")


@pytest.mark.parametrize("name", ["../../outside", "a/../b"])
def test_index_names_are_not_read_as_paths(name, tmp_path):
    folder = SchemaFolder(make_folder(tmp_path / "there", {}))
    with pytest.raises(SchemaFolderError, match="is not the name of a message"):
        folder.schema("emit", name)


@pytest.mark.parametrize("link", ["index.json", "emit", "emit/x.json"])
def test_symbolic_links_are_not_read(link, tmp_path):
    outside = make_folder(tmp_path / "outside", {})
    there = make_folder(tmp_path / "there", {})
    (there / link).rename(tmp_path / "away")
    (there / link).symlink_to(outside / link)
    with pytest.raises(SchemaFolderError, match="is a symbolic link"):
        SchemaFolder(there).schema("emit", "x")


def test_named_pipe_does_not_block(tmp_path):
    there = make_folder(tmp_path / "there", {})
    (there / "emit/x.json").unlink()
    os.mkfifo(there / "emit/x.json")
    with pytest.raises(SchemaFolderError, match="is not a regular file"):
        SchemaFolder(there).schema("emit", "x")


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"a":' * 100_000, "\xff", "{"], ids=["list", "map", "bytes", "open"]
)
def test_file_with_invalid_json_is_refused(text, tmp_path):
    there = make_folder(tmp_path / "there", {})
    (there / "emit/x.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(SchemaFolderError, match=r"is not JSON|nested too deeply"):
        SchemaFolder(there).schema("emit", "x")


def nested(levels):
    schema = True
    for _ in range(levels):
        schema = {"items": schema}
    return schema


UNSOUND = [
    ({"$ref": "http://127.0.0.1:1/x"}, "/$ref: expected '#/$defs/NAME'"),
    ({"$ref": "file:///etc/hostname"}, "/$ref: expected '#/$defs/NAME'"),
    ({"$ref": "other.json#/$defs/a"}, "/$ref: expected '#/$defs/NAME'"),
    ({"$ref": "#/$defs/a"}, "/$ref: expected '#/$defs/NAME' with a NAME of this document"),
    ({"$ref": "#"}, "/$ref: expected"),
    ({"$ref": 5}, "/$ref: expected"),
    ({"properties": {"a": {"$ref": "http://x"}}}, "/properties/a/$ref: expected"),
    ({"$defs": {"a": {"items": {"$ref": "http://x"}}}}, "/$defs/a/items/$ref: expected"),
    ({"anyOf": [True, {"contains": {"$ref": "x"}}]}, "/anyOf/1/contains/$ref: expected"),
    ({"dependentSchemas": {"a": {"$ref": "x"}}}, "/dependentSchemas/a/$ref: expected"),
    ({"patternProperties": {"a": {"$ref": "x"}}}, "/patternProperties/a/$ref: expected"),
    ({"$dynamicRef": "http://x"}, "/$dynamicRef: expected no such keyword"),
    ({"definitions": {"a": {"$ref": "x"}}}, "/definitions: expected no such keyword"),
    ({"items": {"$id": "http://x"}}, "/items/$id: expected no such keyword"),
    ({"$schema": "http://x"}, "$schema: expected https://json-schema.org/draft/2020-12/schema"),
    ({"$defs": {"a": {"$ref": "#/$defs/a"}}}, "/$defs/a: the definition refers to itself"),
    (
        {"$defs": {"a": {"allOf": [{"$ref": "#/$defs/b"}]}, "b": {"not": {"$ref": "#/$defs/a"}}}},
        "/$defs/a: the definition refers to itself",
    ),
    ({"pattern": "("}, "/pattern: expected a regular expression"),
    ({"pattern": 5}, "/pattern: expected a regular expression"),
    ({"type": "text"}, "/type: expected a type of JSON"),
    ({"type": [{}]}, "/type: expected a type of JSON"),
    ({"properties": 5}, "/properties: expected a mapping of schemas"),
    ({"$defs": []}, "/$defs: expected a mapping of schemas"),
    ({"allOf": {}}, "/allOf: expected a list of schemas"),
    ({"items": []}, "/items: expected a schema"),
    ({"required": "a"}, "/required: expected a list of texts"),
    ({"minimum": "5"}, "/minimum: expected a number"),
    ({"minimum": float("inf")}, "/minimum: expected a number"),
    ({"maxLength": -1}, "/maxLength: expected a number from 0"),
    ({"enum": {}}, "/enum: expected a list"),
    (nested(MAX_DEPTH + 2), "nested more than 100 levels deep"),
    (5, "expected a mapping"),
]


@pytest.mark.parametrize(("schema", "words"), UNSOUND)
def test_unsound_schema_is_refused_with_the_place(schema, words, tmp_path):
    folder = SchemaFolder(make_folder(tmp_path / "there", schema))
    with pytest.raises(SchemaFolderError) as caught:
        compare(folder, folder)
    assert words in str(caught.value)
    assert "/x.json cannot be used as a schema: " in str(caught.value)


@pytest.mark.parametrize(
    "schema",
    [
        {"const": {"$ref": "http://x"}},
        {"examples": [{"$ref": "http://x"}]},
        {"properties": {"$ref": {"type": "string"}, "$id": True, "pattern": True}},
        {"$defs": {"a": {"properties": {"next": {"$ref": "#/$defs/a"}}}}, "$ref": "#/$defs/a"},
    ],
)
def test_words_other_than_keywords_are_allowed(schema, tmp_path):
    folder = SchemaFolder(make_folder(tmp_path / "there", schema))
    assert folder.schema("load", "x") == schema


@pytest.mark.parametrize(
    "schema",
    [
        {"enum": ["\ud800"]},
        {"type": "integer", "minimum": 5.5, "maximum": 5.6},
        {"type": "object", "propertyNames": True},
        {"type": "string", "pattern": "(?P<a>x)(?(a)y|z)"},
        {"const": [[[[[[]]]]]]},
    ],
)
def test_odd_schemas_end_the_comparison_without_a_traceback(schema, tmp_path):
    make_folder(tmp_path / "odd", schema)
    make_folder(tmp_path / "none", {"type": "boolean", "not": {"const": True}})
    for pair in (("odd", "none"), ("none", "odd")):
        with contextlib.chdir(tmp_path):
            done = run("compat", *pair, "--searches", "5")
        assert "Traceback" not in done.stderr
        assert done.returncode in (0, 1) or "error: " in done.stderr


def test_comparison_fetches_no_document(tmp_path):
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_error(404)

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        schema = {"$ref": f"http://127.0.0.1:{server.server_port}/x"}
        make_folder(tmp_path / "there", schema)
        done = fastlib("compat", "there", SCHEMAS, cwd=tmp_path, status=2)
        assert "/$ref: expected '#/$defs/NAME'" in done.stderr
        with pytest.raises(ValueError, match="must not refer to another document"):
            contains(schema, schema)
        server.shutdown()
    assert asked == []
