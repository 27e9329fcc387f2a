"""Hypothesis strategies for every message, derived from the shapes that the codec is built from.

A message that is declared is generated; nothing here names one but `TimeMeasurement`, whose wire
form is its own.
"""

from typing import Any

from hypothesis import assume, settings
from hypothesis import strategies as st

from fastlib import Message, TimeMeasurement, Timing
from fastlib.codec.declare import AllOrNone, Needs, OneOf, Rule
from fastlib.codec.envelope import Envelope
from fastlib.codec.records import Converted, Field, fields_of, shape_of
from fastlib.codec.shapes import Bool, Choice, Float, Int, List, Map, Shape, Text, Tree


def examples(everyday: int, nightly: int) -> settings:
    """How many examples a test tries, by the profile that `--long` chooses."""
    return settings(
        max_examples=nightly if settings.get_current_profile_name() == "nightly" else everyday
    )


# --- which messages there are -------------------------------------------------------------------


def _walk(cls: type[Message]) -> list[type[Message]]:
    return [
        found
        for below in cls.__subclasses__()
        for found in (below, *_walk(below))
        if found.__module__.startswith("fastlib.message.")
    ]


MESSAGES: list[type[Any]] = [*_walk(Message), TimeMeasurement]
"""Every message of fastlib, which can be written and read by itself."""


def name_of(cls: type[Any]) -> str:
    """`task.Task`, `mmbwmon.Stop`: the name of a parametrised test."""
    return f"{cls.__module__.rpartition('.')[2]}.{cls.__name__}"


def is_titled(cls: type[Any]) -> bool:
    """Whether a text of this type tells by itself which type it is."""
    return isinstance(shape_of(cls), Envelope) or hasattr(cls, "__title__")


# --- texts --------------------------------------------------------------------------------------

DOMAIN = """\
<domain type='kvm' id="7">
  <name>{name}</name>
  <!-- 2 vCPUs: pinned -->
  <memory unit='KiB'>1048576</memory>

  <os><type arch="x86_64">hvm</type></os>
\t<devices>
    <disk type='file'><source file='/srv/images/{name}.qcow2'/></disk>
  </devices>
</domain>
"""

ODD_TEXTS = [
    # what YAML, one version or another, takes for something else
    "", "~", "null", "Null", "NULL", "true", "True", "yes", "no", "on", "OFF", "y", "N",
    "0", "-0", "1", "+1", "-1", "00", "007", "0o7", "0x1F", "0X1f", "0b11", "1_000", "1,000",
    "1.", ".5", "-.5", "1e3", "1E+3", "1e400", ".inf", "-.INF", ".nan", "inf", "nan", "Infinity",
    "12:30:45", "190:20:30", "08:00.0", "0000:08:00.0", "2024-01-02", "2024-01-02 03:04:05Z",
    "<<", "=", "_", "__", "e", "x", "é", "日本語のVM", "ﬁ", "ª", "\xa0", "a\xa0b",
    # indicators, in every place
    "-", "- a", "-a", "--", "---", "--- a", "...", "?", "? a", "?a", ":", ": a", ":a", "a:", "a: b",
    "a :b", "a:b", "::", "fe80::1", "[fe80::]", "#", "# a", "#a", "a #b", "a# b", "a#b", "&a", "*a",
    "!a", "!!str a", "!", "|", "|-", "> a", ">", "%", "%YAML 1.1", "@a", "`a`", ",", "a,b", "a, b",
    "[", "]", "[]", "[a", "a]", "{", "}", "{}", "{a: b}", "a}", "(a)", "a=b", "^a$", "vm-[0-9]+",
    "centos.*", r"\d+", "\\", "a\\", "\\n", "\\x41", "\\u0041", "\\ ", "\\\\", "$HOME", ";", "a;b",
    # quotes
    "'", "''", "'a'", "it's", "a'", '"', '""', '"a"', 'a"b', '"\'', "'\"'",
    # spaces and tabs
    " ", "  ", " a", "a ", "  a  ", "a  b", "\t", "\ta", "a\t", "a\tb", " \t ",
    # line ends
    "\n", "\n\n", "a\n", "\na", "a\n\n", "\n\na\n\n", "a\nb", "a\nb\n", "a\n\nb", "a\n b", " a\nb",
    "a \nb", "a\n b\n", "a\n\tb", "\ta\nb", "a\n \nb", "a\n  \n", "a\n# b", "# a\nb", "a\n---\nb",
    "---\na", "a\n...\n", "- a\n- b", "a: b\nc: d", "a\\\nb", "a\n'b'\n\"c\"", "\r", "a\r", "a\rb",
    "a\r\nb", "a\r\n", "\r\n", "a\n\rb", "\x85", "a\x85b", "a\u2028b", "\u2029", "a\u2028\n",
    # odd characters
    "\0", "a\0b", "\x01", "\x07\x08", "\x0b\x0c", "\x1b[0m", "\x7f", "\x80", "\x9f", "\ufeff",
    "\ufeffa", "a\ufeff", "\ufffe", "\uffff", "\ufffd", "\ue000", "\uf8ff\x85", "\u200b", "\u202e",
    "\U0001f600", "emoji 😀🚀", "\U0001fffe", "\U0010ffff", "e\u0301", "İ", "ǅ", "٣", "²",
    # what the daemon really gets
    "vm-01", "node1.example.org", "task-1", "64M", "auto", "ssh", "0x15b3", "success", "suspend",
    "Host unreachable: no route", "Error: 'x' (code #3)", "/sys/fs/cgroup/a b", "user@host:/p,q",
    # long ones; YAML ends a simple key after 1024 characters
    "a" * 999, "a" * 1000, "a" * 1023, "a" * 1024, "a" * 1025, "a b " * 300, "é" * 600, "\n" * 50,
    'say "a" \\ ' * 90, "word " * 40 + "end", "\\" * 70, DOMAIN.format(name="vm-01"),
    DOMAIN.format(name="a: 'b' #c").replace("\n", "\n  "), DOMAIN.format(name="ü\t").strip(),
    DOMAIN.format(name="crlf").replace("\n", "\r\n"),
]  # fmt: skip

NAMES = st.from_regex(r"[a-z][a-z0-9]{0,6}(-[0-9]{1,3})?", fullmatch=True)
_DELICATE = st.text(
    st.sampled_from([*" \t\n\r:#-?&*!|>'\"%@`,[]{}~\\.0aé\x85\u2028\ufeff\0\x7f\U0001f600"]),
    max_size=12,
)
_UNICODE = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
_LINES = st.lists(
    st.sampled_from(["", " ", "a", " b", "c ", "\td", "- e", "# f", "g: h", "'i'", '"j"', "k\\"]),
    max_size=6,
).map("\n".join)

TEXTS = st.one_of(NAMES, NAMES, st.sampled_from(ODD_TEXTS), _DELICATE, _UNICODE, _LINES)
"""Any text that a message may hold: all but lone surrogates."""

PLAIN_TEXTS = st.one_of(
    NAMES,
    st.sampled_from(
        [text for text in ODD_TEXTS if len(text) < 90 and text.isprintable() and text.strip()]
    ),
)
"""Texts on one line, as names and the like are."""


def _free_text(shape: Text, texts: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    if shape.free:
        return texts
    if shape.pattern is not None:
        return st.from_regex(shape.pattern).filter(shape.fits)
    longest = None if shape.max is None else shape.max
    return st.one_of(texts.filter(shape.fits), st.text(min_size=shape.min, max_size=longest))


# --- values -------------------------------------------------------------------------------------


def _integers(low: int, high: int) -> st.SearchStrategy[int]:
    edges = [edge for edge in (low, low + 1, 7, 8, 2**31, 2**32 - 1, 2**63, high) if edge <= high]
    return st.one_of(
        st.integers(low, min(high, 64)), st.integers(low, high), st.sampled_from(edges)
    )


_FLOATS = st.one_of(
    st.floats(),
    st.integers(0, 100).map(float),
    st.sampled_from([0.0, -0.0, 0.33, 1.5, 1e22, 1e16, 5e-324, 1.7976931348623157e308, 0.004711]),
)


def _trees(texts: st.SearchStrategy[str]) -> st.SearchStrategy[Any]:
    leaves = st.one_of(texts, texts, st.none(), st.integers(), st.booleans(), _FLOATS)
    return st.recursive(
        leaves,
        lambda below: st.one_of(
            st.lists(below, max_size=4), st.dictionaries(texts, below, max_size=4)
        ),
        max_leaves=8,
    )


def values(shape: Shape, texts: st.SearchStrategy[str] = TEXTS) -> st.SearchStrategy[Any]:
    """Values of a shape."""
    if isinstance(shape, Text):
        return _free_text(shape, texts)
    if isinstance(shape, Bool):
        return st.booleans()
    if isinstance(shape, Int):
        return _integers(shape.low, shape.high)
    if isinstance(shape, Float):
        return _FLOATS
    if isinstance(shape, Choice):
        return st.sampled_from(list(shape.values.values()))
    if isinstance(shape, List):
        return st.lists(values(shape.item, texts), max_size=4)
    if isinstance(shape, Map):
        return st.dictionaries(texts, values(shape.value, texts), max_size=4)
    if isinstance(shape, Tree):
        return _trees(texts).filter(lambda tree: tree is not None)
    if isinstance(shape, Converted) and issubclass(shape.cls, TimeMeasurement):
        timings = st.dictionaries(texts, messages(Timing), max_size=4)
        return timings.map(lambda each: TimeMeasurement(each, enabled=False))
    cls: type[Any] = shape.cls
    return messages(cls, texts)


@st.composite
def _structs(
    draw: st.DrawFn,
    cls: type[Any],
    fields: list[Field],
    rules: tuple[Rule, ...],
    texts: st.SearchStrategy[str],
    given: dict[str, Any],
) -> Any:
    """A struct of its fields, half of the optional ones absent, mended until the rules are kept."""
    by_name = {field.attribute: field for field in fields}
    drawn = dict(given)

    def give(attribute: str) -> None:
        drawn[attribute] = draw(values(by_name[attribute].shape, texts))

    # One draw for all that is absent, as examples grow with their number.
    optional = [f.attribute for f in fields if not f.required and f.attribute not in given]
    chosen = draw(st.integers(0, 2 ** len(optional) - 1)) if optional else 0
    absent = {name for index, name in enumerate(optional) if not chosen >> index & 1}
    for field in fields:
        if field.attribute not in given and field.attribute not in absent:
            give(field.attribute)
    for rule in rules:
        if isinstance(rule, OneOf):
            if all(drawn.get(attribute) is None for attribute in rule.attributes):
                give(draw(st.sampled_from(rule.attributes)))
        elif isinstance(rule, Needs):
            if drawn.get(rule.attribute) is True and drawn.get(rule.other) is None:
                give(rule.other)
        elif isinstance(rule, AllOrNone):
            if any(drawn.get(attribute) is not None for attribute in rule.attributes):
                for attribute in rule.attributes:
                    if drawn.get(attribute) is None:
                        give(attribute)
        else:  # of a kind that is not known here
            assume(rule.broken(drawn.get) is None)
    return cls(**drawn)


@st.composite
def _containers(draw: st.DrawFn, envelope: Envelope, texts: st.SearchStrategy[str]) -> Any:
    """A container; its title is one of the declared ones, or any text that stands for members."""
    title = draw(st.sampled_from(sorted(envelope.titles())))
    free = draw(st.integers(0, 9))
    if free == 0:
        other = draw(texts)
        title = other if envelope.variant(other) is not None else title
    variant = envelope.variant(title)
    assert variant is not None
    one = variant.layouts[0] == "inline"
    members = draw(
        st.lists(messages(variant.member, texts), min_size=int(one), max_size=1 if one else 4)
    )
    given = {envelope.title: title, envelope.members: members}
    return draw(_structs(envelope.cls, list(envelope.fields), (), texts, given))


_known: dict[tuple[type[Any], int], st.SearchStrategy[Any]] = {}


def messages(cls: type[Any], texts: st.SearchStrategy[str] = TEXTS) -> st.SearchStrategy[Any]:
    """Messages of one type."""
    key = (cls, id(texts))
    strategy = _known.get(key)
    if strategy is None:
        shape = shape_of(cls)
        if cls is TimeMeasurement:
            strategy = values(shape, texts)
        elif isinstance(shape, Envelope):
            strategy = _containers(shape, texts)
        else:  # also of a type whose wire form is not that of its fields
            strategy = _structs(cls, fields_of(cls), tuple(cls.rules), texts, {})
        _known[key] = strategy
    return strategy
