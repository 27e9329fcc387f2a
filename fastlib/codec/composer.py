"""The exact road's first half: YAML text to nodes.

PyYAML parses (its C parser, or the Python one where the extension is missing); every scalar stays
text. The tree is composed here, without recursion, so that no depth of nesting can end the process.
"""

import re
from collections.abc import Iterator
from typing import Any, NoReturn

import msgspec
import yaml

from .errors import LimitError, ParseError, Problem
from .limits import Limits
from .nodes import Mapping, Node, Scalar, Sequence
from .text import position

_CParser: Any
try:
    from yaml._yaml import CParser as _CParser
except ImportError:  # PyYAML was built without its C extension
    _CParser = None

HAS_C_PARSER: bool = _CParser is not None


# --- characters that YAML and its C++ peers see differently ---------------------------------------

# To the peers only "\n" and "\r\n" end a line, and any other character is a character. PyYAML ends
# lines at more of them and refuses the rest, so each is replaced, one for one, by a character that
# the text does not have, and put back in the scalars.
_ODD = re.compile("\r(?!\n)|[\x01-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")
_NEVER = re.compile("[\0\ud800-\udfff]")
_STAND_INS = range(0xE000, 0xF8FF)  # the private use area


class _Characters:
    """Replaces the odd characters of a text, and puts them back."""

    def __init__(self, text: str) -> None:
        odd = sorted(set(_ODD.findall(text)))
        used = set(text) if odd else set()
        free = (chr(code) for code in _STAND_INS if chr(code) not in used)
        # There are fewer than a hundred odd characters; a text that leaves no stand-ins for them
        # keeps some, and the parser says what it thinks of those.
        pairs = list(zip(odd, free, strict=False))
        if "\r" in odd and pairs:
            stand_in = dict(pairs)["\r"]
            text = re.sub("\r(?!\n)", stand_in, text)
            pairs = [pair for pair in pairs if pair[0] != "\r"]
            self._back = {ord(stand_in): "\r"}
        else:
            self._back = {}
        if pairs:
            text = text.translate({ord(char): stand_in for char, stand_in in pairs})
            self._back.update({ord(stand_in): char for char, stand_in in pairs})
        self.text = text

    def restore(self, value: str) -> str:
        return value.translate(self._back) if self._back else value


# --- parsing ------------------------------------------------------------------------------------

_PROBLEMS = {
    # PyYAML's words, where a person needs others. Keys are the beginnings of its messages.
    "mapping values are not allowed": "a ':' cannot stand here; quote the text that contains it",
    "could not find expected ':'": "there is no ':' after this key",
    "did not find expected key": "expected a key here; is the indentation right, a quote missing?",
    "expected <block end>": "expected a key here; is the indentation right, a quote missing?",
    "did not find expected '-' indicator": "expected '- ' here; is the indentation right?",
    "did not find expected <document start>": "expected the end of the document, or '---'",
    "expected '<document start>'": "expected the end of the document, or '---'",
    "found invalid Unicode character escape code": "this escape stands for no character; "
    "write the character itself",
    "found character that cannot start any token": "this character cannot begin a plain text; "
    "quote it",
    "found character '": "this character cannot begin a plain text; quote it",
}


_TOO_DEEP = "exceeded maximum nesting depth"
_LIBYAML_DEPTH = 1000


def _parse_problem(error: yaml.YAMLError) -> Problem:
    if isinstance(error, yaml.MarkedYAMLError):
        mark = error.problem_mark or error.context_mark
        words = error.problem or error.context or "this is not YAML"
        message = next((text for key, text in _PROBLEMS.items() if words.startswith(key)), words)
        if error.context and error.context_mark and mark and error.context_mark.line != mark.line:
            message += f" ({error.context}, which began in line {error.context_mark.line + 1})"
        line = mark.line + 1 if mark else None
        column = mark.column + 1 if mark else None
        return Problem(code="syntax", message=message, line=line, column=column)
    return Problem(code="syntax", message=str(error).splitlines()[0])


class _PythonParser(yaml.reader.Reader, yaml.scanner.Scanner, yaml.parser.Parser):
    """PyYAML's Python parser, told to skip tabs between tokens as its C parser does."""

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


def _events(text: str) -> Any:
    if HAS_C_PARSER:
        return _CParser(text)
    return _PythonParser(text)


class _Composer:
    """One document's events to one node."""

    def __init__(self, what: str, text: str, limits: Limits) -> None:
        self.what = what
        self.limits = limits
        bad = _NEVER.search(text)
        if bad is not None:
            name = "a NUL byte" if bad[0] == "\0" else "a lone surrogate"
            message = f"{name} is no character of a message"
            place = position(text, bad.start())
            raise ParseError(what, [Problem(code="encoding", message=message).at(*place)])
        self.characters = _Characters(text)
        try:
            self.parser = _events(self.characters.text)
        except yaml.YAMLError as error:
            raise ParseError(what, [_parse_problem(error)]) from None
        self.size = text.count("\n") + 1, len(text) - text.rfind("\n")
        self.anchors: dict[str, Node] = {}
        self.nodes = 0
        self.flow: list[Node] = []
        """The lists and mappings in flow style that are not closed yet."""

    def event(self) -> Any:
        try:
            return self.parser.get_event()
        except yaml.YAMLError as error:
            if getattr(error, "problem", None) == _TOO_DEEP:
                self.too_deep(error)
            raise ParseError(self.what, [self.syntax(error)]) from None
        except ValueError:  # the Python parser's, for an escape like "\U00110000"
            mark = self.parser.get_mark()
            problem = Problem(code="syntax", message="an escape stands for no character")
            raise ParseError(self.what, [problem.at(mark.line + 1, mark.column + 1)]) from None

    def syntax(self, error: yaml.YAMLError) -> Problem:
        """The problem, within the text, or where that began which the text's end leaves open."""
        problem = _parse_problem(error)
        if self.character(problem.line, problem.column) == "\t":
            message = "a tab cannot stand in an indentation; use spaces"
            return Problem(code="syntax", message=message).at(problem.line, problem.column)
        if problem.line is None or (problem.line, problem.column or 1) < self.size:
            return problem
        context = getattr(error, "context", None) or ""
        mark = getattr(error, "context_mark", None)
        if "quoted scalar" in context and mark is not None:
            message = "this quote is never closed"
            place = Problem(code="syntax", message=message)
            return place.at(mark.line + 1, mark.column + 1)
        if self.flow:
            opened = self.flow[-1]
            bracket = "'['" if isinstance(opened, Sequence) else "'{'"
            place = Problem(code="syntax", message=f"this {bracket} is never closed")
            return place.at(opened.line, opened.column)
        return problem.at(*self.size)

    def character(self, line: int | None, column: int | None) -> str:
        """The character at a place of the text, if there is one."""
        if line is None or column is None:
            return ""
        lines = self.characters.text.split("\n", line)
        return lines[line - 1][column - 1 : column] if line <= len(lines) else ""

    def too_deep(self, error: yaml.YAMLError) -> NoReturn:
        """libyaml from 0.2.6 on has a limit of its own, and meets it before we see our own."""
        depth = min(self.limits.max_depth, _LIBYAML_DEPTH)
        problem = msgspec.structs.replace(
            _parse_problem(error), code="limit-depth", message=f"nested deeper than {depth} levels"
        )
        raise LimitError(self.what, [problem])

    def limit(self, code: str, message: str, event: Any) -> NoReturn:
        mark = event.start_mark
        problem = Problem(code=code, message=message, line=mark.line + 1, column=mark.column + 1)
        raise LimitError(self.what, [problem])

    def documents(self) -> Iterator[Node | None]:
        """The root of each document; None for an empty one."""
        self.event()  # the stream's start
        following = self.event()
        while isinstance(following, yaml.DocumentStartEvent):
            root, end = self.document()
            if end.explicit:  # by "...", after which anything may follow
                yield root
                following = self.event()
            else:  # "{vm-name: a} x" fails at the next event, and belongs to this document
                following = self.event()
                yield root

    def document(self) -> tuple[Node | None, Any]:
        """The nodes up to the document's end, and the event of that end."""
        self.anchors.clear()
        self.nodes = 0
        # Where the next node goes: the open lists and mappings, and for a mapping its open key.
        stack: list[Sequence | Mapping] = []
        keys: list[Node | None] = []
        root: Node | None = None
        empty = False
        limits = self.limits
        while True:
            event = self.event()
            kind = type(event)
            node: Node
            if kind is yaml.ScalarEvent:
                node = self.scalar(event)
                empty = not stack and event.implicit[0] and event.value == ""
            elif kind is yaml.MappingStartEvent or kind is yaml.SequenceStartEvent:
                mark = event.start_mark
                new = Mapping if kind is yaml.MappingStartEvent else Sequence
                node = new(mark.line + 1, mark.column + 1)
                if len(stack) == limits.max_depth:
                    self.limit(
                        "limit-depth", f"nested deeper than {limits.max_depth} levels", event
                    )
            elif kind is yaml.AliasEvent:
                mark = event.start_mark
                anchor = self.anchors.get(event.anchor)
                if anchor is None:
                    problem = Problem(
                        code="alias",
                        message=f"there is no anchor &{event.anchor} before this alias",
                        line=mark.line + 1,
                        column=mark.column + 1,
                    )
                    raise ParseError(self.what, [problem])
                node = anchor
            elif kind is yaml.DocumentEndEvent:
                return (None if empty else root), event
            else:  # the end of a list or a mapping
                closed = stack.pop()
                keys.pop()
                if self.flow and self.flow[-1] is closed:
                    self.flow.pop()
                continue
            self.nodes += 1
            if self.nodes > limits.max_nodes:
                self.limit(
                    "limit-nodes",
                    f"more than {limits.max_nodes} nodes, so many as Limits.max_nodes allows",
                    event,
                )
            if kind is not yaml.AliasEvent and event.anchor is not None:
                self.anchors[event.anchor] = node
            if not stack:
                root = node
            else:
                parent = stack[-1]
                if isinstance(parent, Sequence):
                    parent.items.append(node)
                elif (key := keys[-1]) is None:
                    keys[-1] = node
                else:
                    parent.pairs.append((key, node))
                    keys[-1] = None
            if kind is yaml.MappingStartEvent or kind is yaml.SequenceStartEvent:
                assert isinstance(node, Mapping | Sequence)
                stack.append(node)
                keys.append(None)
                if event.flow_style:
                    self.flow.append(node)

    def scalar(self, event: Any) -> Scalar:
        value = event.value
        limits = self.limits
        if len(value) > limits.max_scalar:
            self.limit("limit-scalar", f"more than {limits.max_scalar} characters", event)
        mark = event.start_mark
        return Scalar(
            self.characters.restore(value), not event.style, mark.line + 1, mark.column + 1
        )


def compose(text: str, limits: Limits, what: str) -> Node | None:
    """The first document's root, or None if it is empty; what follows it is not read.

    Raises ParseError and LimitError.
    """
    return next(_Composer(what, text, limits).documents(), None)


def compose_all(text: str, limits: Limits, what: str) -> Iterator[Node | None]:
    """Every document's root, None for an empty one. Raises ParseError and LimitError."""
    return _Composer(what, text, limits).documents()
