"""Add examples and known keys to the errors of the configuration."""

import ast
from collections.abc import Iterable
from typing import Final

import msgspec

from fastlib.codec.dispatch import read_tree
from fastlib.codec.errors import MessageError, Problem
from fastlib.codec.records import Record
from fastlib.codec.shapes import Shape
from fastlib.migfra.plugin_api.config_section import ConfigSection

from .other_names import meant_by

MAX_KEYS: Final = 40
"""Largest number of keys that an error lists."""


def with_advice(problem: Problem, root: Shape) -> Problem:
    """Return a problem with an example of the expected mapping, or with known keys.

    The keys of a section are listed if none is similar.
    """
    if problem.code == "missing" and problem.path == "hypervisor":
        message = f"{problem.message}, such as hypervisor: {{type: libvirt}}"
        return msgspec.structs.replace(problem, message=message)
    *above, key = problem.path.split(".")
    if problem.code == "unknown-key":
        if problem.suggestion is not None:
            return problem  # the most similar key is enough
        section = _record_at(root, above)
        if section is None:
            return problem
        problem = list_keys(problem, above, section.by_key)
        meant = meant_by(".".join(above), key, section.by_key)
        return problem if meant is None else msgspec.structs.replace(problem, suggestion=meant)
    section = _record_at(root, [*above, key])
    if section is None or problem.expected != section.expected:
        return problem
    example = _example(section, problem.got)
    if not example:
        return problem
    message = f"expected a mapping, such as {key}: {example}; got {problem.got}"
    return msgspec.structs.replace(problem, message=message)


def list_keys(problem: Problem, above: Iterable[str], known: Iterable[str]) -> Problem:
    """Return the problem of an unknown key with the keys that the section knows."""
    keys = sorted(known)
    if len(keys) > MAX_KEYS:
        return problem
    place = ".".join(above)
    where = f"the keys of '{place}' are" if place else "the keys of the file are"
    message = problem.message.replace(", ignored by every peer", "")
    return msgspec.structs.replace(problem, message=f"{message}; {where} {', '.join(keys)}")


def _record_at(root: Shape, keys: Iterable[str]) -> Record | None:
    """Return the section at a path of keys."""
    shape = root
    for key in keys:
        field = shape.by_key.get(key) if isinstance(shape, Record) else None
        if field is None:
            return None
        shape = field.shape
    return shape if isinstance(shape, Record) else None


def _example(section: Record, got: str | None) -> str:
    """Return an example of a section, with the given value if that is valid."""
    cls = section.cls
    if not issubclass(cls, ConfigSection):
        return ""
    if cls.example_key is not None and got is not None and got.startswith(("'", '"')):
        try:
            text = ast.literal_eval(got)
            read_tree(section, {cls.example_key: text}, what="example")
        except (MessageError, SyntaxError, ValueError):  # the value was cut, or is not valid there
            return cls.example
        return f"{{{cls.example_key}: {text}}}"
    return cls.example
