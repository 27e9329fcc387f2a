"""Texts of messages in every spelling that writers have, and texts that are nearly such.

All of it goes by a `random.Random`, as a thousand small decisions for each text would be too many
for Hypothesis; it draws the message and the seed. `smaller` shrinks what fails instead.
"""

import io
import json
from collections.abc import Callable
from random import Random
from typing import Any

import ruamel.yaml
import yaml
from strategies import MESSAGES, ODD_TEXTS

from fastlib import (
    Evacuate,
    Message,
    Migrate,
    PciAddress,
    PciId,
    Repin,
    Result,
    ResultContainer,
    Start,
    Suspend,
    TaskContainer,
)
from fastlib.codec.records import fields_of
from fastlib.message import mmbwmon
from fastlib.message.agent import Init, InitAgent


def _aliases() -> dict[str, list[str]]:
    """Other keys for each key, old and misspelt ones included."""
    found: dict[str, list[str]] = {}
    for cls in MESSAGES:
        if issubclass(cls, Message):
            for field in fields_of(cls):
                others = [*field.wire.aliases, *field.wire.old, field.key.replace("-", "_")]
                found.setdefault(field.key, []).extend(others)
    return found


ALIASES = _aliases()
SPELLINGS: dict[bool, list[str]] = {
    True: ["true", "True", "TRUE", "yes", "Yes", "on", "y", "Y", "'true'", '"yes"', "1", "!x y"],
    False: ["false", "False", "no", "NO", "off", "Off", "n", "N", "'no'", '"off"', "0", "FALSe"],
}
ESCAPES = {
    "\n": ["\\n", "\\x0a", "\\u000A", "\\U0000000a"], "\t": ["\\t", "\t", "\\\t", "\\x09"],
    " ": [" ", " ", "\\ ", "\\x20", "\\u0020"], "/": ["/", "\\/", "\\x2F"], '"': ['\\"', "\\x22"],
    "\\": ["\\\\", "\\x5c"], "\r": ["\\r"],
    "\0": ["\\0", "\\x00"], "\x07": ["\\a"], "\x08": ["\\b"],
    "\x0b": ["\\v"], "\x0c": ["\\f"], "\x1b": ["\\e"], "\x85": ["\\N", "\x85", "\\x85"],
    "\xa0": ["\\_", "\xa0"], "\u2028": ["\\L", "\u2028"], "\u2029": ["\\P", "\u2029"],
    "\U0001f600": ["\U0001f600", "\\U0001f600", "\\ud83d\\ude00"],
}  # fmt: skip


# --- writers ------------------------------------------------------------------------------------


def own(message: Any, rng: Random) -> str:
    text: str = message.to_yaml(style=rng.choice(["block", "block", "literal", "flow"]))
    return text


def pyyaml(message: Any, rng: Random) -> str:
    dumper = rng.choice([yaml.SafeDumper, yaml.CSafeDumper, yaml.CSafeDumper])
    text: str = yaml.dump(
        message.emit(),
        Dumper=dumper,
        default_flow_style=rng.choice([False, False, False, None, True]),
        default_style=rng.choice([None, None, None, None, "'", '"', "|", ">"]),
        sort_keys=rng.random() < 0.3,
        width=rng.choice([5, 20, 80, 80, 10_000]),
        indent=rng.choice([None, None, 2, 3, 4, 8]),
        allow_unicode=rng.random() < 0.7,
        explicit_start=rng.random() < 0.3,
        explicit_end=rng.random() < 0.1,
        line_break=rng.choice([None, None, None, "\r\n", "\r"]),
        version=rng.choice([None, None, None, None, (1, 1), (1, 2)]),
    )
    return text


def pyyaml_default(message: Any, rng: Random) -> str:
    text: str = yaml.dump(
        message.emit(), Dumper=yaml.CSafeDumper, sort_keys=rng.random() < 0.5, allow_unicode=True
    )
    return text


def ruamel_yaml(message: Any, rng: Random) -> str:
    writer = ruamel.yaml.YAML(typ=rng.choice(["rt", "safe"]), pure=True)
    if rng.random() < 0.5:
        writer.indent(mapping=rng.choice([2, 4]), sequence=rng.choice([4, 6]), offset=2)
    writer.width = rng.choice([20, 80, 4096])
    writer.default_flow_style = rng.choice([False, False, None])
    writer.allow_unicode = rng.random() < 0.8
    stream = io.StringIO()
    try:
        writer.dump(message.emit(), stream)
    except Exception:  # it has bugs of its own with odd texts
        return own(message, rng)
    return stream.getvalue()


def ruamel_default(message: Any, rng: Random) -> str:
    stream = io.StringIO()
    ruamel.yaml.YAML().dump(message.emit(), stream)
    return stream.getvalue()


def as_json(message: Any, rng: Random) -> str:
    return json.dumps(
        message.emit(), indent=rng.choice([None, 2, "\t"]), ensure_ascii=rng.random() < 0.5
    )


HEADS = ["--- # c\n", "%YAML 1.1\n---\n", "# c\n", "\n", "# c\n---\n", "--- ", "---\n\n", "\t\n"]
TAILS = ["# c", "...\n---\na", "---\n[", "---\ntask: quit\n---", "--- \n", "\n\n", "... # c\n"]


class _Hand:
    """A writer by hand: each document has a few habits, and now and then forgets them."""

    def __init__(self, rng: Random) -> None:
        self.rng = rng
        self.step = rng.choice([1, 2, 2, 2, 4, 8])
        self.list_step = rng.choice([0, 0, self.step])
        self.dash = "-" + " " * rng.choice([1, 1, 1, 1, 3])
        self.key_quotes = rng.choice(["", "", "", '"', "'"])
        self.scalars = rng.choice(["plain", "plain", '"', "'", "any"])
        self.flow_numbers = rng.random() < 0.6
        self.break_rate = rng.choice([0.0, 0.0, 0.1, 0.5])
        self.escape_rate = rng.choice([0.0, 0.05, 0.5])
        self.whim = rng.choice([0.0, 0.0, 0.01, 0.03, 0.1])
        """How often a habit is forgotten, and how often something odd is added."""

    def odd(self) -> bool:
        return self.rng.random() < self.whim

    def document(self, tree: Any) -> str:
        rng = self.rng
        pad = "  " if self.odd() else ""
        body = "".join(f"{line}\n" for line in self.block(tree, pad))
        head = rng.choice(HEADS) if self.odd() else rng.choice(["", "", "---\n"])
        tail = rng.choice(TAILS) if self.odd() else rng.choice(["", "", "---", "---\n", "...\n"])
        if rng.random() < 0.1:
            body = body[:-1]
        text = head + body + tail
        return text.replace("\n", "\r\n") if rng.random() < 0.05 else text

    def key(self, key: str) -> str:
        rng = self.rng
        if self.odd() and key in ALIASES and ALIASES[key]:
            key = rng.choice(ALIASES[key])
        elif rng.random() < 0.1 and key in ALIASES and ALIASES[key]:
            key = ALIASES[key][0]
        quotes = rng.choice(["", '"', "'"]) if self.odd() else self.key_quotes
        simple = key.replace("-", "").replace("_", "").isalnum()
        if not quotes and not simple and not self.odd():
            quotes = '"'
        if quotes == '"':
            return self.double(key, "", "")
        return f"'{key.replace(chr(39), chr(39) * 2)}'" if quotes else key

    def block(self, tree: Any, pad: str) -> list[str]:
        """The lines of a node that begins on a line of its own."""
        rng = self.rng
        lines: list[str] = []
        if isinstance(tree, dict) and tree:
            pairs = list(tree.items())
            if self.odd():
                rng.shuffle(pairs)
            for key, item in pairs:
                lines += self.pair(key, item, pad)
                if self.odd():
                    lines.append(rng.choice(["", f"{pad}# c", "# c", "  ", f"{pad}  # c", "\t"]))
        elif isinstance(tree, list) and tree:
            for item in tree:
                dash = rng.choice(["-  ", "- ", "-\t", "- # c\n"]) if self.odd() else self.dash
                below = pad + " " * len(dash)
                if isinstance(item, dict | list) and item and not self.flows(item):
                    first, *rest = self.block(item, below)
                    lines += [f"{pad}{dash}{first[len(below) :]}", *rest]
                else:
                    lines += self.attached(f"{pad}{dash[:-1]}", item, pad)
        else:
            return self.attached(pad[:-1], tree, pad) if pad else [self.flow(tree)]
        return lines

    def pair(self, key: str, item: Any, pad: str) -> list[str]:
        head = f"{pad}{self.key(key)}:"
        if self.odd():
            asked = f"{pad}? {head[len(pad) : -1]}\n{pad}:"
            head = self.rng.choice([f"{head[:-1]} :", asked, f"{head}:"])
        if isinstance(item, dict | list) and item and not self.flows(item):
            step = self.list_step if isinstance(item, list) else self.step
            if self.odd():
                step = self.rng.choice([0, 1, 3])
            return [head + self.property(""), *self.block(item, pad + " " * step)]
        return self.attached(head, item, pad)

    def flows(self, tree: Any) -> bool:
        if self.odd():
            return self.rng.random() < 0.5
        numbers = isinstance(tree, list) and not any(isinstance(i, dict | str) for i in tree)
        return numbers and self.flow_numbers

    def property(self, text: str) -> str:
        """An anchor, a tag, a comment or a space too many."""
        rng = self.rng
        if self.odd():
            prefix = rng.choice(["&a ", "!!str ", "! ", "!x ", "&a !!str ", "*a ", "  ", "\t"])
            return f" {prefix}{text}" if text else f" {prefix[:-1]}"
        if self.odd():
            return f" {text}" + rng.choice([" # c", "  ", " ", "\t", "#c", " #"])
        return f" {text}" if text else ""

    def attached(self, head: str, item: Any, pad: str) -> list[str]:
        """The lines of what begins behind a key or a dash."""
        if isinstance(item, str):
            text = self.text(item, pad)
        elif isinstance(item, dict | list):
            text = self.flow(item)
            if "," in text and self.rng.random() < self.break_rate:
                at = self.rng.choice([i for i, char in enumerate(text) if char == ","])
                text = f"{text[: at + 1]}\n{pad}{' ' * self.rng.choice([1, 2, 4])}{text[at + 1 :]}"
        else:
            text = self.number(item)
        return f"{head}{self.property(text)}".split("\n")

    def number(self, value: Any) -> str:
        rng = self.rng
        if self.odd():
            return rng.choice(["~", "", "null", "x", "-1", "+1", "1_0", "1e3", "0o7", "[]", "'1'"])
        if isinstance(value, bool):
            return rng.choice(SPELLINGS[value]) if rng.random() < 0.2 else str(value).lower()
        if isinstance(value, int) and rng.random() < 0.1:
            return rng.choice([hex(value), f"0{value:o}", f"'{value}'", f'"{value}"', f"{value}.0"])
        if isinstance(value, float):
            return str(value).replace("inf", ".inf").replace("nan", ".nan")
        return "null" if value is None else str(value)

    def flow(self, tree: Any) -> str:
        rng = self.rng
        comma = rng.choice([",", ", ", " , ", ",\t", ",  "]) if self.odd() else ", "
        if isinstance(tree, dict):
            pairs = [f"{self.key(key)}: {self.flow(item)}" for key, item in tree.items()]
            return f"{{{comma.join(pairs)}{',' if self.odd() else ''}}}"
        if isinstance(tree, list):
            inner = comma.join(map(self.flow, tree))
            return f"[ {inner} ]" if self.odd() else f"[{inner}{',' if self.odd() else ''}]"
        if isinstance(tree, str):
            return self.double(tree, "", "")
        return str(tree) if not self.odd() else self.number(tree)

    def text(self, text: str, pad: str) -> str:
        rng = self.rng
        style = rng.choice(["plain", '"', "'", "any"]) if self.odd() else self.scalars
        if style == "any":
            style = rng.choice(["plain", '"', "'", "|", ">"])
        if "\n" in text and style == "plain" and not self.odd():
            style = rng.choice(["|", "|", '"', "'"])
        below = pad + " " * rng.choice([1, 2, self.step, 4])
        if style == "plain":
            if " " in text and rng.random() < self.break_rate:
                return text.replace(" ", f"\n{below}", 1)
            return text
        if style == '"':
            return self.double(text, "\n", below)
        if style == "'":
            return self.single(text, below)
        return self.literal(style, text, below)

    def double(self, text: str, break_: str, below: str) -> str:
        rng = self.rng
        out = ['"']
        for index, char in enumerate(text):
            escapes = ESCAPES.get(char)
            if break_ and rng.random() < self.break_rate:
                if char == " " and 0 < index < len(text) - 1:
                    out.append(f"\n{below}")
                    continue
                if char == "\n":
                    out.append(f"\n{rng.choice(['', '', below, ' '])}\n{below}")
                    continue
                if rng.random() < 0.1:
                    out.append(f"\\\n{below}{rng.choice(['', chr(92)]) if char == ' ' else ''}")
            if escapes is not None and (not char.isprintable() or char in '"\\'):
                out.append(escapes[0] if rng.random() > self.escape_rate else rng.choice(escapes))
            elif escapes is not None and rng.random() < self.escape_rate:
                out.append(rng.choice(escapes))
            elif not char.isprintable() or rng.random() < self.escape_rate / 5:
                code = ord(char)
                form = "\\x%02x" if code < 256 else "\\u%04X" if code < 65536 else "\\U%08x"
                out.append(form % code)
            else:
                out.append(char)
        out.append('"')
        return "".join(out)

    def single(self, text: str, below: str) -> str:
        rng = self.rng
        text = text.replace("'", "''")
        if "\n" in text:
            text = text.replace("\n", f"\n{rng.choice(['', below, '  '])}\n{below}")
        elif " " in text and rng.random() < self.break_rate:
            text = text.replace(" ", f"\n{below}", rng.choice([1, 2]))
        return f"'{text}'"

    def literal(self, style: str, text: str, below: str) -> str:
        rng = self.rng
        header = style + ("" if text.endswith("\n") else "-")
        if self.odd():
            signs = ["+", "-", "", "2", "2-", "-4", "+1", " # c", "- # c", "|", "1", "\t"]
            header = style + rng.choice(signs)
        if style == ">":
            text = text.replace("\n", "\n\n")
        blank = rng.choice(["", "", "", below, below + " "])
        lines = text.removesuffix("\n").split("\n")
        return "\n".join([header, *(below + line if line else blank for line in lines)])


def hand(message: Any, rng: Random) -> str:
    tree = message.emit()
    if rng.random() < 0.1:
        tree = _bent(tree, rng)
    return _Hand(rng).document(tree)


def _bent(tree: Any, rng: Random) -> Any:
    """A tree with something else in one place."""
    if isinstance(tree, dict) and tree and rng.random() < 0.8:
        key = rng.choice(list(tree))
        return {**tree, key: _bent(tree[key], rng)}
    if isinstance(tree, list) and tree and rng.random() < 0.8:
        index = rng.randrange(len(tree))
        return [*tree[:index], _bent(tree[index], rng), *tree[index + 1 :]]
    others = [None, [], {}, "", True, 1, -1, 1.5, 2**70, [[1]], {"a": "b"}]
    return rng.choice([*others, *ODD_TEXTS[:60]])


WRITERS: list[Callable[[Any, Random], str]] = [
    own, own, pyyaml, pyyaml_default, as_json, hand, hand, hand, hand, hand, ruamel_yaml
]  # fmt: skip


def written(message: Any, rng: Random) -> str:
    """The message as some writer would write it."""
    writer = rng.choice(WRITERS)
    if writer is ruamel_yaml and rng.random() < 0.7:  # fifty times slower than the others
        writer = hand
    return writer(message, rng)


# --- mutations ----------------------------------------------------------------------------------

SNIPPETS = [
    " ", "  ", "\t", "\n", "\n\n", "\r", "\r\n", "\x85", "\u2028", "\ufeff", "\xa0", "\0", "\x01",
    "\x7f", "\uffff", "\ud800", ":", ": ", "::", ":\n", " :", "#", " #", " # c", "# c\n", "-", "- ",
    "\n- ", "- - ", "---", "---\n", "\n---\n", "...", "\n...\n", "--- ", "?", "? ", "\n? ", "|",
    "|-\n", " |\n  ", ">", ">-", "|+", "|2", "&a ", "*a", "!!str ", "!", "'", "''", '"', '""', "\\",
    "\\n", "\\\n", "\\ ", "\\x", "\\u0041", "\\ud800", "[", "]", "[]", "[[", "]]", "{", "}", "{}",
    ",", ", ", ",,", "~", "null", "'null'", "true", "no", "0", "00", "0x", "-0", "1.0", "1e3", "_",
    "<<: ", "<<", "=", "@", "`", "%", "%YAML 1.1\n---\n", "é", "😀", "٣", "²", "a", "a b", "a: b\n",
    "\n  a: b\n", "task: quit\n", "result: x\n", "list:\n", "id: a\n", "host: a\n",
]  # fmt: skip


def mutated(text: str, rng: Random) -> str:
    """The text with one thing changed."""
    if not text:
        return rng.choice(SNIPPETS)
    kind = rng.randrange(12)
    if kind < 6:
        at = _place(text, rng)
        if kind < 3:
            return text[:at] + rng.choice(SNIPPETS) + text[at:]
        if kind == 3:
            return text[:at] + text[at + rng.choice([1, 1, 1, 2, 5]) :]
        if kind == 4:
            return text[:at] + rng.choice(SNIPPETS) + text[at + 1 :]
        return text[:at] + text[at + 1 : at + 2] + text[at : at + 1] + text[at + 2 :]
    lines = text.split("\n")
    at = rng.randrange(len(lines))
    line = lines[at]
    other = rng.randrange(len(lines))
    if kind == 6:
        lines.insert(other, line)
    elif kind == 7:
        del lines[at]
    elif kind == 8:
        lines[at], lines[other] = lines[other], line
    elif kind == 9:
        end = at + rng.choice([1, 1, 2, len(lines)])
        more = " " * rng.choice([1, 2, 2, 4])
        if rng.random() < 0.5:
            lines[at:end] = [more + each for each in lines[at:end]]
        else:
            lines[at:end] = [each.removeprefix(more) for each in lines[at:end]]
    elif kind == 10:
        if rng.random() < 0.5:
            lines[at] += rng.choice(SNIPPETS)
        elif at + 1 < len(lines):
            lines[at : at + 2] = [line + rng.choice(["", " "]) + lines[at + 1].lstrip()]
    else:
        head, colon, value = line.partition(": ")
        if colon:
            new = rng.choice([*ODD_TEXTS, value[::-1], f"'{value}'", f'"{value}"', value + value])
            lines[at] = head + colon + new
        else:
            return text[: rng.randrange(len(text))]
    return "\n".join(lines)


def _place(text: str, rng: Random) -> int:
    """A place in the text, more often where it has a structure."""
    if rng.random() < 0.4:
        return rng.randrange(len(text))
    spots = [index for index, char in enumerate(text) if char in ":\n-'\"[]#|\\"]
    if not spots:
        return rng.randrange(len(text))
    return min(rng.choice(spots) + rng.choice([0, 1, 1, 2]), len(text) - 1)


def crossed(one: str, other: str, rng: Random) -> str:
    """The first lines of one text and the last of another."""
    first, last = one.split("\n"), other.split("\n")
    return "\n".join([*first[: rng.randrange(len(first) + 1)], *last[rng.randrange(len(last)) :]])


# --- scribbles ----------------------------------------------------------------------------------

FRAMES: list[tuple[type[Any], str]] = [
    (Suspend, "vm-name: {}\ndriver: b\n"),
    (Suspend, "driver: b\nvm-name: {}"),
    (Suspend, "{}vm-name:{}a{}"),
    (Suspend, 'vm-name: "{}"\ndriver: b\n'),
    (Suspend, "vm-name: '{}'\ndriver: b\n"),
    (Suspend, 'vm-name: "a{}\n  b{}"\n'),
    (Suspend, "vm-name: 'a{}\n  b{}'\n"),
    (Suspend, "vm-name: |-\n  a{}\n  b{}\ndriver: b\n"),
    (Suspend, "vm-name: |\n  a{}\n"),
    (TaskContainer, "task: stop vm\nlist:\n  - vm-name: {}\n    force: true\n"),
    (TaskContainer, "task: stop vm\nlist:\n{}- vm-name: a\n{}  force: true\n"),
    (TaskContainer, "task: {}\nlist:\n- vm-name: a\n"),
    (TaskContainer, "{}task: stop vm{}\nlist:{}\n- vm-name: a{}\n"),
    (Evacuate, "destinations:\n  - {}\n  - b\n"),
    (Evacuate, "destinations:{}\n- a{}\n- b\n"),
    (Repin, "vm-name: a\nvcpu-map: [{}]\ndriver: b\n"),
    (Repin, "vm-name: a\nvcpu-map:\n- [{}]\n- - 1{}\n  - 2\n"),
    (mmbwmon.Request, "cores: [{}]\n"),
    (mmbwmon.Request, "cores:\n- {}\n- 2\n"),
    (mmbwmon.SystemInfo, "threads: {}\nsmt: 1\nnuma: 1\nbandwidth:\n- {}\n- 1"),
    (Result, "status: success\nvm-name: a\ntime-measurement:\n  {}: 1.0\n  b: {}\n"),
    (InitAgent, "task: init agent\nKPI:\n  categories:\n    {}: {}\n    b: c\n  repeat: 5\n"),
    (Init, "{}hostname: a{}"),
    (ResultContainer, "result: {}\nlist:\n- vm-name: a\n  status: error\n  details: {}\n"),
    (ResultContainer, "{}\nlist: []\n---\nresult: {}\n"),
    (PciId, "vendor: {}\ndevice: 0x1\n"),
    (PciAddress, "pci-addr: {}\n"),
    (Start, "vm-name: a\nmemory: {}\ndevs:{}\n- addr: 1:2.3\ntransient: {}\n"),
    (Migrate, "vm-name: a\ndestination: b\nparameter:{}\n  swap-with:{}\n    vm-name: c\n"),
]
"""Texts with holes where a reader may go wrong."""

ALPHABETS = [
    " \"'\\\n\t:#-|>a0é,[]{}&*!%@~?\x85nx", ' "\\\nn', " '\n", " \n", "\n a", " a:#-",
    "0123[], \n", "01x.e+-_", "a:# \n", "'\" a:#", "-: \n", " -\n[]", '\\nx0b \n"',
]  # fmt: skip
WORDS = [
    "null", "~", "true", "y", "---\n", "...\n", "- ", "task: quit\n", "result: b\n", "vm-name: ",
    "0x", "1e3", "<<: ", "[]", "|-\n", "\ud800", "\u2028", "\r\n", "\r", "\0", "\ufeff", "'a'",
    '"result": ', 'result: "a # b"\n', "\n---\ntask: init", "::", ":: ", "\\\n  ", "\\x4", "\n  \n",
]  # fmt: skip


def scribbled(rng: Random) -> tuple[type[Any], str]:
    """A type and a text of it with a few odd characters in delicate places."""
    cls, frame = rng.choice(FRAMES)
    alphabet = rng.choice(ALPHABETS)
    first, *parts = frame.split("{}")
    return cls, first + "".join(_scribble(alphabet, rng) + part for part in parts)


def _scribble(alphabet: str, rng: Random) -> str:
    if rng.random() < 0.3:
        return ""
    if rng.random() < 0.2:
        return rng.choice(WORDS)
    size = rng.choice([1, 1, 2, 2, 3, 4, 6, 9])
    return "".join(
        rng.choice(alphabet) if rng.random() < 0.93 else rng.choice(WORDS) for _ in range(size)
    )


# --- shrinking ----------------------------------------------------------------------------------


def smaller(text: str, fails: Callable[[str], bool]) -> str:
    """A shorter text that still fails: parts are left out, from halves down to characters."""
    size = max(len(text) // 2, 1)
    tries = 5_000
    while size and tries > 0:
        at = 0
        shrunk = False
        while at < len(text) and tries > 0:
            shorter = text[:at] + text[at + size :]
            tries -= 1
            if fails(shorter):
                text = shorter
                shrunk = True
            else:
                at += size
        if not shrunk or size > 1:
            size //= 2
    return text
