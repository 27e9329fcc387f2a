"""The names of differences: places and aspects, which do not depend on the example."""

import pytest

from fastlib.message.describe import find
from fastlib.testing.conformance.aspects import aspects_of
from fastlib.testing.conformance.places import place_at, steps_of
from fastlib.testing.conformance.spots import spots_of


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
