"""The section `hypervisor` of the configuration: its `type` decides about its other keys."""

from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from fastlib.codec.derivation import fields_of
from fastlib.codec.errors import Path
from fastlib.codec.load_context import INVALID, LoadContext, shorten
from fastlib.codec.nodes import Mapping, Node, Scalar
from fastlib.codec.records import Record
from fastlib.codec.schema_protocol import Schema, SchemaBuilder
from fastlib.codec.shapes import InvalidValue, Shape
from fastlib.migfra.errors import PluginError
from fastlib.migfra.plugin_api import discovery
from fastlib.migfra.plugin_api.hypervisor import Hypervisor, NodeContext
from fastlib.plugin_place import place_of

from .advice import list_keys


@dataclass(frozen=True)
class HypervisorSection:
    """A hypervisor with its options."""

    type: type[Hypervisor]
    options: Any

    def make(self, node: NodeContext) -> Hypervisor:
        """Return the hypervisor, not opened. Raises PluginError if its constructor fails."""
        try:
            return self.type(self.options, node)
        except PluginError:
            raise
        except Exception as error:
            raise PluginError(
                f"the hypervisor {self.type.name!r} cannot be made: {type(error).__name__}: {error}"
                f"{place_of(error)}"
            ) from error

    @staticmethod
    def __shape__() -> Shape:
        return _ChoiceShape()


class _ChoiceShape(Shape):
    expected = "a mapping with the key 'type'"

    def load(self, node: Node, context: LoadContext, path: Path) -> Any:
        if not isinstance(node, Mapping):
            given = node.value if isinstance(node, Scalar) else None
            example = given if given in discovery.names() else "libvirt"
            expected = f"{self.expected}, such as hypervisor: {{type: {example}}}"
            return context.add_mismatch(node, path, expected)
        name = next((value for key, value in node.pairs if _is_type(key)), None)
        if name is None:
            known = ", ".join(discovery.names())
            return context.add_problem(
                node, (*path, "type"), "missing", f"missing; expected one of {known}"
            )
        if not isinstance(name, Scalar) or not isinstance(name.value, str):
            return context.add_mismatch(name, (*path, "type"), "the name of a hypervisor")
        try:
            found = discovery.load(name.value)
        except PluginError as error:
            return context.add_problem(name, (*path, "type"), "plugin", str(error), got=name.value)
        record, before = _record(name.value, found), len(context.problems)
        options = record.load(node, context, path)
        for index, problem in enumerate(context.problems[before:], before):
            if problem.code == "unknown-key" and problem.path.count(".") == len(path):
                keys = [*record.by_key, "type"]
                context.problems[index] = list_keys(problem, map(str, path), keys)
        return INVALID if options is INVALID else HypervisorSection(found, options)

    def __schema__(self, schemas: SchemaBuilder) -> Schema:
        """Return a schema in which `type` decides the other keys."""
        found: dict[str, Record] = {}
        for name in discovery.names() if schemas.extensions else discovery.BUILT_IN:
            with suppress(PluginError):  # left out of the schema; a check of a file names it
                found[name] = _record(name, discovery.load(name))
        return {
            "type": "object",
            "required": ["type"],
            "properties": {
                "type": {"description": "Name of the hypervisor.", "enum": sorted(found)}
            },
            "allOf": [
                {
                    "if": {"required": ["type"], "properties": {"type": {"const": name}}},
                    "then": schemas.of(record),
                }
                for name, record in sorted(found.items())
            ],
        }

    def dump(self, value: HypervisorSection) -> Any:
        return {"type": value.type.name, **value.options.emit()}

    def check(self, value: Any) -> Any:
        if not isinstance(value, HypervisorSection):
            raise InvalidValue((), "a HypervisorSection", shorten(value))
        return value


def _record(name: str, hypervisor: type[Hypervisor]) -> Record:
    """The options of a hypervisor, with its name as the title."""
    options = hypervisor.Options
    return Record(options, fields_of(options), title=("type", name), rules=options.rules)


def _is_type(key: Node) -> bool:
    return isinstance(key, Scalar) and key.value == "type"
