"""A key that is too long for a peer to recognise it on one line is introduced by `?`.

C++ peers count its bytes of UTF-8, quotes included; libyaml counts its characters.
"""

import pytest
import yaml

from fastlib import NodeReport
from fastlib.codec.derivation import shape_of
from fastlib.codec.dispatch import read_exact
from fastlib.codec.scalars import LONG_KEY, is_long_key
from fastlib.message.agent import KpiReport, Kpis

LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
LIMIT_OF_PEERS = 1024
"""Bytes of a key on one line, its quotes included."""

KEYS = [
    (unit * 1400)[: size // len(unit.encode()) + more].strip()
    for unit in ("a", "日", "\U0001f600", 'é"')
    for size in (LONG_KEY - 2, LONG_KEY, LIMIT_OF_PEERS)
    for more in (-1, 0, 1)
] + ["é" * 600, "日" * 1000, "\x7f" * 300, "a" * 3000]


def keys_on_one_line(text):
    """The keys, quotes included, that no `?` introduces."""
    found = []
    key_is_next = []  # for each open collection; None in a list
    for event in yaml.parse(text, Loader=LOADER):
        if isinstance(event, yaml.NodeEvent) and key_is_next and key_is_next[-1] is not None:
            if key_is_next[-1] and text[: event.start_mark.index].rpartition("\n")[2][-2:] != "? ":
                found.append(text[event.start_mark.index : event.end_mark.index])
            key_is_next[-1] = not key_is_next[-1]
        if isinstance(event, yaml.CollectionStartEvent):
            key_is_next.append(True if isinstance(event, yaml.MappingStartEvent) else None)
        elif isinstance(event, yaml.CollectionEndEvent):
            key_is_next.pop()
    return found


@pytest.mark.parametrize("style", ["block", "literal", "flow"])
@pytest.mark.parametrize(
    "message",
    [
        lambda key: Kpis(categories={key: "b", "c": "d"}, repeat=1),
        lambda key: KpiReport(source="a", kpis={key: {key: [{key: "b"}]}}),
        lambda key: NodeReport(host="a", hypervisor="b", versions={key: "1"}),
    ],
    ids=["map", "tree", "report"],
)
def test_keys_on_one_line_are_short_enough_for_peers(message, style):
    for key in KEYS:
        one = message(key)
        text = one.to_yaml(style=style)
        shown = keys_on_one_line(text)
        assert shown
        for found in shown:
            assert len(found.encode()) <= LIMIT_OF_PEERS, (key[:9], len(key))
        assert type(one).from_yaml(text) == one
        assert read_exact(shape_of(type(one)), text, what="message") == one
        assert next(yaml.load_all(text, LOADER)) == one.emit()


@pytest.mark.parametrize(
    ("key", "long"),
    [
        ("a" * LONG_KEY, False),
        ("a" * (LONG_KEY + 1), True),
        ("é" * (LONG_KEY // 2), False),
        ("é" * (LONG_KEY // 2) + "a", True),
        ("\U0001f600" * (LONG_KEY // 4), False),
        ("\U0001f600" * (LONG_KEY // 4) + "a", True),
    ],
)
def test_length_of_a_key_is_counted_in_bytes(key, long):
    assert is_long_key(key) is long


def test_short_keys_are_on_one_line_with_their_value():
    text = Kpis(categories={"é" * 400: "b"}, repeat=1).to_yaml()
    assert "?" not in text
    assert keys_on_one_line(text) == ["categories", "é" * 400, "repeat"]
