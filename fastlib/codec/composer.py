"""The first half of the exact reader: composes YAML text to nodes.

PyYAML parses the text: by its C parser, or by the Python one if the extension is missing. Every
scalar stays a text. The nodes are composed here, without recursion, because deep nesting must not
overflow the stack.
"""

import re
from collections.abc import Iterator
from itertools import chain
from typing import Any, NoReturn

import msgspec
import yaml

from .errors import LimitError, ParseError, Problem
from .lazy_pattern import lazy_pattern
from .limits import Limits
from .missing_space import hint_before_key, hint_of_line
from .nodes import Mapping, Node, Scalar, Sequence
from .scalars import NULLS
from .syntax_problems import ANCHOR_RULE, QUOTE_IT, parse_problem
from .text import position

_CParser: Any
try:
    from yaml._yaml import CParser as _CParser
except ImportError:  # PyYAML was built without its C extension
    _CParser = None

HAS_C_PARSER: bool = _CParser is not None


# --- characters that YAML and its C++ peers see differently ---------------------------------------

# C++ peers end lines only at "\n" and "\r\n", and allow all other characters in texts. PyYAML ends
# lines at more characters and refuses others. So each of these is replaced by one character that
# no scalar of the text has, neither as it is nor by an escape, and is restored in the scalars.
_SPECIAL = lazy_pattern(
    "\r(?!\n)|[\x01-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]"
)
_FORBIDDEN = lazy_pattern("[\0\ud800-\udfff]")
_PRIVATE_USE = (range(0xE000, 0xF900), range(0xF0000, 0xFFFFE), range(0x100000, 0x10FFFE))
_WIDE_ESCAPE = lazy_pattern(r"\\(?:u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8}))")
"""The escapes that can represent a private use character. Not all of these are escapes: the
backslash may be escaped itself.
"""


def _used_characters(text: str) -> set[str]:
    """Return all characters of a text, and all those that its escapes may represent."""
    codes = (int(short or long, 16) for short, long in _WIDE_ESCAPE.findall(text))
    return {*text, *(chr(code) for code in codes if code <= 0x10FFFF)}


class _SpecialCharacters:
    """Replaces the special characters of a text by placeholders, and restores them."""

    def __init__(self, text: str) -> None:
        special = sorted(set(_SPECIAL.findall(text)))
        used = _used_characters(text) if special else set()
        free = (char for char in map(chr, chain(*_PRIVATE_USE)) if char not in used)
        # There are fewer than 100 special characters. In the unlikely case that the text has nearly
        # all of 137,000 placeholders, some special characters stay, and the parser reports them.
        pairs = list(zip(special, free, strict=False))
        placeholder = dict(pairs).get("\r")
        if placeholder is not None:
            text = re.sub("\r(?!\n)", placeholder, text)
            pairs = [pair for pair in pairs if pair[0] != "\r"]
            self._back = {ord(placeholder): "\r"}
        else:
            self._back = {}
        if pairs:
            text = text.translate({ord(char): placeholder for char, placeholder in pairs})
            self._back.update({ord(placeholder): char for char, placeholder in pairs})
        self.text = text

    def restore(self, value: str) -> str:
        """Return a part of the text with its special characters."""
        return value.translate(self._back) if self._back else value

    def restore_words(self, message: str) -> str:
        """Return a message of the parser with the original characters of the text."""
        for code, char in self._back.items():
            # The parser in Python shows the `repr` of a character.
            message = message.replace(repr(chr(code))[1:-1], repr(char)[1:-1])
        return self.restore(message)


# Peers ignore unknown directives, and read all of YAML 0 and 1. PyYAML's C parser refuses both.
_YAML_0_OR_1 = lazy_pattern(r"\A(%YAML[ \t]+0*)[01]\.([0-9]+)(?=[ \t\r]|\Z)")
_OTHER_DIRECTIVE = lazy_pattern(r"\A%(?!(?:YAML|TAG)(?:[ \t\r]|\Z))")


def _with_known_directives(text: str) -> str:
    """Return the text with unknown directives as comments, and YAML 0 and 1 as 1.2.

    All other characters stay in their places.
    """
    if not text.startswith("%") and "\n%" not in text:
        return text
    lines = text.split("\n")
    before_document = True
    for index, line in enumerate(lines):
        if before_document and line.startswith("%"):
            line = _OTHER_DIRECTIVE.sub("#", line)
            lines[index] = _YAML_0_OR_1.sub(lambda m: m[1] + "1.2".ljust(len(m[2]) + 2), line)
        elif line.strip(" \t\r") and not line.lstrip(" \t").startswith("#"):
            before_document = re.match(r"\.\.\.(?![^ \t\r])", line) is not None
    return "\n".join(lines)


# --- parsing ------------------------------------------------------------------------------------

_IN_DIRECTIVE = "while scanning a directive"
_LATE_DIRECTIVE = (
    "a directive is not allowed within a document; write '...' in the line above it, or quote the "
    "text that begins with '%'"
)
_NULL_TAG = "tag:yaml.org,2002:null"
_NULL_WORDS = NULLS - {""}
"""Null in quotes after the tag of null. Quotes without content are the empty text of a C++ peer."""
_TOO_DEEP = "exceeded maximum nesting depth"
_LIBYAML_DEPTH = 1000


_FLOW_START = lazy_pattern(r"(?:[&!]\S*[ \t]+)*([\[{])")
"""The bracket of a list or mapping in flow style, after its anchor and tag."""


_OTHER_NAME = lazy_pattern(r"(?:!\S*(?:[ \t\r\n]|#[^\n]*\n)+)?&[0-9A-Za-z_-]+([?:])")
"""An anchor, after its tag, whose name ends too early for PyYAML. C++ peers read all characters up
to a space. So the rest of the name would be the value.
"""


class _PythonParser(yaml.reader.Reader, yaml.scanner.Scanner, yaml.parser.Parser):
    """PyYAML's Python parser. It skips tabs between tokens, like the C parser."""

    def __init__(self, text: str) -> None:
        yaml.reader.Reader.__init__(self, text)
        yaml.scanner.Scanner.__init__(self)
        yaml.parser.Parser.__init__(self)

    def scan_to_next_token(self) -> None:
        while True:
            super().scan_to_next_token()
            if self.peek() != "\t" or not (self.flow_level or not self.allow_simple_key):
                return
            self.forward()

    def fetch_directive(self) -> None:
        # The C parser refuses unknown directives. Those before a document are comments here.
        if _OTHER_DIRECTIVE.match(self.prefix(6)):
            mark = self.get_mark()
            raise yaml.scanner.ScannerError(_IN_DIRECTIVE, mark, "found unknown name", mark)
        super().fetch_directive()


def _make_parser(text: str) -> Any:
    if HAS_C_PARSER:
        return _CParser(text)
    return _PythonParser(text)


class _Tree:
    """A tree of nodes under construction, without recursion."""

    def __init__(self) -> None:
        self.root: Node | None = None
        self.open: list[Sequence | Mapping] = []
        """The lists and mappings that are not closed yet, the innermost last."""
        self.empty = False
        """True if the root is an empty plain scalar, like that of an empty document."""
        self._keys: list[Node | None] = []
        """For each open mapping, a key whose value comes next; None for lists."""

    def add(self, node: Node) -> None:
        """Add a node to the innermost open list or mapping."""
        if not self.open:
            self.root = node
            return
        parent = self.open[-1]
        if isinstance(parent, Sequence):
            parent.items.append(node)
        elif (key := self._keys[-1]) is None:
            self._keys[-1] = node
        else:
            parent.pairs.append((key, node))
            self._keys[-1] = None

    def open_last(self, node: Sequence | Mapping) -> None:
        """Open the list or mapping that was added last. The next nodes belong to it."""
        self.open.append(node)
        self._keys.append(None)

    def close(self) -> Sequence | Mapping:
        """Close the innermost open list or mapping, and return it."""
        self._keys.pop()
        return self.open.pop()


class Composer:
    """Composes the documents of one text: YAML events become nodes."""

    def __init__(self, what: str, text: str, limits: Limits) -> None:
        self.what = what
        self.limits = limits
        bad = _FORBIDDEN.search(text)
        if bad is not None:
            name = "a NUL byte" if bad[0] == "\0" else "a lone surrogate"
            message = f"{name} is not allowed as a character of a message"
            place = position(text, bad.start())
            raise ParseError(what, [Problem(code="encoding", message=message).at(*place)])
        self.characters = _SpecialCharacters(_with_known_directives(text))
        try:
            self.parser = _make_parser(self.characters.text)
        except yaml.YAMLError as error:
            raise ParseError(what, [parse_problem(error)]) from None
        self.size = text.count("\n") + 1, len(text) - text.rfind("\n")
        self.anchors: dict[str, Node] = {}
        self.nodes = 0
        self.flow: list[Node] = []
        """The lists and mappings in flow style that are not closed yet."""

    def event(self) -> Any:
        """Return the next event. Raises ParseError and LimitError."""
        try:
            return self.parser.get_event()
        except yaml.YAMLError as error:
            if getattr(error, "problem", None) == _TOO_DEEP:
                self.too_deep(error)
            raise ParseError(self.what, [self.syntax(error)]) from None
        except (ValueError, OverflowError):  # the Python parser's, for "\U00110000", "\UFFFFFFFF"
            mark = self.parser.get_mark()
            problem = Problem(code="syntax", message="an escape must be a valid character")
            raise ParseError(self.what, [problem.at(mark.line + 1, mark.column + 1)]) from None

    def syntax(self, error: yaml.YAMLError) -> Problem:
        """Return the problem. At the end of the text, report the start of an unclosed part."""
        problem = parse_problem(error)
        message = self.characters.restore_words(problem.message)
        hint = self.missing_space(error, problem)
        if hint:
            message = message.removesuffix(QUOTE_IT) + hint
        problem = msgspec.structs.replace(problem, message=message)
        if self.rest_of_line(problem.line, problem.column).startswith("\t"):
            message = "an indentation must not contain a tab; use spaces"
            return Problem(code="syntax", message=message).at(problem.line, problem.column)
        in_directive = getattr(error, "context", None) == _IN_DIRECTIVE
        if in_directive and _OTHER_DIRECTIVE.match(self.rest_of_line(problem.line, 1)):
            return Problem(code="syntax", message=_LATE_DIRECTIVE).at(problem.line, 1)
        if problem.line is None or (problem.line, problem.column or 1) < self.size:
            return problem
        context = getattr(error, "context", None) or ""
        mark = getattr(error, "context_mark", None)
        if "quoted scalar" in context and mark is not None:
            message = "this quote is never closed"
            place = Problem(code="syntax", message=message)
            return place.at(mark.line + 1, mark.column + 1)
        for opened in reversed(self.flow):
            # The mapping in "[a: b]" has no bracket.
            bracket = _FLOW_START.match(self.rest_of_line(opened.line, opened.column))
            if bracket is not None:
                place = Problem(code="syntax", message=f"this '{bracket[1]}' is never closed")
                return place.at(opened.line, opened.column)
        return problem.at(*self.size)

    def missing_space(self, error: yaml.YAMLError, problem: Problem) -> str:
        """Return a hint if the cause is a line such as `vm-name:a` or `-a`, else an empty text."""
        words = getattr(error, "problem", None) or ""
        if words.startswith("mapping values are not allowed"):
            lines = self.characters.text.split("\n", problem.line or 0)
            return hint_before_key(lines, problem.line or 0, problem.column or 0)
        begin = getattr(error, "context_mark", None)
        if words.startswith("could not find expected ':'") and begin is not None:
            return hint_of_line(self.characters.text.split("\n", begin.line + 1), begin.line + 1)
        return ""

    def rest_of_line(self, line: int | None, column: int | None) -> str:
        """Return the text from a place to the end of its line, or an empty text."""
        if line is None or column is None:
            return ""
        lines = self.characters.text.split("\n", line)
        return lines[line - 1][column - 1 :] if line <= len(lines) else ""

    def too_deep(self, error: yaml.YAMLError) -> NoReturn:
        """Raise LimitError for the depth limit that libyaml itself has from version 0.2.6 on."""
        depth = min(self.limits.max_depth, _LIBYAML_DEPTH)
        problem = msgspec.structs.replace(
            parse_problem(error), code="limit-depth", message=f"nested deeper than {depth} levels"
        )
        raise LimitError(self.what, [problem])

    def limit(self, code: str, message: str, event: Any) -> NoReturn:
        """Raise LimitError for an event."""
        mark = event.start_mark
        problem = Problem(code=code, message=message, line=mark.line + 1, column=mark.column + 1)
        raise LimitError(self.what, [problem])

    def documents(self) -> Iterator[Node | None]:
        """Yield the root of each document; None for an empty one."""
        self.event()  # the stream's start
        following = self.event()
        while isinstance(following, yaml.DocumentStartEvent):
            root, end = self.document()
            if end.explicit:  # the end is "...", and anything may follow
                yield root
                following = self.event()
            else:  # the next event finds the error of "{vm-name: a} x", an error of this document
                following = self.event()
                yield root

    def document(self) -> tuple[Node | None, Any]:
        """Compose one document. Return its root (None if it is empty) and its end event.

        The events of a document are those of a walk over its tree: a scalar, an alias, or the start
        of a list or mapping is the next node; an end event closes the innermost open one.
        """
        self.anchors.clear()
        self.nodes = 0
        self.flow.clear()
        tree = _Tree()
        limits = self.limits
        while True:
            event = self.event()
            kind = type(event)
            if kind is yaml.DocumentEndEvent:
                return (None if tree.empty else tree.root), event
            if kind is yaml.SequenceEndEvent or kind is yaml.MappingEndEvent:
                closed = tree.close()
                if self.flow and self.flow[-1] is closed:
                    self.flow.pop()
                continue
            if kind is yaml.ScalarEvent:
                node: Node = self.scalar(event)
                tree.empty = not tree.open and event.implicit[0] and event.value == ""
            elif kind is yaml.AliasEvent:
                node = self.alias(event)
            else:  # the start of a list or a mapping
                if len(tree.open) == limits.max_depth:
                    message = f"nested deeper than {limits.max_depth} levels"
                    self.limit("limit-depth", message, event)
                node = self.collection(event)
            self.nodes += 1
            if self.nodes > limits.max_nodes:
                message = f"more than {limits.max_nodes} nodes, the limit of Limits.max_nodes"
                self.limit("limit-nodes", message, event)
            if event.anchor is not None and kind is not yaml.AliasEvent:
                self.check_anchor(event)
                self.anchors[event.anchor] = node
            tree.add(node)
            if isinstance(node, Sequence | Mapping) and kind is not yaml.AliasEvent:
                tree.open_last(node)

    def collection(self, event: Any) -> Sequence | Mapping:
        """Return the list or mapping that starts here, without its items."""
        mark = event.start_mark
        new = Mapping if type(event) is yaml.MappingStartEvent else Sequence
        node = new(mark.line + 1, mark.column + 1)
        if event.flow_style:
            self.flow.append(node)
        return node

    def check_anchor(self, event: Any) -> None:
        """Raise ParseError for an anchor whose name C++ peers read differently."""
        start = event.start_mark.index
        match = _OTHER_NAME.match(self.characters.text, start)
        if match is not None:
            problem = Problem(code="syntax", message=ANCHOR_RULE)
            place = position(self.characters.text, match.start(1))
            raise ParseError(self.what, [problem.at(*place)])

    def alias(self, event: Any) -> Node:
        """Return the node of an alias."""
        node = self.anchors.get(event.anchor)
        if node is None:
            message = f"there is no anchor &{event.anchor} before this alias"
            mark = event.start_mark
            problem = Problem(code="alias", message=message).at(mark.line + 1, mark.column + 1)
            raise ParseError(self.what, [problem])
        return node

    def scalar(self, event: Any) -> Scalar:
        """Return the scalar of an event."""
        value = event.value
        limits = self.limits
        if len(value) > limits.max_scalar:
            self.limit("limit-scalar", f"more than {limits.max_scalar} characters", event)
        mark = event.start_mark
        text = self.characters.restore(value)
        # A tag turns a scalar that would be null into a text, like for the C++ peers. With the tag
        # of null, a word for null is null, also in quotes: PyYAML can write null in this way.
        if event.tag == _NULL_TAG:
            plain = not event.style or value in _NULL_WORDS
        else:
            plain = not event.style and event.tag is None
        return Scalar(text, plain, mark.line + 1, mark.column + 1)


_MARKED_END = lazy_pattern("^(---|\\.\\.\\.)\ufeff", re.MULTILINE)


def _with_visible_end(text: str, limits: Limits, what: str) -> str:
    """Return the text without a byte order mark that hides its end, as in `---\\ufeff`.

    To a C++ peer such a line is an unknown key. It is text in a quoted scalar. So nothing changes
    where the first document can be read.
    """
    if "\ufeff" not in text or _MARKED_END.search(text) is None:
        return text
    try:
        next(Composer(what, text, limits).documents(), None)
    except ParseError:
        return _MARKED_END.sub("\\1 ", text)
    return text


def compose(text: str, limits: Limits, what: str) -> Node | None:
    """Return the root of the first document, or None if it is empty. The rest is not read.

    Raises ParseError and LimitError.
    """
    text = _with_visible_end(text, limits, what)
    return next(Composer(what, text, limits).documents(), None)


def compose_all(text: str, limits: Limits, what: str) -> Iterator[Node | None]:
    """Yield the root of each document, None for an empty one. Raises ParseError and LimitError."""
    text = _with_visible_end(text, limits, what)
    return Composer(what, text, limits).documents()
