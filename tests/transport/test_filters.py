"""Tests of the rules for topics and filters, and of the set of disjoint filters."""

from itertools import combinations, product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastlib.transport import TopicError, matches
from fastlib.transport.filters import check_filter, check_topic, join, overlap
from fastlib.transport.mqtt.disjoint_filters import DisjointFilters

LEVELS = st.sampled_from(["a", "", "$x"])
TOPICS = st.lists(LEVELS, min_size=1, max_size=4).map("/".join).filter(bool)
FILTERS = st.builds(
    lambda levels, end: "/".join([*levels, *end]),
    st.lists(LEVELS | st.just("+"), max_size=3),
    st.sampled_from([["#"], ["a"], ["+"]]),
)
EVERY_TOPIC = [
    "/".join(levels)
    for size in range(1, 5)
    for levels in product(["a", "", "$x"], repeat=size)
    if "/".join(levels)
]


@pytest.mark.parametrize(
    ("pattern", "topic", "expected"),
    [
        ("a/b", "a/b", True),
        ("a/b", "a/b/", False),
        ("a/+", "a/b", True),
        ("a/+", "a/", True),
        ("a/+", "a", False),
        ("a/+", "a/b/c", False),
        ("+/+", "/a", True),
        ("+", "/a", False),
        ("a/#", "a", True),
        ("a/#", "a/b/c", True),
        ("a/#", "ab", False),
        ("#", "a/b", True),
        ("#", "$SYS/a", False),
        ("+/a", "$SYS/a", False),
        ("$SYS/#", "$SYS/a", True),
        ("$SYS/+", "$SYS/a", True),
        ("a/#", "a/$x", True),
    ],
)
def test_matches(pattern: str, topic: str, expected: bool) -> None:
    assert matches(pattern, topic) is expected


@pytest.mark.parametrize(
    "bad", ["", "a\0b", "a\tb", "a\ufffe", "a+", "a/#/b", "a/b#", "#/a", "$share/g", "\ud800"]
)
def test_invalid_filter_is_refused(bad: str) -> None:
    with pytest.raises(TopicError):
        check_filter(bad)


@pytest.mark.parametrize("bad", ["", "a/+", "#", "a\0", "\x85", "\U0001ffff", "x" * 65536])
def test_invalid_topic_is_refused(bad: str) -> None:
    with pytest.raises(TopicError):
        check_topic(bad)


@given(FILTERS, FILTERS)
def test_join_matches_all_topics_of_overlapping_filters(one: str, other: str) -> None:
    both = [t for t in EVERY_TOPIC if matches(one, t) and matches(other, t)]
    assert overlap(one, other) is overlap(other, one)
    if both:
        assert overlap(one, other)
    if overlap(one, other):
        around = check_filter(join(one, other))
        for topic in EVERY_TOPIC:
            if matches(one, topic) or matches(other, topic):
                assert matches(around, topic)


@given(st.lists(st.tuples(st.booleans(), FILTERS, st.integers(0, 2)), max_size=12))
def test_disjoint_filters_match_each_topic_once(steps: list[tuple[bool, str, int]]) -> None:
    """The broker's view, which gets only changes, is also checked."""
    cover, wanted, broker = DisjointFilters(), {}, {}
    for add, pattern, qos in steps:
        if add and pattern not in wanted:
            wanted[pattern] = qos
            around, replaced = cover.add(pattern, qos)
            broker[around] = cover.qos(around)
            for other in replaced:
                del broker[other]
        elif not add and wanted:
            pattern = sorted(wanted)[0]
            del wanted[pattern]
            asked, unneeded = cover.remove(pattern)
            for other in asked:
                broker[other] = cover.qos(other)
            for other in unneeded:
                del broker[other]
        assert broker.keys() == cover.filters().keys()
        for one, other in combinations(broker, 2):
            assert not overlap(one, other)
        for topic in EVERY_TOPIC:
            qualities = [qos for pattern, qos in wanted.items() if matches(pattern, topic)]
            if qualities:
                granted = [qos for pattern, qos in broker.items() if matches(pattern, topic)]
                assert len(granted) == 1
                assert granted[0] >= max(qualities)
