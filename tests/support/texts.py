"""Texts of messages as other libraries and careless people write them, and texts nearly such.

All of it goes by a `random.Random`, as a thousand small decisions for each text would be too many
for Hypothesis; it draws the message and the seed. `fastlib.testing.shrinking` shrinks what fails.
"""

import io
import json
from collections.abc import Callable
from random import Random
from typing import Any

import ruamel.yaml
import yaml

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
from fastlib.codec.derivation import fields_of
from fastlib.message import mmbwmon
from fastlib.message.agent import Init, InitAgent
from fastlib.testing.choices import Choices, RandomChoices
from fastlib.testing.texts import ODD_TEXTS
from fastlib.testing.yaml_variants import Writer
from tests.support.strategies import MESSAGES


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


class _Careless(Writer):
    """A writer by hand that now and then writes something else than the message, or no YAML."""

    heads = (*Writer.heads, "--- ", "\t\n")
    tails = (*Writer.tails, "---\n[", "--- \n", "... # c\n", "x")
    tags = (*Writer.tags, "!x ", "!x y", "&a ", "&a !!str ", "*a ", "\t", "!!int ")
    comments = (*Writer.comments, "#c", "#")
    between = (*Writer.between, "\t\n", "x\n", " # c\n")

    def __init__(self, choices: Choices) -> None:
        super().__init__(choices)
        self.style = choices.habit(("sound", "sound", "plain", "single"))

    def key(self, key: str) -> str:
        others = ALIASES.get(key, [])
        key = self.turn("careless", (key, key, *others))
        return self.turn("careless", (super().key(key), key, f"'{key}'", f'"{key}"'))

    def leaf(self, value: Any) -> str:
        wrong = ("~", "", "null", "x", "+1", "1_0", "1e3", "0o7", "[]", "-1", "1", "!x y", "FALSe")
        sound = super().leaf(value)
        return self.turn("careless", (sound, sound, sound, *wrong, f"{sound}.0"))

    def text(self, text: str, pad: str | None) -> str:
        style = self.turn("careless", (self.style, "sound", "plain", "single", "block"))
        if style == "plain":
            return text
        if style == "single":
            return f"'{text.replace(chr(39), chr(39) * 2)}'"
        if style == "block":
            signs = ("-", "+", "", "2", "2-", "-4", "+1", " # c", "- # c", "|", "1", "\t")
            lines = text.split("\n")
            header = self.turn("careless", ("|", ">")) + self.turn("careless", signs)
            return f"\n{pad}  ".join([header, *lines])
        return super().text(text, pad)

    def double(self, text: str, pad: str | None, style: str = '"') -> str:
        sound = super().double(text, pad, style)
        ways = (
            ("\U0001f600", "\\ud83d\\ude00"), ("\\n", "\n"), ("\\n", "\n\n"), (" ", "\\\t"),
            ("\\", ""), ("\\x", "\\x0"), (" ", "\\\n"),
        )  # fmt: skip
        return sound.replace(*self.turn("careless", (("", ""), *ways)))


def hand(message: Any, rng: Random) -> str:
    tree = message.emit()
    if rng.random() < 0.1:
        tree = _bent(tree, rng)
    return _Careless(RandomChoices(rng)).document(tree)


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
    "\\n", "\\\n", "\\ ", "\\x", "\\u0041", "\\ud800", "\\ue000", "\\U0000E000", "\\x7f", "\\x85",
    "\\u2028", "\\ufeff", "\\N", "\\L", "\\ud83d\\ude00", '"\\ue000"', '"\\uE001\x7f"',
    "\ue000", "\uf8ff", "[", "]", "[]", "[[", "]]", "{", "}", "{}",
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
    '\\ue0"\ue000\x7f\x85\u2028\ufeff\uffff',
]  # fmt: skip
WORDS = [
    "null", "~", "true", "y", "---\n", "...\n", "- ", "task: quit\n", "result: b\n", "vm-name: ",
    "0x", "1e3", "<<: ", "[]", "|-\n", "\ud800", "\u2028", "\r\n", "\r", "\0", "\ufeff", "'a'",
    '"result": ', 'result: "a # b"\n', "\n---\ntask: init", "::", ":: ", "\\\n  ", "\\x4", "\n  \n",
    "\\ue000", "\\uE001", "\\U0000e000", "\\x7f", "\\x85", "\\u2028", "\\ufeff", "\\ud83d\\ude00",
    "\x7f", "\ue000", "\x85", "%A b\n---\n", "---\ufeff\n", "!!str ", "! ", "? [a]\n: b\n",
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
