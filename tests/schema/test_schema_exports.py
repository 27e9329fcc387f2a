"""The exports of `fastlib.schema`."""

import subprocess
import sys
import types

import fastlib.schema
from fastlib import schema


def test_exported_names_are_documented():
    assert len(set(schema.__all__)) == len(schema.__all__)
    for name in schema.__all__:
        value = getattr(schema, name)
        if isinstance(value, type | types.FunctionType):
            assert value.__doc__, name
            for method, member in vars(value).items():
                if isinstance(member, types.FunctionType | property) and method[0] != "_":
                    assert member.__doc__, f"{name}.{method}"


def test_schema_exports_no_other_names():
    public = {name for name in vars(schema) if not name.startswith("_")}
    rest = public - set(schema.__all__)
    assert all(isinstance(getattr(schema, name), types.ModuleType) for name in rest)


def test_extra_is_imported_only_where_it_is_needed():
    code = "import sys, fastlib.schema; print(*sorted(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    imported = set(done.stdout.split())
    assert fastlib.schema.__name__ in imported
    assert not imported & {"hypothesis", "jsonschema_rs", "asyncio"}
