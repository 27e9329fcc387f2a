"""Readings of a text by YAML readers without types, as instances for schemas.

- `text`: every scalar is its text, and what is plainly null is null; nothing is guessed.
- `yaml12`: the core schema of YAML 1.2, which editors use.
- `yaml11`: PyYAML's guesses of YAML 1.1, such as `yes`, `0o17`, `12:30:45`.

Each reads the first document. Of what JSON has no word for the instance has the text.
"""

import datetime
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema_rs
import yaml
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError as RuamelError

from fastlib.codec.scalars import NULLS, write_float

SCHEMAS = Path(__file__).parents[3] / "schemas"


class Unreadable(Exception):
    """The reader cannot read the text."""


class _TextLoader(yaml.BaseLoader):
    def construct_scalar(self, node: yaml.ScalarNode) -> Any:
        return (
            None if node.style is None and node.value in NULLS else super().construct_scalar(node)
        )


def _first(load: Callable[[Any], Any]) -> Callable[[str | bytes], Any]:
    def read(text: str | bytes) -> Any:
        try:
            return as_json(load(text))
        # ValueError, OverflowError and the like: a guess that came to nothing.
        except (
            yaml.YAMLError, RuamelError, ValueError, ArithmeticError, TypeError, RecursionError,
        ) as error:  # fmt: skip
            raise Unreadable(str(error)) from error

    return read


def _ruamel(text: str | bytes) -> Any:
    reader = YAML(typ="safe", pure=True)
    reader.allow_duplicate_keys = True
    return next(iter(reader.load_all(text)), None)


READERS: dict[str, Callable[[str | bytes], Any]] = {
    "text": _first(lambda text: next(yaml.load_all(text, _TextLoader), None)),
    "yaml12": _first(_ruamel),
    "yaml11": _first(lambda text: next(yaml.safe_load_all(text), None)),
}


def as_json(value: Any) -> Any:
    """A tree as JSON can have it."""
    if isinstance(value, dict):
        return {as_key(key): as_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set):
        return [as_json(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return write_float(value)
    if isinstance(value, datetime.date):
        return value.isoformat()
    return value.decode("latin-1") if isinstance(value, bytes) else value


def as_key(key: Any) -> str:
    return key if isinstance(key, str) else json.dumps(as_json(key))


def schema(path: str) -> dict[str, Any]:
    """A committed schema, such as `load/start-vm.task`."""
    read: dict[str, Any] = json.loads((SCHEMAS / f"{path}.json").read_text("utf-8"))
    return read


def validator(of: dict[str, Any]) -> jsonschema_rs.Draft202012Validator:
    return jsonschema_rs.Draft202012Validator(of)


def names() -> list[str]:
    """The kinds of message of the committed schemas."""
    listed = json.loads((SCHEMAS / "index.json").read_text("utf-8"))
    return [message["name"] for message in listed["messages"]]
