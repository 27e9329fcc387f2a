"""Two versions of a message: incompatibilities, their directions, sides and examples.

Each version is a module of another package, which declares `acme vm` in its way; its schemas are
those that `fastlib schema` writes of it. Every counterexample is tried on the version that is said
not to read it, by its own `fastlib validate`.
"""

import json
import re

import pytest

from fastlib.schema import SchemaFolder, compare, compare_all, contains, find_released
from tests.support.schema.commands import fastlib
from tests.support.schema.readers import SCHEMAS

HEAD = """\
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal
from msgspec import Meta, field
from fastlib import Message, Task
from fastlib.codec import Needs, OneOf, Rule, Wire
"""
TASK = "class Acme(Task, task='acme vm', result='vm acmed'{keywords}):\n"

VERSIONS = {
    "first": """
    vm_name: str
    size: Annotated[int | None, Meta(ge=0, le=1000)] = None
    mode: Literal["hot", "cold"] | None = None
""",
    "key-added": """
    vm_name: str
    size: Annotated[int | None, Meta(ge=0, le=1000)] = None
    mode: Literal["hot", "cold"] | None = None
    label: str | None = None
""",
    "required-added": """
    vm_name: str
    size: Annotated[int | None, Meta(ge=0, le=1000)] = None
    mode: Literal["hot", "cold"] | None = None
    label: str
""",
    "value-added": """
    vm_name: str
    size: Annotated[int | None, Meta(ge=0, le=1000)] = None
    mode: Literal["hot", "cold", "tepid"] | None = None
""",
    "range-smaller": """
    vm_name: str
    size: Annotated[int | None, Meta(ge=0, le=999)] = None
    mode: Literal["hot", "cold"] | None = None
""",
    "renamed": """
    domain: str
    size: Annotated[int | None, Meta(ge=0, le=1000)] = None
    mode: Literal["hot", "cold"] | None = None
""",
    "renamed-with-alias": """
    domain: Annotated[str, Wire(aliases=("vm-name",))]
    size: Annotated[int | None, Meta(ge=0, le=1000)] = None
    mode: Literal["hot", "cold"] | None = None
""",
    "text-for-integer": """
    vm_name: str
    size: str | None = None
    mode: Literal["hot", "cold"] | None = None
""",
    "rule-added": """
    rules: ClassVar[tuple[Rule, ...]] = (OneOf("size", "mode"),)
    vm_name: str
    size: Annotated[int | None, Meta(ge=0, le=1000)] = None
    mode: Literal["hot", "cold"] | None = None
""",
    "own-rule": """
    rules: ClassVar[tuple[Rule, ...]] = (type("Odd", (Rule,), {
        "__doc__": "The size is even.", "attributes": ("size",), "broken": lambda self, get: None,
    })(),)
    vm_name: str
    size: Annotated[int | None, Meta(ge=0, le=1000)] = None
    mode: Literal["hot", "cold"] | None = None
""",
    "inline": """
    vm_name: str
    size: Annotated[int | None, Meta(ge=0, le=1000)] = None
    mode: Literal["hot", "cold"] | None = None
""",
    "pattern": """
    vm_name: Annotated[str, Meta(pattern="^[a-z0-9-]+$")]
    size: Annotated[int | None, Meta(ge=0, le=1000)] = None
    mode: Literal["hot", "cold"] | None = None
""",
}


@pytest.fixture(scope="session")
def versions(tmp_path_factory):
    """Makes the package of a version and its schemas, each once."""
    made = {}

    def make(name):
        if name not in made:
            package = tmp_path_factory.mktemp(name or "none")
            keywords = ", layout='inline'" if name == "inline" else ""
            text = HEAD + TASK.format(keywords=keywords) + VERSIONS[name] if name else ""
            (package / "acme_messages.py").write_text(text)
            info = package / "acme-1.dist-info"
            info.mkdir()
            (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme\nVersion: 1\n")
            points = "[fastlib.messages]\nacme = acme_messages\n" if name else ""
            (info / "entry_points.txt").write_text(points)
            fastlib("schema", "--write", package / "schemas", cwd=package, path=[package])
            made[name] = SchemaFolder(package / "schemas", name or "none")
        return made[name]

    return make


def reports(report, direction):
    """Return the reports about messages that differ between the versions."""
    found = {one.message: one for one in getattr(report, direction)}
    assert all(one.status == "compatible" for name, one in found.items() if "acme" not in name)
    return found["acme-vm.task"]


def is_refused(folder, text):
    """Return True if the version with these schemas refuses a message."""
    package = folder.path.parent
    (package / "message.yaml").write_text(text)
    done = fastlib("validate", "message.yaml", cwd=package, path=[package], status=1)
    return "error" in done.stdout


CHANGES = [
    ("first", "compatible", "compatible"),
    ("key-added", "compatible", "compatible"),
    ("required-added", "incompatible", "compatible"),
    ("value-added", "compatible", "incompatible"),
    ("range-smaller", "incompatible", "compatible"),
    ("renamed", "incompatible", "incompatible"),
    ("renamed-with-alias", "compatible", "incompatible"),
    ("text-for-integer", "compatible", "incompatible"),
    ("rule-added", "incompatible", "compatible"),
    ("own-rule", "unproven", "compatible"),
    ("inline", "incompatible", "incompatible"),
    ("pattern", "incompatible", "compatible"),
]
EVERY_DAY = {"required-added", "value-added", "own-rule"}
"""One change of each verdict is in the fast tier, the others in the slow one."""


@pytest.mark.parametrize(
    ("new", "backward", "forward"),
    [
        pytest.param(*change, marks=() if change[0] in EVERY_DAY else pytest.mark.load)
        for change in CHANGES
    ],
)
def test_breaking_changes_are_found(versions, new, backward, forward):
    old, changed = versions("first"), versions(new)
    report = compare(old, changed)
    for direction, status, reader in (
        ("backward", backward, changed),
        ("forward", forward, old),
    ):
        said = reports(report, direction)
        assert said.status == status, said
        assert said.sides == (("scheduler", "migfra"),)
        assert (said.counterexample is not None) is (status == "incompatible")
        if said.counterexample is not None:
            assert is_refused(reader, said.counterexample)
            assert len(said.counterexample.splitlines()) <= 8
            assert said.reasons
    assert report.compatible is ("incompatible" not in (backward, forward))


def test_counterexample_is_a_written_message(versions):
    said = reports(compare(versions("first"), versions("range-smaller")), "backward")
    assert said.counterexample == (
        "---\ntask: acme vm\nlist:\n  - vm-name: vm1\n    size: 1000\n---\n"
    )
    assert said.reasons == ("list[0].size: 1000 is greater than the maximum of 999",)


def test_key_that_the_reader_ignores_is_reported(versions):
    report = compare(versions("first"), versions("key-added"))
    assert reports(report, "backward").ignored == ()
    assert reports(report, "forward").ignored == ("list.label",)
    assert report.compatible
    assert not report.proven


def test_rule_without_a_schema_is_unproven(versions):
    said = reports(compare(versions("first"), versions("own-rule")), "backward")
    assert said.reasons == ("this rule has no form in JSON Schema: The size is even.",)


def test_removed_message_breaks_readers_and_new_one_does_not(versions):
    added = compare(versions(""), versions("first"))
    assert added.compatible
    assert {one.message for one in added.of("new")} == {"acme-vm.task", "vm-acmed.result"}
    gone = compare(versions("first"), versions(""))
    said = {one.message: one for one in gone.backward}["acme-vm.task"]
    assert said.status == "incompatible"
    assert said.reasons == ("none has no such message",)
    assert is_refused(versions(""), said.counterexample)
    # Results with a title that nobody declares are read as plain ones.
    assert {one.message: one for one in gone.backward}["vm-acmed.result"].status == "compatible"
    # What the new version does not write, the old one need not read.
    assert all(one.status == "compatible" for one in gone.forward)


@pytest.mark.parametrize(
    ("level", "compatible"), [("backward", True), ("forward", False), ("full", False)]
)
def test_level_decides_which_directions_are_compared(versions, level, compatible):
    report = compare(versions("first"), versions("value-added"), level)
    assert report.compatible is compatible
    assert bool(report.backward) is (level != "forward")
    assert bool(report.forward) is (level != "backward")


@pytest.mark.load
def test_all_earlier_versions_are_compared(versions):
    """Each step may be fine where the whole way is not."""
    way = [versions(name) for name in ("first", "renamed-with-alias", "renamed")]
    assert compare(way[0], way[1], "backward").compatible
    assert compare(way[1], way[2], "backward").compatible
    assert [report.compatible for report in compare_all(way, "backward")] == [False, True]


ON_PURPOSE: dict[tuple[str, str, str], str] = {}
"""What is not understood on purpose: version, writer and message, and why that harms nobody."""


def test_this_version_is_compatible_with_every_release(fresh):
    released = find_released(SCHEMAS / "released")
    assert released
    found = {}
    for report in compare_all([*released, SchemaFolder(fresh, "today")]):
        assert len(report.backward) > 30
        for said in report.of("incompatible", "unproven"):
            found[report.old, said.writer, said.message] = said
    assert found.keys() == ON_PURPOSE.keys(), [
        said for key, said in found.items() if key not in ON_PURPOSE
    ]


def test_unproven_changes_are_searched_for_counterexamples():
    number = {"type": "string", "pattern": "^[0-9]{1,3}$"}
    letters = {"type": "string", "pattern": "^[0-9a-z]+$"}
    finding = contains(letters, number, searches=60)
    assert (finding.verdict, finding.counterexample) == ("unproven", None)
    assert finding.searched > 10
    finding = contains(number, letters, searches=200)
    assert finding.verdict == "refuted"
    assert re.fullmatch("[0-9a-z]+", finding.counterexample)
    assert not re.fullmatch("[0-9]{1,3}", finding.counterexample)


def test_versions_are_sorted_by_release(tmp_path):
    for name in ("0.10.0", "0.9.0", "0.1.0.dev0", "0.1.0", "1.0.0rc1", "1.0.0"):
        (tmp_path / name).mkdir()
        index = json.loads((SCHEMAS / "index.json").read_text())
        (tmp_path / name / "index.json").write_text(json.dumps(index))
    (tmp_path / "README.md").write_text("")
    found = [version.name for version in find_released(tmp_path)]
    assert found == ["0.1.0.dev0", "0.1.0", "0.9.0", "0.10.0", "1.0.0rc1", "1.0.0"]
