"""Build JSON Schemas from shapes: of written messages, or of all accepted ones.

A schema checks the instance that a YAML reader makes of a text. A reader without the types guesses
them: `id: 1234` is text for fastlib, and a number for that reader. So where text is accepted,
numbers and truth values are also accepted. Every reader reads fastlib's own output correctly. For
values that JSON cannot express (dates, `.inf`, keys that are not text) the instance has the text.
"""

from collections.abc import Callable, Iterable
from inspect import cleandoc
from typing import Any

from fastlib.codec.derivation import shape_of
from fastlib.codec.envelope import Envelope, Members
from fastlib.codec.errors import DeclarationError
from fastlib.codec.instants import READ_PATTERN, WRITTEN_PATTERN
from fastlib.codec.own_doc import own_doc
from fastlib.codec.records import Converted, Field, Record
from fastlib.codec.scalars import BOOLEANS, FLOAT_PATTERN, parse_float
from fastlib.codec.schema_protocol import Direction, Schema
from fastlib.codec.shapes import Bool, Choice, Float, Instant, Int, List, Map, Shape, Text
from fastlib.codec.tree_shape import Tree
from fastlib.message import Message
from fastlib.message.describe import name_of

from . import numerals
from .rules import is_exact, rule_schema, words
from .strict_form import UNIT, UNSAID, strict_form

DIALECT = "https://json-schema.org/draft/2020-12/schema"
"""The `$schema` of every document."""

_NO_TITLE = ""
"""A title that no type declares. It represents every such title."""

_NO_NUMBER = "^(-?[.]inf|[.]nan)$"
"""The texts of numbers that JSON cannot express."""
_NUMBER = f"^({FLOAT_PATTERN})[ \\t\\n]*$"


class _Parts:
    """Collects the parts of the schema of a struct."""

    def __init__(self) -> None:
        self.properties: dict[str, Schema] = {}
        self.patterns: dict[str, Schema] = {}
        """Schemas of keys that match a pattern."""
        self.required: list[str] = []
        self.conditions: list[Schema] = []
        """Further schemas that must hold: for rules, and for keys that exclude each other."""
        self.unsaid: list[str] = []
        """The rules that no schema can express."""

    def schema(self, *, closed: bool) -> Schema:
        """Return the schema of all parts; if it is closed, no other keys are allowed."""
        schema: Schema = {"type": "object", "properties": self.properties}
        if self.patterns:
            schema["patternProperties"] = self.patterns
        if self.required:
            schema["required"] = self.required
        if closed:
            schema["additionalProperties"] = False
        if self.conditions:
            schema["allOf"] = self.conditions
        if self.unsaid:
            schema[UNSAID] = self.unsaid
        return schema


class Builder:
    """Builds the schemas of one document, and collects their referenced schemas in `defs`."""

    def __init__(
        self, direction: Direction, *, closed: bool | None = None, extensions: bool = True
    ) -> None:
        """`closed` schemas refuse unknown keys; by default `emit` schemas are closed.

        Without `extensions`, choices are only those of fastlib.
        """
        self.direction: Direction = direction
        self.extensions = extensions
        self.closed = direction == "emit" if closed is None else closed
        self.defs: dict[str, Schema] = {}
        self._makers: dict[type[Shape], Callable[[Any], Schema]] = {
            Text: self._text,
            Bool: self._bool,
            Int: self._int,
            Float: self._float,
            Instant: self._instant,
            Choice: self._choice,
            List: self._list,
            Map: self._map,
            Tree: self._tree,
            Members: self._members,
            Envelope: self._envelope,
        }

    @property
    def loads(self) -> bool:
        return self.direction == "load"

    def of(self, shape: Shape) -> Schema:
        """Return the schema of a shape. Raises DeclarationError for a shape that declares none."""
        own = getattr(shape, "__schema__", None)
        if own is not None:
            schema: Schema = own(self)
            return schema
        if isinstance(shape, Converted):
            own = getattr(shape.cls, "__schema__", None)
            schema = self.of(shape.wire) if own is None else own(self)
            return self._defined(shape.cls, lambda: schema)
        if isinstance(shape, Record):
            return self._defined(shape.cls, lambda: self.record(shape))
        for kind, make in self._makers.items():
            if isinstance(shape, kind):
                return make(shape)
        raise DeclarationError(
            f"{type(shape).__qualname__}: a shape of another kind declares its schema in __schema__"
        )

    def text(self, written: str, *, also: str = "", expected: str = "text") -> Schema:
        """See `SchemaBuilder.text`."""
        if not self.loads:
            return {"type": "string", "pattern": written}
        schema: Schema = {"type": ["string", "number"]}
        if not also:
            return {**schema, "pattern": written}
        # The written pattern separately, to prove that it is accepted.
        return {**schema, "anyOf": [{"pattern": written}, {"pattern": also}]}

    def _defined(self, cls: type[Any], make: Callable[[], Schema]) -> Schema:
        """Return a reference to the schema of a message; for other shapes the schema itself."""
        if not issubclass(cls, Message):
            return make()
        name = name_of(cls)
        if name not in self.defs:
            self.defs[name] = {}  # keeps its position in the order
            doc = cleandoc(own_doc(cls) or "")
            self.defs[name] = {"title": name, "description": doc, **make()}
        return self._reference(name)

    def _shared(self, name: str, schema: Schema) -> Schema:
        self.defs.setdefault(name, schema)
        return self._reference(name)

    @staticmethod
    def _reference(name: str) -> Schema:
        return {"$ref": f"#/$defs/{name}"}

    # --- scalars ----------------------------------------------------------------------------------

    def _text(self, shape: Text) -> Schema:
        schema: Schema = {"type": "string"}
        if self.loads:
            may_be_bool = any(shape.fits(word) for word in BOOLEANS)
            schema["type"] = ["string", "number", *(["boolean"] if may_be_bool else [])]
        if shape.min:
            schema["minLength"] = shape.min
        if shape.max is not None:
            schema["maxLength"] = shape.max
        if shape.pattern is not None:
            schema["pattern"] = shape.pattern.pattern
        return schema

    def _bool(self, shape: Bool) -> Schema:
        if not self.loads:
            return {"type": "boolean"}
        return self._shared("boolean", {"enum": [True, False, *BOOLEANS]})

    def _int(self, shape: Int) -> Schema:
        bounds = {"minimum": shape.low, "maximum": shape.high}
        written = numerals.written(shape.low, shape.high, shape.digits) if shape.digits else None
        if not self.loads:
            return {"type": "integer", **bounds} if written is None else self.text(written)
        pattern = numerals.read(shape.low, shape.high)
        schema: Schema = {"type": ["integer", "string"], **bounds}
        if written is None:
            name = f"integer-{shape.low}-{shape.high}"
            return self._shared(name, {**schema, "pattern": pattern})
        name = f"integer-0x{shape.low:x}-0x{shape.high:x}"
        return self._shared(name, {**schema, "anyOf": [{"pattern": written}, {"pattern": pattern}]})

    def _float(self, shape: Float) -> Schema:
        schema: Schema = {"type": ["number", "string"]}
        if not self.loads:  # inline, because jsonschema-rs proves less with a reference
            return {**schema, "pattern": _NO_NUMBER}
        patterns = [{"pattern": _NO_NUMBER}, {"pattern": _NUMBER}]
        return self._shared("number", {**schema, "anyOf": patterns})

    def _instant(self, shape: Instant) -> Schema:
        written: Schema = {"format": "date-time", "pattern": WRITTEN_PATTERN}
        if not self.loads:
            return {"type": "string", **written}
        # The format does not have the space that RFC 3339 allows between date and time.
        forms = [written, {"pattern": READ_PATTERN}]
        return self._shared("instant", {"type": "string", "anyOf": forms})

    def _choice(self, shape: Choice) -> Schema:
        values: list[Any] = list(shape.values)
        return {"enum": [*values, *_guesses(values)]} if self.loads else {"enum": values}

    # --- lists and mappings -----------------------------------------------------------------------

    def _list(self, shape: List) -> Schema:
        return {"type": "array", "items": self.of(shape.item)}

    def _map(self, shape: Map) -> Schema:
        mapping: Schema = {"type": "object", "additionalProperties": self.of(shape.value)}
        if not (self.loads and shape.pairs):
            return mapping
        return {"anyOf": [mapping, {"type": "array", "items": mapping}]}

    def _tree(self, shape: Tree) -> Schema:
        if self.loads:
            return {"type": ["string", "number", "boolean", "array", "object"]}
        below = self._reference("tree")
        forms: list[Schema] = [
            {"type": "string"},
            {"type": "array", "items": below},
            {"type": "object", "additionalProperties": below},
        ]
        self._shared("tree", {"anyOf": [*forms, {"type": "null"}]})
        return {"anyOf": forms}

    # --- structs ----------------------------------------------------------------------------------

    def root(self, shape: Shape) -> Schema:
        """Return the schema of a whole document. An empty document is an empty mapping."""
        if not isinstance(shape, Record):
            return self.of(shape)
        schema = self.record(shape)
        empty = self.loads and _may_be_empty(shape)
        return {**schema, "type": ["object", "null"]} if empty else schema

    def record(self, record: Record, *, titled: bool = False) -> Schema:
        """Return the schema of a struct's mapping. With `titled`, its title is required."""
        parts = _Parts()
        own_title = record.title if self.loads else record.written_title
        if own_title is not None:
            key, title = own_title
            spellings = [title, *_guesses([title])] if self.loads else [title]
            parts.properties[key] = {"const": title} if len(spellings) == 1 else {"enum": spellings}
            if titled or not self.loads:
                parts.required.append(key)
        self._add_fields(parts, record.fields)
        self._add_rules(parts, record)
        for extension in record.extensions or ():
            self._add_extension(parts, extension)
        return parts.schema(closed=self.closed)

    def _add_fields(self, parts: _Parts, fields: Iterable[Field]) -> None:
        """Add the keys of the fields; the old keys of all of them come last."""
        for field in fields:
            parts.properties[field.key] = self._field(field)
            if self.loads:
                self._add_aliases(parts, field)
            elif not field.optional:
                parts.required.append(field.key)
        if self.loads:
            for field in fields:
                self._add_old_keys(parts, field)

    def _add_aliases(self, parts: _Parts, field: Field) -> None:
        """Add the other keys that are read, and that one of them is required."""
        for alias in field.wire.aliases:
            note = f"Another spelling of '{field.key}', which is the one that is written."
            parts.properties[alias] = {**self._value(field), "description": note}
            parts.conditions.append({"not": {"required": [field.key, alias]}})
        if field.required and len(field.keys) == 1:
            parts.required.append(field.key)
        elif field.required:
            parts.conditions.append({"anyOf": [{"required": [key]} for key in field.keys]})

    def _add_old_keys(self, parts: _Parts, field: Field) -> None:
        """Add the obsolete keys, with the remedy for each."""
        for key, remedy in field.wire.old.items():
            if field.wire.refuses_old:
                parts.conditions.append({"not": {"required": [key]}})
            note = f"{'Refused' if field.wire.refuses_old else 'Not read'}: {remedy}."
            parts.properties.setdefault(key, {"deprecated": True, "description": note})

    def _add_rules(self, parts: _Parts, record: Record) -> None:
        """Add the rules. Those that no schema can express are listed in words."""
        for rule in record.rules:
            schema_of_rule = rule_schema(rule, record.fields, self.direction)
            if schema_of_rule:
                parts.conditions.append(self._condition(schema_of_rule))
            if not is_exact(rule):
                parts.unsaid.append(words(rule, record.fields))

    def _condition(self, rule: Schema) -> Schema:
        """Return the schema of a rule in the form of this builder."""
        return rule

    def _add_extension(self, parts: _Parts, extension: Record) -> None:
        """Add the keys of an extension. Its rules hold only if one of its keys is present."""
        own = _Parts()
        self._add_fields(own, extension.fields)
        self._add_rules(own, extension)
        parts.properties |= own.properties
        parts.patterns |= own.patterns
        parts.unsaid += own.unsaid
        keys = extension.by_key if self.loads else [field.key for field in extension.fields]
        absent = {"allOf": [{"not": {"required": [key]}} for key in keys]}
        parts.conditions += [{"anyOf": [absent, condition]} for condition in own.conditions]

    def _field(self, field: Field) -> Schema:
        sentences = [field.wire.doc]
        schema = self._value(field)
        if field.wire.unit:
            sentences.append(f"In {field.wire.unit}.")
            schema = {**schema, UNIT: field.wire.unit}
        doc = " ".join(filter(None, sentences))
        if field.default is not None:
            schema = {**schema, "default": field.shape.dump(field.default)}
        return {"description": doc, **schema} if doc else schema

    def _value(self, field: Field) -> Schema:
        """Return the schema of the value of a key."""
        schema = self.of(field.shape)
        if not self.loads:
            return self._not_empty(schema, field.shape) if field.wire.empty_is_absent else schema
        if field.wire.old_scalar is not None and isinstance(field.shape, Record):
            schema = {"anyOf": [schema, self._old_scalar(field.shape, field.wire.old_scalar)]}
        return self.or_null(schema) if field.optional or field.wire.null_is_empty else schema

    def or_null(self, schema: Schema) -> Schema:
        """Return a schema that also accepts null, which means absent."""
        if isinstance(schema.get("type"), list):
            return {**schema, "type": [*schema["type"], "null"]}
        if "enum" in schema:
            return {**schema, "enum": [*schema["enum"], None]}
        return {"anyOf": [schema, {"type": "null"}]}

    def _old_scalar(self, record: Record, key: str) -> Schema:
        note = f"Old: understood as the mapping's '{key}'."
        return {"description": note, **self.of(record.by_key[key].shape)}

    def _not_empty(self, schema: Schema, shape: Shape) -> Schema:
        if isinstance(shape, Text):
            return {**schema, "minLength": max(shape.min, 1)}
        return {**schema, ("minItems" if isinstance(shape, List) else "minProperties"): 1}

    # --- containers -------------------------------------------------------------------------------

    def container(self, envelope: Envelope, title: str) -> Schema:
        """Return the schema of a container with a title, in all its accepted or written layouts."""
        variant = envelope.variant(title)
        assert variant is not None
        forms = {
            "list": lambda: self.record(envelope.list_record(variant), titled=True),
            "inline": lambda: self.record(envelope.inline_record(variant), titled=True),
        }
        if len(variant.layouts) == 1 or not self.loads:
            return forms[variant.layouts[0]]()
        # The key of the list identifies the layout.
        inline = forms["inline"]()
        inline["allOf"] = [*inline.get("allOf", ()), {"not": {"required": [variant.list_key]}}]
        return {
            "anyOf": [forms[layout]() if layout == "list" else inline for layout in variant.layouts]
        }

    def _envelope(self, envelope: Envelope) -> Schema:
        forms = [self.container(envelope, title) for title in envelope.titles()]
        other = self.undeclared(envelope)
        return {"oneOf": forms if other is None else [*forms, other]}

    def undeclared(self, envelope: Envelope) -> Schema | None:
        """Return the schema of a container with an undeclared title; None if it is invalid."""
        if envelope.variant(_NO_TITLE) is None:
            return None
        schema = self.container(envelope, _NO_TITLE)
        title = {**self._text(Text()), "not": {"enum": list(envelope.titles())}}
        return {**schema, "properties": {**schema["properties"], envelope.title: title}}

    def _members(self, members: Members) -> Schema:
        item = self.of(members.item)
        if self.loads and _may_be_empty(members.item):
            item = self.or_null(item)
        schema: Schema = {"type": "array", "items": item}
        return {**schema, "minItems": 1, "maxItems": 1} if members.one else schema


def _guesses(words: Iterable[str]) -> list[Any]:
    """Return the values that a type-guessing reader may make of some texts."""
    guesses: list[Any] = []
    for word in words:
        guess: Any = BOOLEANS.get(word)
        if guess is None:
            number = parse_float(word)
            guess = int(number) if number is not None and number.is_integer() else number
        if guess is not None and guess not in guesses:
            guesses.append(guess)
    return guesses


def _may_be_empty(record: Record) -> bool:
    """Return True if an empty mapping is valid for this shape."""
    nothing = dict.fromkeys(field.attribute for field in record.fields)
    return not any(field.required for field in record.fields) and not any(
        rule.broken(nothing.get) for rule in record.rules
    )


def schema_of(cls: type[Any], direction: Direction, *, closed: bool | None = None) -> Schema:
    """Return the schema of a message type, or of a part of messages, as a separate document.

    Raises DeclarationError for a type of another package without a schema.
    """
    return strict_form(schema_by(Builder(direction, closed=closed), cls))


def schema_by(builder: Builder, cls: type[Any]) -> Schema:
    """Return the schema from a new builder, in the builder's own form."""
    schema = builder.root(shape_of(cls))
    return {"title": name_of(cls), "description": cleandoc(own_doc(cls) or ""), **schema} | (
        {"$defs": builder.defs} if builder.defs else {}
    )
