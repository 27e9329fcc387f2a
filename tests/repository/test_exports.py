"""What fastlib exports, and what importing it does not import."""

import json
import subprocess
import sys
import types

import pytest

import fastlib
from fastlib.message import agent, application, extensions, mmbwmon, node, pscom, topics

MESSAGES = {
    "Message", "Task", "TaskContainer", "Start", "Stop", "Suspend", "Resume", "Repin", "Migrate",
    "MigrateParameter", "SwapWith", "Evacuate", "EvacuateParameter", "Quit", "Result",
    "ResultContainer", "Status", "TimeMeasurement", "Timing", "PciId", "PciAddress",
    "DeviceIvshmem", "MigrationOptions", "Cancel", "Query", "NodeResult", "NodeReport",
    "DomainReport", "TaskReport", "Extension",
}  # fmt: skip
CLOSED_SETS = {"MigrationType", "EvacuateMode", "TimeoutAction"}
FUNCTIONS = {"load", "validate", "validate_all"}
ERRORS = {
    "DeclarationError", "FastlibError", "LimitError", "Limits", "MessageError", "ParseError",
    "Problem", "Report", "UnknownKeyWarning", "ValidationError",
}  # fmt: skip


def own(module):
    """The public names that a module defines itself."""
    return {
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and getattr(value, "__module__", None) == module.__name__
    }


def test_fastlib():
    assert set(fastlib.__all__) == MESSAGES | CLOSED_SETS | FUNCTIONS | ERRORS | {"__version__"}
    assert len(set(fastlib.__all__)) == len(fastlib.__all__)
    assert all(hasattr(fastlib, name) for name in fastlib.__all__)
    # Nothing else is left lying in the namespace but the rooms themselves.
    public = {name for name in vars(fastlib) if not name.startswith("_")}
    rest = public - set(fastlib.__all__)
    assert all(isinstance(getattr(fastlib, name), types.ModuleType) for name in rest)


def test_fastlib_message():
    modules = {"agent", "application", "mmbwmon", "node", "pscom", "topics"}
    assert set(fastlib.message.__all__) == MESSAGES | CLOSED_SETS | FUNCTIONS | modules
    for name in MESSAGES | CLOSED_SETS | FUNCTIONS:
        assert getattr(fastlib.message, name) is getattr(fastlib, name)


@pytest.mark.parametrize(
    ("module", "names"),
    [
        (agent, {"Init", "InitAgent", "Kpis", "StopMonitoring", "JobDescription", "Configuration",
                 "KpiReport"}),
        (application, {"ApplicationStatus", "ApplicationKpis"}),
        (mmbwmon, {"Request", "Reply", "Ack", "Stop", "Restart", "SystemInfo"}),
        (node, {"DomainReport", "TaskReport", "NodeReport", "NodeResult", "Progress", "Presence"}),
        (pscom, {"PscomRequest"}),
        (extensions, {"BrokenExtension", "load_extensions"}),
        (topics, {"Topic", "Match", "parse", "check_name", "from_template", *topics.ALL}),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)  # fmt: skip
def test_the_other_rooms(module, names):
    assert own(module) == names
    assert all(issubclass(getattr(module, name), fastlib.Message) for name in names
               if module not in (topics, extensions))  # fmt: skip


def test_every_public_name_is_documented():
    for module in (
        fastlib, fastlib.message, agent, application, extensions, mmbwmon, node, pscom, topics,
    ):  # fmt: skip
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


def test_messages_tell_where_they_are_exported_from():
    # What stands in tracebacks and pickles.
    for name in MESSAGES - {"Status"}:
        assert getattr(fastlib, name).__module__.startswith("fastlib.message.")


def test_the_version_is_the_packages():
    from importlib.metadata import version

    assert version("fastlib") == fastlib.__version__


# --- what is not imported -----------------------------------------------------------------------

HEAVY = [
    "argparse", "asyncio", "dataclasses", "difflib", "hypothesis", "jsonschema", "libvirt",
    "logging", "paho", "sqlite3", "unittest", "yaml",
]  # fmt: skip


def imported(code):
    """The modules that a fresh interpreter has imported after some code."""
    code = f"{code}\nimport sys, json\nprint(json.dumps(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    return set(json.loads(done.stdout.splitlines()[-1]))


@pytest.fixture(scope="module")
def bare():
    """What is there without fastlib: the environment's start-up files, and msgspec's imports."""
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
    ids=["import", "rooms", "write", "read", "emit"],
)
def test_nothing_heavy_is_imported(code, bare):
    modules = imported(code) - bare
    assert "fastlib" in modules
    assert not modules.intersection(HEAVY)


def test_a_hard_text_imports_what_it_needs(bare):
    # The test above can fail: by this road PyYAML is imported.
    modules = imported("import fastlib\nfastlib.load('{task: quit}')") - bare
    assert "yaml" in modules
