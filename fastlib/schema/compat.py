"""Compatibility: find messages of one version that another version cannot read.

The `emit` schemas of a version describe all that it writes, its `load` schemas all that it accepts.
So the question is, for each kind of message, whether one schema contains the other.
"""

import json
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Literal

import msgspec

from fastlib.codec.schema_protocol import Schema
from fastlib.codec.writer import write_tree

from .containment import ContainmentResult, contains
from .folder import ListedMessage, SchemaFolder, SchemaFolderError
from .ignored import ignored_keys

Level = Literal["backward", "forward", "full"]
"""`backward`: the new version reads the messages of the old one; `forward`: the old version reads
the messages of the new one; `full`: both."""
Status = Literal["compatible", "incompatible", "unproven", "new"]
"""`new`: only the writer's version has the message, and the reader's never had it."""


class MessageReport(msgspec.Struct, frozen=True, kw_only=True):
    """The result for one kind of message in one direction."""

    message: str
    """Name of the kind of message."""
    status: Status
    writer: str
    """The writing version."""
    reader: str
    """The reading version."""
    sides: tuple[tuple[str, str], ...] = ()
    """Sender and receiver."""
    reasons: tuple[str, ...] = ()
    """The part that is not accepted, or the reason why there is no proof."""
    counterexample: str | None = None
    """A message that one version writes and the other one cannot read, as YAML."""
    ignored: tuple[str, ...] = ()
    """Keys that the reader ignores, so their values are lost."""
    searched: int = 0
    """The number of messages that were tried because there was no proof."""


class CompatibilityReport(msgspec.Struct, frozen=True, kw_only=True):
    """The result of a comparison of two versions."""

    old: str
    new: str
    level: Level
    backward: tuple[MessageReport, ...] = ()
    """Results for messages from the old version to the new one."""
    forward: tuple[MessageReport, ...] = ()
    """Results for messages from the new version to the old one."""

    def of(self, *states: Status) -> list[MessageReport]:
        """Return the messages with one of these results."""
        return [one for one in (*self.backward, *self.forward) if one.status in states]

    @property
    def compatible(self) -> bool:
        """True if no break is known."""
        return not self.of("incompatible")

    @property
    def proven(self) -> bool:
        """True if there is a proof that no message breaks and no value is lost."""
        known = not self.of("incompatible", "unproven")
        return known and not any(one.ignored for one in (*self.backward, *self.forward))


def compare(
    old: SchemaFolder, new: SchemaFolder, level: Level = "full", *, searches: int = 500
) -> CompatibilityReport:
    """Decide whether two versions understand each other.

    `searches` is the maximum number of messages to try if there is no proof. Raises
    SchemaFolderError, and MissingExtraError without the extra `compat`.
    """
    backward = () if level == "forward" else _direction(old, new, searches, older=old)
    forward = () if level == "backward" else _direction(new, old, searches, older=old)
    return CompatibilityReport(
        old=old.name, new=new.name, level=level, backward=backward, forward=forward
    )


def compare_all(
    versions: Sequence[SchemaFolder], level: Level = "full", *, searches: int = 500
) -> list[CompatibilityReport]:
    """Compare the last version with each earlier one."""
    return [compare(old, versions[-1], level, searches=searches) for old in versions[:-1]]


def _direction(
    writer: SchemaFolder, reader: SchemaFolder, searches: int, *, older: SchemaFolder
) -> tuple[MessageReport, ...]:
    return tuple(
        _message(message, writer, reader, searches, reader_is_older=reader is older)
        for message in writer.index.messages
    )


def _message(
    message: ListedMessage,
    writer: SchemaFolder,
    reader: SchemaFolder,
    searches: int,
    *,
    reader_is_older: bool,
) -> MessageReport:
    facts: dict[str, Any] = {
        "message": message.name,
        "writer": writer.name,
        "reader": reader.name,
        "sides": tuple(writer.sides(message)),
    }
    read_as = reader.reader_of(message)
    is_known = read_as in reader.messages
    if reader_is_older and not is_known:
        # The sender knows that it is new. How the old version handles it has its own rules.
        return MessageReport(status="new", **facts)
    written = writer.schema("emit", message.name)
    # If no kind reads it, there is no schema that a message could match.
    understood = reader.schema("load", read_as) if read_as is not None else {"not": {}}
    try:
        finding = _contains(_text(understood), _text(written), searches)
    except _UNCOMPARABLE as error:
        names = f"{message.name} of {writer.name} and {read_as} of {reader.name}"
        raise SchemaFolderError(
            f"the schemas {names} cannot be compared: {type(error).__name__}: {error}"
        ) from error
    facts["ignored"] = tuple(ignored_keys(understood, written)) if read_as is not None else ()
    if finding.verdict == "refuted":
        reasons = finding.reasons if is_known else (f"{reader.name} has no such message",)
        return MessageReport(
            status="incompatible",
            reasons=reasons,
            counterexample=_yaml(finding.counterexample),
            searched=finding.searched,
            **facts,
        )
    return MessageReport(
        status="compatible" if finding.verdict == "proven" else "unproven",
        reasons=finding.reasons,
        searched=finding.searched,
        **facts,
    )


_UNCOMPARABLE = (ValueError, TypeError, LookupError, AttributeError, RecursionError)
"""Errors that jsonschema-rs and Hypothesis raise for unusual contradictory schemas."""


@lru_cache(maxsize=256)
def _contains(understood: str, written: str, searches: int) -> ContainmentResult:
    """Compare two schemas, as JSON. Most messages are the same in both versions: remember them."""
    return contains(json.loads(understood), json.loads(written), searches=searches)


def _text(schema: Schema) -> str:
    return json.dumps(schema, ensure_ascii=False)


def _yaml(tree: Any) -> str:
    if not isinstance(tree, dict):  # a bare word
        return f"{tree}\n"
    return write_tree(tree) + "\n"
