"""The names of differences: places and aspects, which do not depend on the example."""

import pytest

from fastlib.message.describe import find
from fastlib.testing.conformance.aspects import aspects_of
from fastlib.testing.conformance.places import place_at, steps_of
from fastlib.testing.conformance.reduction import Written, located, smallest
from fastlib.testing.conformance.spellings import SCALARS
from fastlib.testing.conformance.spots import spots_of
from fastlib.testing.conformance.written import covers, scalars_in


@pytest.mark.parametrize(
    ("name", "tree", "path", "place", "kind"),
    [
        ("Suspend", {}, "driver", "Suspend.driver", "text"),
        ("Suspend", {}, "", "Suspend", "message"),
        ("Suspend", {}, "drivers", "Suspend", "message"),
        ("TaskContainer", {"task": "suspend vm"}, "list[0].driver", "Suspend.driver", "text"),
        ("TaskContainer", {"task": "suspend vm"}, "list", "TaskContainer.list", "list"),
        ("TaskContainer", {"task": "migrate vm"}, "vm-name", "Migrate.vm-name", "text"),
        ("TaskContainer", {"task": "migrate vm"}, "id", "TaskContainer.id", "text"),
        ("TaskContainer", {}, "list[0].driver", "TaskContainer.list", "text"),
        ("Migrate", {}, "parameter.retry-counter", "MigrateParameter.retry_counter", "integer"),
        ("Start", {}, "pci-ids[1].vendor", "PciId.vendor", "integer"),
        ("agent.InitAgent", {}, "KPI.categories.a", "agent.Kpis.categories", "mapping"),
    ],
)
def test_place_is_the_type_that_declares_the_key(
    name: str, tree: object, path: str, place: str, kind: str
) -> None:
    found = place_at(find(name, by_title=False), tree, steps_of(path))
    assert (str(found), found.kind) == (place, kind)


@pytest.mark.parametrize(
    ("value", "aspects"),
    [
        ("a", ()),
        ("", ("empty",)),
        ("no", ("like-boolean",)),
        ("a\r", ("carriage-return",)),
        ("\r", ("carriage-return",)),
        ("a\r\nb", ("carriage-return", "line-feed")),
        ("é" * 100, ("long", "non-ascii")),
        (True, ()),
        (False, ("false",)),
        (7, ()),
        (2**32, ("from-2-to-the-32", "from-2-to-the-31", "from-8")),
        (0.1 + 0.2, ("many-digits",)),
        ([], ("empty",)),
        (["no"], ("like-boolean",)),
        ({"\r": "a"}, ("key-carriage-return",)),
        ("\xa0", ("no-break-space", "non-ascii")),
        ("é", ("non-ascii",)),
    ],
)
def test_aspects_name_features_that_readers_misread(
    value: object, aspects: tuple[str, ...]
) -> None:
    assert aspects_of(value) == aspects


def test_spots_are_the_smallest_messages_with_one_more_key() -> None:
    spots = spots_of(find("Stop", by_title=False))
    assert spots[0].tree == {"vm-name": "a"}
    trees = {spot.path: spot.tree for spot in spots[1:]}
    assert trees["regex",] == {"regex": "a"}
    assert trees["force",] == {"force": True, "vm-name": "a"}


@pytest.mark.parametrize(
    ("text", "features"),
    [
        ("a", {"no-quotes"}),
        ("'a\\N'", {"single-quotes", "backslash"}),
        ('"\\N"', {"double-quotes", "escapes", "escape-next-line", "next-line", "non-ascii"}),
        ('"\\\\N"', {"double-quotes", "escapes", "escape-backslash", "backslash"}),
        ('"\\x41\\_"', {
            "double-quotes", "escapes", "escape-2-digits", "escape-no-break-space",
            "no-break-space", "non-ascii",
        }),
        ('"a\\\n  b"', {"double-quotes", "escapes", "escaped-line-break"}),
        ("|-\n  \\N", {"literal-block", "backslash"}),
        ("\x7f\u2028", {"no-quotes", "control-character", "line-separator", "non-ascii"}),
    ],
)  # fmt: skip
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_features_of_a_written_text(text: str, features: set[str], line_end: str) -> None:
    for around in ("vm-name: {}\n", "\ufeff%FOO\n---\nvm-name:  {}\n---\n'b'"):
        written = around.format(text).replace("\n", line_end)
        key, value = scalars_in(written)
        assert (key.value, key.features) == ("vm-name", frozenset({"no-quotes"}))
        assert value.features == features


def test_scalars_before_an_error_are_known() -> None:
    assert [scalar.value for scalar in scalars_in('a: "\\N"\nb: [')] == ["a", "\x85", "b"]
    assert scalars_in("\0") == ()


def test_joined_name_needs_all_its_features() -> None:
    assert covers({"tag", "literal-block"}, "literal-block+tag")
    assert covers(("literal-block+tag",), "tag")
    assert not covers({"tag"}, "literal-block+tag")


def test_entries_of_a_mapping_are_removed_from_an_example() -> None:
    """An earlier version stopped at the smallest message with the whole mapping."""
    kpis = find("agent.Kpis", by_title=False)
    tree = {"repeat": 37, "categories": {"a b": "c", "d": "\x85", "": "e"}}
    found = smallest(
        kpis,
        Written(tree, SCALARS[1]),
        lambda other: "\x85" in "".join(other.tree["categories"].values()),
    )
    assert found.tree == {"repeat": 1, "categories": {"d": "\x85"}}


def test_required_word_is_not_special() -> None:
    """Each Init has `task: init`, so a fault of an Init belongs to its other values."""
    init = find("agent.Init", by_title=False)
    spelling = SCALARS[1]
    written = Written({"task": "init", "hostname": "\xa0"}, spelling)
    case = located(init, written, spelling.write(written.tree))
    assert case is not None
    assert case.aspects[0] == "double-quotes+no-break-space"
