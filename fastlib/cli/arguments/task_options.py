"""Derive the options of a task's command from the declaration of the task."""

import argparse
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from fastlib.codec.dispatch import read, read_tree
from fastlib.codec.errors import MessageError
from fastlib.codec.load_context import with_unit
from fastlib.codec.own_doc import own_doc
from fastlib.codec.records import Converted, Field, Record
from fastlib.codec.rules import Rule
from fastlib.codec.shapes import Bool, Choice, Instant, Int, List, ScalarShape, Shape, Text
from fastlib.display.text import printable
from fastlib.message.task import Task, TaskDeclaration, record_of

from .message_files import STDIN, read_source
from .task_names import hyphenated
from .values import StoreOnce

NESTED: Final = "parameter"
"""Field whose own fields become options."""
TASK: Final = "task"
"""Part that holds the task's own fields."""
VM_NAME: Final = "vm_name"
POSITIONAL: Final = {VM_NAME: "VM", "id": "ID"}
"""Fields that are positional arguments if the task requires them or has a rule for them."""
TO: Final = {"destination", "destinations"}
"""Fields whose option is `--to`."""
XML: Final = "xml"
"""Field whose text is read from a file."""


class Option(msgspec.Struct, frozen=True):
    """One field on the command line."""

    field: Field
    part: str
    """The struct that has the field: the task, its parameter, or the name of an extension."""
    word: str
    """The name in error messages: `--vcpu-map`, `VM`."""

    @property
    def dest(self) -> str:
        """The attribute that argparse sets."""
        return _dest(self.field, self.part)


class TaskOptions:
    """The options of one type of task."""

    def __init__(self, declared: TaskDeclaration, parser: argparse.ArgumentParser) -> None:
        """Make the groups of the help; `add` fills them."""
        self._declared: Final = declared
        self._record: Final = record_of(declared.type)
        self._nested: Final = _nested(self._record)
        self._extensions: Final = {_part(part): part for part in self._record.extensions or ()}
        self._options: list[Option] = []
        self.required: list[str] = []
        """The required arguments in the form of the usage."""
        self._task_group: Final = parser.add_argument_group("the task")
        self._nested_group: Final = self._nested and parser.add_argument_group(
            *_title(self._nested[0])
        )
        self._extension_groups: Final = {
            name: parser.add_argument_group(f"added by {part.cls.__module__}", _summary(part))
            for name, part in self._extensions.items()
        }
        self._common_group: Final = parser.add_argument_group("every task")

    @property
    def moves(self) -> bool:
        """Return True if the task names destination hosts."""
        return any(field.attribute in TO for field in self._record.fields)

    def has_field(self, attribute: str) -> bool:
        """Return whether the task itself has a field of that name."""
        return any(field.attribute == attribute for field in self._record.fields)

    def add(self) -> None:
        """Add an option for each field. Call it last, because a taken name gets a prefix."""
        common = set(Task.__struct_fields__)
        for field in self._record.fields:
            if self._nested is None or field is not self._nested[0]:
                self._add(
                    self._common_group if field.attribute in common else self._task_group, field
                )
        if self._nested is not None:
            for field in self._nested[1].fields:
                self._add(self._nested_group, field, NESTED)
        for name, part in self._extensions.items():
            for field in part.fields:
                self._add(self._extension_groups[name], field, name)

    def _add(self, group: Any, field: Field, part: str = TASK) -> None:
        word = self._positional(field) if part == TASK else None
        if word is not None:
            self._add_positional(group, field, word)
        else:
            word = self._add_keyword(group, field, part)
        self._options.append(Option(field, part, word))

    def _add_positional(self, group: Any, field: Field, word: str) -> None:
        """Add an argument without a keyword. The help shows it as `word`."""
        nargs, text = None if field.required else "?", _help(field)
        shown = word if field.required else f"[{word}]"
        if self._takes_several(field):
            nargs = "+" if field.required else "*"
            text = f"{text} Several names are one message, and each has its own result."
            shown = f"{word} [{word} ...]" if field.required else f"[{word} ...]"
        kind = _from_text(field)
        group.add_argument(_dest(field, TASK), metavar=word, nargs=nargs, type=kind, help=text)
        self.required.insert(0, shown)

    def _add_keyword(self, group: Any, field: Field, part: str) -> str:
        """Add an option with a keyword, and return the keyword."""
        nested = part == NESTED and self._nested is not None and self._nested[0].optional
        needed = field.required and not nested
        arguments = _value_arguments(field) | {
            "dest": _dest(field, part),
            "required": needed,
            "help": _help(field),
        }
        word = _add_option(group, field, part, self._keyword(field, part), arguments)
        if needed:
            self.required.append(f"{word} {arguments.get('metavar', '')}".rstrip())
        return word

    def _positional(self, field: Field) -> str | None:
        """Return the name of a field that is a positional argument, else None.

        An optional field is a positional argument if the task has a rule for it.
        """
        if not isinstance(field.shape, Text):
            return None
        ruled = any(field.attribute in rule.attributes for rule in self._record.rules)
        return POSITIONAL.get(field.attribute) if field.required or ruled else None

    def _takes_several(self, field: Field) -> bool:
        """Return whether a container can have a task for each of several domains."""
        return field.attribute == VM_NAME and self._declared.layouts[0] == "list"

    def _keyword(self, field: Field, part: str) -> str | None:
        """Return the name of a field for people, if it differs from its key."""
        cls = self._nested[1].cls if part == NESTED and self._nested else self._declared.type
        keywords: Mapping[str, str] = getattr(cls, "__keywords__", {})
        return keywords.get(field.attribute)

    def tasks(self, options: argparse.Namespace, parser: argparse.ArgumentParser) -> list[Task]:
        """Return one task for each domain. An invalid one is wrong usage and ends the process."""
        given = vars(options)
        dest = f"{TASK}.{VM_NAME}"
        names = given.get(dest)
        if not isinstance(names, list):
            return [self._task(given, parser)]
        for name in names:
            if names.count(name) > 1:
                parser.error(f"argument {POSITIONAL[VM_NAME]}: {name!r} is given twice")
        if len(names) > 1:
            self._check_no_other_name(given, len(names), parser)
        return [self._task({**given, dest: name}, parser) for name in names or [None]]

    def _check_no_other_name(
        self, given: Mapping[str, Any], number: int, parser: argparse.ArgumentParser
    ) -> None:
        """End the process if an option such as --xml or --regex also names the domain."""
        ways = {a for rule in self._record.rules if VM_NAME in rule.attributes
                for a in rule.attributes}  # fmt: skip
        for option in self._options:
            named = option.field.attribute in ways - {VM_NAME} and option.part == TASK
            if named and given[option.dest] is not None:
                parser.error(f"argument {option.word}: goes with at most one VM; got {number}")

    def _task(self, given: Mapping[str, Any], parser: argparse.ArgumentParser) -> Task:
        values = self._values(given, TASK)
        if self._nested is not None:
            field, record = self._nested
            below = self._values(given, NESTED)
            if below or field.required:
                values[field.attribute] = self._build(record, below, NESTED, parser)
        extensions = [
            self._build(record, below, name, parser)
            for name, record in self._extensions.items()
            if (below := self._values(given, name))
        ]
        task: Task = self._build(self._record, {**values, "extensions": extensions}, TASK, parser)
        return task

    def _values(self, given: Mapping[str, Any], part: str) -> dict[str, Any]:
        return {
            option.field.attribute: given[option.dest]
            for option in self._options
            if option.part == part and given[option.dest] is not None
        }

    def _build(
        self, record: Record, values: dict[str, Any], part: str, parser: argparse.ArgumentParser
    ) -> Any:
        words = {o.field.attribute: o.word for o in self._options if o.part == part}
        missing = [
            words[field.attribute]
            for field in record.fields
            if field.required and field.attribute not in values
        ]
        if missing:
            parser.error(f"the following arguments are required: {', '.join(missing)}")
        for rule in record.rules:
            _check_rule(rule, values, words, parser)
        try:
            return record.build(values)
        except MessageError as error:
            keys = {field.key: words.get(field.attribute, field.key) for field in record.fields}
            parser.error("; ".join(_in_words(problem, keys) for problem in error.problems))


def _nested(record: Record) -> tuple[Field, Record] | None:
    for field in record.fields:
        if field.attribute == NESTED and isinstance(field.shape, Record):
            return field, field.shape
    return None


def _title(field: Field) -> tuple[str, str]:
    return field.key, printable(field.wire.doc)


def _check_rule(
    rule: Rule, values: dict[str, Any], words: dict[str, str], parser: argparse.ArgumentParser
) -> None:
    broken = rule.problem(values.get, words)
    if broken is not None:
        below, message = broken
        parser.error(printable(f"argument {below[0]}: {message}" if below else message))


def _in_words(problem: Any, words: Mapping[str, str]) -> str:
    """Return the text of a problem with the option's name instead of the key on the wire."""
    key = re.split(r"[.\[]", problem.path)[0]
    if key in words:
        rest = problem.path[len(key) :].lstrip(".")
        return printable(f"argument {words[key]}: {problem.at(None, None).message}" + rest)
    return printable(str(problem))


# --- one option -----------------------------------------------------------------------------------


def _part(extension: Record) -> str:
    """Return the name of an extension."""
    return f"{extension.cls.__module__}.{extension.cls.__qualname__}"


def _summary(extension: Record) -> str:
    return printable((own_doc(extension.cls) or "").split("\n\n")[0])


def _dest(field: Field, part: str) -> str:
    """Return the attribute that argparse sets."""
    return f"{part}.{field.attribute}"


def _add_option(
    group: Any, field: Field, part: str, keyword: str | None, arguments: dict[str, Any]
) -> str:
    """Add an option, with a prefix if its name is taken. Return its name."""
    name = "to" if field.attribute in TO and part == TASK else hyphenated(keyword or field.key)
    while True:
        try:
            group.add_argument(f"--{name}", **arguments)
        except argparse.ArgumentError:  # there is one
            name = f"{hyphenated(part.rpartition('.')[2]).lower()}-{name}"
        else:
            return f"--{name}"


def _value_arguments(field: Field) -> dict[str, Any]:
    """Return the arguments of `add_argument` that depend on the type of the values."""
    shape = field.shape
    if isinstance(shape, Bool):
        return {"action": argparse.BooleanOptionalAction}
    if isinstance(shape, List) and isinstance(shape.item, ScalarShape):
        word = _metavar(field, shape.item)
        convert = _converter(
            lambda text: read_tree(shape.item, text, what="value"), field.wire.unit
        )
        return {"nargs": "+", "action": "extend", "type": convert, "metavar": word}
    return {"action": StoreOnce, "type": _from_text(field), "metavar": _metavar(field, shape)}


def _metavar(field: Field, shape: Shape) -> str:
    if field.attribute in TO:
        return "HOST"
    if field.attribute == XML:
        return "FILE"
    if isinstance(shape, Choice):
        words = list(map(str, shape.values))
        plain = all(re.fullmatch(r"[\w.+-]+", word) for word in words)
        return f"{{{','.join(words)}}}" if plain else "WORD"
    if isinstance(shape, Int):
        return "N"
    if isinstance(shape, Instant):
        return "TIME"
    if isinstance(shape, ScalarShape):
        return "TEXT"
    return "NAME|YAML" if field.wire.old_scalar is not None else "YAML"


def _help(field: Field) -> str:
    parts = [field.wire.doc]
    if field.wire.unit:
        parts.append(f"In {field.wire.unit}.")
    shape = field.shape
    if field.attribute == XML and isinstance(shape, Text):
        parts.append(f"From a file; {STDIN} is standard input.")
    elif isinstance(shape, Choice) and _metavar(field, shape) == "WORD":
        parts.append(f"{shape.expected[:1].upper()}{shape.expected[1:]}.")
    elif not _is_simple(shape):
        old = field.wire.old_scalar
        name = "" if old is None else f"A {old.replace('-', ' ')}, or "
        parts.append(f"{name or 'As '}YAML: {_form(shape)}")
    return printable(" ".join(filter(None, parts))).replace("%", "%%")


def _is_simple(shape: Shape) -> bool:
    return isinstance(shape, ScalarShape) or (
        isinstance(shape, List) and isinstance(shape.item, ScalarShape)
    )


def _form(shape: Shape) -> str:
    """Return the form of the YAML for the help."""
    if isinstance(shape, List):
        return f"[{_form(shape.item)}, ...]"
    if isinstance(shape, Converted):
        return _form(shape.wire)
    if isinstance(shape, Record):
        return f"{{{', '.join(f'{field.key}: {_form(field.shape)}' for field in shape.fields)}}}"
    return "N" if isinstance(shape, Int) and not shape.digits else "..."


def _from_text(field: Field) -> Callable[[str], Any]:
    """Return the function that converts an argument to the type of the field."""
    shape = field.shape
    old = field.wire.old_scalar
    if field.attribute == XML and isinstance(shape, Text):
        return _converter(lambda name: read_tree(shape, _content(name), what="value"))
    if isinstance(shape, ScalarShape):
        return _converter(lambda text: read_tree(shape, text, what="value"), field.wire.unit)
    if old is not None:
        return _converter(
            lambda text: (
                _from_yaml(shape, text)
                if re.search(r"^\s*\{|:(\s|$)", text)
                else read_tree(shape, {old: text}, what="value")
            )
        )
    return _converter(lambda text: _from_yaml(shape, text))


def _from_yaml(shape: Shape, text: str) -> Any:
    return read(shape, text, "value", "error", None)


def _content(name: str) -> str:
    source = read_source(name)
    try:
        return source.data.decode()
    except UnicodeDecodeError as error:
        message = f"{printable(source.name)}: it is not UTF-8: {error.reason}, byte {error.start}"
        raise argparse.ArgumentTypeError(message) from None


def _converter(convert: Callable[[str], Any], unit: str = "") -> Callable[[str], Any]:
    """Return a function for argparse that turns errors into errors of the argument.

    `unit` is that of the field's number.
    """

    def converted(text: str) -> Any:
        try:
            return convert(text)
        except MessageError as error:
            words = "; ".join(
                str(problem if problem.path else with_unit(problem, unit))
                for problem in error.problems
            )
            raise argparse.ArgumentTypeError(printable(words)) from None
        except OSError as error:
            words = f"{text}: {error.strerror or error}"
            raise argparse.ArgumentTypeError(printable(words)) from None

    return converted
