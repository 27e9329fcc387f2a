"""A message does not change on the wire unnoticed: the changelog has its new fingerprint."""

import json
import re

import pytest

from fastlib.schema import find_released
from tests.support.schema.readers import SCHEMAS

CHANGELOG = SCHEMAS.parent / "CHANGELOG.md"

WHAT_TO_DO = """\
The wire shape of {names} is no longer that of version {version}, and CHANGELOG.md does not say so.

1. See what has changed:
     fastlib compat schemas/released/{version} installed
     git diff schemas/emit schemas/load
2. If nobody wanted that, undo it. docs/explanation/evolution.md says what is allowed.
3. Otherwise tell users, in CHANGELOG.md below Unreleased and Wire, one line for each of them:
{lines}
4. Bring the schemas up to date:
     fastlib schema --no-extensions --write schemas
"""


def fingerprints(index):
    return {message["name"]: message["fingerprint"] for message in index["messages"]}


def unsaid(now, before, changelog):
    """The changes that the newest version's section Wire does not name: message and fingerprint."""
    newest = re.split(r"^## ", changelog, flags=re.MULTILINE)[1]
    section = newest.partition("\n### Wire\n")[2].partition("\n### ")[0]
    said = set(re.findall(r"^- Wire `([^`]+)` (\w+):", section, re.MULTILINE))
    changes = {
        (name, now.get(name, "removed"))
        for name in now | before
        if now.get(name) != before.get(name)
    }
    return sorted(changes - said)


def released():
    return find_released(SCHEMAS / "released")[-1]


def test_changes_are_in_the_changelog(fresh):
    version = released()
    now = fingerprints(json.loads((fresh / "index.json").read_text()))
    before = fingerprints(json.loads((version.path / "index.json").read_text()))
    missing = unsaid(now, before, CHANGELOG.read_text("utf-8"))
    lines = "\n".join(f"     - Wire `{name}` {mark}: what has changed" for name, mark in missing)
    names = " and ".join(name for name, _ in missing)
    assert not missing, WHAT_TO_DO.format(names=names, version=version.name, lines=lines)


LOG = """\
# Changelog

## [Unreleased]

### Added

- Wire `new.task` 5555: this is in another section.

### Wire

- Wire `start-vm.task` 1111: a new key.
- Wire `init` removed: nobody sent it.

## [0.1.0] - 2026-11-29

### Wire

- Wire `stop-vm.task` 2222: this is about another version.
"""


@pytest.mark.parametrize(
    ("now", "before", "missing"),
    [
        ({"start-vm.task": "1111"}, {"start-vm.task": "0000"}, []),
        ({"start-vm.task": "1111"}, {"start-vm.task": "1111"}, []),
        ({"start-vm.task": "1111"}, {}, []),
        ({}, {"init": "3333"}, []),
        # It was said of an earlier change of it.
        ({"start-vm.task": "4444"}, {"start-vm.task": "0000"}, [("start-vm.task", "4444")]),
        ({"stop-vm.task": "2222"}, {"stop-vm.task": "0000"}, [("stop-vm.task", "2222")]),
        ({}, {"stop-vm.task": "2222"}, [("stop-vm.task", "removed")]),
        ({"new.task": "5555"}, {}, [("new.task", "5555")]),
    ],
)
def test_changes_without_a_changelog_line_are_found(now, before, missing):
    assert unsaid(now, before, LOG) == missing


def test_changelog_has_the_form_of_keep_a_changelog():
    versions = re.split(r"^## ", CHANGELOG.read_text("utf-8"), flags=re.MULTILINE)[1:]
    assert versions
    kinds = ["Changed", "Added", "Deprecated", "Removed", "Fixed", "Security", "Wire"]
    for number, version in enumerate(versions):
        heading, _, body = version.partition("\n")
        released = re.fullmatch(r"\[\d+\.\d+\.\d+\] - \d{4}-\d\d-\d\d", heading)
        assert released or (number == 0 and heading == "[Unreleased]"), heading
        found = re.findall(r"^### (.*)$", body, re.MULTILINE)
        assert found == [kind for kind in kinds if kind in found], heading
        above = body.partition("\n### Wire\n")[0]
        assert not re.search("^- Wire `", above, re.MULTILINE), "belongs into the section Wire"


CHANGES = {
    "a key more": ("emit", lambda s: s["$defs"]["Stop"]["properties"].update(x={})),
    "a key less": ("load", lambda s: s["$defs"]["Stop"]["properties"].pop("force")),
    "a range": ("load", lambda s: s["$defs"]["boolean"]["enum"].pop()),
    "a rule": ("load", lambda s: s["$defs"]["Stop"].pop("allOf")),
    "required": ("emit", lambda s: s["$defs"]["Stop"].update(required=["regex"])),
}
WORDS = {
    "a description": lambda s: s["$defs"]["Stop"]["properties"]["force"].update(description="x"),
    "a name in Python": lambda s: s["$defs"].update(Halt=s["$defs"].pop("Stop")),
    "examples": lambda s: s.pop("examples"),
    "an explained key": lambda s: s["$defs"]["Stop"]["properties"].pop("name", None),
}


def fingerprint_after(change=None, direction=None):
    from fastlib.schema import fingerprint
    from tests.support.schema.readers import schema

    schemas = {each: schema(f"{each}/stop-vm.task") for each in ("emit", "load")}
    for each, read in schemas.items():
        if change is not None and direction in (None, each):
            change(read)
            if "Halt" in read["$defs"]:
                read["properties"]["list"]["items"]["$ref"] = "#/$defs/Halt"
    return fingerprint(schemas["emit"], schemas["load"])


@pytest.mark.parametrize("name", CHANGES)
def test_change_on_the_wire_changes_the_fingerprint(name):
    direction, change = CHANGES[name]
    assert fingerprint_after(change, direction) != fingerprint_after()


@pytest.mark.parametrize("name", WORDS)
def test_documentation_does_not_change_the_fingerprint(name):
    assert fingerprint_after(WORDS[name]) == fingerprint_after()
