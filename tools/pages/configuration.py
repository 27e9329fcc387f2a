"""Every key of the daemon's configuration and of each hypervisor, from the declarations."""

from collections.abc import Iterator
from inspect import cleandoc
from typing import Any

from fastlib.codec.derivation import fields_of
from fastlib.codec.own_doc import own_doc
from fastlib.codec.records import Field, Record
from fastlib.codec.shapes import Bool, List, Shape
from fastlib.message.describe import words
from fastlib.migfra import ConfigSection, Configuration, HypervisorSection
from fastlib.migfra.plugin_api import discovery

from .markdown import code, escaped, table

_HYPERVISOR = type(HypervisorSection.__shape__())


def sections() -> str:
    """Return the sections of the configuration, without the options of the hypervisors."""
    return "\n\n".join(_section(Configuration, ""))


def hypervisors() -> str:
    """Return the options of each hypervisor of fastlib."""
    return "\n\n".join(_hypervisors())


def _hypervisors() -> Iterator[str]:
    for name in discovery.BUILT_IN:
        found = discovery.load(name)
        yield f"### {name}"
        yield _doc(found)
        if fields_of(found.Options):
            yield from _section(found.Options, "hypervisor.", level=4, heading=False)
        else:
            yield "It has no options."


def _section(
    cls: type[ConfigSection], path: str, *, level: int = 3, heading: bool = True
) -> Iterator[str]:
    """Yield the table of a section, its rules, and the sections below it."""
    if heading:
        yield f"{'#' * level} {path.rstrip('.') or 'The file'}"
        yield _doc(cls)
    fields = fields_of(cls)
    yield table(("key", "value", "default", "meaning"), [_row(field, path) for field in fields])
    keys = {field.attribute: field.key for field in fields}
    rules = [escaped(" ".join(rule.describe(keys).split())) for rule in cls.rules]
    if rules:
        yield "Rules:"
        yield "\n".join(f"- {rule}" for rule in rules)
    for field in fields:
        below = section_of(field.shape)
        if below is not None:
            yield from _section(below, f"{path}{field.key}.", level=level)


def section_of(shape: Shape) -> type[ConfigSection] | None:
    """Return the section that a value is, or whose list or mapping it is."""
    held = getattr(shape, "item", None) or getattr(shape, "value", None)
    if isinstance(held, Shape):
        return section_of(held)
    if isinstance(shape, Record) and issubclass(shape.cls, ConfigSection):
        return shape.cls
    return None


def _row(field: Field, path: str) -> tuple[str, str, str, str]:
    value = escaped(words(field.shape))
    below = section_of(field.shape)
    if below is not None:
        anchor = f"{path}{field.key}".replace(".", "")
        value = f"[{value}](#{anchor})"
    elif isinstance(field.shape, _HYPERVISOR):
        value = f"[{value}](#options-of-each-hypervisor)"
    if field.wire.unit:
        value = f"{value}, in {field.wire.unit}"
    return code(field.key), value, _default(field, below), escaped(field.wire.doc)


def _default(field: Field, below: Any) -> str:
    if field.required:
        return "required"
    if field.default is None or below is not None:
        return ""
    value = field.shape.dump(field.default)
    if isinstance(field.shape, Bool):
        return code("true" if value else "false")
    if isinstance(value, list | tuple) or isinstance(field.shape, List):
        return ", ".join(code(str(item)) for item in value) or "none"
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return code(str(value)) if value != {} else "none"


def _doc(cls: type[Any]) -> str:
    return escaped(cleandoc(own_doc(cls) or ""))
