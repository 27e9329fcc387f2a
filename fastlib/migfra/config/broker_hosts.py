"""The value of `communicator.host`: one broker, or several."""

from typing import Any

from fastlib.codec.errors import Path
from fastlib.codec.load_context import INVALID, LoadContext
from fastlib.codec.nodes import Mapping, Node, Sequence
from fastlib.codec.schema_protocol import Schema, SchemaBuilder
from fastlib.codec.shapes import List, Shape, Text


class BrokerHosts(tuple[str, ...]):
    """The brokers, the preferred one first. The file has a text or a list of texts."""

    __slots__ = ()

    @staticmethod
    def __shape__() -> Shape:
        return _BrokerHostsShape()


class _BrokerHostsShape(Shape):
    expected = "a host or a list of hosts"

    def __init__(self) -> None:
        self._one = Text()
        self._several = List(self._one)

    def load(self, node: Node, context: LoadContext, path: Path) -> Any:
        if isinstance(node, Sequence):
            several = self._several.load(node, context, path)
            return INVALID if several is INVALID else BrokerHosts(several)
        if isinstance(node, Mapping):
            return context.add_mismatch(node, path, self.expected)
        one = self._one.load(node, context, path)
        return INVALID if one is INVALID else BrokerHosts((one,))

    def dump(self, value: BrokerHosts) -> Any:
        return value[0] if len(value) == 1 else list(value)

    def check(self, value: Any) -> Any:
        if isinstance(value, BrokerHosts):
            return value
        if isinstance(value, str):
            return BrokerHosts((self._one.check(value),))
        return BrokerHosts(self._several.check(value))

    def __schema__(self, schemas: SchemaBuilder) -> Schema:
        return {"anyOf": [schemas.of(self._one), schemas.of(self._several)]}
