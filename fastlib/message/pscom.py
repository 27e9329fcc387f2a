"""Requests of the migration daemon to the pscom processes in a domain.

See docs/reference/protocol.md, "Topics".
"""

from typing import Annotated, Any, ClassVar, Literal

from fastlib.codec.annotations import Wire
from fastlib.codec.dispatch import Style
from fastlib.codec.errors import Path
from fastlib.codec.load_context import INVALID, LoadContext, shorten
from fastlib.codec.nodes import Mapping, Node
from fastlib.codec.records import Field, Record
from fastlib.codec.schema_protocol import Schema, SchemaBuilder
from fastlib.codec.shapes import Choice, InvalidValue, Shape

from . import topics
from .base import Message
from .registry import register
from .topics import Topic


class PscomRequest(Message):
    """Suspend or resume the connections. On the wire it is a bare word.

    The mapping `task: suspend` of the written specification is also read.
    """

    __topics__: ClassVar[tuple[Topic, ...]] = (topics.PSCOM_REQUEST,)

    request: Annotated[
        Literal["suspend", "resume"], Wire("Whether to suspend or resume the connections.")
    ]
    """Whether to suspend or resume the connections."""

    def to_yaml(self, *, style: Style = "block") -> str:
        """Return the bare word, in either style: the processes compare bytes."""
        return self.request

    @staticmethod
    def __shape__() -> Shape:
        return _RequestShape()


class _RequestShape(Shape):
    expected = "suspend or resume"

    def __init__(self) -> None:
        self.word = Choice({"suspend": "suspend", "resume": "resume"})
        task = Field("request", "task", self.word, Wire(), required=True, optional=False)
        self.mapping = Record(PscomRequest, [task])

    def load(self, node: Node, context: LoadContext, path: Path) -> Any:
        if isinstance(node, Mapping):
            return self.mapping.load(node, context, path)
        word = self.word.load(node, context, path)
        return INVALID if word is INVALID else PscomRequest(request=word)

    def dump(self, value: PscomRequest) -> Any:
        return value.request

    def check(self, value: Any) -> Any:
        if not isinstance(value, PscomRequest):
            raise InvalidValue((), "a PscomRequest", shorten(value))
        return value

    def __schema__(self, schemas: SchemaBuilder) -> Schema:
        word = schemas.of(self.word)
        if schemas.direction == "emit":
            return word
        return {"anyOf": [word, schemas.of(self.mapping)]}


register("task", "suspend", PscomRequest)
register("task", "resume", PscomRequest)
