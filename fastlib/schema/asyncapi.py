"""The AsyncAPI document: topics, their senders and receivers, and their messages.

For each message it has the `emit` schema, which a reader must understand. AsyncAPI uses JSON Schema
of draft 7, so the definitions become components.
"""

import re
from collections.abc import Iterable
from typing import Any, Final

import yaml

from fastlib import __version__
from fastlib.codec.schema_protocol import Schema
from fastlib.message.topics import Topic

from .builder import Builder
from .examples import example_tree
from .message_kind import MessageKind, all_topics, message_kinds
from .strict_form import strict_form
from .walk import rebuilt

_SCHEMAS: Final = "#/components/schemas/"
_ABOUT: Final = """\
The MQTT messages of a FaST cluster: tasks from a scheduler to the migration daemon migfra of
each host and their results, and the messages of agents, applications, the bandwidth monitor and
pscom. The document is derived from the message types of fastlib. The payloads are YAML. The schemas
describe the messages that fastlib writes; those in the folder `load/` describe the messages that it
understands.
"""


def asyncapi() -> dict[str, Any]:
    """Return the document as a plain tree."""
    builder = Builder("emit")
    known = message_kinds()
    schemas = {kind.name: _entitled(kind, kind.build(builder)) for kind in known}
    components = {name: _as_component(schema) for name, schema in (schemas | builder.defs).items()}
    topics = all_topics()
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "FaST cluster",
            "version": __version__,
            "description": _ABOUT,
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/yaml",
        "servers": {
            "broker": {
                "host": "{broker}:{port}",
                "protocol": "mqtt",
                "description": "The broker of the cluster.",
                "variables": {"broker": {"default": "localhost"}, "port": {"default": "1883"}},
            }
        },
        "channels": {channel_name(topic): _channel(topic, known) for topic in topics},
        "operations": {
            name: operation for topic in topics for name, operation in _operations(topic, known)
        },
        "components": {
            "messages": {kind.name: _message(kind) for kind in known},
            "schemas": components,
        },
    }


def asyncapi_yaml() -> str:
    """Return the text of the document."""
    return yaml.dump(asyncapi(), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)


class _Dumper(yaml.SafeDumper):
    """Writes repeated objects in full each time, and texts of several lines as literal blocks."""

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def represent_text(self, text: str) -> yaml.ScalarNode:
        return self.represent_scalar(
            "tag:yaml.org,2002:str", text, style="|" if "\n" in text else None
        )


_Dumper.add_representer(str, _Dumper.represent_text)


def channel_name(topic: Topic) -> str:
    """Return the name of a topic: its levels without the first one and the variable ones."""
    levels = [level for level in topic.template.split("/") if not level.startswith("{")]
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", "-".join(levels[1:] or levels))


def _there(topic: Topic, known: Iterable[MessageKind]) -> list[MessageKind]:
    return [kind for kind in known if topic in kind.topics]


def _channel(topic: Topic, known: Iterable[MessageKind]) -> dict[str, Any]:
    channel: dict[str, Any] = {"address": topic.template, "description": topic.doc}
    if topic.names:
        what = {"host": "Name of the host.", "vm": "Name of the domain.", "job": "Id of the job."}
        channel["parameters"] = {
            name: {"description": what.get(name, f"The {name}.")} for name in topic.names
        }
    names = [kind.name for kind in _there(topic, known)]
    channel["messages"] = {name: {"$ref": f"#/components/messages/{name}"} for name in names}
    if not names:
        channel["messages"] = {"any": {"description": "Any payload."}}
    return channel


def _operations(topic: Topic, known: Iterable[MessageKind]) -> Iterable[tuple[str, dict[str, Any]]]:
    channel = f"#/channels/{channel_name(topic)}"
    sides = (("send", "sends", topic.sender), ("receive", "receives", topic.receiver))
    names = [kind.name for kind in _there(topic, known)] or ["any"]
    for action, verb, who in sides:
        if who:
            yield (
                f"{who}-{verb}-{channel_name(topic)}",
                {
                    "action": action,
                    "channel": {"$ref": channel},
                    "summary": topic.doc,
                    "tags": [{"name": who}],
                    "messages": [{"$ref": f"{channel}/messages/{name}"} for name in names],
                },
            )


def _message(kind: MessageKind) -> dict[str, Any]:
    message: dict[str, Any] = {"name": kind.name, "title": kind.title or kind.name}
    if kind.doc:
        message["summary"] = kind.summary
    message["contentType"] = "application/yaml"
    message["payload"] = {"$ref": f"{_SCHEMAS}{kind.name}"}
    tree = example_tree(kind)
    if isinstance(tree, dict):  # an example can have no other value there
        message["examples"] = [{"name": kind.name, "payload": tree}]
    return message


def _entitled(kind: MessageKind, schema: Schema) -> Schema:
    return {"title": kind.name, "description": kind.doc, **schema}


def _as_component(schema: Schema) -> Schema:
    return rebuilt(strict_form(schema), _draft_7)


def _draft_7(schema: Schema) -> Schema:
    """Change references into ones to components. Draft 7 ignores keywords beside them."""
    if "$ref" not in schema:
        return schema
    reference = {"$ref": schema["$ref"].replace("#/$defs/", _SCHEMAS)}
    rest = {keyword: value for keyword, value in schema.items() if keyword != "$ref"}
    return {"allOf": [reference], **rest} if rest else reference
