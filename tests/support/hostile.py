"""Hostile texts, and a program that reads them with bounded CPU time and memory.

    python hostile.py PARSER NODES FAMILY:SIZE:EVERY…

PARSER is `c` or `python`, the parser of PyYAML. NODES is the limit of nodes. For each FAMILY, the
program reads the first of every EVERY texts, each grown to about SIZE characters. It prints the
name of each text before it reads it. So the last name is the text that ended the program: no CPU
time was left (SIGPROF), no address space was left, or the interpreter crashed.
"""

import contextlib
import itertools
import resource
import signal
import sys
from collections.abc import Callable, Iterator
from typing import Any

import fastlib
from fastlib import (
    Evacuate,
    FastlibError,
    Limits,
    Migrate,
    NodeReport,
    PciAddress,
    Repin,
    Result,
    ResultContainer,
    Start,
    TaskContainer,
)
from fastlib.codec import composer
from fastlib.codec.derivation import fields_of
from fastlib.codec.limits import DEFAULT_LIMITS
from fastlib.codec.tree_shape import Tree
from fastlib.message.agent import InitAgent, Kpis
from fastlib.message.application import ApplicationKpis
from fastlib.message.mmbwmon import Reply, Request, SystemInfo

CPU_SECONDS = 30
"""For one text, and all that read it. Far more than any needs: what takes longer hangs."""
ADDRESS_SPACE = 3 << 30

Text = tuple[str, type[Any], Any]
"""A name, the type that the text is read as, and the text; or a plain tree."""

CHARACTERS = [
    "a", "0", "1", " ", "\t", "\n", "\r", "\r\n", "-", "?", ":", ",", "[", "]", "{", "}", "#", "&",
    "*", "!", "|", ">", "'", '"', "%", "@", "`", "\\", "~", ".", "<", "=", "_", "/", "\0", "\x01",
    "\x7f", "\x85", "\xa0", "é", "\u2028", "\ufeff", "\uffff", "\ue000", "😀", "\ud800",
]  # fmt: skip

PATTERNS = [
    "- ", "? ", ": ", "- - ", "? - ", "- ? ", "a: ", "a:\n", "a: b\n", "- a\n", "-\n", "\n ", " \n",
    "\n\t", "\t\n", "a ", "a\n", "a \n", "a, ", "[a", "{a: ", "{a", "[{a: ", "{? ", "[? ", "{{",
    "[:", "{:", "[,", "[]", "{}", "[]\n", "{a:", "[a]: ", "[[]", "&a ", "&a\n", "*a ", "*a, ",
    "!a ", "!!a ", "!<a>", "! ", "&a !b ", "&a [", "!a {", "'a' ", '"a" ', "''", '""', "'\n",
    '"\n', "\\n", "\\\n", "\\\n ", "\\x41", "\\u2028", "\\ ", "a\\", "#\n", "# a\n", "a # b\n",
    " #", "|\n", "a: |\n", ">\n", "|2\n", "%a\n", "%YAML 1.1\n", "---\n", "--- a\n", "...\n",
    "---\n...\n", "--- |\n", "a---", "<<: ", "0x", "1.", "1e", "-1", "a-", "a:", "a'", 'a"', "a#",
    "é ", "\u2028 ", "\x85\n", "\r\n ", "1, ", "[1], ", "[1],\n ", "- [", "- {a: ", "- a: ",
    "- - a\n", "a: [", "a: {", "a: '", 'a: "', "? a\n", "? a\n: ", ": a\n", "task: ",
    "task: stop vm\n", "list:\n", "- vm-name: a\n", "  vm-name: a\n",
]  # fmt: skip

FRAMES: list[tuple[type[Any], str, str]] = [
    (Start, "vm-name: ", "\n"),
    (Start, 'vm-name: "', '"\n'),
    (Start, "vm-name: '", "'\n"),
    (Start, 'vm-name: "a', '\n  b"\n'),
    (Start, "vm-name: 'a", "\n  b'\n"),
    (Start, "vm-name: |\n  ", "\n"),
    (Start, "vm-name: |\n  a\n  ", "\n  b\ndriver: c\n"),
    (Start, "vm-name: >\n  ", "\n"),
    (Start, "vm-name: &a ", "\n"),
    (Start, "vm-name: !", " a\n"),
    (Start, "vm-name: &", " a\n"),
    (Start, "xml: <a>", "\n  </a>\n"),
    (Start, "", ": a\n"),
    (Start, '"', '": a\n'),
    (Start, "? ", "\n: a\n"),
    (Start, "# ", "\nvm-name: a\n"),
    (Start, "--- ", "\n"),
    (Start, "vm-name: a\n---\n", ""),
    (Start, "vm-name: a\n...\n", ""),
    (Start, "vm-name: a\nmemory: ", "\n"),
    (Start, "vm-name: a\ntransient: ", "\n"),
    (Start, "vm-name: a\nmemnode-map: ", "\n"),
    (PciAddress, "pci-addr: ", "\n"),
    (Repin, "vm-name: a\nvcpu-map: [", "]\n"),
    (Repin, "vm-name: a\nvcpu-map: [[", "]]\n"),
    (Repin, "vm-name: a\nvcpu-map:\n- ", "\n"),
    (Result, "vm-name: a\nstatus: ", "\n"),
    (Result, "vm-name: a\nstatus: error\ntime-measurement: ", "\n"),
    (Result, "vm-name: a\nstatus: error\ntime-measurement:\n  a: ", "\n"),
    (Result, "vm-name: a\nstatus: error\ntime-measurement:\n  ", ": 1\n"),
    (Result, "vm-name: a\nstatus: error\ntime-measurement:\n  a: 'wall: ", "'\n"),
    (Result, "vm-name: a\nstatus: error\ntime-measurement:\n  a: 'wall: 1", "started: 1'\n"),
    (Reply, "cores: []\nresult: ", "\n"),
    (Reply, "cores: []\nresult: 0.", "x\n"),
    (TaskContainer, "task: stop vm\nlist:\n- vm-name: ", "\n"),
    (TaskContainer, "task: stop vm\nlist:\n", ""),
    (TaskContainer, "task: ", "\n"),
    (ResultContainer, "result: ", "\nlist: []\n"),
    (ApplicationKpis, "KPIS: ", "\n"),
    (ApplicationKpis, "KPIS: [", "]\n"),
    (ApplicationKpis, "KPIS: {", "}\n"),
]
"""Where a long something may stand: a scalar of each style and type, a key, a comment, …"""

FILLINGS = [
    *"a1 \t\n-:[]{}'\"\\#&*!é\u2028,.0", "a ", "\\\n ", "''", "\\x41", " \n", "\n\n ", "a, ", "1, ",
    "[1], ", "a: b, ", "- a\n", "\\ ", " '", "\t ", "0 ", ": ", "\\u",
]  # fmt: skip


def _repeat(pattern: str, size: int) -> str:
    return pattern * (size // len(pattern))


def characters(size: int) -> Iterator[Text]:
    """Nothing but one character."""
    for char in CHARACTERS:
        yield f"{char!r} repeated", TaskContainer, _repeat(char, size)


def patterns(size: int) -> Iterator[Text]:
    """The same few characters again and again."""
    for pattern in PATTERNS:
        yield f"{pattern!r} repeated", ApplicationKpis, _repeat(pattern, size)


def frames(size: int) -> Iterator[Text]:
    """Much of something in every place, with and without an end that does not fit."""
    for cls, before, after in FRAMES:
        for filling in FILLINGS:
            long = _repeat(filling, size)
            yield f"{filling!r} between {before!r} and {after!r}", cls, before + long + after
            yield f"{filling!r}x between {before!r} and {after!r}", cls, f"{before}{long}x{after}"


DEPTH = 200_000
OPENINGS = [
    "[", "{a: ", "{? ", "- ", "? ", "[{a: ", "{a: [", "- ? ", "? - ", "- [", "- {a: ", "- - ",
    "!a [", "&a [", "[ ", "[\n", "{a:\n", "{\n? ", "['", '["', "'", '"',
]  # fmt: skip


def depths(size: int) -> Iterator[Text]:
    """Nesting in every syntax, 200,000 levels of it, or as many as there is room for."""
    levels = min(size, DEPTH)
    for syntax in OPENINGS:
        nested = syntax * levels
        yield f"{syntax!r} nested", TaskContainer, nested
        yield f"{syntax!r} nested below a key", ApplicationKpis, f"KPIS: {nested}"
        yield f"{syntax!r} nested in a row", Repin, f"vm-name: a\nvcpu-map: {nested}a"
    lists, mappings = "[" * levels + "]" * levels, "{a: " * levels + "b" + "}" * levels
    yield "closed lists", TaskContainer, lists
    yield "closed mappings", TaskContainer, mappings
    yield "closed lists below a key", ApplicationKpis, f"KPIS: {lists}"
    yield "closed mappings below a key", ApplicationKpis, f"KPIS: {mappings}"
    yield "closed lists in a row", Repin, f"vm-name: a\nvcpu-map: {lists}"
    yield "closed only", TaskContainer, "]" * levels
    rows = int((2 * size) ** 0.5)  # each is longer than the one before
    for line in ("a:", "-", "?", "- a:", "parameter:", "swap-with:", "- list:", "- |", "|"):
        stairs = "".join(f"{' ' * row}{line}\n" for row in range(rows - len(line)))
        yield f"stairs of {line!r}", Migrate, stairs
        yield f"stairs of {line!r} below a key", ApplicationKpis, "KPIS:\n " + stairs
        yield f"stairs of {line!r} in a list", TaskContainer, "task: stop vm\nlist:\n" + stairs


def aliases(size: int) -> Iterator[Text]:
    """Short texts that expand to large trees."""
    laughs = "  a: &a0 [l, l, l, l, l, l, l, l, l]\n" + "".join(
        f"  b{i}: &a{i + 1} [{', '.join([f'*a{i}'] * 9)}]\n" for i in range(20)
    )
    yield "billion laughs", ApplicationKpis, f"KPIS:\n{laughs}"
    yield "billion laughs, unread", Start, f"vm-name: a\nxml:\n{laughs}"
    mappings = "  a: &a0 {l: l}\n" + "".join(
        f"  b{i}: &a{i + 1} {{a: *a{i}, b: *a{i}, c: *a{i}}}\n" for i in range(40)
    )
    yield "billion mappings", ApplicationKpis, f"KPIS:\n{mappings}"
    yield "billion keys", ApplicationKpis, "KPIS: &a {? &b [x, x] : *b, ? [*b, *b] : c}"
    count = size // 8
    many = "*a, " * count
    for cls, head in (
        (ApplicationKpis, "KPIS: "),
        (Evacuate, "destinations: "),
        (Repin, "vm-name: a\nvcpu-map: "),
        (SystemInfo, "bandwidth: "),
        (Request, "cores: "),
        (TaskContainer, "task: stop vm\nlist: "),
    ):
        yield f"quadratic in {head!r}", cls, f"{head}[&a [{'1, ' * count}], {many}]"
        for text in ("a", "é", "1", "\u2028", " a"):
            long = _repeat(text, size // 2)
            yield f"a long {text!r} in {head!r}", cls, f"{head}[&a '{long}', {many}]"
            yield f"a long {text!r} in lists in {head!r}", cls, f"{head}[[&a '{long}'], [{many}]]"
    long = "a" * (size // 2)
    for line in ("? *a\n: b\n", "*a : b\n", "*a : *a\n"):
        lines = _repeat(line, size // 2)
        yield f"a long key and {line!r}", Start, f"? &a {long}\n: b\n{lines}"
        yield (
            f"a long key and {line!r}, free",
            Kpis,
            "categories:\n"
            + "".join(f"  {each}\n" for each in (f"? &a {long}", ": b", *lines.split("\n"))),
        )
    pairs = "a: b, " * (size // 16)
    yield "a long key over problems", ApplicationKpis, f"KPIS:\n ? {long}\n : {{{pairs}}}\n"
    yield "a long name in problems", Start, f"? {long}\n: a\n? {long}\n: a\n"
    yield "itself", ApplicationKpis, "KPIS: &a [*a]"
    yield "itself twice", ApplicationKpis, "KPIS: &a [*a, *a]"
    yield "itself as a key", ApplicationKpis, "KPIS: &a {? *a : b}"
    yield "itself as a value", ApplicationKpis, "&a {KPIS: *a, source: *a}"
    yield "itself where lists belong", Repin, "vm-name: a\nvcpu-map: &a [*a, *a]"
    yield "itself as a member", TaskContainer, "task: stop vm\nlist: &a [*a, *a]"
    yield "itself as a member's name", TaskContainer, "task: stop vm\nlist: &a [{vm-name: *a}]"
    swap = "vm-name: a\ndestination: b\nparameter: &a {swap-with: *a}"
    yield "itself as a swap", Migrate, swap
    anchors = "".join(f"&a{i} b, " for i in range(count))
    yield "many anchors", ApplicationKpis, f"KPIS: [{anchors}]"
    yield "no anchor", ApplicationKpis, f"KPIS: [{'*b, ' * count}]"


def counts(size: int) -> Iterator[Text]:
    """Large numbers of items and of problems."""

    def many(text: str) -> str:
        return _repeat(text, size)

    def numbered(text: str) -> str:
        return "".join(text.format(i) for i in range(size // (len(text) + 5)))

    stop, start = "task: stop vm\nlist:", "task: start vm\n"
    yield "members", TaskContainer, f"{stop}\n{many('- vm-name: a' + chr(10))}"
    yield "members in flow", TaskContainer, f"{stop} [{many('{vm-name: a}, ')}]"
    yield "empty members", TaskContainer, f"{stop} [{many('{}, ')}]"
    yield "nulls", TaskContainer, f"{stop} [{many('~, ')}]"
    yield "wrong members", TaskContainer, f"{stop} [{many('a, ')}]"
    yield "misspelt members", TaskContainer, f"{stop} [{many('{vm-nmae: a}, ')}]"
    yield "wrong numbers", Repin, f"vm-name: a\nvcpu-map: [[{many('a, ')}]]"
    yield "wrong lists", Repin, f"vm-name: a\nvcpu-map: [{many('a, ')}]"
    wrong = "{vm-name: a, status: sucess}, "
    yield "wrong words", ResultContainer, f"result: a\nlist: [{many(wrong)}]"
    for key in ("vm-nam", "concurent-execution", "a", "eman-mv", "probe-with-hss"):
        keys = numbered(f"{key}{{0}}: a\n")
        yield f"unknown keys like {key!r}", Start, keys
        yield f"unknown keys like {key!r} in flow", Start, f"{{{keys.replace(chr(10), ',')}}}"
        yield f"unknown keys like {key!r} aside", TaskContainer, start + keys
    yield "one key", Start, many("vm-name: a\n")
    yield "one unknown key", Start, many("a: a\n")
    yield "one title", TaskContainer, many("task: stop vm\n")
    yield "a long title", TaskContainer, "task: " + many("stop vn ")
    kpis = "repeat: 1\ncategories:\n"
    yield "categories", Kpis, kpis + numbered("  a{0}: b\n")
    yield "one category", Kpis, kpis + many("  a: b\n")
    yield "categories in pairs", Kpis, kpis + numbered("- a{0}: b\n")
    measured = "vm-name: a\nstatus: error\ntime-measurement:\n"
    yield "measurements", Result, measured + numbered("  a{0}: 1\n")
    yield "wrong measurements", Result, measured + numbered("  a{0}: b\n")
    yield "documents", InitAgent, many("--- a\n")
    yield "messages", InitAgent, many("---\ntask: quit\n")
    yield "devices", Start, "vm-name: a\ndevs:\n" + many("- pci-addr: 0000:00:00.0\n")
    yield "numbers", Request, f"cores: [{many('1, ')}]"
    yield "numbers in lines", Request, "cores:\n" + many("- 1\n")
    yield "rows", Repin, "vm-name: a\nvcpu-map:\n" + many("- [1]\n")
    yield "rows over lines", Repin, f"vm-name: a\nvcpu-map: [[1{many(',' + chr(10) + '  1')}]]"
    yield "lines in quotes", Start, f'vm-name: "a{many(chr(10) + "  a")}"'
    yield "lines of a block", Start, "vm-name: |\n" + many("  a\n")
    yield "lines of a folded block", Start, "vm-name: >\n" + many("  a\n")
    yield "values", ApplicationKpis, f"KPIS: [{many('a, ')}]"
    yield "digits", Start, "vm-name: a\nmemory: " + many("1")
    yield "hexadecimal digits", Start, "vm-name: a\nmemory: 0x" + many("f")
    yield "octal digits", Start, "vm-name: a\nmemory: 0" + many("7")
    yield "digits of a fraction", Reply, "cores: []\nresult: 0." + many("3")
    yield "digits of an exponent", Reply, "cores: []\nresult: 1e" + many("9")
    yield "zeros", Reply, f"cores: []\nresult: 1{many('0')}e-{size}"


def encodings(size: int) -> Iterator[Text]:
    """Bytes in wrong or unexpected encodings."""
    for unit in ("utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"):
        yield f"{unit} without a mark", TaskContainer, ("[" * (size // 4)).encode(unit)
        text = ("\ufeffvm-name: " + "a" * (size // 4)).encode(unit)
        yield f"{unit} with a mark", Start, text
        yield f"{unit} cut short", Start, text[:-1]
    for byte in (0x80, 0xC0, 0xE2, 0xED, 0xF0, 0xFF):
        yield f"{byte:#x} repeated", TaskContainer, bytes([byte]) * size
        yield f"{byte:#x} at the end", Start, b"vm-name: " + b"a" * size + bytes([byte])
    yield "marks", Start, b"\xef\xbb\xbf" * (size // 3)
    yield "surrogates in UTF-8", Start, b"\xed\xa0\x80" * (size // 3)
    yield "surrogates in UTF-16", Start, b"\xff\xfe" + b"\x00\xd8" * (size // 2)
    private = "".join(map(chr, range(0xE000, 0xF900)))
    yield "every private character", Start, f"vm-name: \x85'{private}"
    yield "many odd characters", Start, "vm-name: 'a\x85" + _repeat("\u2028\x01\ufeff", size)
    yield "many odd characters in bytes", Start, _repeat("\u2028\x85", size // 3).encode()


def trees(size: int) -> Iterator[Text]:
    """Plain trees that repeat, nest or contain themselves."""
    rows: list[Any] = ["a"]
    rows += [rows, rows]
    doubled: list[Any] = ["a"]
    named: dict[str, Any] = {"a": "b"}
    for _ in range(30):
        doubled = [doubled, doubled]
        named = {"a": named, "b": named}
    deep: list[Any] = []
    nested: dict[str, Any] = {}
    steps: list[Any] = [["a"]]
    for _ in range(size):
        deep = [deep]
        nested = {"a": nested}
        steps.append([steps[-1], steps[-1]])
    loop: dict[str, Any] = {"vm-name": "a", "status": "error"}
    for key in (
        "parameter",
        "swap-with",
        "list",
        "node",
        "KPIS",
        "time-measurement",
        "destination",
    ):
        loop[key] = loop
    member = {"vm-name": "a"}
    kinds: dict[str, Any] = {
        "itself": rows,
        "itself everywhere": loop,
        "doubled": doubled,
        "doubled names": named,
        "deep": deep,
        "deep names": nested,
        "steps": steps,
        "wide": ["a"] * size,
        "wide names": {f"a{number}": "b" for number in range(size)},
        "one text": ["é" * size] * (size // 8),
        "one number": [10**300] * size,
        "one member": [member] * size,
        "one row": [[1] * size] * size,
        "a long key": [{"a" * size: "b"}] * size,
        "odd keys": {(number, (number,)): None for number in range(size)},
        "odd leaves": [{1}, ..., b"a", object, frozenset({1}), 1j] * (size // 6),
    }
    for name, tree in kinds.items():
        for cls, key in TREE_PLACES:
            given = {"task": "stop vm", "result": "vm stopped", "vm-name": "a", "destination": "b"}
            yield f"{name} at {key!r}", cls, {**given, key: tree}
        yield f"{name} alone", ApplicationKpis, tree
        yield f"{name} in any container", ResultContainer, {"result": "a", "list": tree}


TREE_PLACES: list[tuple[type[Any], str]] = [
    (ApplicationKpis, "KPIS"),
    (ApplicationKpis, "source"),
    (Evacuate, "destinations"),
    (Kpis, "categories"),
    (Migrate, "parameter"),
    (NodeReport, "capabilities"),
    (Repin, "vcpu-map"),
    (Result, "time-measurement"),
    (ResultContainer, "list"),
    (Start, "xml"),
    (Start, "devs"),
    (TaskContainer, "list"),
    (TaskContainer, "unknown"),
]


def once_slow(size: int) -> Iterator[Text]:
    """Small texts that once took minutes or gigabytes."""
    long = "a" * size
    many = "*a, " * (size // 8)
    yield "a number with an x", Reply, f"cores: []\nresult: {'1' * size}x"
    yield "spaces between words in quotes", Start, f'vm-name: "a{" " * size}b\n  c"\n'
    yield "an anchored text", Evacuate, f"destinations: [&a {'é' * size}, {many}]"
    yield "an anchored number", SystemInfo, f"bandwidth: [&a {'1' * size}, {many}]"
    members = f"&a {{? {long} : b}}, {many}"
    yield "an anchored member with a long key", TaskContainer, f"task: stop vm\nlist: [{members}]"
    yield "anchored members of any kind", ResultContainer, f"result: a\nlist: [{members}]"
    yield "an anchored key", Start, f"? &a {long}\n: b\n" + "? *a\n: b\n" * (size // 16)
    problems = "a: 1, " * (size // 8)
    yield "problems below a long key", ApplicationKpis, f"KPIS:\n  ? {long}\n  : {{{problems}}}"
    yield "many unknown keys", Start, "".join(f"vm-nam{i}: a\n" for i in range(size // 12))
    yield "many documents", InitAgent, "--- a\n" * (size // 6)


FAMILIES: dict[str, Callable[[int], Iterator[Text]]] = {
    "characters": characters,
    "patterns": patterns,
    "frames": frames,
    "depths": depths,
    "aliases": aliases,
    "counts": counts,
    "encodings": encodings,
    "once_slow": once_slow,
    "trees": trees,
}

DEPTH_LIMIT = 3_000
"""Levels; deeper than a function that calls itself for each level could go."""


def read(cls: type[Any], text: Any, max_nodes: int = DEFAULT_LIMITS.max_nodes) -> None:
    """Read a text, or a plain tree, in every way. Raises errors other than FastlibError."""
    limits = Limits(max_nodes=max_nodes)
    if not isinstance(text, str | bytes):
        try:
            cls.load(text, limits=limits)
        except FastlibError as error:
            str(error)
        for field in fields_of(cls):
            try:
                cls(**{field.attribute: text})
            except FastlibError as error:
                str(error)
            except TypeError:  # a required field is missing
                pass
        return
    with contextlib.suppress(FastlibError):
        cls.from_yaml(text, limits=limits)
    with contextlib.suppress(FastlibError):
        fastlib.load(text, limits=Limits(max_nodes=max_nodes, max_depth=DEPTH_LIMIT))
    report = fastlib.validate(text, cls, limits=limits)
    "".join(map(str, report.problems))


def main(parser: str, nodes: str, *families: str) -> None:
    Tree.max_nodes = int(nodes)
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    composer.HAS_C_PARSER = composer.HAS_C_PARSER and parser == "c"
    for family, size, every in (each.split(":") for each in families):
        for name, cls, text in itertools.islice(FAMILIES[family](int(size)), 0, None, int(every)):
            print(cls.__name__, name.encode("ascii", "backslashreplace").decode(), flush=True)
            signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)
            read(cls, text, int(nodes))


if __name__ == "__main__":
    main(*sys.argv[1:])
