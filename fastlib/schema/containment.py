"""Prove or refute that one side accepts all that the other writes, or search for an example."""

from collections.abc import Iterator
from random import Random
from typing import Any, Literal

import msgspec

from fastlib.codec.load_context import shorten
from fastlib.codec.schema_protocol import Schema
from fastlib.extras import needs_extra

from .instances import instances
from .shrinking import shrunk
from .strict_form import unsaid_rules
from .walk import children

Verdict = Literal["proven", "refuted", "unproven"]


class ContainmentResult(msgspec.Struct, frozen=True, kw_only=True):
    """The result."""

    verdict: Verdict
    counterexample: Any = None
    """A message that is written and not accepted, as a plain tree, if it is refuted."""
    reasons: tuple[str, ...] = ()
    """The part that is not accepted, or the reason why there is no proof."""
    searched: int = 0
    """The number of messages that were tried."""


def contains(reader: Schema, writer: Schema, *, searches: int = 500) -> ContainmentResult:
    """Decide whether `reader` accepts all instances of `writer`.

    If jsonschema-rs cannot prove it, search for a counterexample: first among the writer's own
    examples, because users know them, then in the difference that jsonschema-rs computes. Raises
    MissingExtraError.
    """
    with needs_extra("the comparison of schemas", "jsonschema_rs"):
        import jsonschema_rs as rs
    known = rs.canonicalize(reader, retriever=_no_document)
    written = rs.canonicalize(writer, retriever=_no_document)
    if known.covers(written) == rs.canonical.Containment.YES:
        unsaid = _unsaid(reader) - _unsaid(writer)
        reasons = tuple(f"this rule has no form in JSON Schema: {rule}" for rule in sorted(unsaid))
        return ContainmentResult(verdict="unproven" if unsaid else "proven", reasons=reasons)
    places: list[Any] = [writer]
    try:
        difference = written.subtract(known)
    except rs.canonical.CanonicalizationError:
        pass  # it cannot express the difference, which may still exist
    else:
        if difference.satisfiability() == rs.canonical.Satisfiability.NO:
            return ContainmentResult(verdict="proven")
        places.insert(0, difference.to_json_schema())
    search = _Search(
        rs.Draft202012Validator(reader, retriever=_no_document),
        rs.Draft202012Validator(writer, retriever=_no_document),
        _order(writer, {}),
    )
    _hypothesis()  # the need for it does not depend on the messages
    for example in writer.get("examples", ()):
        if search.refutes(example):
            return search.shortest(example)
    for place in places:
        if isinstance(place, dict):
            found = search.look(place, searches)
            if found is not None:
                return found
    return ContainmentResult(verdict="unproven", searched=search.tried)


def _no_document(name: str) -> Any:
    """Refuse another document: jsonschema-rs would fetch it, from a file or the network."""
    raise LookupError(f"a schema must not refer to another document: {name}")


def _hypothesis() -> Any:
    with needs_extra("the comparison of schemas", "hypothesis", extra="compat"):
        import hypothesis
    return hypothesis


class _Search:
    """Searches for a message that one validator accepts and the other refuses."""

    def __init__(self, reader: Any, writer: Any, order: dict[str, int]) -> None:
        self.reader = reader
        self.writer = writer
        self.order = order
        self.tried = 0

    def look(self, place: Schema, searches: int) -> ContainmentResult | None:
        hypothesis = _hypothesis()
        settings = hypothesis.settings(
            max_examples=searches,
            database=None,
            deadline=None,
            suppress_health_check=list(hypothesis.HealthCheck),
            phases=[hypothesis.Phase.generate],
        )
        try:
            tree = hypothesis.find(
                instances(place),
                self.refutes,
                settings=settings,
                random=Random(0),  # noqa: S311 - the same search each time
            )
        except (hypothesis.errors.NoSuchExample, hypothesis.errors.Unsatisfiable):
            return None
        return self.shortest(tree)

    def shortest(self, tree: Any) -> ContainmentResult:
        """Return the result for a counterexample, shortened as far as it still is one."""
        tree = _in_order(shrunk(tree, self.refutes), self.order)
        return ContainmentResult(
            verdict="refuted",
            counterexample=tree,
            reasons=tuple(_words(error) for error in self.reader.iter_errors(tree)),
            searched=self.tried,
        )

    def refutes(self, tree: Any) -> bool:
        if not self.writer.is_valid(tree):
            return False
        self.tried += 1
        return not self.reader.is_valid(tree)


_VAGUE = {"anyOf", "oneOf", "not", "type"}
"""Keywords whose errors only state that a value does not match."""


def _words(error: Any) -> str:
    """Describe an error of a validator: the place and the value, or the missing key."""
    error = max(_below(error), key=lambda e: (len(e.instance_path), e.kind.name not in _VAGUE))
    path = ""
    for step in error.instance_path:
        path += f"[{step}]" if isinstance(step, int) else f".{step}" if path else str(step)
    place = f"{path}: " if path else ""
    if error.kind.name in _VAGUE:
        return f"{place}{shorten(error.instance)} is not understood"
    return f"{place}{error.message}"


def _below(error: Any) -> Iterator[Any]:
    """Yield an error and the errors of the choices that caused it."""
    yield error
    for choice in getattr(error.kind, "context", ()):
        for below in choice:
            yield from _below(below)


def _order(schema: Schema, order: dict[str, int]) -> dict[str, int]:
    """Return the position of each key among all keys of a schema."""
    for key in schema.get("properties", ()):
        order.setdefault(key, len(order))
    for below in children(schema):
        _order(below, order)
    return order


def _in_order(tree: Any, order: dict[str, int]) -> Any:
    """Return a message with its keys in the written order."""
    if isinstance(tree, list):
        return [_in_order(item, order) for item in tree]
    if not isinstance(tree, dict):
        return tree
    keys = sorted(tree, key=lambda key: order.get(key, len(order)))
    return {key: _in_order(tree[key], order) for key in keys}


def _unsaid(schema: Schema) -> set[str]:
    """Return the rules that a schema has only in words."""
    rules = set(unsaid_rules(schema))
    for below in children(schema):
        rules |= _unsaid(below)
    return rules
