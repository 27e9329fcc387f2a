"""Strategies of spellings: the message's own styles, PyYAML's and those of our writer."""

import re
from typing import Any

import yaml
from hypothesis import strategies as st

from .choices import CountedChoices, PlainChoices
from .yaml_variants import TURNS, yaml_variant

MOST_PLACES = 5
"""The maximum number of habits, and of places, that differ from the plain ones."""


# Made once: making a strategy for each text takes longer than the text.
_KINDS = st.sampled_from(["spelt"] * 8 + ["own", "PyYAML"])
_STYLES = st.sampled_from(["block", "literal", "flow"])
_WAYS = st.integers(0, 59)
_HABITS = st.lists(st.tuples(st.integers(0, 99), _WAYS), max_size=MOST_PLACES)
_TURNS = st.lists(
    st.tuples(st.sampled_from(TURNS), st.integers(0, 99), _WAYS), max_size=MOST_PLACES
)


@st.composite
def yaml_texts(draw: st.DrawFn, message: Any, other_words: bool) -> str:
    kind = draw(_KINDS)
    if kind == "own":
        text: str = message.to_yaml(style=draw(_STYLES))
        return text
    counting = PlainChoices()
    plain = yaml_variant(message, counting, other_words=other_words)
    if kind == "PyYAML":
        return draw(_pyyaml(message, plain))
    habits = {number % counting.habits: way for number, way in draw(_HABITS)}
    # Another way may reach features that the plain way never has, such as escapes.
    turns = {
        (what, number % (counting.turns[what] or 2)): way for what, number, way in draw(_TURNS)
    }
    return yaml_variant(message, CountedChoices(habits, turns), other_words=other_words)


_FOREIGN = re.compile("[^\n\x20-\x7e\xa0-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd]")
"""Values that PyYAML writes in another way than the protocol."""


_PYYAML: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {
        "default_flow_style": st.sampled_from([False, None, True]),
        "default_style": st.sampled_from([None, "'", '"', "|", ">"]),
        "sort_keys": st.booleans(),
        "width": st.sampled_from([80, 20, 10_000]),
        "indent": st.sampled_from([2, 4, 8]),
        "allow_unicode": st.booleans(),
        "explicit_start": st.booleans(),
        "line_break": st.sampled_from(["\n", "\r\n"]),
    }
)


def _pyyaml(message: Any, plain: str) -> st.SearchStrategy[str]:
    if _FOREIGN.search(plain) or "\\" in plain:
        return st.just(plain)
    return _PYYAML.map(lambda options: str(yaml.safe_dump(message.emit(), **options)))
