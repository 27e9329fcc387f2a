"""The form in which every validator compiles the schemas without options."""

import json
import warnings

import jsonschema_rs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastlib.schema import document, family_document, instances, message_kinds, schema_of
from fastlib.schema.builder import Builder
from fastlib.schema.documents import PURPOSES
from fastlib.schema.strict_form import strict_form, unsaid_rules
from fastlib.schema.walk import rebuilt
from fastlib.testing import isolated_registry
from tests.support.npm_packages import installed, needs_npm, node
from tests.support.schema.readers import SCHEMAS, schema, validator

FILES = sorted(path for purpose in PURPOSES for path in (SCHEMAS / purpose).glob("*.json"))


@pytest.mark.load
@needs_npm
def test_ajv_compiles_all_schemas_in_strict_mode(pytestconfig):
    assert len(FILES) > 80
    folder = installed(pytestconfig, "readers")
    assert json.loads(node(folder, "compile.mjs", *FILES)) == {}


@pytest.mark.load
@needs_npm
@pytest.mark.parametrize(
    "broken",
    [
        {"x-unit": "KiB"},
        {"type": ["integer", "string"]},
        {"pattern": "^a$"},
        {"required": ["a"], "type": "object"},
        {"type": "string", "format": "date-time"},
        {"type": "string", "pattern": "^a$", "examples": ["b"]},
    ],
)
def test_ajv_finds_non_strict_schemas(pytestconfig, tmp_path, broken):
    # That the test above can fail.
    file = tmp_path / "broken.json"
    file.write_text(json.dumps(broken))
    found = json.loads(node(installed(pytestconfig, "readers"), "compile.mjs", file))
    assert found.keys() == {str(file)}


@pytest.mark.load
@needs_npm
def test_ajv_compiles_schemas_for_editors_of_all_messages(pytestconfig, tmp_path):
    with isolated_registry():
        for kind in message_kinds():
            (tmp_path / f"{kind.name}.json").write_text(json.dumps(document(kind, "edit")))
    folder = installed(pytestconfig, "readers")
    assert json.loads(node(folder, "compile.mjs", *tmp_path.glob("*.json"))) == {}


@pytest.mark.load
def test_jsonschema_compiles_all_schemas():
    from jsonschema import Draft202012Validator

    for file in FILES:
        document = json.loads(file.read_text("utf-8"))
        Draft202012Validator.check_schema(document)
        with warnings.catch_warnings(action="error"):
            judge = Draft202012Validator(document)
            for example in document.get("examples", ())[:1]:
                judge.validate(example)


def test_jsonschema_rs_compiles_all_schemas_and_knows_all_keywords():
    standard = {
        *("$schema", "$id", "$ref", "$defs", "$comment", "title", "description", "default"),
        *("deprecated", "examples", "type", "enum", "const", "minimum", "maximum"),
        "exclusiveMinimum",
        *("minLength", "pattern", "items", "minItems", "maxItems", "minProperties", "properties"),
        *("patternProperties", "additionalProperties", "required"),
        *("allOf", "anyOf", "oneOf", "not", "if", "then", "else"),
    }
    for file in FILES:
        document = json.loads(file.read_text("utf-8"))
        jsonschema_rs.Draft202012Validator(document)
        assert keywords(document) <= standard


def keywords(schema):
    found = set(schema)
    for keyword, value in schema.items():
        if keyword in ("properties", "patternProperties", "$defs"):
            parts = list(value.values())
        elif keyword in ("allOf", "anyOf", "oneOf"):
            parts = value
        else:
            parts = [] if keyword in ("default", "examples", "const") else [value]
        for part in parts:
            found |= keywords(part) if isinstance(part, dict) else set()
    return found


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 12) | st.floats(0, 3) | st.sampled_from("ab1"),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("ab"), inner),
    max_leaves=4,
)
LOOSE = {
    "a union": {"type": ["integer", "string"], "minimum": 1, "maximum": 9, "pattern": "^[a1]$"},
    "a choice of patterns": {
        "type": ["string", "number"],
        "anyOf": [{"pattern": "^a$"}, {"pattern": "^1$"}],
    },
    "a union with null": {"type": ["string", "null", "array"], "minLength": 1, "minItems": 1},
    "a union with an enumeration": {"type": ["string", "number"], "enum": ["a", 1, True]},
    "parts of a union": {
        "type": ["object", "string"],
        "allOf": [{"required": ["a"]}, {"pattern": "a"}, {"maxProperties": 1}],
    },
    "no type": {"minimum": 3, "maxItems": 1},
    "no type in a property": {"type": "object", "properties": {"a": {"exclusiveMinimum": 0}}},
    "required keys": {"type": "object", "anyOf": [{"required": ["a"]}, {"required": ["b"]}]},
    "a closed mapping": {
        "type": "object",
        "properties": {"a": {"type": ["number", "null"]}},
        "additionalProperties": False,
        "not": {"required": ["a"], "properties": {"a": {"type": "null"}}},
    },
}


@pytest.mark.parametrize("name", LOOSE)
def test_strict_form_admits_the_same(name):
    loose, strict = validator(LOOSE[name]), validator(strict_form(LOOSE[name]))

    @settings(max_examples=100)
    @given(VALUES)
    def check(value):
        assert strict.is_valid(value) is loose.is_valid(value)

    check()


@pytest.mark.load
@needs_npm
def test_strict_form_of_any_schema_compiles_in_ajv(pytestconfig, tmp_path):
    for name, loose in LOOSE.items():
        strict = strict_form({**loose, "x-unit": "KiB", "format": "date-time", "x-rules": ["a"]})
        (tmp_path / f"{name}.json").write_text(json.dumps(strict))
    folder = installed(pytestconfig, "readers")
    assert json.loads(node(folder, "compile.mjs", *tmp_path.glob("*.json"))) == {}


def test_strict_form_of_a_strict_form_is_the_same():
    for name in ("emit/start-vm.task", "load/migrate-vm.task", "edit/task"):
        assert strict_form(schema(name)) == schema(name)


def test_comment_has_information_without_a_keyword():
    loose = {"type": "string", "x-unit": "s", "format": "date-time", "x-rules": ["a < b", "c"]}
    strict = strict_form(loose)
    assert strict == {
        "type": "string",
        "$comment": "unit: s\nformat: date-time\nrule: a < b\nrule: c",
    }
    assert unsaid_rules(strict) == unsaid_rules(loose) == ["a < b", "c"]
    # A comment of a package stays.
    assert strict_form({"$comment": "ours", "x-unit": "s"}) == {"$comment": "ours\nunit: s"}


@pytest.mark.parametrize("family", ["task", "result"])
def test_schema_for_editors_admits_accepted_messages_without_unknown_keys(family):
    """Exceptions are the old keys, which no program reads."""
    edit = validator(family_document(family, "edit"))
    builder = Builder("load", closed=True)
    members = [kind for kind in message_kinds() if kind.family == family]
    choices = {kind.name: kind.build(builder) for kind in members}
    closed = {"oneOf": list(choices.values()), "$defs": builder.defs}
    judge = validator(closed)
    known = rebuilt(closed, _without_old_keys)

    @settings(max_examples=40)
    @given(instances(known), st.randoms(use_true_random=False))
    def check(tree, random):
        assert edit.is_valid(tree) is judge.is_valid(tree), tree
        changed = _with_another_value(tree, random)
        assert edit.is_valid(changed) is judge.is_valid(changed), changed

    check()


def _without_old_keys(schema):
    properties = schema.get("properties", {})
    kept = {key: value for key, value in properties.items() if "deprecated" not in value}
    return {**schema, "properties": kept} if properties else schema


def _with_another_value(tree, random):
    """Return a tree in which one value is another one."""
    if isinstance(tree, dict) and tree and random.random() < 0.9:
        key = random.choice(sorted(tree))
        return {**tree, key: _with_another_value(tree[key], random)}
    if isinstance(tree, list) and tree and random.random() < 0.9:
        place = random.randrange(len(tree))
        return [*tree[:place], _with_another_value(tree[place], random), *tree[place + 1 :]]
    return random.choice([None, True, -1, 7, 0.5, 2**70, "", "yes", "0x10", "vm1", [], {}, [3]])


def test_types_of_other_packages_get_the_strict_form():
    from fastlib import SwapWith

    strict = schema_of(SwapWith, "load")
    assert strict_form(strict) == strict
