"""Messages of another package have schemas as fastlib's own, but never in `schemas/`."""

import json

import pytest
import yaml

from tests.support.schema.commands import fastlib
from tests.support.schema.readers import validator

MODULE = '''
from typing import Annotated, ClassVar, Literal

import msgspec
from msgspec import Meta

from fastlib import Extension, Message, Result, Start, Task
from fastlib.codec import OneOf, Needs, Rule, Wire
from fastlib.message.topics import Topic


class Short(Rule):
    """A label is shorter than a name.

    Which no schema can say.
    """

    attributes = ("vm_name", "label")

    def broken(self, get):
        return None


class SnapshotResult(Result):
    size: Annotated[int | None, Meta(ge=0, le=99), Wire("Its size.", unit="MiB")] = None


class Snapshot(
    Task, task="snapshot vm", result="vm snapshotted", key="snapshots", result_type=SnapshotResult
):
    """Keep a domain's state."""

    rules: ClassVar[tuple[Rule, ...]] = (Needs("external", "label"), Short())

    vm_name: Annotated[str, Meta(pattern="^[a-z]+$"), Wire("Name of the domain.", aliases=("vm",))]
    label: Annotated[str | None, Wire("Name of the snapshot.")] = None
    external: bool | None = None
    format: Literal["qcow2", "raw", "no", "1"] | None = None
    keep: Annotated[int, Meta(ge=1, le=365), Wire("How long it is kept.", unit="days")] = 7


class Tpm(Extension, of=Start):
    """A trusted platform module."""

    rules: ClassVar[tuple[Rule, ...]] = (OneOf("tpm", "tpm_model"),)

    tpm: Annotated[bool | None, Wire("Whether the domain has one.")] = None
    tpm_model: Annotated[str | None, Wire("Its model.")] = None
    tpm_owner: str | None = None


WEATHER = Topic("acme/{site}/weather", sender="station", receiver="scheduler", doc="Of a site.")


class Weather(Message):
    """How warm it is."""

    __topics__: ClassVar[tuple[Topic, ...]] = (WEATHER,)

    degrees: float
'''


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """A folder with a package that has an entry point, as installed."""
    folder = tmp_path_factory.mktemp("acme")
    (folder / "acme_snapshots.py").write_text(MODULE)
    info = folder / "acme_snapshots-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-snapshots\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[fastlib.messages]\nsnapshots = acme_snapshots\n")
    return folder


@pytest.fixture(scope="module")
def folder(package, tmp_path_factory):
    """The schemas as that package's user writes them."""
    folder = tmp_path_factory.mktemp("schemas")
    done = fastlib("schema", "--write", folder, cwd=folder, path=[package])
    assert done.stderr == ""
    return folder


def read(folder, name):
    return json.loads((folder / f"{name}.json").read_text())


def test_schemas_of_packages_are_listed_with_fastlibs(folder, package):
    names = {message["name"] for message in read(folder, "index")["messages"]}
    assert {"snapshot-vm.task", "vm-snapshotted.result", "acme_snapshots.Weather"} <= names
    lines = fastlib("schema", cwd=folder, path=[package]).stdout
    assert "snapshot vm" in lines
    tree = {"task": "snapshot vm", "snapshots": [{"vm-name": "a", "keep": 7}]}
    for name in ("emit/snapshot-vm.task", "emit/task", "load/task", "edit/task"):
        judge = validator(read(folder, name))
        assert judge.is_valid(tree)
        assert not judge.is_valid({**tree, "snapshots": [{"vm-name": "a", "keep": 366}]})
        assert not judge.is_valid({**tree, "snapshots": [{"vm-name": "A", "keep": 7}]})
        assert not judge.is_valid({**tree, "list": tree["snapshots"], "snapshots": 1})
    result = validator(read(folder, "emit/vm-snapshotted.result"))
    tree = {"result": "vm snapshotted", "list": [{"vm-name": "a", "status": "success", "size": 9}]}
    assert result.is_valid(tree)


def test_schemas_of_packages_show_their_fields(folder):
    load = read(folder, "load/snapshot-vm.task")["$defs"]["acme_snapshots.Snapshot"]
    assert load["properties"]["keep"]["default"] == 7
    assert load["properties"]["keep"]["$comment"] == "unit: days"
    assert load["$comment"] == "rule: A label is shorter than a name."
    # A reader that guesses types makes these of the texts `no` and `1`.
    judge = validator(read(folder, "load/snapshot-vm.task"))
    for word in ("no", False, "1", 1, "raw", None):
        tree = {"task": "snapshot vm", "snapshots": [{"vm-name": "a", "format": word}]}
        assert judge.is_valid(tree)
    for tree in ({"vm-name": "a", "vm": "a"}, {}, {"vm": "a", "format": True}):
        assert not judge.is_valid({"task": "snapshot vm", "snapshots": [tree]})
    assert judge.is_valid({"task": "snapshot vm", "snapshots": [{"vm": "a"}]})


@pytest.mark.parametrize("direction", ["emit", "load"])
def test_keys_of_extensions_are_beside_those_of_the_task(folder, direction):
    judge = validator(read(folder, f"{direction}/start-vm.task"))

    def valid(**more):
        tree = {"task": "start vm", "vm-configurations": [{"vm-name": "a", **more}]}
        return judge.is_valid(tree)

    assert valid()  # its rules hold only where it is there
    assert valid(tpm=True)
    assert valid(**{"tpm-model": "crb", "tpm-owner": "me"})
    assert not valid(**{"tpm-owner": "me"})
    assert not valid(tpm="maybe")


def test_asyncapi_document_has_topics_of_packages(folder):
    tree = yaml.safe_load((folder / "asyncapi.yaml").read_text())
    assert tree["channels"]["weather"]["address"] == "acme/{site}/weather"
    assert "station-sends-weather" in tree["operations"]
    assert "snapshot-vm.task" in tree["channels"]["migfra-task"]["messages"]


def test_committed_schemas_leave_out_packages(package, fresh, tmp_path):
    fastlib("schema", "--no-extensions", "--write", tmp_path, cwd=tmp_path, path=[package])
    for path in fresh.rglob("*.*"):
        assert path.read_text() == (tmp_path / path.relative_to(fresh)).read_text()


def test_type_with_own_wire_form_declares_its_schema(package, tmp_path):
    (tmp_path / "odd.py").write_text(
        "from fastlib import Message\n"
        "from fastlib.codec.shapes import Shape\n"
        "class Odd(Message, task='odd'):\n"
        "    @staticmethod\n"
        "    def __shape__(): return OddShape()\n"
        "class OddShape(Shape):\n"
        "    expected = 'anything'\n"
        "\n"
    )
    info = tmp_path / "odd-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: odd\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[fastlib.messages]\nodd = odd\n")
    done = fastlib("schema", "odd", cwd=tmp_path, path=[tmp_path], status=2)
    assert "OddShape: a shape of another kind declares its schema in __schema__" in done.stderr
