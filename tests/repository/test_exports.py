"""The exports of fastlib, and the modules that importing it does not import."""

import json
import re
import subprocess
import sys
import types
from pathlib import Path

import pytest

import fastlib
import fastlib.client
from fastlib import Message
from fastlib.client import MigfraClient, options
from fastlib.message import (
    agent,
    application,
    devices,
    entry_points,
    history,
    mmbwmon,
    node,
    pscom,
    result,
    tasks,
    topics,
)
from fastlib.message.task import declarations


def own(module):
    """Return the public names that a module defines itself."""
    return {
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and getattr(value, "__module__", None) == module.__name__
    }


MODULES = [fastlib, fastlib.message, agent, application, entry_points, mmbwmon, node, pscom, topics]


@pytest.mark.parametrize("module", [fastlib, fastlib.message], ids=lambda module: module.__name__)
def test_exported_names_exist_once_and_nothing_else_is_public(module):
    assert len(set(module.__all__)) == len(module.__all__)
    public = {name for name in vars(module) if not name.startswith("_")}
    others = public - set(module.__all__)
    assert set(module.__all__) - {"__version__"} <= public
    assert all(isinstance(getattr(module, name), types.ModuleType) for name in others)


def test_fastlib_exports_every_message_type_of_tasks_and_results():
    containers = {declared.type for declared in declarations()} | {
        declared.result_type for declared in declarations()
    }
    own = {cls for cls in containers if cls.__module__.startswith("fastlib.")}
    assert own
    assert all(getattr(fastlib, cls.__name__) is cls for cls in own)


def values_of_fields():
    """Return the names of the lists of values that fields of messages have."""
    found = re.compile(r"^([A-Z]\w+) = Literal\[", re.MULTILINE)
    names = set()
    for module in (devices, node, result, tasks):
        names.update(found.findall(Path(module.__file__).read_text("utf-8")))
    return names


def test_fastlib_exports_every_type_of_fields_of_tasks_and_results():
    names = values_of_fields()
    assert {"CopyStorage", "DiskFormat", "SourceDisks", "Status"} <= names
    for module in (devices, history, result, tasks):
        kinds = {name: getattr(module, name) for name in own(module)}
        names |= {
            name
            for name, kind in kinds.items()
            if isinstance(kind, type) and issubclass(kind, Message)
        }
    assert names - set(fastlib.__all__) == set()


def test_client_exports_the_options_of_its_methods():
    options_of_methods = {
        name
        for name in own(options)
        if any(name in str(method.__annotations__) for method in methods_of(MigfraClient))
    }
    assert "MigrateOptions" in options_of_methods
    assert options_of_methods - set(fastlib.client.__all__) == set()


def methods_of(cls):
    return [member for member in vars(cls).values() if isinstance(member, types.FunctionType)]


def test_every_public_name_has_docstring():
    for module in MODULES:
        assert module.__doc__
        for name in getattr(module, "__all__", own(module)):
            value = getattr(module, name)
            if isinstance(value, type | types.FunctionType):
                assert value.__doc__, f"{module.__name__}.{name}"
                for method, member in vars(value).items():
                    if isinstance(member, types.FunctionType | classmethod | property) and not (
                        method.startswith("_") or method in ("to_wire", "from_wire")
                    ):
                        assert member.__doc__, f"{module.__name__}.{name}.{method}"


def test_version_is_that_of_the_package():
    from importlib.metadata import version

    assert version("fastlib-migfra") == fastlib.__version__


# --- what is not imported -----------------------------------------------------------------------

HEAVY = [
    "argparse", "asyncio", "dataclasses", "difflib", "hypothesis", "jsonschema", "libvirt",
    "logging", "paho", "sqlite3", "unittest", "yaml",
]  # fmt: skip


def imported(code):
    """Return the modules that a fresh interpreter has imported after some code."""
    code = f"{code}\nimport sys, json\nprint(json.dumps(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    return set(json.loads(done.stdout.splitlines()[-1]))


@pytest.fixture(scope="module")
def bare():
    """Return the modules without fastlib: of the interpreter's start, and of msgspec."""
    return imported("import msgspec")


@pytest.mark.parametrize(
    "code",
    [
        "import fastlib",
        "import fastlib.message.agent, fastlib.message.topics, fastlib.codec",
        "import fastlib\nfastlib.TaskContainer(tasks=[fastlib.Quit()], id='1').to_yaml()",
        "import fastlib\nfastlib.load('---\\ntask: stop vm\\nlist:\\n  - vm-name: a\\n---')",
        "import fastlib\nfastlib.Start(xml='<domain/>', vcpu_map=[[0]]).emit()",
    ],
    ids=["import", "packages", "write", "read", "emit"],
)
def test_import_and_ordinary_messages_import_nothing_heavy(code, bare):
    modules = imported(code) - bare
    assert "fastlib" in modules
    assert not modules.intersection(HEAVY)


def test_flow_style_text_imports_pyyaml(bare):
    # The test above can fail: by this road PyYAML is imported.
    modules = imported("import fastlib\nfastlib.load('{task: quit}')") - bare
    assert "yaml" in modules
