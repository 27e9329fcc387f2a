"""Write one message in many spellings: a YAML writer with most features of YAML.

Every text reads back as the tree that was written. It varies the features that readers of other
programs may misread: quotes or none, numbers in other bases, other words for true and false, block
scalars, folded lines, flow style, anchors, tags, comments, explicit keys, odd indentation, line
ends, and text before and after a document.
"""

import re
from collections.abc import Iterable
from typing import Any, ClassVar

from fastlib.codec.derivation import shape_of
from fastlib.codec.load_context import shorten
from fastlib.codec.scalars import (
    BOOLEANS,
    NULLS,
    fits_block,
    is_long_key,
    is_plain,
    quote,
    write_float,
)

from .alternatives import with_alternatives
from .choices import Choices

_ODD = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")
"""Characters that a reader may treat as a line end, or refuse."""

_BARE = re.compile(
    # No indicator first, no space at either end, no ": ", no " #", no unprintable character.
    r"(?:[^\s\-?:,\[\]{}#&*!|>'\"%@`]|[-?:](?=[^\s,\[\]{}]))"
    r"(?:[^\s:#]|:(?=[^\s,\[\]{}])|(?<=\S)#| (?=[^\s#]))*"
)
_NO_FLOW = re.compile(r"[,\[\]{}?]|^[:-]")
_GAP = re.compile("(?<=[A-Za-z0-9.]) (?=[A-Za-z0-9])")
"""A space at which a text, except in a literal block, may continue on the next line."""

_NAMED = {
    "\0": "\\0", "\x07": "\\a", "\x08": "\\b", "\t": "\\t", "\n": "\\n", "\x0b": "\\v",
    "\x0c": "\\f", "\r": "\\r", "\x1b": "\\e", " ": "\\ ", '"': '\\"', "/": "\\/", "\\": "\\\\",
    "\x85": "\\N", "\xa0": "\\_", "\u2028": "\\L", "\u2029": "\\P",
}  # fmt: skip

TURNS = (
    "text", "leaf", "key", "word", "flow", "anchor", "alias", "tag", "comment", "between", "pair",
    "gap", "escapes", "escape", "fold", "folded", "header", "depth", "line", "comma",
    "bracket", "flow pair", "end", "pairs", "layout",
)  # fmt: skip
"""The subjects of turns, those with the largest effect first."""


def _code(char: str, wide: bool) -> str:
    code = ord(char)
    if code < 0x100 and not wide:
        return f"\\x{code:02X}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def yaml_variant(message: Any, choices: Choices, *, other_words: bool = False) -> str:
    """Return the text of a message from this writer; with `other_words`, also with other keys."""
    tree = message.emit()
    if other_words:
        tree = with_alternatives(shape_of(type(message)), tree, choices)
    return Writer(choices).document(tree)


class Writer:
    """Writes plain trees in the way of `choices`. Its attributes are the available features.

    A mapping's keys are texts; its values, and the items of lists, are texts, numbers, truth values
    and None, lists and mappings.
    """

    heads: ClassVar[tuple[str, ...]] = (
        "---\n", "", "# c\n", "%YAML 1.1\n---\n", "--- # c\n", "# c\n---\n", "\n", "---\n\n",
        "\ufeff", "\ufeff---\n",
    )  # fmt: skip
    tails: ClassVar[tuple[str, ...]] = (
        "---", "", "---\n", "...\n", "# c\n", "\n\n", "--- # c\n", "...\n---\na: b\n",
        "---\ntask: quit\n---", "--- [\n",
    )  # fmt: skip
    tags: ClassVar[tuple[str, ...]] = ("", "!!str ", "! ")
    comments: ClassVar[tuple[str, ...]] = ("", " # c", "  ", " #", "\t")
    between: ClassVar[tuple[str, ...]] = ("", "\n", "# c\n", "  # c\n", "   \n")

    def __init__(self, choices: Choices) -> None:
        self.turn = choices.turn
        habit = choices.habit
        self.head = habit(self.heads)
        self.tail = habit(self.tails)
        self.break_ = habit(("\n", "\r\n"))
        self.scalars = habit(("plain", "bare", '"', "'", "|", ">", "escaped", "broken"))
        self.step = " " * habit((2, 1, 4, 8))
        self.list_step = habit((self.step, ""))
        self.dash = "-" + " " * habit((1, 3))
        self.key_quotes = habit(("", '"', "'"))
        self.flow_style = habit(("numbers", "none", "all"))
        self.anchored = habit((False, True))
        self.anchors: dict[str, str] = {}
        self.loose = False
        """Whether a block scalar was written last, so further lines may belong to it."""

    def document(self, tree: Any) -> str:
        """Return a text whose first document is the tree."""
        if isinstance(tree, dict | list) and tree:
            lines = self.flow_lines(tree, "") if self.flows(tree) else self.block(tree, "")
        else:
            lines = [self.flow(tree)]
        text = "".join(f"{line}\n" for line in lines)
        if not self.tail and not self.loose:
            text = text[:-1] + self.turn("end", ("\n", ""))
        text = self.head + text + self.tail
        return text if self.break_ == "\n" else text.replace("\n", self.break_)

    # --- lists and mappings ---

    def block(self, tree: Any, pad: str) -> list[str]:
        """Return the lines of a non-empty list or mapping, each one after `pad`."""
        lines: list[str] = []
        pairs: Iterable[tuple[Any, Any]] = enumerate(tree)
        if isinstance(tree, dict):
            pairs = tree.items()
        for key, item in pairs:
            if not self.loose:
                lines += self.turn("between", self.between).splitlines()
            lines += self.item(item, pad) if isinstance(tree, list) else self.pair(key, item, pad)
        return lines

    def item(self, item: Any, pad: str) -> list[str]:
        if self.stays(item):
            return self.attached(pad + "-", item, pad)
        below = pad + " " * len(self.dash)
        first, *rest = self.block_below(item, below)
        return [f"{pad}{self.dash}{first[len(below) :]}", *rest]

    def block_below(self, item: Any, below: str) -> list[str]:
        """Do the same as `block`, without text before the first line, for use after a dash."""
        self.loose = True
        return self.block(item, below)

    def pair(self, key: str, item: Any, pad: str) -> list[str]:
        name = self.key(key)
        ways = (f"{name}:", f"{name} :", f"? {name}\n{pad}:", f"? {name} # c\n{pad}:")
        head = pad + (self.turn("pair", ways) if not is_long_key(name) else ways[2])
        if self.stays(item):
            return self.attached(head, item, pad)
        step = self.list_step if isinstance(item, list) else self.step
        comment = self.turn("comment", self.comments)
        if head.endswith(f"\n{pad}:"):
            step = step or self.step  # "? a" and "- b" at one place would be one list
            comment = comment.rstrip("\t")  # and a tab would be an indentation
        first = f"{head}{self.anchor(item)}{comment}"
        self.loose = False
        return [*first.split("\n"), *self.block(item, pad + step)]

    def stays(self, item: Any) -> bool:
        """Return True if a value is on the line of its key or dash."""
        return not isinstance(item, dict | list) or not item or self.flows(item)

    def flows(self, tree: Any) -> bool:
        numbers = isinstance(tree, list) and all(isinstance(i, list) for i in tree)
        style = self.flow_style
        plain = style == "all" or (style == "numbers" and numbers)
        return self.turn("flow", (plain, not plain))

    def key(self, key: str) -> str:
        quotes = self.turn("key", (self.key_quotes, '"', "'"))
        if not quotes and is_plain(key):
            return key
        if quotes == "'" and not _ODD.search(key) and "\n" not in key:
            return self.single(key)
        return quote(key)

    def attached(self, head: str, item: Any, pad: str) -> list[str]:
        """Return the lines of a value after a key or a dash at `pad`."""
        tabbed = "   " if head.endswith("-") or "\n" in head else " \t"  # no indentation has one
        gap = self.turn("gap", (" ", "   ", tabbed))
        self.loose = False
        if isinstance(item, dict | list):
            flow, *rest = self.flow_lines(item, f"{pad} ")
            return [*f"{head}{gap}{flow}".split("\n"), *rest]
        alias = self.alias(item)
        if alias:
            return f"{head}{gap}{alias}".split("\n")
        body = self.text(item, pad) if isinstance(item, str) else self.leaf(item)
        tag = self.turn("tag", self.tags) if isinstance(item, str) else ""
        anchor = "" if item is None else self.anchor(item)[1:]
        properties = f"{anchor} {tag}" if anchor else tag
        if not body:
            return f"{head}{' ' if properties else ''}{properties}".rstrip(" ").split("\n")
        block = body[0] in "|>" and "\n" in body
        comment = "" if block else self.turn("comment", self.comments)
        self.loose = block
        return f"{head}{gap}{properties}{body}{comment}".split("\n")

    # --- anchors ---

    def anchor(self, item: Any) -> str:
        """Return an anchor after a space, or an empty text."""
        known = repr(item)
        named = self.turn("anchor", (self.anchored, not self.anchored))
        if not named or known in self.anchors:
            return ""
        self.anchors[known] = f"a{len(self.anchors)}"
        return f" &{self.anchors[known]}"

    def alias(self, item: Any) -> str:
        name = self.anchors.get(repr(item))
        return f"*{name}" if name and self.turn("alias", (True, False)) else ""

    # --- flow style ---

    def flow_lines(self, tree: Any, pad: str) -> list[str]:
        """Return flow style, possibly on several lines; later lines begin with `pad`."""
        alias = self.alias(tree)
        if alias:
            return [alias]
        gap = self.turn("line", (" ", f"\n{pad}", f" # c\n{pad} ", "\t", "  "))
        anchor = self.anchor(tree)[1:]
        return f"{f'{anchor} ' if anchor else ''}{self.flow_whole(tree, gap)}".split("\n")

    def flow(self, tree: Any, gap: str = " ") -> str:
        """Return flow style with `gap` after each comma; `gap` may have a line end."""
        alias = self.alias(tree)
        if alias:
            return f"{alias} "
        anchor = "" if tree is None else self.anchor(tree)[1:]
        return f"{f'{anchor} ' if anchor else ''}{self.flow_whole(tree, gap)}"

    def flow_whole(self, tree: Any, gap: str) -> str:
        if isinstance(tree, dict):
            inner = [self.flow_pair(key, item, gap) for key, item in tree.items()]
        elif isinstance(tree, list):
            inner = [self.flow(item, gap) for item in tree]
        elif isinstance(tree, str):
            return self.text(tree, None)
        else:
            return self.leaf(tree) or "~"
        last = self.turn("comma", ("", ",", " ")) if inner else ""
        first = self.turn("bracket", ("", " "))
        text = first + f",{gap}".join(inner) + last
        return f"{{{text}}}" if isinstance(tree, dict) else f"[{text}]"

    def flow_pair(self, key: str, item: Any, gap: str) -> str:
        name = self.key(key)
        if is_long_key(name):
            return f"? {name} : {self.flow(item, gap)}"
        ways = (f"{name}:", f"{name} :", f"? {name} :")
        head = self.turn("flow pair", ways)
        return f"{head} {self.flow(item, gap)}"

    # --- scalars ---

    def leaf(self, value: Any) -> str:
        """Return the text of a number, a truth value or null; it may be empty."""
        if value is None:
            return self.turn("leaf", ("null", "~", "Null", "NULL", ""))
        if isinstance(value, bool):
            words = [word for word, truth in BOOLEANS.items() if truth is value]
            return self.turn("leaf", (*words, *(f'"{word}"' for word in words[:4])))
        if isinstance(value, int):
            ways = (str(value), hex(value), f"0X{value:X}", f"0{value:o}")
            return self.turn("leaf", (*ways, f'"{value}"', f"'{value}'", f'"{hex(value)}"'))
        if isinstance(value, float):
            text = write_float(value)
            return self.turn("leaf", (text, f'"{text}"', f"'{text}'"))
        raise TypeError(f"there is no YAML for {shorten(value)}")

    def text(self, text: str, pad: str | None) -> str:
        """Return a text after a key or a dash at `pad`; in flow style, `pad` is None."""
        ways = (self.scalars, "plain", "bare", '"', "'", "|", ">", "escaped", "broken")
        style = self.turn("text", ways)
        if style in "|>" and pad is not None and text and fits_block(text):
            return self.block_scalar(text, style, pad)
        if style == "'" and not _ODD.search(text):
            return self.single(text, pad)
        if style in ('"', "escaped", "broken"):
            return self.double(text, pad, style)
        if style == "bare" and _is_bare(text, pad is None):
            return self.folded(text, pad)
        return text if is_plain(text) else quote(text)

    def block_scalar(self, text: str, style: str, pad: str) -> str:
        below = pad + self.turn("depth", (self.step, " ", "     "))
        chomp = "" if text.endswith("\n") else "-"
        if style == ">" and not re.search("^[ \t]", text, re.MULTILINE):
            text = re.sub("\n+(?=[^\n])", lambda found: found[0] + "\n", text)
            text = _GAP.sub(self.turn("folded", (" ", "\n")), text)
        else:
            style = "|"
        depth = len(below) - len(pad)
        header = self.turn(
            "header", (style + chomp, f"{style}{depth}{chomp}", f"{style}{chomp} # c")
        )
        lines = text.removesuffix("\n").split("\n")
        return "\n".join([header, *(below + line if line else "" for line in lines)])

    def folded(self, text: str, pad: str | None) -> str:
        """Return the text with line ends in place of some spaces."""
        if pad is None or " " not in text:
            return text
        return _GAP.sub(lambda found: self.turn("fold", (" ", f"\n{pad} ", f" \n{pad}    ")), text)

    def single(self, text: str, pad: str | None = None) -> str:
        if "\n" in text:
            if pad is None or re.search("[ \t]\n|\n[ \t]|^\n|\n$", text):
                return quote(text)
            text = re.sub("\n+", lambda found: f"{found[0]}\n{pad} ", text)
        text = text.replace("'", "''")
        return f"'{text if pad is None else self.folded(text, pad)}'"

    def double(self, text: str, pad: str | None, style: str = '"') -> str:
        """Return the text in double quotes; `escaped` with extra escapes, `broken` on two lines."""
        every = self.turn("escapes", (1, 2, 5)) if style == "escaped" else 0
        form = self.turn("escape", ("named", "short", "wide"))
        out = []
        for index, char in enumerate(text):
            needed = char in '"\\\n\r\t' or _ODD.search(char) is not None
            if not needed and (not every or index % every):
                out.append(char)
            elif form == "named" and char in _NAMED:
                out.append(_NAMED[char])
            else:
                out.append(_code(char, form == "wide"))
        at = len(out) // 2
        # A space would have to be escaped at the beginning of a line.
        if style == "broken" and pad is not None and at and text[at] not in " \t":
            out[at:at] = [f"\\\n{pad} "]
        body = "".join(out)
        if pad is not None and "\\" not in body:
            body = self.folded(body, pad)
        return f'"{body}"'


def _is_bare(text: str, in_flow: bool) -> bool:
    """Return True if YAML's grammar allows a text without quotes, like most of the C++ peers'."""
    if text in NULLS or _BARE.fullmatch(text) is None or not text.isprintable():
        return False
    if text.startswith(("---", "...")):  # at the start of a line it would end the document
        return False
    return not in_flow or _NO_FLOW.search(text) is None
